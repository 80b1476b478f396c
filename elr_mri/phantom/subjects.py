"""Who is in the study: subjects, visits, latent severity, true and given labels, sites. All randomness of the tables is here.

The true class of a visit is a clinical reading of the latent severity, so neighbouring classes
overlap as they do in the clinic; the given diagnosis is the true class except for a configured
share of visits, whose label is replaced by a neighbouring class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elr_mri.config import Phantom
from elr_mri.phantom.effects import EFFECTS
from elr_mri.scans.table import CLASSES

#: Mean and spread of the baseline severity of each class, its share of subjects, mean progression per year.
GROUPS = {"CN": (0.0, 0.10, 0.35, 0.01), "MCI": (0.5, 0.12, 0.35, 0.08), "AD": (1.0, 0.12, 0.30, 0.12)}
#: Clinical reading = severity + a subject's own offset + a visit's; its cut-offs between CN, MCI and AD.
SUBJECT_READING_SD, VISIT_READING_SD = 0.10, 0.05
CUT_OFFS = (0.25, 0.75)
#: Months of the clinical visits.
VISIT_MONTHS = (0, 6, 12, 24, 36)


@dataclass(frozen=True)
class Site:
    """One scanner: its number, contrast (gamma), noise and bias field (shares of the white-matter signal), resolution, axes."""

    number: int
    gamma: float
    noise: float
    bias: float
    relative_spacing: tuple[float, float, float]
    axes: str
    field_strength_t: float
    manufacturer: str


ADNI_SITES = (
    Site(2, 1.00, 0.020, 0.15, (1.0, 1.0, 1.0), "RAS", 1.5, "SIEMENS"),
    Site(11, 0.92, 0.030, 0.20, (1.0, 1.0, 1.2), "LPI", 1.5, "GE MEDICAL SYSTEMS"),
    Site(23, 1.08, 0.025, 0.25, (0.94, 0.94, 1.2), "PSR", 3.0, "Philips Medical Systems"),
    Site(67, 0.96, 0.020, 0.20, (1.0, 1.0, 1.0), "LAS", 3.0, "SIEMENS"),
)
NACC_SITES = (
    Site(4967, 1.12, 0.035, 0.25, (1.0, 1.1, 1.1), "RSA", 3.0, "GE MEDICAL SYSTEMS"),
    Site(8361, 0.88, 0.030, 0.25, (0.95, 0.95, 1.25), "LPS", 3.0, "SIEMENS"),
)


@dataclass(frozen=True)
class Visit:
    """One clinical visit and what is true about it. `scanned` says whether a scan was taken."""

    months: int
    age_years: float
    severity: float
    true_label: str
    given_label: str
    mmse: int
    cdr_global: float
    scanned: bool


@dataclass(frozen=True)
class Subject:
    """One person: identity, what stays the same over visits, and the visits.

    `index` seeds the person's images; `anatomy` is the place of the head in `phantom.anatomies`.
    """

    index: int
    cohort: str
    number: int
    site: Site
    sex: str
    apoe4: int
    anatomy: int
    individual: dict[str, float]
    baseline_day: int
    visits: tuple[Visit, ...]


def draw_subjects(settings: Phantom) -> list[Subject]:
    """Draw both cohorts; a subject depends on the seed and the own index alone, so adding subjects moves nobody."""
    internal = [draw_subject(settings, index, "ADNI") for index in range(settings.n_subjects)]
    external = [draw_subject(settings, 100_000 + index, "NACC") for index in range(settings.n_external)]
    return internal + external


def draw_subject(settings: Phantom, index: int, cohort: str) -> Subject:
    """Draw one person of a cohort, with visits."""
    rng = np.random.default_rng([settings.seed, index])
    sites = ADNI_SITES if cohort == "ADNI" else NACC_SITES
    group = str(rng.choice(list(GROUPS), p=[g[2] for g in GROUPS.values()]))
    centre, spread, _, progression = GROUPS[group]
    severity = centre + spread * rng.standard_normal()
    rate = progression * rng.gamma(2.0, 0.5)
    reading = SUBJECT_READING_SD * rng.standard_normal()
    age = float(np.clip(rng.normal(73.0, 6.5), 56.0, 92.0))
    n_visits = int(rng.integers(1, len(VISIT_MONTHS) + 1))
    n_scans = int(rng.integers(1, settings.visits_per_subject + 1))
    visits = tuple(
        _draw_visit(rng, settings, months, age, severity, rate, reading, scanned=order < n_scans)
        for order, months in enumerate(VISIT_MONTHS[: max(n_visits, n_scans)])
    )
    carriers = {"CN": (0.73, 0.25, 0.02), "MCI": (0.50, 0.40, 0.10), "AD": (0.34, 0.46, 0.20)}[group]
    return Subject(
        index=index,
        cohort=cohort,
        number=1 + index if cohort == "ADNI" else 100_001 + (index - 100_000),
        site=sites[int(rng.integers(len(sites)))],
        sex=str(rng.choice(["F", "M"])),
        apoe4=int(rng.choice(3, p=carriers)),
        anatomy=index % len(settings.anatomies),
        individual={region: float(rng.standard_normal()) for region in EFFECTS},
        baseline_day=int(rng.integers(0, 2000)),
        visits=visits,
    )


def _draw_visit(
    rng: np.random.Generator,
    settings: Phantom,
    months: int,
    age: float,
    severity: float,
    rate: float,
    reading: float,
    *,
    scanned: bool,
) -> Visit:
    """One visit `months` after baseline."""
    now = severity + rate * months / 12
    clinical = now + reading + VISIT_READING_SD * rng.standard_normal()
    true = int(np.digitize(clinical, CUT_OFFS))
    given = true
    if rng.random() < settings.wrong_label_share:
        given = 1 if true != 1 else int(rng.choice([0, 2]))
    mmse = int(np.clip(round(29.2 - 1.5 * clinical - 4.5 * clinical**2 + rng.normal(0, 1)), 5, 30))
    return Visit(
        months=months,
        age_years=age + months / 12,
        severity=float(now),
        true_label=CLASSES[true],
        given_label=CLASSES[given],
        mmse=mmse,
        cdr_global=(0.0, 0.5, 1.0)[true],
        scanned=scanned,
    )
