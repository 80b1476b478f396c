"""The planted disease: how severity and age change regional volumes, with the literature's effect sizes.

Severity is a latent number: 0 is a healthy control, 1 the typical mild Alzheimer dementia of a
clinical study. The log volume of a region changes linearly with it, and a mild cognitive
impairment lies near one half, as the meta-analytic MCI-to-AD ratios do.

| region | at severity 1 | per year of age | between subjects (sd) | source |
|---|---|---|---|---|
| hippocampus | -24 % | -0.5 % | 9 % | Shi et al., Hippocampus 2009 (AD -23 to -26 %, MCI -11 to -13 %); Fraser et al., Front Aging Neurosci 2015 |
| entorhinal cortex | -35 % | -0.4 % | 12 % | Du et al., JNNP 2001 (AD -39 %, MCI -13 %); Pennanen et al., Neurobiol Aging 2004 |
| lateral ventricles | +65 % | +2.0 % | 25 % | Nestor et al., Brain 2008; Fjell et al., J Neurosci 2009 |
| cortex | -5 % | -0.2 % | 2 % | Lerch et al., Cereb Cortex 2005; Dickerson et al., Cereb Cortex 2009 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Age at which the anatomy is taken as it is, in years.
REFERENCE_AGE = 72.0


@dataclass(frozen=True)
class Effect:
    """Relative volume change of a region at severity 1, per year of age, and its spread between subjects."""

    disease: float
    per_year: float
    spread: float


EFFECTS = {
    "hippocampus": Effect(disease=-0.24, per_year=-0.005, spread=0.09),
    "entorhinal": Effect(disease=-0.35, per_year=-0.004, spread=0.12),
    "ventricles": Effect(disease=0.65, per_year=0.020, spread=0.25),
    "cortex": Effect(disease=-0.05, per_year=-0.002, spread=0.02),
}


def log_volume_change(
    severity: float, age_years: float, individual: dict[str, float], *, effect_scale: float, spread_scale: float
) -> dict[str, float]:
    """Natural log of each region's volume relative to the anatomy's.

    Parameters
    ----------
    severity : float
        Latent severity of the visit.
    individual : mapping of region to a standard normal draw
        The subject's own deviation, the same at all visits.
    effect_scale, spread_scale : float
        Factors on the disease effect and on the spread between subjects; 1 is the literature's.
    """
    return {
        region: effect_scale * severity * np.log1p(effect.disease)
        + (age_years - REFERENCE_AGE) * np.log1p(effect.per_year)
        + spread_scale * individual[region] * effect.spread
        for region, effect in EFFECTS.items()
    }
