"""A synthetic table of FreeSurfer's regional volumes with known diagnoses: two cohorts, several visits of each subject.

The logarithm of a region's volume in mm³ is a sum of its usual size, head size, age, sex, what subjects differ by (a factor of the whole
brain, one of each tissue and lobe, one that both sides share, and the side's own), atrophy, the scanner's bias and the visit's error
of measurement. Atrophy follows the latent severity of `subjects.py` through a reserve of each subject, so that equal brains have
different diagnoses, as in the clinic (Stern, Lancet Neurology 11, 2012); it is strongest in the hippocampus, the
entorhinal cortex and the ventricles. The sizes of effects are rounded from published group means (Fjell et al., NeuroImage 2010; Potvin et al.,
NeuroImage 2016); nothing is fitted to anybody's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri import provenance
from elr_mri.config import RoiPhantom
from elr_mri.phantom.subjects import CUT_OFFS, GROUPS, SUBJECT_READING_SD, VISIT_READING_SD
from elr_mri.scans.cells import write_tsv
from elr_mri.scans.cohort import session_id
from elr_mri.scans.table import CLASSES

VERSION = 1
ICV, ICV_MM3 = "EstimatedTotalIntraCranialVol", 1_500_000.0
#: Age in years from which the effects of age count.
AGE = 73.0
MONTHS = (0, 6, 12, 18, 24, 36, 48)


@dataclass(frozen=True)
class Region:
    """A kind of region: usual mm³ of one side, exponent of head size, change per decade of age and from CN to AD (natural log), which subjects
    share a factor (`family`), and the deviation of a visit's measurement."""

    mm3: float
    head: float = 0.7
    decade: float = -0.04
    disease: float = -0.04
    family: str = "cortex"
    error: float = 0.03


#: Regions of two sides in aseg; FreeSurfer writes Left-Hippocampus.
SUBCORTICAL = {
    "Lateral-Ventricle": Region(13_000, 1.1, 0.28, 0.32, "fluid", 0.03),
    "Inf-Lat-Vent": Region(600, 1.0, 0.30, 0.55, "fluid", 0.10),
    "Cerebellum-White-Matter": Region(14_000, 0.7, -0.05, -0.02, "white", 0.04),
    "Cerebellum-Cortex": Region(51_000, 0.6, -0.03, -0.01, "cerebellum", 0.02),
    "Thalamus-Proper": Region(6_200, 0.7, -0.05, -0.04, "deep", 0.04),
    "Caudate": Region(3_400, 0.7, 0.00, 0.00, "deep", 0.04),
    "Putamen": Region(4_700, 0.7, -0.06, -0.05, "deep", 0.05),
    "Pallidum": Region(1_700, 0.7, -0.02, 0.00, "deep", 0.06),
    "Hippocampus": Region(3_700, 0.5, -0.07, -0.24, "temporal", 0.03),
    "Amygdala": Region(1_450, 0.6, -0.07, -0.22, "temporal", 0.06),
    "Accumbens-area": Region(500, 0.6, -0.10, -0.10, "deep", 0.09),
    "VentralDC": Region(3_700, 0.7, -0.03, -0.03, "white", 0.04),
    "choroid-plexus": Region(800, 0.8, 0.14, 0.10, "fluid", 0.10),
}
#: Regions without sides.
MIDLINE = {
    "3rd-Ventricle": Region(1_600, 0.9, 0.17, 0.18, "fluid", 0.04),
    "4th-Ventricle": Region(1_900, 0.7, 0.04, 0.02, "cerebellum", 0.06),
    "Brain-Stem": Region(20_500, 0.7, -0.01, -0.02, "white", 0.02),
    "CSF": Region(1_150, 0.9, 0.10, 0.08, "fluid", 0.06),
    "WM-hypointensities": Region(3_500, 0.6, 0.35, 0.25, "fluid", 0.12),
    "Optic-Chiasm": Region(240, 0.5, 0.00, 0.00, "white", 0.12),
    "CC_Posterior": Region(930, 0.5, -0.04, -0.06, "white", 0.06),
    "CC_Mid_Posterior": Region(420, 0.5, -0.06, -0.05, "white", 0.08),
    "CC_Central": Region(410, 0.5, -0.06, -0.05, "white", 0.08),
    "CC_Mid_Anterior": Region(430, 0.5, -0.07, -0.05, "white", 0.08),
    "CC_Anterior": Region(830, 0.5, -0.05, -0.04, "white", 0.06),
}
#: Regions of two sides in aparc; FreeSurfer writes lh_entorhinal_volume. Lobe, then mm³ and the change from CN to AD.
CORTICAL = {
    "bankssts": ("temporal", 2_100, -0.10), "caudalanteriorcingulate": ("cingulate", 1_800, -0.01), "caudalmiddlefrontal": ("frontal", 5_400, -0.07),
    "cuneus": ("occipital", 2_700, -0.02), "entorhinal": ("temporal", 1_800, -0.30), "fusiform": ("temporal", 8_700, -0.11),
    "inferiorparietal": ("parietal", 12_000, -0.11), "inferiortemporal": ("temporal", 9_700, -0.13), "isthmuscingulate": ("cingulate", 2_200, -0.08),
    "lateraloccipital": ("occipital", 10_700, -0.04), "lateralorbitofrontal": ("frontal", 6_500, -0.05), "lingual": ("occipital", 5_900, -0.03),
    "medialorbitofrontal": ("frontal", 4_600, -0.05), "middletemporal": ("temporal", 10_000, -0.14), "parahippocampal": ("temporal", 1_950, -0.14),
    "paracentral": ("frontal", 3_100, -0.02), "parsopercularis": ("frontal", 3_900, -0.05), "parsorbitalis": ("frontal", 2_100, -0.06),
    "parstriangularis": ("frontal", 3_400, -0.05), "pericalcarine": ("occipital", 1_900, -0.01), "postcentral": ("parietal", 8_300, -0.03),
    "posteriorcingulate": ("cingulate", 2_800, -0.06), "precentral": ("frontal", 11_500, -0.03), "precuneus": ("parietal", 8_500, -0.09),
    "rostralanteriorcingulate": ("cingulate", 2_200, -0.02), "rostralmiddlefrontal": ("frontal", 13_500, -0.06), "superiorfrontal": ("frontal", 19_000, -0.06),
    "superiorparietal": ("parietal", 11_500, -0.07), "superiortemporal": ("temporal", 10_000, -0.10), "supramarginal": ("parietal", 9_200, -0.09),
    "frontalpole": ("frontal", 900, -0.03), "temporalpole": ("temporal", 2_200, -0.15), "transversetemporal": ("temporal", 900, -0.04),
    "insula": ("frontal", 6_500, -0.05),
}  # fmt: skip
#: Deviations between subjects, natural log: the whole brain, a family, what the two sides share, and a side's own.
BRAIN_SD, FAMILY_SD, PAIR_SD, OWN_SD = 0.04, 0.05, 0.06, 0.05
#: The fluid spaces differ more between subjects than tissue does.
FLUID_SPREAD = 3.0
HEAD_SD, SEX_HEAD = 0.08, 0.12
#: How far atrophy departs from the clinical severity in a subject: its reserve.
RESERVE_SD = 0.20
SCANNER_SD = 0.02


@dataclass(frozen=True)
class Cohort:
    """Who is in a cohort: shares of the groups at the first visit, ages (mean and deviation), scanners, and the size of their biases."""

    name: str
    shares: tuple[float, float, float]
    age: tuple[float, float]
    n_scanners: int
    scanner: float = SCANNER_SD
    error: float = 1.0


ADNI = Cohort("ADNI", (0.30, 0.43, 0.27), (74.0, 7.0), 12)
#: Younger and healthier, on other scanners with larger biases.
NACC = Cohort("NACC", (0.52, 0.28, 0.20), (71.0, 9.0), 6, 0.04, 1.3)


#: Ages of CN, MCI and AD (mean and deviation) where the groups of a cohort were enrolled at different ages, `ages: enrolment`. ADNI-1 took controls as old as its
#: patients and more alike (75.8 ± 5.0, 74.7 ± 7.4, 75.3 ± 7.5: Petersen et al., Neurology 74, 2010), later phases early MCI that is younger: who is young there is a patient.
#: A centre that takes volunteers of middle age, such as patients' children, has it the other way round: who is young is healthy.
ENROLLED = {
    "ADNI": ((75.8, 5.0), (72.0, 7.4), (75.3, 7.5)),
    "NACC": ((62.0, 7.0), (73.0, 8.0), (75.0, 8.0)),
}


def roi_tables(settings: RoiPhantom, out_dir: Path | str) -> Path:
    """Write `roi_volumes.tsv`, one row per scan, columns as FreeSurfer names them; diagnosis is the true one. Returns its path."""
    path = Path(out_dir) / "roi_volumes.tsv"
    facts = {"step": "phantom", "version": VERSION, "inputs": {}, "settings": settings}
    if not provenance.is_current(path, **facts):
        with provenance.atomic(path) as draft:
            write_tsv(draw_table(settings), draft)
        provenance.record(path, **facts)
    return path


def draw_table(settings: RoiPhantom) -> pd.DataFrame:
    """Both cohorts: participant_id, session_id, cohort, split, diagnosis, age, sex, and volumes in mm³."""
    splits = {
        "train": settings.n_train,
        "val": settings.n_val,
        "test": settings.n_test,
        "external": settings.n_external,
    }
    parts, first = [], 1
    for number, (split, n) in enumerate(splits.items()):
        rng = np.random.default_rng([settings.seed, number])
        cohort = NACC if split == "external" else ADNI
        parts.append(_draw_cohort(rng, cohort, n, first, settings).assign(split=split))
        first += n
    table = pd.concat(parts, ignore_index=True)
    leading = ["participant_id", "session_id", "cohort", "split", "diagnosis", "age", "sex"]
    return table[[*leading, *table.columns.difference(leading, sort=False)]]


def _draw_cohort(rng: np.random.Generator, cohort: Cohort, n: int, first: int, settings: RoiPhantom) -> pd.DataFrame:
    """The scans of `n` subjects, numbered from `first`."""
    people = _subjects(rng, cohort, n, settings)
    subject = np.repeat(np.arange(n), people["n_visits"])
    visit = np.concatenate([np.arange(k) for k in people["n_visits"]])
    years = np.array(MONTHS)[visit] / 12
    severity = people["severity"][subject] + people["rate"][subject] * years
    reading = severity + people["reading"][subject] + VISIT_READING_SD * rng.standard_normal(len(subject))
    diagnosis = np.digitize(reading, CUT_OFFS)
    atrophy = settings.effect_scale * (severity + RESERVE_SD * people["reserve"][subject])
    age = people["age"][subject] + years
    log_head = people["head"][subject]
    columns = {
        "participant_id": [f"sub-{cohort.name}{first + s:06d}" for s in subject],
        "session_id": [session_id(MONTHS[v]) for v in visit],
        "cohort": cohort.name,
        "diagnosis": np.array(CLASSES)[diagnosis],
        "age": age.round(1),
        "sex": np.where(people["male"], "M", "F")[subject],
    }
    # the scanners of a cohort are the same in all its splits, whatever their sizes
    fixed = np.random.default_rng([settings.seed, *cohort.name.encode()])
    for family, pair in _pairs():
        shared = people[family] + PAIR_SD * rng.standard_normal(n)
        for name, region in pair.items():
            bias = cohort.scanner * fixed.standard_normal(cohort.n_scanners)
            spread = FLUID_SPREAD if region.family == "fluid" else 1.0
            own = spread * (people["brain"] + shared + OWN_SD * rng.standard_normal(n))
            error = cohort.error * region.error * rng.standard_normal(len(subject))
            log = region.head * log_head + region.decade * (age - AGE) / 10 + region.disease * atrophy
            log += own[subject] + bias[people["scanner"][subject]] + error
            columns[name] = (region.mm3 * np.exp(log)).round(1)
    columns[ICV] = (ICV_MM3 * np.exp(log_head + 0.01 * cohort.error * rng.standard_normal(len(subject)))).round(1)
    return pd.DataFrame(columns)


def _subjects(rng: np.random.Generator, cohort: Cohort, n: int, settings: RoiPhantom) -> dict[str, np.ndarray]:
    """What stays the same over a subject's visits: (n,) of each."""
    group = rng.choice(len(GROUPS), size=n, p=cohort.shares)
    centre, spread, _, progression = np.array(list(GROUPS.values())).T
    male = rng.random(n) < 0.5
    families = sorted({family for family, _ in _pairs()})
    return {
        "n_visits": rng.integers(1, len(MONTHS) + 1, n),
        "severity": centre[group] + spread[group] * rng.standard_normal(n),
        "rate": progression[group] * rng.gamma(2.0, 0.5, n),
        "reading": SUBJECT_READING_SD * rng.standard_normal(n),
        "reserve": rng.standard_normal(n),
        "age": (_enrolled(rng, cohort, group) if settings.ages == "enrolment" else rng.normal(*cohort.age, n)).clip(
            55, 95
        ),
        "male": male,
        "head": HEAD_SD * rng.standard_normal(n) + SEX_HEAD * (male - 0.5),
        "scanner": rng.integers(cohort.n_scanners, size=n),
        "brain": BRAIN_SD * rng.standard_normal(n),
        **{family: FAMILY_SD * rng.standard_normal(n) for family in families},
    }


def _enrolled(rng: np.random.Generator, cohort: Cohort, group: np.ndarray) -> np.ndarray:
    """Ages of subjects (n,) whose cohort was enrolled with another age for each group (n,)."""
    centre, spread = np.array(ENROLLED[cohort.name]).T
    return centre[group] + spread[group] * rng.standard_normal(len(group))


def _pairs() -> Iterator[tuple[str, dict[str, Region]]]:
    """Families and their regions by FreeSurfer's names, the two sides of one region together."""
    for name, region in SUBCORTICAL.items():
        yield region.family, {f"{side}-{name}": region for side in ("Left", "Right")}
    for name, region in MIDLINE.items():
        yield region.family, {name: region}
    for name, (lobe, mm3, disease) in CORTICAL.items():
        region = Region(mm3, 0.7, -0.04, disease, lobe, 0.05)
        yield lobe, {f"{side}_{name}_volume": region for side in ("lh", "rh")}
