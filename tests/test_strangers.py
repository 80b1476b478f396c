"""Files from strangers: whatever their bytes say, the readers refuse them in one line or read something valid, in little time and memory."""

from __future__ import annotations

import copy
import gzip
import json
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import baseline, stored, trees
from elr_mri.imaging.convert import read_canonical
from elr_mri.imaging.packed import MAPPINGS
from elr_mri.imaging.unpack import Unusable
from elr_mri.learning.card import card
from elr_mri.learning.checkpoint import Model, load_model, read_facts, save_model
from elr_mri.learning.export import export
from elr_mri.scans.download import read_table
from elr_mri.scans.predictions import PREDICTIONS
from elr_mri.scans.table import SCANS, SPLIT, VISITS

SECONDS, MEGABYTES = 20, 300
FUZZ = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
#: Of readers that take a good part of a second.
SLOWER = settings(FUZZ, max_examples=15)
NETWORK = {"name": "wide", "n_classes": 3, "crop": 35, "channels": 1, "width": 1, "age": "none", "first_pool": False}


@contextmanager
def modest() -> Iterator[None]:
    """What is done inside takes little time and memory, and is refused, if at all, in one line."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        yield
    except (BadInput, Unusable) as refused:
        assert "\n" not in str(refused) and len(str(refused)) < 3000
    finally:
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        assert time.process_time() - begun < SECONDS and peak < MEGABYTES


@st.composite
def changed(draw: st.DrawFn, raw: bytes) -> bytes:
    """These bytes with some pieces replaced, cut out or put in; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=400))
    out = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(out)))
        out[at : at + draw(st.sampled_from([0, 1, 2, 8, 64]))] = draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\t", b"\n", b'"', b"\0", b"\xff", b"=", b"../", b"1e999", b"nan"])
        )
    return bytes(out)


#: Values of JSON that none of ours has in most places.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 10**9, -1, 1e308, 0.5]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["$__import__('os')", "@classes", "%a", "../../x", "<script>", "1"]),
    st.lists(st.integers(-3, 10**6), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with a key or index in it."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in list(items) for place in ((content, key), *places(value))]


@st.composite
def another(draw: st.DrawFn, content: dict) -> dict:
    """A JSON object with one to three values replaced or removed."""
    out = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        found = places(out)
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        if draw(st.integers(0, 4)) == 0:
            del holder[key]
        else:
            holder[key] = draw(VALUES)
    return out


TABLES = {
    SCANS: "scan_id\tcohort\tsubject_id\tsession_id\tmonths\tage_years\tsex\tdiagnosis\timage_path\timage_uid\t"
    "field_strength_t\tmanufacturer\tsite\tmmse\tcdr_global\tapoe4\thippocampus_mm3\tentorhinal_mm3\ticv_mm3\n"
    "sub-1_ses-M000\tA\tsub-1\tses-M000\t0\t70.5\tF\tCN\ta.nii\t\t3\t\t\t29\t0\t1\t3000\t\t1500000\n",
    SPLIT: "cohort\tsubject_id\tsplit\tfold\nA\tsub-1\ttrain\t0\n",
    VISITS: "cohort\tsubject_id\tmonths\tage_years\tdiagnosis\nA\tsub-1\t0\t70\tCN\n",
    PREDICTIONS: "scan_id\tsubject_id\tcohort\tsplit\tmodel\tseed\tdiagnosis\tp_cn\tp_mci\tp_ad\tz_cn\tz_mci\tz_ad\n"
    "s\tsub-1\tA\ttest\twide\t0\tCN\t0.665\t0.245\t0.09\t1\t0\t-1\n",
}


@FUZZ
@given(st.sampled_from(list(TABLES)), st.data())
def test_a_table_of_any_bytes(tmp_path: Path, schema, data) -> None:
    path = tmp_path / "table.tsv"
    path.write_bytes(data.draw(changed(TABLES[schema].encode())))
    with modest():
        table = schema.read(path)
        assert list(table.columns) == [c.name for c in schema.columns if c.name in table.columns]
        if schema is SCANS:  # its ids become folders
            out = tmp_path / "out"
            assert all((out / scan_id).resolve().parent == out.resolve() for scan_id in table["scan_id"])


@FUZZ
@given(st.data())
def test_a_download_s_table_of_any_bytes(tmp_path: Path, data) -> None:
    path = tmp_path / "ADNIMERGE.csv"
    path.write_bytes(
        data.draw(changed(b'"RID","PTID","VISCODE","AGE"\n"1","001_S_0001","bl","70.1"\n"2","","m06",""\n'))
    )
    with modest():
        table = read_table(path, {"rid": ["rid"], "age": ["age"], "name": ["ptid"]}, required=["rid"])
        assert list(table.columns) == ["rid", "age", "name"]


@pytest.mark.parametrize("name", ["../../up", "/etc/x", "..", ".hidden", "a\\..\\b", "a/b", "x" * 201])
@pytest.mark.parametrize("column", ["scan_id", "subject_id"])
def test_a_scan_id_leads_nowhere(tmp_path: Path, name: str, column: str) -> None:
    path = tmp_path / "scans.tsv"
    row = pd.read_csv(pd.io.common.StringIO(TABLES[SCANS]), sep="\t", dtype=str)
    row.assign(**{column: name}).to_csv(path, sep="\t", index=False)
    with pytest.raises(BadInput, match=f"column {column}, row 1: expected a name"):
        SCANS.read(path)


@FUZZ
@given(st.data())
def test_an_image_with_any_header(tmp_path: Path, data) -> None:
    volume = np.random.default_rng(0).integers(1, 900, (24, 25, 26)).astype(np.int16)
    raw = bytearray(nib.Nifti1Image(volume, np.diag([5.0, 5, 5, 1])).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        form = data.draw(st.sampled_from(["h", "i", "f", "B", "8h"]))
        at = data.draw(st.integers(0, 352 - struct.calcsize(form)))
        bound = {"h": 15, "8h": 15, "i": 31, "B": 7}.get(form)
        low = 0 if form == "B" else -(2**bound) if bound else 0
        number = st.floats(width=32) if form == "f" else st.integers(low, 2**bound - 1 if form != "B" else 255)
        struct.pack_into(f"<{form}", raw, at, *(data.draw(number) for _ in range(8 if form == "8h" else 1)))
    path = tmp_path / data.draw(st.sampled_from(["a.nii", "a.mgz", "a.nii.gz"]))
    path.write_bytes(bytes(raw) if path.suffix == ".nii" else gzip.compress(bytes(raw), 1))
    with modest():
        image, _ = read_canonical(path, config.Convert())
        assert len(image.shape) == 3 and np.isfinite(np.asarray(image.dataobj)).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as `train` writes it."""
    out = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    preprocessing = {
        "standardise": "voxel", "shape": [37, 36, 38], "channels": ["T1w"], "spacing_mm": 4.0, "space": "affine", "template": "toy",
        "affine": np.eye(4).tolist(), "dtype": "uint8", "intensity": dict(MAPPINGS["T1w"]["uint8"]), "log_jacobian": None,
        "settings": {"convert": {}, "register": {"spacing_mm": 4.0}, "measure": {}},
    }  # fmt: skip
    facts = {
        "slug": "wide", "seed": 0, "network": NETWORK, "preprocessing": preprocessing, "settings": {"epochs": 1}, "model": {"width": 1},
        "data": {"cache": "0"}, "selected": {"rule": "last", "epoch": 1, "val_ce": 1.0},
        "trained_on": {"synthetic": True, "cohorts": ["A"], "n_scans": 3, "n_subjects": 3, "scans_per_class": {"CN": 3}, "age_years": [60.0, 80.0]},
    }  # fmt: skip
    save_model(out, Model(NETWORK, "voxel", (37, 36, 38)), facts)
    return out


def put(folder: Path, told: dict | bytes, name: str = "model.json") -> None:
    (folder / name).write_bytes(told if isinstance(told, bytes) else json.dumps(told).encode())


def beside(folder: Path, tmp_path: Path) -> Path:
    """A copy of a model folder whose weights are a link: only `model.json` is to be changed."""
    out = tmp_path / "model"
    if not out.exists():
        out.mkdir()
        (out / "model.safetensors").symlink_to(folder / "model.safetensors")
    return out


def test_what_train_writes_is_accepted(folder: Path) -> None:
    facts = read_facts(folder)
    assert load_model(folder)(torch.zeros(1, 1, 37, 36, 38)).shape == (1, 3) and "# wide, seed 0" in card(facts)


@SLOWER
@given(st.data())
def test_a_model_that_says_anything(folder: Path, tmp_path: Path, data) -> None:
    own, true = beside(folder, tmp_path), json.loads((folder / "model.json").read_text())
    put(own, data.draw(another(true) if data.draw(st.integers(0, 3)) else changed(json.dumps(true).encode())))
    with modest():
        assert load_model(own)(torch.zeros(1, 1, 37, 36, 38)).shape == (1, 3)
        assert card(read_facts(own)).startswith("# ")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"network": NETWORK | {"width": 10**6}}, "network.width"),
        ({"network": NETWORK | {"n_networks": 10**6}}, "network.n_networks"),
        ({"network": NETWORK | {"width": 64}}, "weights"),
        ({"network": NETWORK | {"_target_": "os.system"}}, "network._target_"),
        ({"slug": "../../x"}, "slug"),
        ({"slug": "<script>"}, "slug"),
        ({"classes": ["$__import__('os').abort()", "MCI", "AD"]}, "classes.0"),
        ({"licence": "$__import__('os').abort()"}, "licence"),
        ({"selected": {"rule": "last", "epoch": 1, "val_ce": "$print()"}}, "selected.val_ce"),
    ],
)  # fmt: skip
def test_what_would_take_memory_or_be_run_is_refused(folder: Path, tmp_path: Path, change: dict, key: str) -> None:
    """MONAI evaluates texts of a bundle that begin with `$`: a stranger's must not come into one."""
    own = beside(folder, tmp_path)
    put(own, json.loads((folder / "model.json").read_text()) | change)
    with pytest.raises(BadInput, match=key):
        export(own, form="bundle", output=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@SLOWER
@given(st.data())
@example(data=None)
def test_weights_of_any_bytes(folder: Path, tmp_path: Path, data) -> None:
    out = tmp_path / "damaged"
    out.mkdir(exist_ok=True)
    put(out, (folder / "model.json").read_bytes())
    raw = (folder / "model.safetensors").read_bytes()
    size = 8 + int.from_bytes(raw[:8], "little")
    head = (2**62).to_bytes(8, "little") + raw[8:size] if data is None else data.draw(changed(raw[:size]))
    put(out, head + raw[size:], "model.safetensors")
    with modest():
        load_model(out)


def test_weights_that_are_no_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    with torch.no_grad():
        model.network.classifier[1].bias[0] = torch.nan
    told = {k: v for k, v in json.loads((folder / "model.json").read_text()).items() if k != "versions"}
    save_model(tmp_path, model, told)
    with pytest.raises(BadInput, match=r"NaN or infinity in network\.classifier\.1\.bias"):
        load_model(tmp_path)


STORED = {
    "version": baseline.VERSION,
    "source": "registered",
    "normalisation": {"method": "residual", "slopes": {"hippocampus_left": 0.001}, "mean_intracranial_mm3": 1.5e6},
    "reference": {"regions": {"hippocampus_left": {"intercept": 4000.0, "slope_per_year": -10.0, "residual_deviation": 300.0}}},
}  # fmt: skip
VOLUMES = {"hippocampus_left": 3000.0, "hippocampus_right": 3000.0, "hippocampus": 6000.0, "intracranial": 1.4e6}


@FUZZ
@given(st.data())
def test_a_volume_baseline_that_says_anything(tmp_path: Path, data) -> None:
    put(tmp_path, data.draw(another(STORED) if data.draw(st.integers(0, 3)) else changed(json.dumps(STORED).encode())))
    with modest():
        model = stored.read(tmp_path / "model.json", baseline.VERSION)
        if not isinstance(model, int):
            found = baseline.percentile(model, VOLUMES, age_years=70, source=model["source"])
            assert all(0 <= share <= 100 for share in found.values())


def test_trees_that_go_round_are_refused() -> None:
    tree = {"first": [0], "feature": [0, -2, -2], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    arrays = {name: np.array(values) for name, values in tree.items()} | {"value": np.eye(3)}
    trees.check(arrays, 1, "here")
    for name, bad in (("left", [0, -1, -1]), ("right", [9, -1, -1]), ("feature", [7, -2, -2]), ("first", [3])):
        with pytest.raises(BadInput, match="decision trees"):
            trees.check(arrays | {name: np.array(bad)}, 1, "here")


@FUZZ
@given(st.data())
def test_a_config_of_any_bytes(tmp_path: Path, data) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(data.draw(changed(b"cohorts:\n  - {name: A, format: tsv, path: a.tsv}\nsplit: {seed: 3}\n")))
    with modest():
        assert config.section(config.Split, "split", str(path)).n_folds >= 0


def test_a_config_nested_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(b"[" * 600)
    with pytest.raises(BadInput, match="recursion"):
        config.section(config.Split, "split", str(tmp_path / "study.yaml"))
