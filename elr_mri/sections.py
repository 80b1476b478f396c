"""The sections of a study's config: one small frozen model per stage, unknown keys refused.

Every field is explained in `config/README.md`; `config.py` reads files into these models.
"""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from elr_mri.errors import BadInput

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Base of every section: frozen, strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Anatomy(Section):
    """A head to deform phantoms from: a T1 image with, where there is one, a manual label map to carry along."""

    image: str
    labels: str | None = None


class Phantom(Section):
    """The synthetic study. `effect_scale` 1 is the literature's effect sizes; see `elr_mri/phantom/effects.py`."""

    seed: int = 0
    n_subjects: Annotated[int, Field(ge=6)] = 120
    n_external: Annotated[int, Field(ge=0)] = 30
    visits_per_subject: Annotated[int, Field(ge=1, le=5)] = 2
    effect_scale: Annotated[float, Field(ge=0)] = 1.0
    variability_mm: Annotated[float, Field(ge=0, le=6)] = 2.0
    spread_scale: Annotated[float, Field(ge=0)] = 1.0
    wrong_label_share: Share = 0.0
    spacing_mm: Positive = 1.0
    n_broken: Annotated[int, Field(ge=0)] = 0
    anatomies: Annotated[tuple[Literal["colin27"] | Anatomy, ...], Field(min_length=1)] = ("colin27",)
    workers: Annotated[int, Field(ge=1)] = 2


class Cohort(Section):
    """One download folder. `role` internal is split into train, val and test; external is only tested on.

    `tables` is the folder with participants.tsv where a CAPS folder has none itself.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
    format: Literal["adni", "nacc", "bids", "caps", "tsv"]
    path: str
    tables: str | None = None
    role: Literal["internal", "external"] = "internal"


class Ingest(Section):
    """How scans and visits are matched and which diagnoses count."""

    max_days: Annotated[int, Field(ge=0)] = 180
    carry_forward_days: Annotated[int, Field(ge=0)] = 0
    nacc_impaired_not_mci: Literal["exclude", "MCI", "CN"] = "exclude"
    nacc_ad: Literal["primary", "any", "dementia"] = "primary"


class Published(Section):
    """Split tables as the authors published them (participant_id, session_id, diagnosis), instead of a draw.

    `labels`: whose diagnosis counts where theirs and the scan table's differ.
    """

    train: str | None = None
    val: str | None = None
    test: str | None = None
    labels: Literal["scans", "published"] = "scans"

    @model_validator(mode="after")
    def _name_a_table(self) -> Published:
        if not (self.train or self.val or self.test):
            raise ValueError("published must name a table for train, val or test")
        return self


#: The regions that are measured; their numbers in label maps are in `imaging/labels.py`.
Region = Literal["hippocampus_left", "hippocampus_right", "entorhinal_left", "entorhinal_right"]


class Split(Section):
    """Shares of subjects, the rest is training; or published split tables."""

    seed: int = 0
    val_share: Share = 0.15
    test_share: Share = 0.2
    n_folds: Annotated[int, Field(ge=0)] = 5
    published: Published | None = None

    @model_validator(mode="after")
    def _leave_some_to_train_on(self) -> Split:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share and test_share must add up to less than 1")
        return self


class Demographics(Section):
    """The talk's table of subjects and scans; nothing to choose."""


class Convert(Section):
    """Native scans to RAS+ NIfTI."""

    max_spacing_mm: Positive = 6.0
    min_extent_mm: Positive = 100.0


class Audit(Section):
    """One person under two ids: `stop` the run where they stand in two splits or cohorts, or only `report` it."""

    on_leak: Literal["stop", "report"] = "stop"


#: The named recipes of registration, from quick to thorough: what each sets; `config/README.md` has their times and Dice.
RECIPES: dict[str, dict[str, Any]] = {
    "affine": {"n4_spacing_mm": 6.0, "warp": "none", "detail_iterations": 0},
    "fast": {
        "n4_spacing_mm": 8.0,
        "n4_iterations": (12, 12),
        "affine_spacing_mm": 5.0,
        "syn_spacing_mm": 4.0,
        "syn_iterations": (15, 10),
        "detail_spacing_mm": 2.0,
        "detail_iterations": 30,
    },
    "standard": {},
    "accurate": {
        "affine_spacing_mm": 3.0,
        "syn_spacing_mm": 2.0,
        "syn_iterations": (40, 30, 20),
        "detail_spacing_mm": 1.0,
        "detail_iterations": 30,
    },
}


class Register(Section):
    """Bias correction, brain extraction, affine and deformable registration to the template.

    `recipe` sets all the rest but template and output grid; a key given beside it goes before the recipe's. Spacings in
    mm. `syn_iterations` are the steps of the deformable registration from coarse to fine, the last at
    `syn_spacing_mm`; `detail_*` refine the medial temporal lobes further (0 iterations: not at all). `warp` is the engine:
    our demons (fast, the same on every machine), SyN of ANTs, or none. `write_warped` also writes the deformed scan and
    the logarithm of the warp's local volume ratio.
    `template` is the shipped one, `templateflow:<id>` or a path; `template_mask` the brain in it, where that is known.
    `longitudinal` registers the visits of a subject through a template of their own.
    """

    recipe: Literal["affine", "fast", "standard", "accurate"] = "standard"
    template: str = "MNI152NLin2009aSym"
    template_mask: str | None = None
    spacing_mm: Positive = 1.5
    n4_spacing_mm: Positive = 4.0
    n4_iterations: Annotated[tuple[int, ...], Field(min_length=1, max_length=4)] = (30, 30)
    affine_spacing_mm: Positive = 4.0
    warp: Literal["none", "demons", "syn"] = "demons"
    syn_spacing_mm: Positive = 2.5
    syn_iterations: Annotated[tuple[int, ...], Field(min_length=1)] = (25, 20, 10)
    detail_spacing_mm: Positive = 1.5
    detail_iterations: Annotated[int, Field(ge=0)] = 20
    write_warped: bool = False
    longitudinal: bool = False

    @model_validator(mode="before")
    @classmethod
    def _follow_recipe(cls, given: Any) -> Any:
        recipe = given.get("recipe") if isinstance(given, dict) else None
        return RECIPES[recipe] | given if isinstance(recipe, str) and recipe in RECIPES else given


class Atlases(Section):
    """Manually labelled scans whose labels are fused on every scan; `path: null` is none.

    `path` holds pairs of `NAME<image_ends>` and `NAME<labels_ends>`; `numbers` tells a region's number, or numbers, in
    the labels. Regions that are not named stay with the shipped label map.
    """

    path: str | None = None
    image_ends: str = "_T1.nii.gz"
    labels_ends: str = "_labels.nii.gz"
    numbers: dict[Region, int | tuple[int, ...]] = {
        "hippocampus_left": 1,
        "hippocampus_right": 2,
        "entorhinal_left": 3,
        "entorhinal_right": 4,
    }


#: Sources of volumes that are read, not measured.
GIVEN = ("freesurfer", "synthseg", "cohort")


class Measure(Section):
    """Native-space volumes of the regions: by a label map on the template, by fusion of `atlases`, or of another program.

    `path` is the SUBJECTS_DIR or the tables of source freesurfer and synthseg. With source fusion `mirror` lets each
    atlas vote a second time, mirrored: for few atlases and a symmetric template.
    """

    labels: str = "shipped"
    source: Literal["registered", "fusion", "freesurfer", "synthseg", "cohort"] = "registered"
    path: str | None = None
    mirror: bool = False

    @model_validator(mode="after")
    def _path_of_the_tables(self) -> Measure:
        if (self.path is not None) != (self.source in ("freesurfer", "synthseg")):
            raise ValueError("path names the SUBJECTS_DIR or tables of source freesurfer or synthseg, and of no other")
        return self


class Review(Section):
    """The last word on every scan: quality control's verdict, or a person's in the table `decisions`."""

    decisions: str | None = None


class Pack(Section):
    """Which registered volume the network sees: affine, warped, or warped with the log-Jacobian as a second channel.

    `verify` checks the hash of every row that is there already, and makes damaged ones anew.
    """

    space: Literal["affine", "warped", "warped-jacobian"] = "affine"
    dtype: Literal["uint8", "float16"] = "uint8"
    verify: bool = False


Region = Literal[
    "hippocampus_left", "hippocampus_right", "entorhinal_left", "entorhinal_right", "hippocampus", "entorhinal"
]


class Baseline(Section):
    """The volume baseline, chosen on validation.

    `features` auto is each region's sides where the source of the volumes tells them, else its sum. `normalise` is how
    head size is taken out, see `elr_mri/findings/normalise.py`.
    """

    seed: int = 0
    features: tuple[Region, ...] | Literal["auto"] = "auto"
    normalise: Literal["ratio", "residual", "none"] = "ratio"
    use_age: bool = False


class Elr(Section):
    """Early-learning regularization: weight λ and momentum β (Liu et al., NeurIPS 2020)."""

    weight: Annotated[float, Field(ge=0)] = 3.0
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.7


class Model(Section):
    """One trained model: a network and what is varied between the models of a study.

    `epochs` and `learning_rate` go before those of `train`, for a network that needs its own.
    """

    network: Literal["wide", "wide-paper", "resnet18", "alexnet"]
    width: Annotated[int, Field(ge=1)] = 8
    norm: Literal["instance", "batch", "group", "none"] = "instance"
    age: Literal["none", "sinusoid", "scalar"] = "none"
    first_pool: bool = True
    elr: Elr | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Positive | None = None


class Train(Section):
    """The training recipe, shared by all models of a study.

    `shift_max` bounds the random crop's distance from the centre, in voxels per axis (null: anywhere in the
    grid, as the reference). `precision` auto is bfloat16 on a GPU that computes in it, else float32.
    """

    models: dict[str, Model] = {}
    epochs: Annotated[int, Field(ge=1)] = 60
    batch_size: Annotated[int, Field(ge=1)] = 4
    crop: Annotated[int, Field(ge=1)] = 96
    standardise: Literal["scan", "voxel"] = "voxel"
    optimizer: Literal["sgd", "adamw"] = "adamw"
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    learning_rate: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    blur_sigma_max: Annotated[float, Field(ge=0)] = 1.0
    shift_max: Annotated[int, Field(ge=0)] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    select: Literal["best", "last"] = "best"
    device: str = "auto"

    def of(self, slug: str) -> Train:
        """The recipe of one model: its own epochs and learning rate where it has them."""
        if slug not in self.models:
            raise BadInput(
                expected=f"a model among {', '.join(self.models) or '(none)'}",
                got=repr(slug),
                where="train.models",
                fix="Choose one.",
            )
        own = self.models[slug].model_dump(include={"epochs", "learning_rate"}, exclude_none=True)
        return self.model_copy(update=own)


class Predict(Section):
    """Evaluation crops."""

    batch_size: Annotated[int, Field(ge=1)] = 8
    device: str = "auto"


class Explain(Section):
    """Gradient saliency."""

    model: str = "wide-age-elr"
    split: Literal["val", "test", "external"] = "test"
    device: str = "auto"


class Evaluate(Section):
    """Metrics with subject-clustered bootstrap intervals."""

    seed: int = 0
    draws: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Report(Section):
    """The page that people read. `reference` is the model that the others are compared with on it."""

    reference: str = "volumes"
    title: str = "Early Alzheimer detection from structural MRI"


warnings.filterwarnings("ignore", message='Field name "register" in "Study" shadows')  # the word of a stage


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
    review: Review = Review()
    pack: Pack = Pack()
    baseline: Baseline = Baseline()
    train: Train = Train()
    predict: Predict = Predict()
    explain: Explain = Explain()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    @model_validator(mode="after")
    def _names_fit_together(self) -> Study:
        models = list(self.train.models)
        for slug in models:
            if not re.fullmatch(r"[a-z0-9-]+", slug) or slug in ("volumes", "explain"):
                raise ValueError(
                    f"train.models must be named in a-z, 0-9 and -, and not volumes or explain; got {slug!r}"
                )
        if models and self.explain.model not in models:
            raise ValueError(f"explain.model must be one of {', '.join(models)}; got {self.explain.model!r}")
        if models and self.report.reference not in ("volumes", *models):
            raise ValueError(
                f"report.reference must be volumes or one of {', '.join(models)}; got {self.report.reference!r}"
            )
        if self.pack.space != "affine" and not self.register.write_warped:
            raise ValueError(f"pack.space: {self.pack.space} needs register.write_warped: true")
        if self.measure.source == "fusion" and not self.atlases.path:
            raise ValueError("measure.source: fusion needs atlases.path, a folder of labelled scans")
        names = [cohort.name for cohort in self.cohorts]
        if len(set(names)) < len(names):
            raise ValueError(f"cohorts must have different names; got {', '.join(names)}")
        return self
