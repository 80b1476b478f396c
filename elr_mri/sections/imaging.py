"""Zone `imaging`: from native scans to the cache."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from elr_mri.sections.base import Positive, Section

#: The regions that are measured; their numbers in label maps are in `imaging/labels.py`.
Region = Literal["hippocampus_left", "hippocampus_right", "entorhinal_left", "entorhinal_right"]


class Convert(Section):
    """Native scans to RAS+ NIfTI."""

    max_spacing_mm: Positive = 6.0
    min_extent_mm: Positive = 100.0


class Audit(Section):
    """One person under two ids: `stop` the run where they stand in two splits or cohorts, or only `report` it."""

    on_leak: Literal["stop", "report"] = "stop"


#: The named recipes of registration, from quick to thorough: what each sets; `config/README.md` has their times and Dice.
RECIPES: dict[str, dict[str, Any]] = {
    "affine": {"n4_spacing_mm": 6.0, "warp": "none", "detail_iterations": 0, "field_spacing_mm": 5.0},
    "fast": {
        "n4_spacing_mm": 8.0,
        "n4_iterations": (12, 12),
        "affine_spacing_mm": 5.0,
        "syn_spacing_mm": 4.0,
        "syn_iterations": (15, 10),
        "detail_spacing_mm": 2.0,
        "detail_iterations": 30,
        "field_spacing_mm": 3.0,
    },
    "standard": {},
    "accurate": {
        "affine_spacing_mm": 3.0,
        "syn_spacing_mm": 1.5,
        "syn_iterations": (40, 30, 20),
        "detail_spacing_mm": 1.0,
        "detail_iterations": 60,
        "field_spacing_mm": 1.5,
    },
}


class Register(Section):
    """Bias correction, brain extraction, affine and deformable registration to the template.

    `recipe` sets all the rest but template and output grid; a key given beside it goes before the recipe's. Spacings in
    mm. `syn_iterations` are the steps of the deformable registration from coarse to fine, the last at
    `syn_spacing_mm`; `detail_*` refine the medial temporal lobes further (0 iterations: not at all); the warp is kept at `field_spacing_mm`. `warp` is the engine:
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
    detail_spacing_mm: Positive = 1.25
    detail_iterations: Annotated[int, Field(ge=0)] = 40
    field_spacing_mm: Positive = 2.0
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
    numbers: dict[Region, int | tuple[int, ...]] = Field(
        default={"hippocampus_left": 1, "hippocampus_right": 2, "entorhinal_left": 3, "entorhinal_right": 4}
    )


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


class Regions(Section):
    """The regions that saliency is summed over, beside those of `measure.labels`: a label map in template space, and which number, or numbers, is which region."""

    atlas: str | None = None
    numbers: dict[str, int | tuple[int, ...]] = Field(default={})

    @model_validator(mode="after")
    def _an_atlas_and_its_numbers(self) -> Regions:
        if bool(self.atlas) != bool(self.numbers):
            raise ValueError("atlas and numbers go together: a label map, and name: number of its regions")
        return self
