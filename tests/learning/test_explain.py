from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.visualize import SmoothGrad, VanillaGrad
from torch import nn
from toy_study import SHAPE, Study

from elr_mri.config import Explain, Train
from elr_mri.errors import BadInput
from elr_mri.learning import attended, sanity
from elr_mri.learning.attended import Parts
from elr_mri.learning.attribution import SHIFTS, attributions, change, crop_box, gradient
from elr_mri.learning.checkpoint import Model, load_model, read_facts
from elr_mri.learning.dataset import read_scan_set
from elr_mri.learning.explain import explain, magnitude, normalised
from elr_mri.learning.reach import fresh, reach
from elr_mri.learning.train import train
from elr_mri.scans.saliency import AROUND, CASCADE, CHECKS, LOBES, MASSES, RANDOM, REST, SEGMENTS, SHARES, TRAINED

NETWORK = {"name": "wide", "width": 1, "crop": 35, "first_pool": False}
ONE = ((0, 0, 0),)
EVERY = ("gradient", "gradient-input", "smoothgrad", "integrated")


class Linear(nn.Module):
    """Scores z_c = ⟨w_c, x⟩."""

    def __init__(self, weights: torch.Tensor):
        super().__init__()
        self.weights = weights

    def forward(self, volumes: torch.Tensor, ages_years: torch.Tensor | None = None) -> torch.Tensor:
        return volumes.flatten(1) @ self.weights.T


class Without(nn.Module):
    """A network that is not told the age."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, volumes: torch.Tensor, ages_years: torch.Tensor | None = None) -> torch.Tensor:
        return self.network(10 * volumes)


class Evidence(nn.Module):
    """z_AD − z_CN as the one score of a network, for MONAI."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        logits = self.network(volumes)
        return logits[:, -1:] - logits[:, :1]


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(NETWORK, "scan", SHAPE).eval()


@pytest.fixture
def volumes() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 1, *SHAPE)).astype(np.float32))


def linear(model: Model) -> torch.Tensor:
    """Make a model linear; its weights of AD less those of CN, on the grid."""
    weights = torch.randn(3, 35**3)
    model.network = Linear(weights)
    grid = torch.zeros(SHAPE)
    grid[1:36, 2:37, 1:36] = (weights[2] - weights[0]).view(35, 35, 35)
    return grid


def test_saliency_of_a_linear_model_is_its_weights(model: Model, volumes: torch.Tensor) -> None:
    """Whatever the scan, the noise and w_MCI; with the input, and along a path, it is weight times input."""
    expected = linear(model)
    starts = volumes[1:] // 2
    maps, _ = attributions(model, volumes, None, Explain(methods=EVERY, noise=2.0), starts=starts, shifts=ONE)
    seen = model.standardise(volumes)
    for found, x in ((maps[name][k, 0], seen[k, 0]) for name in EVERY[:2] for k in range(2)):
        assert torch.allclose(found, expected, atol=1e-5) or torch.allclose(found, expected * x, atol=1e-5)
    torch.testing.assert_close(maps["gradient"][:, 0], expected.expand(2, *SHAPE), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(maps["gradient-input"][:, 0], expected * seen[:, 0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(maps["smoothgrad"], maps["gradient"], atol=1e-6, rtol=1e-4)
    way = seen[:, 0] - model.standardise(starts)[0, 0]
    torch.testing.assert_close(maps["integrated"][:, 0], expected * way, atol=1e-5, rtol=1e-3)


def test_smoothgrad_without_noise_is_the_gradient(model: Model, volumes: torch.Tensor) -> None:
    settings = Explain(methods=("gradient", "smoothgrad"), noise=0.0, samples=4)
    maps, _ = attributions(model, volumes, None, settings)
    torch.testing.assert_close(maps["smoothgrad"], maps["gradient"], atol=1e-9, rtol=1e-4)
    noisy, _ = attributions(model, volumes, None, settings.model_copy(update={"noise": 0.5}))
    assert not torch.allclose(noisy["smoothgrad"], maps["gradient"], rtol=0.1)


def test_gradients_are_those_of_monai(model: Model, volumes: torch.Tensor) -> None:
    """For one scan and one score, which is all that MONAI's classes take."""
    maps, _ = attributions(model, volumes[:1], None, Explain(methods=("gradient", "smoothgrad"), noise=0.0), shifts=ONE)
    crop = model.centre(volumes[:1])
    theirs = VanillaGrad(Evidence(model.network))(crop.clone(), index=0)
    smooth = SmoothGrad(Evidence(model.network), stdev_spread=0.0, n_samples=2, magnitude=False, verbose=False)
    box = (..., *crop_box(model, SHAPE))
    torch.testing.assert_close(maps["gradient"][box], theirs, atol=1e-9, rtol=1e-4)
    torch.testing.assert_close(maps["smoothgrad"][box], smooth(crop.clone(), index=0), atol=1e-9, rtol=1e-4)


def test_integrated_gradients_sum_to_the_change_of_the_evidence(model: Model, volumes: torch.Tensor) -> None:
    """On a smooth network to 1e-3; ours, with its kinks, comes nearer the more steps there are."""
    torch.manual_seed(1)
    smooth = nn.Sequential(nn.AvgPool3d(5), nn.Flatten(), nn.Linear(343, 16), nn.Tanh(), nn.Linear(16, 3))
    starts = volumes.flip(0)
    boxes = [crop_box(model, SHAPE)]

    def missed(n: int) -> float:
        settings = Explain(methods=("integrated",), steps=n)
        maps, _ = attributions(model, volumes, None, settings, starts=starts, shifts=ONE)
        told = change(model, model.standardise(volumes), None, boxes, model.standardise(starts))
        assert told.abs().max() > 0
        return sanity.missed(maps["integrated"].flatten(1).sum(dim=1), told)

    assert missed(64) < missed(1)
    model.network = Without(smooth)
    assert missed(64) < 1e-3


def test_integrated_gradients_of_a_trained_network_sum_to_the_change_of_its_evidence(
    study: Study, trained: Path
) -> None:
    """The completeness axiom, on a real `wide` with its kinks, pools and norms; a sum of gradient × input does not hold it."""
    model, scans = load_model(trained), read_scan_set(*study.paths)
    volumes, starts = scans.of("test").read(np.arange(2)), scans.of("train").read(np.array([0]))
    ages = scans.of("test").ages_years[:2]
    told = change(model, model.standardise(volumes), ages, [crop_box(model, SHAPE)], model.standardise(starts))
    assert told.abs().min() > 1e-4
    settings = Explain(methods=("gradient-input", "integrated"), steps=128)
    maps, _ = attributions(model, volumes, ages, settings, starts=starts, shifts=ONE)
    assert sanity.missed(maps["integrated"].flatten(1).sum(dim=1), told) < sanity.INCOMPLETE
    assert sanity.missed(maps["gradient-input"].flatten(1).sum(dim=1), told) > 0.2


def test_noise_and_maps_of_a_scan_are_the_same_whatever_its_batch(model: Model, volumes: torch.Tensor) -> None:
    settings = Explain(methods=("smoothgrad",), samples=2)
    both, _ = attributions(model, volumes, None, settings, seeds=[3, 4])
    alone, _ = attributions(model, volumes[1:], None, settings, seeds=[4])
    torch.testing.assert_close(alone["smoothgrad"], both["smoothgrad"][1:], atol=1e-7, rtol=1e-3)
    other, _ = attributions(model, volumes[1:], None, settings, seeds=[5])
    assert not torch.allclose(other["smoothgrad"], alone["smoothgrad"], rtol=1e-2)


def test_one_id_in_two_cohorts_is_two_people(parts: Parts) -> None:
    rng = np.random.default_rng(0)
    scans = pd.DataFrame({"cohort": ["NACC"] * 10 + ["OASIS"] * 10, "subject_id": [f"s{i % 10}" for i in range(20)]})
    assert len(set(attended.people(scans))) == 20
    groups = attended.groups_of(attended.people(scans))
    assert np.bincount(groups).tolist() == [2] * 10 and not np.array_equal(groups[:10], groups[10:])
    maps = rng.normal(size=(20, 1, 8, 8, 8))
    sums = np.zeros((10, 3, 1, 8, 8, 8))
    np.add.at(sums, (groups, 0), maps)
    masses = parts.shares(parts.counted(maps))
    table = attended.rows(sums, masses, scans.assign(diagnosis="CN"), parts, method="gradient", model=TRAINED)
    assert {line["n_subjects"] for line in table} == {20}


def test_what_differs_in_sign_from_scan_to_scan_cancels_in_the_aggregate() -> None:
    ours, theirs = np.array([[[[1.0, 2.0, -3.0]]]]), np.array([[[[-1.0, 2.0, -3.0]]]])
    np.testing.assert_allclose(magnitude(ours + theirs), [[[0, 0.4, 0.6]]])


def test_a_map_of_two_channels_counts_both() -> None:
    values = np.array([[[[1.0, 0.0]]], [[[-1.0, 2.0]]]])
    np.testing.assert_allclose(magnitude(values), [[[0.5, 0.5]]])


def numbered() -> np.ndarray:
    """A brain of 6³ voxels in 8³ with a hippocampus of 2³ and a cortex of the front slice."""
    numbers = np.zeros((8, 8, 8), dtype=int)
    numbers[1:7, 1:7, 1:7] = 3
    numbers[3:5, 3:5, 3:5] = 1
    numbers[1, 1:7, 1:7] = 2
    return numbers


@pytest.fixture
def parts() -> Parts:
    reached = np.ones((8, 8, 8), dtype=bool)
    reached[:, :, 6:] = False
    return attended.parts_of(numbered(), {"hippocampus_left": 1, "cortex": 2, REST: 3}, reached)


def test_volume_shares_are_of_the_brain_that_is_reached(parts: Parts) -> None:
    n = 6 * 6 * 5
    told = dict(zip(parts.regions, parts.volumes, strict=True))
    assert told["hippocampus_left"] == told["hippocampus"] == told[LOBES] == pytest.approx(8 / n)
    assert told["cortex"] == pytest.approx(30 / n)
    assert told[AROUND] == pytest.approx(24 / n) and told[REST] == pytest.approx((n - 8 - 24) / n)


def test_an_even_map_has_the_ratio_1_and_the_outside_does_not_count(parts: Parts) -> None:
    even = np.where(parts.seen, 1.0, 100.0)[None]
    np.testing.assert_allclose(parts.shares(parts.counted(even)) / parts.volumes, 1)
    lobes = even.copy()
    lobes[0, 3:5, 3:5, 3:5] *= -50
    share = dict(zip(parts.regions, parts.shares(parts.counted(lobes)), strict=True))
    assert share[LOBES] == pytest.approx(400 / (400 + 172))


def test_intervals_hold_the_shares_and_need_subjects(parts: Parts) -> None:
    rng = np.random.default_rng(0)
    subjects = [f"s{i // 2}" for i in range(40)]
    scans = pd.DataFrame({"cohort": "ADNI", "subject_id": subjects, "diagnosis": ["CN", "AD"] * 20})
    maps = rng.normal(0.2, 1, (40, 1, 8, 8, 8))
    maps[:, 0, 3:5, 3:5, 3:5] += 2
    groups = attended.groups_of(attended.people(scans))
    assert all(scans.groupby("subject_id").apply(lambda g: len(set(groups[g.index])) == 1))
    sums = np.zeros((10, 3, 1, 8, 8, 8))
    np.add.at(sums, (groups, np.array([0, 2] * 20)), maps)
    masses = parts.shares(parts.counted(maps))
    table = pd.DataFrame(attended.rows(sums, masses, scans, parts, method="gradient", model=TRAINED))
    SHARES.validate(table, where="test")
    assert set(table["class"]) == {"all", "CN", "AD"}
    assert (table["low"] <= table["ratio"]).all() and (table["ratio"] <= table["high"]).all()
    of_all = table[(table["class"] == "all") & (table["region"] == LOBES)].set_index("way")
    assert of_all.loc["mean map", "low"] > 3 and of_all.loc["single maps", "low"] > 1
    alone = attended.rows(sums[:1], masses[:1], scans[:1], parts, method="gradient", model=TRAINED)
    assert pd.DataFrame(alone)["low"].isna().all()


def test_the_checks_can_fail(parts: Parts) -> None:
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(1, 8, 8, 8)), rng.normal(size=(20, 1, 8, 8, 8))
    alike, apart = sanity.halves(signal + 0.1 * noise, parts), sanity.halves(noise, parts)
    assert sanity.judged("x", alike, "at least", 0.5)["verdict"] == "pass"
    assert sanity.judged("x", apart, "at least", 0.5)["verdict"] == "fail"
    assert sanity.rank_correlation(signal, -signal, parts) == pytest.approx(1)  # magnitudes
    assert sanity.judged("x", sanity.rank_correlation(signal, signal, parts), "at most", 0.5)["verdict"] == "fail"
    assert abs(sanity.rank_correlation(signal, noise[0], parts)) < 0.3
    constant = sanity.rank_correlation(signal, np.ones_like(signal), parts)
    assert sanity.judged("x", constant, "at most", 0.5) | {"note": ""} == {
        "check": "x", "value": None, "asked": "at most", "threshold": 0.5, "verdict": "fail", "note": "",
    }  # fmt: skip
    assert sanity.judged("x", None, "at most", 0.5)["verdict"] == "not made"
    assert sanity.halves(noise[:1], parts) is None


def test_the_cascade_ends_with_fresh_weights_and_puts_the_model_back(model: Model) -> None:
    torch.manual_seed(1)
    fresh = Model(NETWORK, "scan", SHAPE)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    names, changed = [], []
    for name, now in sanity.cascade(model, fresh):
        names.append(name)
        state = now.network.state_dict()
        changed.append(sum(not torch.equal(state[key], before[key]) for key in before))
    assert len(names) == 5 and changed == sorted(changed) and names[-1].startswith("blocks.0")
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert changed[-1] == sum(not torch.equal(before[key], value) for key, value in fresh.network.state_dict().items())


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Regions on the toy study's grid: its brightening cube is the hippocampus."""
    folder = tmp_path_factory.mktemp("regions")
    numbers = np.ones(SHAPE, dtype=np.int16) * 3
    numbers[8:30, 8:30, 8:19], numbers[8:30, 8:30, 19:30] = 1, 2
    nib.save(nib.Nifti1Image(numbers, np.diag([3.0, 3, 3, 1])), folder / "regions.nii.gz")
    table = pd.DataFrame({"number": [1, 2, 3], "region": ["hippocampus_left", "hippocampus_right", REST]})
    SEGMENTS.write(table.assign(n_voxels=1, volume_mm3=27.0), folder / "regions.tsv")
    return folder


@pytest.fixture(scope="module")
def trained(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    models = {"wide": {"network": "wide", "width": 1, "first_pool": False}}
    settings = Train(models=models, epochs=2, batch_size=4, crop=35, shift_max=1, precision="float32", device="cpu")
    train(*study.paths, settings, slug="wide", seed=0, out_dir=folder, synthetic=True, progress=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def explained(study: Study, trained: Path, regions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    settings = Explain(methods=EVERY, samples=2, steps=2, baselines=2, check_scans=2)
    explain(trained, *study.paths, settings, output_dir=folder, regions_dir=regions, permuted_dir=trained)
    return folder


def test_maps_lie_on_the_packed_grid_and_sum_to_one(explained: Path) -> None:
    expected = {f"aggregate{s}.nii.gz" for s in ("", "_CN", "_MCI", "_AD", "_random", "_permuted")}
    for folder in (explained, *(explained / name for name in EVERY[1:])):
        names = {p.name for p in folder.glob("aggregate*.nii.gz")}
        assert names == expected
        for name in names:
            image = nib.load(folder / name)
            values = image.get_fdata()
            assert image.shape == SHAPE and np.allclose(image.affine, np.diag([3, 3, 3, 1]))
            assert values.sum() == pytest.approx(1, abs=1e-4) and values.min() >= 0
            assert values[:4].sum() == 0  # constant background
            assert values[:, -1].sum() == 0  # outside the crops


def test_examples_are_listed_and_written(explained: Path) -> None:
    table = pd.read_csv(explained / "examples.tsv", sep="\t")
    assert table.columns.tolist() == ["class", "scan_id", "p", "right", "row"]
    assert table["class"].is_unique
    assert {p.name for p in explained.glob("example_*.nii.gz")} == {f"example_{c}.nii.gz" for c in table["class"]}
    assert (table["row"] % 3).map(dict(enumerate(("CN", "MCI", "AD")))).tolist() == table["class"].tolist()


def test_the_tables_tell_every_method_model_and_class(explained: Path) -> None:
    masses, shares = MASSES.read(explained / "regions.tsv"), SHARES.read(explained / "shares.tsv")
    assert set(shares["method"]) == set(masses["method"]) == set(EVERY)
    assert set(shares["model"]) == {TRAINED, RANDOM, "permuted"}
    assert set(shares["class"]) == {"all", "CN", "MCI", "AD"}
    one = shares[(shares["way"] == "single maps") & (shares["class"] == "all") & (shares["method"] == "gradient")]
    own = masses[(masses["model"] == TRAINED) & (masses["method"] == "gradient")].groupby("region")["mass_share"].mean()
    told = one[one["model"] == TRAINED].set_index("region")["mass_share"]
    pd.testing.assert_series_equal(own.sort_index(), told.sort_index(), atol=1e-6)
    parted = shares[shares["region"].isin([LOBES, AROUND, REST])]
    sums = parted.groupby(["method", "model", "class", "way"])[["mass_share", "volume_share"]].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_the_mean_map_s_share_is_that_of_the_written_map(explained: Path, regions: Path) -> None:
    values = nib.load(explained / "aggregate.nii.gz").get_fdata()
    numbers = np.asarray(nib.load(regions / "regions.nii.gz").dataobj)
    crop = np.zeros(SHAPE, dtype=bool)
    crop[1:36, 2:37, 1:36] = True
    crop[:4] = False
    shares = SHARES.read(explained / "shares.tsv")
    told = shares[
        (shares["method"] == "gradient")
        & (shares["model"] == TRAINED)
        & (shares["class"] == "all")
        & (shares["way"] == "mean map")
    ].set_index("region")["mass_share"]
    for name, number in (("hippocampus_left", 1), ("hippocampus_right", 2)):
        assert told[name] == pytest.approx(values[crop & (numbers == number)].sum() / values[crop].sum(), abs=1e-4)


def test_checks_are_told_with_their_thresholds(explained: Path) -> None:
    checks = CHECKS.read(explained / "checks.tsv")
    assert set(checks["check"]) == {
        sanity.FRESH, sanity.LABELS, sanity.HALVES, sanity.PREFERENCE, sanity.CONCENTRATION, sanity.COMPLETE,
    }  # fmt: skip
    same = checks[checks["check"] == sanity.LABELS]  # the "permuted" model given is the model itself
    assert (same["verdict"] == "fail").all() and np.allclose(same["value"].astype(float), 1)
    cascade = CASCADE.read(explained / "cascade.tsv")
    assert cascade.groupby("method")["step"].max().tolist() == [5] * 4
    assert np.allclose(cascade.loc[cascade["step"] == 0, "rank_correlation"].astype(float), 1)


def test_without_regions_and_permuted_labels_these_checks_are_not_made(
    study: Study, trained: Path, tmp_path: Path
) -> None:
    explain(trained, *study.paths, Explain(methods=("gradient",), check_scans=0), output_dir=tmp_path)
    checks = CHECKS.read(tmp_path / "checks.tsv").set_index("check")
    assert set(checks.index[checks["verdict"] == "not made"]) == {
        sanity.LABELS, sanity.PREFERENCE, sanity.CONCENTRATION,
    }  # fmt: skip
    assert SHARES.read(tmp_path / "shares.tsv").empty and CASCADE.read(tmp_path / "cascade.tsv").empty


def test_regions_of_another_grid_are_refused(study: Study, trained: Path, regions: Path, tmp_path: Path) -> None:
    image = nib.load(regions / "regions.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[1:], image.affine), tmp_path / "regions.nii.gz")
    with pytest.raises(BadInput, match="regions on the cache's grid"):
        explain(trained, *study.paths, Explain(), output_dir=tmp_path / "out", regions_dir=tmp_path)


def test_a_map_of_nothing_stays_nothing() -> None:
    assert not np.isnan(normalised(np.zeros((1, 1, 2, 2, 2), dtype=np.float32))).any()


def test_reach_makes_fresh_weights_even_and_is_not_of_the_model(study: Study, trained: Path) -> None:
    """Other fresh weights and other noise: the middle of the crop and its edge come to one level, within a quarter."""
    facts, model = read_facts(trained), load_model(trained)
    even = reach(model, facts, SHAPE, 70.0)
    assert even.shape == SHAPE and even.min() >= 0.1 - 1e-6
    torch.manual_seed(99)
    noise = torch.randn(8, 1, *SHAPE)
    boxes = [crop_box(model, SHAPE, shift) for shift in SHIFTS]
    slopes = torch.stack(
        [gradient(fresh(model, facts, 50 + k), noise, None, boxes)[0].abs().mean((0, 1)) for k in (1, 2)]
    )
    found = slopes.mean(dim=0)
    middle, edge = (slice(14, 23), slice(15, 24), slice(14, 23)), (slice(14, 23), slice(15, 24), slice(4, 8))
    assert found[middle].mean() / found[edge].mean() > 1.4
    assert 0.75 < (found / even)[middle].mean() / (found / even)[edge].mean() < 1.33
