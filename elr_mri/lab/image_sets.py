"""A set of images with its classes, divided into training, validation and test images; all of them bytes until a batch is taken."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elr_mri.config import Images
from elr_mri.errors import BadInput
from elr_mri.lab.cifar import read_cifar
from elr_mri.lab.class_folders import pack, read_folders
from elr_mri.lab.noise import draw

#: Streams of the two divisions: neither depends on whether the other is made.
TEST, VALIDATION = 1, 2


@dataclass(frozen=True)
class ImageSet:
    """Images by split: `train`, `test`, and `val` where some are held out.

    Attributes
    ----------
    name : str
        digits, cifar10, cifar100, or the name of the folder of class folders.
    kind : str
        digits, cifar10, cifar100 or folders.
    images : dict of (n, n_channels, height, width) uint8
    labels : dict of (n,) int
    names : dict of list of str
        Of each image, its file, or its row in the part of the published set that it was taken from.
    clean_val : bool
        The set came with its own validation images: their labels are left as they are.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    names: dict[str, list[str]]
    clean_val: bool

    def digest(self) -> str:
        """SHA-256 of all images and labels."""
        told = hashlib.sha256()
        for split in sorted(self.images):
            told.update(np.ascontiguousarray(self.images[split]))
            told.update(np.ascontiguousarray(self.labels[split], dtype="<i8"))
        return told.hexdigest()


def read_images(settings: Images, cache_dir: Path) -> ImageSet:
    """The images that a config names; `cache_dir` takes those of class folders, packed."""
    if settings.path is None:
        return _of_arrays("digits", tuple("0123456789"), {"train": _digits()}, settings)
    path = Path(settings.path).expanduser()
    if not path.exists():
        raise BadInput(
            expected="CIFAR's archive or folder, or a folder of images by class",
            got="nothing",
            where=f"lab.images.path: {path}",
            fix="Correct the path; without one, scikit-learn's digits are used.",
        )
    found = read_cifar(path)
    if found is not None:
        return _of_arrays(*found, settings)
    if path.is_file():
        raise BadInput(
            expected="CIFAR-10 or CIFAR-100, python or binary version",
            got="an archive with none of their files",
            where=str(path),
            fix="Unpack other sets, and name the folder of their class folders.",
        )
    return _of_folders(path, settings, cache_dir)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's 1797 handwritten digits, (n, 1, 8, 8) uint8 of 17 grey values from 0 to 255, and labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.round(found.images[:, None] * (255 / 16)).astype(np.uint8), found.target


def _of_arrays(name: str, classes: tuple[str, ...], parts: dict, settings: Images) -> ImageSet:
    """A set that is in memory."""
    labels = {split: y for split, (_, y) in parts.items()}
    rows = _divided(labels, settings)
    images = {split: parts[source][0][places] for split, (source, places) in rows.items()}
    return ImageSet(
        name,
        name,
        classes,
        images,
        {split: labels[source][places] for split, (source, places) in rows.items()},
        {split: [str(place) for place in places] for split, (_, places) in rows.items()},
        False,
    )


def _of_folders(path: Path, settings: Images, cache_dir: Path) -> ImageSet:
    """A set of class folders."""
    found = read_folders(path)
    rows = _divided(found.labels, settings)
    paths = {split: [found.paths[source][place] for place in places] for split, (source, places) in rows.items()}
    return ImageSet(
        path.resolve().name,
        "folders",
        found.classes,
        {split: pack(listed, settings.size, cache_dir) for split, listed in paths.items()},
        {split: found.labels[source][places] for split, (source, places) in rows.items()},
        {split: [p.relative_to(path).as_posix() for p in listed] for split, listed in paths.items()},
        "val" in found.labels,
    )


def _divided(labels: dict[str, np.ndarray], settings: Images) -> dict[str, tuple[str, np.ndarray]]:
    """Of each split the part as it came that it is taken from, and its rows there; test and validation images are drawn where there are none, class by class."""
    parts = {split: (split, np.arange(len(y))) for split, y in labels.items()}
    for split, share, stream in (("test", settings.test_share, TEST), ("val", settings.validation, VALIDATION)):
        if split in parts or not share:
            continue
        rows = parts["train"][1]
        rng = np.random.default_rng([settings.split_seed, stream])
        taken = draw(rng, np.full(len(rows), share), labels["train"][rows])
        parts |= {"train": ("train", rows[~taken]), split: ("train", rows[taken])}
    for split, (_, rows) in parts.items():
        if not len(rows):
            raise BadInput(
                expected=f"enough images for the {split} set",
                got="none of them",
                where="lab.images",
                fix="Change its share.",
            )
    return parts
