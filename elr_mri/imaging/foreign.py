"""Templates other than the shipped one: a path, or TemplateFlow (Ciric et al., Nature Methods 19, 2022).

A template may be a brain or a whole head. Its brain is, in this order: the mask that is named beside it
(`register.template_mask`, TemplateFlow's `desc-brain_mask`), what is not zero in an image that is a bare brain, or what
our own head extraction finds. Scans are registered to the brain alone.

TemplateFlow's client keeps what it fetched in `TEMPLATEFLOW_HOME`; what lies there is used without the network.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import zlib
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri.errors import BadInput
from elr_mri.imaging import brain
from elr_mri.imaging.bridge import kept_dir
from elr_mri.imaging.grids import Grid, coarsen, pull
from elr_mri.imaging.template import MNI, Template, head_template, scaled
from elr_mri.provenance import digest_file, digest_json, read_json, write_json

PREFIX = "templateflow:"
KEY = "config, key register.template"

#: Litres that the brain of an adult template fills; the largest of TemplateFlow's human ones is 2.0.
LITRES = (0.7, 2.4)
#: Letters of a file's name that go into the id.
NAME_LETTERS = 24


def foreign_template(name: str, mask: str | None) -> Template:
    """The template of `register.template` and `register.template_mask`, where that is not the shipped one."""
    if name.startswith(PREFIX):
        template_id, files = fetch(name)
        files = [files[0], Path(mask)] if mask else files
    else:
        files = [Path(part) for part in (name, mask) if part]
        _check(files)
        template_id = custom_id(files)
    image = _read(files[0])
    volume = np.maximum(np.asarray(image.dataobj, dtype=np.float32), 0)
    inside = _mask(files[1], image) if len(files) > 1 else find_brain(volume, np.asarray(image.affine))
    litres = inside.sum() * Grid(volume.shape, np.asarray(image.affine)).voxel_mm3 / 1e6
    if not LITRES[0] <= litres <= LITRES[1]:
        raise _fault(f"a template whose brain fills {LITRES[0]} to {LITRES[1]} litres", f"{litres:.2f}", files[-1])
    return scaled(template_id, nib.Nifti1Image(volume * inside, image.affine), inside)


def custom_id(files: list[Path]) -> str:
    """The id of a template given by path: letters and digits of its name, and the start of its files' digest."""
    name = re.sub(r"[^A-Za-z0-9]", "", re.sub(r"\.(nii|nii\.gz|mgz|mgh)$", "", files[0].name))
    return f"{name[:NAME_LETTERS]}{digest_json([digest_file(path) for path in files])[:8]}"


def find_brain(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The brain mask (X, Y, Z) bool of a template image without one: itself where it is bare, else extracted."""
    bare = brain.bare_brain(volume, affine)
    if bare is not None:
        return bare
    clipped = np.clip(volume, 0, np.percentile(volume[::2, ::2, ::2], 99.9))
    head = head_template()
    return brain.extract(head, clipped, affine, brain.head_affine(head, *coarsen(clipped, affine, 2.0)))


def fetch(name: str) -> tuple[str, list[Path]]:
    """The id and the files of `_look_up`, remembered: the client takes seconds to list its folder, in every process."""
    home = os.environ.get("TEMPLATEFLOW_HOME")
    known = kept_dir() / f"templateflow-{digest_json([name, home])[:16]}.json"
    if known.is_file():
        told = read_json(known)
        files = [Path(path) for path in told["files"]]
        if all(path.is_file() and path.stat().st_size for path in files):
            return told["id"], files
    template_id, files = _look_up(name, home)
    write_json(known, {"id": template_id, "files": [str(path) for path in files]})
    return template_id, files


def _look_up(name: str, home: str | None) -> tuple[str, list[Path]]:
    """The id and the files (image and, where there is one, brain mask) of `templateflow:<id>[:res-<n>][:cohort-<n>]`."""
    template, *entities = name.removeprefix(PREFIX).split(":")
    chosen = [re.fullmatch(r"(res|cohort)-(\d+)", entity) for entity in entities]
    if not re.fullmatch(r"[A-Za-z0-9]+", template) or not all(chosen):
        raise _fault("templateflow:<id>, templateflow:<id>:res-1 or templateflow:<id>:res-1:cohort-2", repr(name))
    given = {match[1]: match[2] for match in chosen}
    client = _client(home)
    plain = {"template": template, "extension": ".nii.gz", "cohort": given.get("cohort")}
    plain |= dict.fromkeys(("atlas", "hemi", "density", "label", "space"))
    images, masks = (
        _query(client, plain | kind, given.get("res"))
        for kind in ({"suffix": "T1w", "desc": None}, {"suffix": "mask", "desc": "brain"})
    )
    if len(client.ls(**images)) != 1:
        raise _fault("one human T1w template of TemplateFlow", _what_there_is(client, template, name))
    files = [_get(client, query) for query in (images, masks) if len(client.ls(**query)) == 1]
    return template + (f"Cohort{given['cohort']}" if "cohort" in given else ""), files


def _query(client, plain: dict, res: str | None) -> dict:
    """A query with its resolution: the one asked for, else the first, else none where a template has but one grid."""
    query = plain | {"resolution": int(res or 1)}
    return query if res or client.ls(**query) else plain | {"resolution": None}


def _what_there_is(client, template: str, name: str) -> str:
    """Why a name finds no single image, in words."""
    images = client.ls(template, suffix="T1w", desc=None, extension=".nii.gz") if template in client.templates() else []
    if not images:
        return f"{name!r}, which has none (known: {', '.join(t for t in client.templates() if 'MNI' in t)} and others)"
    return f"{name!r}; there are {', '.join(path.name.split('_', 1)[1] for path in images[:6])}"


@lru_cache(maxsize=1)
def _client(home: str | None):
    """TemplateFlow's client on a folder, which asks the network for nothing but files that are not there."""
    os.environ["TEMPLATEFLOW_AUTOUPDATE"] = "0"
    try:
        from templateflow.client import TemplateFlowClient
    except ImportError as problem:
        fix = f"pip install 'elr_mri[imaging]', or name {MNI} or a path."
        raise _fault("the package templateflow", str(problem), fix=fix) from problem
    try:
        client = TemplateFlowClient(home)
        client.templates()  # lays out the folder's index
    except (OSError, RuntimeError, ValueError) as problem:
        raise _fault("a folder that TemplateFlow can use", str(problem), fix="Set TEMPLATEFLOW_HOME.") from problem
    return client


def _get(client, query: dict) -> Path:
    """The one file of a query, fetched if it is not there; one process at a time, because the client writes in place."""
    (path,) = client.ls(**query)
    with open(kept_dir() / "templateflow.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file() and path.stat().st_size:
            return path
        try:
            client.get(**query)
        except Exception as problem:  # whatever requests, urllib3, tqdm or DataLad raise
            _empty(path)
            raise _fault(
                "TemplateFlow's files, from TEMPLATEFLOW_HOME or the network",
                f"{path.name}: {type(problem).__name__}",
                client.cache.config.root,
                fix="Go online once, or copy the file into TEMPLATEFLOW_HOME.",
            ) from problem
        except BaseException:
            _empty(path)
            raise
    return path


def _empty(path: Path) -> None:
    """Back to the client's mark for a file that is not fetched: one cut short would pass for whole the next time."""
    with contextlib.suppress(OSError):
        path.write_bytes(b"")


def _check(files: list[Path]) -> None:
    for path in files:
        if not path.is_file():
            raise _fault(f"{MNI!r}, {PREFIX + '<id>'!r} or the path of an image", repr(str(path)))


def _read(path: Path) -> nib.spatialimages.SpatialImage:
    """A 3-D image, its axes nearest to RAS+."""
    try:
        image = nib.as_closest_canonical(nib.squeeze_image(nib.load(path)))
        np.asarray(image.dataobj)
    except (OSError, ValueError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as problem:
        raise _fault("an image that can be read", " ".join(str(problem).split())[:160], path) from problem
    if len(image.shape) != 3:
        raise _fault("a 3-D image", f"{len(image.shape)}-D", path)
    return image


def _mask(path: Path, image: nib.spatialimages.SpatialImage) -> np.ndarray:
    """A brain mask on the image's grid, (X, Y, Z) bool."""
    mask = _read(path)
    inside = pull((np.asarray(mask.dataobj) > 0).astype(np.float32), mask.affine, Grid(image.shape, image.affine))
    return inside > 0.5


def _fault(expected: str, got: str, where: Path | str = KEY, *, fix: str = "Check the name.") -> BadInput:
    return BadInput(expected=expected, got=got, where=str(where), fix=fix)
