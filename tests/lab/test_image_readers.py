"""Images come in CIFAR's published versions or as class folders; whatever form they come in they are the same images, and nothing in a file is run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_archives import CLASSES, N, as_archive, as_folder, drawn, hundred_files, python2, ten_files

from elr_mri.config import Images
from elr_mri.errors import BadInput
from elr_mri.lab import plain_pickle
from elr_mri.lab.cifar import read_cifar
from elr_mri.lab.class_folders import pack, read_folders, read_image
from elr_mri.lab.image_sets import read_images


@pytest.mark.parametrize("form", [as_folder, as_archive])
@pytest.mark.parametrize("version", ["python2", "python3", "binary"])
def test_every_version_of_cifar10_holds_the_same_images(form, version: str, tmp_path: Path) -> None:
    path = form(ten_files(version), tmp_path, "cifar-10-batches")
    name, classes, parts = read_cifar(path)
    assert name == "cifar10" and classes == CLASSES
    wanted = [drawn(seed) for seed in range(6)]
    np.testing.assert_array_equal(parts["train"][0], np.concatenate([x for x, _ in wanted[:5]]))
    np.testing.assert_array_equal(parts["train"][1], np.concatenate([y for _, y in wanted[:5]]))
    np.testing.assert_array_equal(parts["test"][0], wanted[5][0])
    data = read_images(Images(path=str(path), validation=0.2), tmp_path / "packed")
    assert {k: len(v) for k, v in data.labels.items()} == {"train": 80, "val": 20, "test": 20}
    row = int(data.names["train"][7])
    np.testing.assert_array_equal(data.images["train"][7], parts["train"][0][row])
    assert not set(data.names["train"]) & set(data.names["val"])


@pytest.mark.parametrize("version", ["python2", "binary"])
def test_cifar100_is_read_by_its_fine_labels(version: str, tmp_path: Path) -> None:
    name, classes, parts = read_cifar(as_archive(hundred_files(version), tmp_path, "cifar-100"))
    assert name == "cifar100" and len(classes) == 100
    for seed, split in enumerate(("train", "test")):
        for found, wanted in zip(parts[split], drawn(seed, 100, 100), strict=True):
            np.testing.assert_array_equal(found, wanted)


class Call:
    """Pickles into a call of `os.mkdir`."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["data", "labels", "beside"])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(where: str, tmp_path: Path) -> None:
    x, y = drawn(0)
    told = {"data": x.reshape(N, -1), "labels": y.tolist()} | {where: Call(tmp_path / "made")}
    files = ten_files("python2") | {"data_batch_3": pickle.dumps(told, protocol=2)}
    with pytest.raises(BadInput, match=r"data_batch_3.*mkdir"):
        read_cifar(as_folder(files, tmp_path, "cifar-10-batches-py"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"}S'a'\ncnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRS'xy'\ntRs.",  # fewer bytes than the number has
        b"cnumpy\ndtype\n(S'u1'\ntR}bcbuiltins\neval\n.",
        b"}c_codecs\nencode\n)R.",
        b"}a.",
        b"}(I1\nu.",
        b"}(I1\nI2\nI3\nu.",
        b"}cnumpy\nndarray\nNs.",
        b"}\x8f.",  # a set
        b"u.",
        b"R.",
        b"cnumpy\ndtype\n(S'O'\ntR.",  # objects: bytes would be taken for addresses
        b"cnumpy\ndtype\n(S'V8'\ntR.",
        b"}S'data'\ncnumpy\nndarray\n)\x81(K\x01(K\x7ftcnumpy\ndtype\n(S'u1'\ntRI00\nS'xy'\ntbs.",  # more values than bytes
        b"(lp0\n.",  # no mapping
        b"P1\n.",
        b"",
        b"\x80\x02}(",
        python2({b"data": np.zeros((3, 3), np.uint8)})[:-20],
    ],
)
def test_other_names_types_and_damaged_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match="a file: expected a pickled mapping"):
        plain_pickle.load(content, where="a file")


@pytest.mark.parametrize("protocol", range(6))
def test_what_python_and_numpy_pickle_comes_back(protocol: int) -> None:
    """As somebody saves a set of their own: arrays of every order and type, and labels that are numpy's numbers."""
    arrays = {
        "a": np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3)),
        "b": np.arange(4, dtype=">i2"),
        "c": np.zeros((1, 3), np.uint8),
        "d": np.arange(240, 256, dtype=np.uint8).reshape(4, 4)[:, ::2],
    }
    plain = {"names": ["ä", "b"], "raw": b"\xff\x00\n'", "n": (1, -(2**40), 2.5, None, True), "map": {1: {"x": []}}}
    labels = [np.int64(3), np.int64(250), np.uint8(7), np.float32(0.5)]
    found = plain_pickle.load(pickle.dumps({**arrays, **plain, "labels": labels}, protocol=protocol), where="here")
    for name, values in arrays.items():
        np.testing.assert_array_equal(found.pop(name), values)
    assert [(type(k), k) for k in found.pop("labels")] == [(type(k), k) for k in labels]
    assert found == plain
    old = pickle.dumps({"labels": labels, **arrays}, protocol=protocol).replace(b"numpy._core", b"numpy.core")
    if protocol < 4:  # later ones say how long a name is
        np.testing.assert_array_equal(plain_pickle.load(old, where="here")["d"], arrays["d"])


def test_the_oldest_protocol_of_python_2_has_bytes_of_any_value() -> None:
    content = b"(dp0\nS'data'\np1\nS'\\x00\\xff\\n\\''\np2\nsS'labels'\np3\n(lp4\nI3\naI6\nas."
    assert plain_pickle.load(content, where="here") == {"data": b"\x00\xff\n'", "labels": [3, 6]}


HARMFUL = {
    "a nested key": b"}" + b")" + b"\x85" * 500_000 + b"Ns.",
    "a nested name of a type": b"cnumpy\ndtype\n" + b")" + b"\x85" * 500_000 + b"\x85R.",
    "a place far off in the memo": b"}r" + (200_000_000).to_bytes(4, "little") + b".",
    "more bytes than there are": b"}S'a'\n\x96" + (1 << 33).to_bytes(8, "little") + b"s.",
    "one text as bytes over and over": b"}(X\x00\x00\x10\x00" + b"x" * (1 << 20) + b"q\x01X\x06\x00\x00\x00latin1q\x02"
    + b"U\x01ac_codecs\nencode\nh\x01h\x02\x86R" * 5000 + b"u.",
}  # fmt: skip


@pytest.mark.parametrize("kind", HARMFUL)
def test_a_pickle_neither_crashes_nor_fills_the_memory(kind: str, tmp_path: Path) -> None:
    """In a process of its own, in less than 500 MB beside what the imports take."""
    (tmp_path / "harmful").write_bytes(HARMFUL[kind])
    told = """if True:
        import resource, sys
        from pathlib import Path
        from elr_mri.errors import BadInput
        from elr_mri.lab import plain_pickle
        content = Path(sys.argv[1]).read_bytes()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            print("read", plain_pickle.load(content, where="here").keys())
        except BadInput as problem:
            print("refused", problem)
        print("MB", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run([sys.executable, "-c", told, str(tmp_path / "harmful")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert kind == "a place far off in the memo" or done.stdout.startswith("refused here: expected a pickled mapping")
    assert int(done.stdout.split()[-1]) < 500, done.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data_batch_4": None}, "no data_batch_4"),
        ({"test_batch": None}, "no test_batch"),
        ({"data_batch_2": python2({b"labels": [1]})}, "data_batch_2: expected .* under `data`"),
        ({"data_batch_2": python2({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]})}, "for each of 2 images"),
        ({"data_batch_2": python2({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]})}, "from 0 to 9"),
        ({"batches.meta": python2({b"label_names": [b"cat"]})}, "names of 10 classes"),
        ({"train": b"", "test": b""}, "both CIFAR-10 and CIFAR-100"),
    ],
)
def test_incomplete_or_inconsistent_sets_are_refused(change: dict, told: str, tmp_path: Path) -> None:
    files = {name: content for name, content in (ten_files("python2") | change).items() if content is not None}
    with pytest.raises(BadInput, match=told):
        read_cifar(as_folder(files, tmp_path, "cifar-10-batches-py"))


def test_cut_archives_and_records_are_refused(tmp_path: Path) -> None:
    whole = as_archive(ten_files("binary"), tmp_path, "cifar-10-binary")
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BadInput, match="cut.tar.gz: expected CIFAR's archive"):
        read_cifar(cut)
    files = ten_files("binary")
    files["data_batch_5.bin"] = files["data_batch_5.bin"][:-1]
    with pytest.raises(BadInput, match="records of 3073 bytes"):
        read_cifar(as_folder(files, tmp_path, "cifar-10-batches-bin"))


def test_a_path_with_nothing_of_the_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lab.images.path"):
        read_images(Images(path=str(tmp_path / "absent")), tmp_path)
    with pytest.raises(BadInput, match="none of their files"):
        read_images(Images(path=str(as_archive({"a.txt": b"a"}, tmp_path, "other"))), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="folders of images by class"):
        read_images(Images(path=str(tmp_path / "empty")), tmp_path)


def put(path: Path, place: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """An image on disk, its pixels (height, width, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(place).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def fill(root: Path, name: str, n: int = 10) -> None:
    """Images of two classes; `name` has the places of class and number."""
    for place in range(n):
        put(root / name.format(c=("cat", "dog")[place % 2], n=place), place)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train/{c}/{n}.png", "test/{c}/{n}.png"), {"train": 10, "test": 10}),
        (("Training/{c}/{n}.png", "Valid/{c}/{n}.PNG"), {"train": 10, "test": 10}),
        (("train/{c}/{n}.png", "val/{c}/{n}.png", "test/{c}/{n}.png"), {"train": 10, "val": 10, "test": 10}),
        (("noisy_train/{c}/{n}.png", "clean_val/{c}/{n}.png", "clean_test/{c}/{n}.png"), {"train": 10, "val": 10, "test": 10}),
        (("CIFAR-main/train/{c}/images/{n}.png", "CIFAR-main/test/{c}/{n}.png"), {"train": 10, "test": 10}),
        (("train/{n}_{c}.png", "test/{c}-{n}.png"), {"train": 10, "test": 10}),
        (("{c}/{n}.png",), {"train": 10}),
    ],
)  # fmt: skip
def test_class_folders_by_their_names(names: tuple[str, ...], splits: dict[str, int], tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in names:
        fill(root, name)
    (root / ".DS_Store").write_bytes(b"")
    found = read_folders(root)
    assert found.classes == ("cat", "dog")
    assert {split: len(paths) for split, paths in found.paths.items()} == splits
    for split, paths in found.paths.items():
        for path, label in zip(paths, found.labels[split], strict=True):
            assert found.classes[label] in path.relative_to(root).as_posix()
    data = read_images(Images(path=str(root), validation=0.2, test_share=0.4), tmp_path / "packed")
    assert set(data.images) == {"train", "val", "test"} and data.clean_val == ("val" in splits)
    total = sum(len(labels) for labels in data.labels.values())
    assert total == sum(splits.values())
    row = data.names["train"].index(next(iter(data.names["train"])))
    np.testing.assert_array_equal(
        data.images["train"][row], np.asarray(Image.open(root / data.names["train"][row])).transpose(2, 0, 1)
    )


def test_splits_by_seed_keep_the_classes_balanced(tmp_path: Path) -> None:
    fill(tmp_path / "set", "{c}/{n}.png", 40)
    several = [
        read_images(Images(path=str(tmp_path / "set"), test_share=0.25, split_seed=seed), tmp_path / "p")
        for seed in (0, 0, 1)
    ]
    assert several[0].names == several[1].names != several[2].names
    for data in several:
        assert np.bincount(data.labels["test"]).tolist() == [5, 5]


def test_images_are_packed_once_as_bytes_that_are_mapped(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    put(paths[0], 0, (48, 64))
    Image.new("L", (20, 10), 77).save(paths[1])
    packed = pack(paths, 16, tmp_path / "packed")
    assert isinstance(packed, np.memmap) and packed.dtype == np.uint8 and packed.shape == (2, 3, 16, 16)
    np.testing.assert_array_equal(packed[0], read_image(paths[0], 16))
    assert (packed[1] == 77).all()
    (file,) = (tmp_path / "packed").iterdir()
    before = file.stat().st_mtime_ns
    pack(paths, 16, tmp_path / "packed")
    assert file.stat().st_mtime_ns == before
    Image.new("L", (20, 10), 78).save(paths[1])
    os.utime(paths[1], ns=(1, 1))
    assert (pack(paths, 16, tmp_path / "packed")[1] == 78).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_images_of_16_bits_keep_their_shades(tmp_path: Path, ending: str) -> None:
    """Pillow's own conversion calls all above 255 white."""
    grey = np.repeat(np.array([[0, 30000, 65535]], dtype=np.uint16), 3, axis=0)
    Image.fromarray(grey).save(tmp_path / f"a.{ending}")
    assert read_image(tmp_path / f"a.{ending}", 3)[:, 1].tolist() == [[0, 116, 255]] * 3
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(BadInput, match="save it with 8 or 16 bits"):
        read_image(tmp_path / "b.tif", 4)


def test_a_damaged_image_and_unknown_classes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "set", "train/{c}/{n}.png")
    fill(tmp_path / "set", "test/{c}/{n}.png")
    bad = tmp_path / "set" / "train" / "cat" / "0.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"cat/0.png"):
        read_images(Images(path=str(tmp_path / "set")), tmp_path / "packed")
    assert not list((tmp_path / "packed").glob("*.npy"))
    put(tmp_path / "set" / "test" / "bear" / "0.png", 0)
    with pytest.raises(BadInput, match="got bear"):
        read_images(Images(path=str(tmp_path / "set")), tmp_path / "packed")
