"""What should the network see: the affine scan, the warped one, or that with the log-Jacobian? On phantoms and real brains.

    python benchmarks/network_input.py phantom --results results --config config/config.yaml --work DIR
        a finished study, run with `register: {write_warped: true}`; a network and a linear classifier on every input,
        scored on validation and test
    python benchmarks/network_input.py real --brains DIR --config config/config.yaml --work DIR
        brains with manual labels (<name>_T1.nii.gz, <name>_labels.nii.gz), each as it is and with shrunk hippocampi

Both can be stopped and started again; what is in DIR is not made anew. Choose on validation; test is for the record.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from volumes import shrink as shrink_hippocampi

from elr_mri import config
from elr_mri.findings.bootstrap import draw_scores, interval
from elr_mri.findings.metrics import METRICS, score
from elr_mri.imaging import register
from elr_mri.imaging.atlases import renumber
from elr_mri.imaging.cache import pack, stored_row
from elr_mri.imaging.convert import convert_scan
from elr_mri.imaging.names import verdict_path
from elr_mri.imaging.packed import by_channel
from elr_mri.imaging.template import brain_template
from elr_mri.imaging.warp import DETAIL_BOX_MM
from elr_mri.scans.table import CLASSES

SPACES = ("affine", "warped", "warped-jacobian")


def phantom(results: Path, study: config.Study, work: Path, *, slug: str, seeds: list[int]) -> None:
    """Pack, train and score every input on a finished study."""
    from elr_mri.learning.dataset import read_scan_set
    from elr_mri.learning.predict import predict
    from elr_mri.learning.train import train

    tables = results / "scans" / "ingest" / "scans.tsv", results / "scans" / "split" / "splits.tsv"
    told: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for space in SPACES:
        imaging, cache = results / "imaging", work / f"pack-{space}"
        steps = (imaging / step for step in ("convert", "register", "measure"))
        pack(tables[0], imaging / "review" / "review.tsv", *steps, config.Pack(space=space), cache)
        told["linear", space] = [_linear(read_scan_set(cache, *tables))]
    _print_scores(told)
    for seed in seeds:
        for space in SPACES:
            out, cache = work / f"{slug}-{space}" / f"seed-{seed}", work / f"pack-{space}"
            train(cache, *tables, study.train, slug=slug, seed=seed, out_dir=out, synthetic=True)
            predict([out], cache, *tables, study.predict, output=out / "predictions.tsv")
            told.setdefault((slug, space), []).append(pd.read_csv(out / "predictions.tsv", sep="\t"))
        _print_scores({key: tables for key, tables in told.items() if key[0] == slug})


def _linear(scans) -> pd.DataFrame:
    """Predictions of ridge logistic regression on all voxels that vary, standardised by the training scans."""
    train = (scans.table["split"] == "train").to_numpy()
    values = scans.read(np.arange(len(scans))).numpy().reshape(len(scans), -1).astype(np.float32)
    deviation = values[train].std(axis=0)
    varies = deviation > 0.1 * deviation[deviation > 0].mean()
    values = (values[:, varies] - values[train][:, varies].mean(axis=0)) / deviation[varies]
    gram = values @ values[train].T  # every solution is a combination of training scans
    axes, sizes, _ = np.linalg.svd(gram[train])
    features = gram @ axes / np.sqrt(np.maximum(sizes, 1e-3 * sizes[0])) / np.sqrt(varies.sum())
    model = LogisticRegression(C=1.0, max_iter=2000).fit(features[train], scans.table["label"].to_numpy()[train])
    shares = pd.DataFrame(model.predict_proba(features), columns=["p_cn", "p_mci", "p_ad"])
    return pd.concat([scans.table[["scan_id", "subject_id", "split", "diagnosis"]], shares], axis=1)


def _print_scores(told: dict[tuple[str, str], list[pd.DataFrame]]) -> None:
    """Mean over seeds of each score, and its difference to `affine` on the same draws of subjects."""
    for split in ("val", "test"):
        for model in dict.fromkeys(key[0] for key in told):
            draws = {}
            for space in SPACES:
                parts = [table[table["split"] == split] for table in told[model, space]]
                labels = parts[0]["diagnosis"].map(CLASSES.index).to_numpy()
                shares = [part[["p_cn", "p_mci", "p_ad"]].to_numpy() for part in parts]
                found = draw_scores(labels, shares, parts[0]["subject_id"], draws=2000, seed=0)
                draws[space] = found.mean(axis=0)
                each = [score(labels, one) for one in shares]
                for name in ("balanced_accuracy", "macro_auc"):
                    place = METRICS.index(name)
                    low, high = interval(draws[space][place] - draws["affine"][place], level=0.95)
                    values = [one[name] for one in each]
                    print(
                        f"{split:5} {model:9} {space:16} {name:18} {np.mean(values):.3f} "
                        f"(seeds {', '.join(f'{v:.3f}' for v in values)}); less affine {low:+.3f} to {high:+.3f}",
                        flush=True,
                    )


def real(brains: Path, settings: config.Register, work: Path, *, n_brains: int, shrink: float) -> None:
    """How well a linear classifier on the medial temporal box tells shrunk hippocampi in brains that it has not seen."""
    settings = settings.model_copy(update={"write_warped": True})
    names = [path.name.removesuffix("_T1.nii.gz") for path in sorted(brains.glob("*_T1.nii.gz"))][:n_brains]
    rows: dict[str, list[np.ndarray]] = {space: [] for space in SPACES}
    grid = register.template_of(settings).study_grid(settings.spacing_mm)
    told = {"shape": grid.shape, "affine": grid.affine}
    points, ends = grid.points(), np.array(DETAIL_BOX_MM)[:, :, None, None, None]
    box = ((points > ends[0]) & (points < ends[1])).all(axis=0) & (
        brain_template(settings.template).mask_on(grid) > 0.5
    )
    for name in names:
        for kind, share in (("whole", 0.0), ("shrunk", shrink)):
            scan_id = f"{name}-{kind}"
            if verdict_path(work / scan_id, scan_id) is None:
                source = _shrunk(brains, name, share, work / f"{scan_id}.nii")
                converted = convert_scan(str(source), work / scan_id, scan_id, config.Convert())
                register.register_scan(
                    work / scan_id / f"{scan_id}_T1w.nii.gz",
                    work / scan_id,
                    scan_id,
                    settings,
                    sha256=converted["sha256"],
                )
                source.unlink()
                print(scan_id, flush=True)
            folder = work / scan_id
            (work / "all" / scan_id).parent.mkdir(exist_ok=True)
            if not (work / "all" / scan_id).exists():
                (work / "all" / scan_id).symlink_to(folder.resolve())
            for space in SPACES:
                stored = by_channel(stored_row(work / "all", scan_id, space, "uint8", told))
                rows[space].append(stored[:, box].astype(float))
    print(f"{len(names)} brains, hippocampi shrunk by {shrink:.0%}, {box.sum()} voxels of the medial temporal box")
    for space in SPACES:
        _print_separation(space, np.array(rows[space]))


def _shrunk(brains: Path, name: str, share: float, out: Path) -> Path:
    """A brain whose hippocampi (labels 47, 48) are smaller by `share`, as `volumes.py` shrinks them."""
    image, labels = (nib.as_closest_canonical(nib.load(brains / f"{name}_{kind}.nii.gz")) for kind in ("T1", "labels"))
    volume, affine = np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine)
    if share:
        numbers = {"hippocampus_left": 48, "hippocampus_right": 47}
        volume, _ = shrink_hippocampi(volume, affine, renumber(np.asarray(labels.dataobj), numbers, where=name), share)
    out.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, affine), out)
    return out


def _print_separation(space: str, rows: np.ndarray) -> None:
    """Leave-one-brain-out ridge discriminant: AUC and d′ of the held-out values; rows (2 n, n_channels, voxels)."""
    rows = rows.reshape(len(rows), -1)
    labels, values = np.arange(len(rows)) % 2, np.empty(len(rows))
    for held in range(len(rows) // 2):
        out = np.isin(np.arange(len(rows)) // 2, held)
        mean, deviation = rows[~out].mean(axis=0), rows[~out].std(axis=0)
        varies = deviation > 0.1 * deviation[deviation > 0].mean()
        known, new = ((rows[part][:, varies] - mean[varies]) / deviation[varies] for part in (~out, out))
        gram = known @ known.T / varies.sum()
        weights = np.linalg.solve(gram + 0.1 * np.eye(len(gram)), 2.0 * labels[~out] - 1)
        values[out] = new @ known.T @ weights / varies.sum()
    small, large = values[labels == 1], values[labels == 0]
    d_prime = (small.mean() - large.mean()) / np.sqrt((small.var(ddof=1) + large.var(ddof=1)) / 2)
    pairs = (small > large).mean()
    print(
        f"{space:16} AUC {roc_auc_score(labels, values):.3f}  d′ {d_prime:.2f}  right order within a brain {pairs:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=("phantom", "real"))
    parser.add_argument("--config", required=True, help="the study's YAML file: `register`, `train` and `predict`")
    parser.add_argument("--results", type=Path, help="results folder of the finished study")
    parser.add_argument("--brains", type=Path, help="folder of brains with manual labels")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="resnet18", help="which of train.models")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--n-brains", type=int, default=18)
    parser.add_argument("--shrink", type=float, default=0.15)
    told = parser.parse_args()
    study = config.study(told.config)
    if told.data == "phantom":
        phantom(told.results, study, told.work, slug=told.model, seeds=told.seeds)
    else:
        real(told.brains, study.register, told.work, n_brains=told.n_brains, shrink=told.shrink)


if __name__ == "__main__":
    main()
