"""Images sorted into folders by class: CIFAR's in public repositories, ImageNet's layout, web-labelled sets such as Clothing-1M and WebVision.

    train/CLASS/*.png with test/CLASS/*.png or val/CLASS/*.png (of both, val is the validation set)
    CLASS/*.png alone
    train/123_CLASS.png, train/CLASS_123.png         no folders of classes: the class stands in the name

Names of the split folders and endings in any case; a single folder around all of it is looked into. Images are cropped to a square, resized and packed once into a file
of bytes beside the results, of which training reads batches: a set need not fit in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from elr_mri import provenance
from elr_mri.errors import BadInput

SPLITS = {
    "train": ("train", "training", "train_set", "noisy_train"),
    "val": ("val", "valid", "validation", "dev", "clean_val"),
    "test": ("test", "testing", "test_set", "clean_test"),
}
ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"))
#: Raise when the same images are packed into other bytes.
VERSION = 2


@dataclass(frozen=True)
class Folders:
    """Where the images of each split lie, and their labels (n,) int."""

    classes: tuple[str, ...]
    paths: dict[str, list[Path]]
    labels: dict[str, np.ndarray]


def read_folders(root: Path) -> Folders:
    """The images of a folder by split and class; `train` alone where it has no split folders."""
    splits, root = _splits(root)
    named = {split: _by_class(folder) for split, folder in splits.items()} or {"train": _by_class(root)}
    if "test" not in named and "val" in named:
        named["test"] = named.pop("val")
    classes = tuple(sorted(named["train"]))
    if len(classes) < 2:
        raise BadInput(
            expected="folders of images by class, at least two of them",
            got=f"{len(classes)} with images ({', '.join(classes)})" if classes else "none with images",
            where=str(splits.get("train", root)),
            fix="Name the folder that holds train/CLASS/… and test/CLASS/…, or CLASS/… alone.",
        )
    for split, found in named.items():
        if strange := sorted(set(found) - set(classes)) or ([] if found else ["no image"]):
            raise BadInput(
                expected=f"in {split} the classes of train: {', '.join(classes[:12])}",
                got=strange[0],
                where=str(splits.get(split) or splits.get("val", root)),
                fix="Give both the same folders.",
            )
    paths = {split: [p for name in classes for p in found.get(name, [])] for split, found in named.items()}
    labels = {
        split: np.repeat(np.arange(len(classes)), [len(found.get(name, [])) for name in classes])
        for split, found in named.items()
    }
    return Folders(classes, paths, labels)


def _splits(root: Path) -> tuple[dict[str, Path], Path]:
    """The split folders of a root, by split, and the root; a single folder around all of it is gone into."""
    while True:
        inside = [p for p in _listed(root) if p.is_dir()]
        by_name = {p.name.lower(): p for p in inside}
        found = {split: by_name[name] for split, names in SPLITS.items() for name in reversed(names) if name in by_name}
        if "train" in found:
            return found, root
        if found:
            raise BadInput(
                expected="a folder train beside it",
                got=", ".join(by_name),
                where=str(root),
                fix="Name the folder that holds both.",
            )
        if len(inside) != 1 or any(p.suffix.lower() in ENDINGS for p in _listed(root)):
            return {}, root
        root = inside[0]


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files and what a Mac adds."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__MACOSX")))


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of each class: in a folder of its name, at any depth; or in one folder, the class in the file's name."""
    found = {}
    for place in _listed(folder):
        if place.is_dir():
            images = sorted(p for p in place.rglob("*") if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
            if images:
                found[place.name] = images
    if found:
        return found
    for path in _listed(folder):
        if path.suffix.lower() in ENDINGS:
            name = re.sub(r"^[\d\W_]+|[\d\W_]+$", "", path.stem)
            if not name:
                raise BadInput(
                    expected="a class in each name, such as 123_frog.png",
                    got=path.name,
                    where=str(folder),
                    fix="Sort the images into folders by class.",
                )
            found.setdefault(name, []).append(path)
    return found


def pack(paths: Sequence[Path], size: int, folder: Path) -> np.ndarray:
    """The images as (n, 3, size, size) uint8 in a file under `folder`, of which only what is read comes into memory; made once."""
    told = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    path = folder / f"images-{provenance.digest_json([VERSION, size, told])[:16]}.npy"
    if not path.exists():
        with provenance.atomic(path) as draft:
            packed = np.lib.format.open_memmap(draft, "w+", np.uint8, (len(paths), 3, size, size))

            def put(place: int) -> None:
                packed[place] = read_image(paths[place], size)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for _ in pool.map(put, range(len(paths))):
                    pass
            packed.flush()
            del packed
    return np.load(path, mmap_mode="c")


def read_image(path: Path, size: int) -> np.ndarray:
    """(3, size, size) uint8: the largest square in the middle, resized; as it is where it has that size."""
    try:
        with Image.open(path) as image:
            square = ImageOps.fit(_eight_bits(image).convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise BadInput(
            expected="an image that can be read", got=str(problem), where=str(path), fix="Replace or remove it."
        ) from problem
    return np.asarray(square).transpose(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey images of 16 bits, as medical ones are often exported, by their type's whole range; Pillow would call all above 255 white."""
    if image.mode != "I" and not image.mode.startswith("I;16"):
        if image.mode == "F":
            raise ValueError("grey values that are no whole numbers; save it with 8 or 16 bits")
        return image
    grey = np.asarray(image, dtype=np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError("grey values outside 0 to 65535; save it with 8 or 16 bits")
    return Image.fromarray((grey // 257).astype(np.uint8))
