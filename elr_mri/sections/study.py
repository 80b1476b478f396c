"""A whole config file: all sections, and how they must fit together."""

from __future__ import annotations

import re
import warnings
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from elr_mri import variants
from elr_mri.sections.base import Section
from elr_mri.sections.findings import (
    FEWEST,
    Baseline,
    Evaluate,
    Fuse,
    Progression,
    Report,
    Shift,
    Subgroups,
)
from elr_mri.sections.imaging import Atlases, Audit, Convert, Measure, Pack, Regions, Register, Review
from elr_mri.sections.lab import (
    Lab,
)
from elr_mri.sections.learning import Ablations, Explain, Model, Predict, Train
from elr_mri.sections.scans import Cohort, Demographics, Ingest, Phantom, Split

warnings.filterwarnings("ignore", message='Field name "register" in "Study" shadows')  # the word of a stage


#: Names that models of a study and its ablations may not have; all but the last are models of ours.
RESERVED = ("volumes", "volumes-all", "volumes-all-prior", "fused", "explain")


class Study(Section):
    """A whole config file: every stage has its section, under the stage's own name."""

    results: str = "results"
    cohorts: Annotated[tuple[Cohort, ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    batches: Annotated[int, Field(ge=0)] = 0
    phantom: Phantom | None = None
    ingest: Ingest = Ingest()
    split: Split = Split()
    demographics: Demographics = Demographics()
    convert: Convert = Convert()
    audit: Audit = Audit()
    register: Register = Register()
    atlases: Atlases = Atlases()
    measure: Measure = Measure()
    regions: Regions = Regions()
    review: Review = Review()
    pack: Pack = Pack()
    baseline: Baseline = Baseline()
    train: Train = Train()
    ablations: Ablations = Ablations()
    predict: Predict = Predict()
    explain: Explain = Explain()
    lab: Lab = Lab()
    fuse: Fuse = Fuse()
    evaluate: Evaluate = Evaluate()
    subgroups: Subgroups = Subgroups()
    progression: Progression = Progression()
    shift: Shift = Shift()
    report: Report = Report()

    def ablated(self) -> dict[str, Model]:
        """The variants of `ablations` as whole models, by slug."""
        models = {slug: model.model_dump(exclude_unset=True) for slug, model in self.train.models.items()}
        ablations = self.ablations.model_dump(exclude_unset=True)
        return {slug: Model.model_validate(keys) for slug, keys in variants.variants(models, ablations).items()}

    def training(self) -> Train:
        """The training section with the variants among its models."""
        return self.train.model_copy(update={"models": {**self.train.models, **self.ablated()}})

    @model_validator(mode="after")
    def _variants_are_new_models(self) -> Study:
        models, base = self.train.models, self.ablations.base
        if models and base is not None and base not in models:
            raise ValueError(f"ablations.base must be one of {', '.join(models)}; got {base!r}")
        for slug, changed in self.ablations.variants.items():
            if not re.fullmatch(r"[a-z0-9-]+", slug):
                raise ValueError(f"ablations.variants must be named in a-z, 0-9 and -; got {slug!r}")
            if not changed.model_dump(exclude_unset=True):
                raise ValueError(f"ablations.variants.{slug} must change a key of the base model; got none")
        if self.ablations.variants and not models:
            raise ValueError("ablations need a base model in train.models; got none")
        if taken := {*RESERVED, *models} & set(self.ablated()):
            raise ValueError(
                f"ablations must have other names than train.models, {' and '.join(RESERVED)}; got {min(taken)!r}"
            )
        return self

    @model_validator(mode="after")
    def _a_page_that_leaves_the_house_tells_no_small_count(self) -> Study:
        for name in () if self.report.in_house else ("subgroups", "progression", "shift"):
            if (cell := getattr(self, name).min_cell) < FEWEST:
                raise ValueError(
                    f"{name}.min_cell must be {FEWEST} at least unless report.in_house is true; got {cell}"
                )
        return self

    @model_validator(mode="after")
    def _the_lab_s_models_are_known(self) -> Study:
        models = list(self.train.models)
        for key, named in (("mri.base", self.lab.mri.base), ("audit.model", self.lab.audit.model)):
            if named is not None and named not in models:
                raise ValueError(f"lab.{key} must be one of {', '.join(models) or 'train.models'}; got {named!r}")
        if models:
            self._lab_training()
        if self.lab.mri.reported is not None and self.lab.noise.kind == "instance":
            raise ValueError(
                "lab.noise.kind: instance needs predictions of a reference model, which the workflow does not have "
                "(`elr-mri lab noise --predictions` takes them): set lab.mri.reported to null"
            )
        return self

    def _lab_training(self) -> Train:
        """The methods of `lab.mri` as models of the training; refuses what cannot be trained."""
        plain = {slug: model.model_dump(exclude_unset=True) for slug, model in self.train.models.items()}
        models = variants.lab_models(plain, self.lab.model_dump(exclude_unset=True))
        try:
            return Train.model_validate({**self.train.model_dump(exclude_unset=True), "models": models})
        except ValidationError as problem:
            fault = problem.errors()[0]
            key = ".".join(map(str, fault["loc"]))
            raise ValueError(
                f"lab.mri.methods that can be trained ({key + ': ' if key else ''}{fault['msg']})"
            ) from problem

    @model_validator(mode="after")
    def _names_fit_together(self) -> Study:
        models = list(self.train.models)
        for slug in models:
            if not re.fullmatch(r"[a-z0-9-]+", slug) or slug in RESERVED:
                raise ValueError(
                    f"train.models must be named in a-z, 0-9 and -, and not {' or '.join(RESERVED)}; got {slug!r}"
                )
        named = self.explain.model if "model" in self.explain.model_fields_set else None
        if models and "explain" in self.model_fields_set and named not in models:
            raise ValueError(f"explain.model must be one of {', '.join(models)}; got {named!r}")
        if models and self.fuse.model not in (None, *models):
            raise ValueError(f"fuse.model must be one of {', '.join(models)}; got {self.fuse.model!r}")
        if self.fuse.baseline == "volumes-all" and self.baseline.all_regions is None:
            raise ValueError("fuse.baseline: volumes-all needs baseline.all_regions; got null")
        several = tuple(f"{slug}-ensemble" for slug in (*models, "fused")) if len(self.seeds) > 1 else ()
        known = (*RESERVED[:-1], *models, *several)
        if models and self.report.reference not in known:
            raise ValueError(f"report.reference must be among {', '.join(known)}; got {self.report.reference!r}")
        for step in ("subgroups", "progression"):
            if models and (odd := [name for name in getattr(self, step).models or () if name not in known]):
                raise ValueError(f"{step}.models must be among {', '.join(known)}; got {odd[0]!r}")
        if self.pack.space != "affine" and not self.register.write_warped:
            raise ValueError(f"pack.space: {self.pack.space} needs register.write_warped: true")
        if self.measure.source == "fusion" and not self.atlases.path:
            raise ValueError("measure.source: fusion needs atlases.path, a folder of labelled scans")
        names = [cohort.name for cohort in self.cohorts]
        if len(set(names)) < len(names):
            raise ValueError(f"cohorts must have different names; got {', '.join(names)}")
        if models and names and all(cohort.role == "external" for cohort in self.cohorts):
            raise ValueError(
                f"a cohort that train.models learn from; got only {', '.join(names)} with role external (take the role away)"
            )
        return self
