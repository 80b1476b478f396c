"""A folder that cannot be read is told, whoever looks: its images are never lost without a word."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
import small_cohorts

from elr_mri import config
from elr_mri.config import Cohort, Ingest
from elr_mri.doctor.look import look
from elr_mri.errors import BadInput
from elr_mri.scans.download import files_under
from elr_mri.scans.imagepath import sizes
from elr_mri.scans.ingest import ingest

FAULTS = [errno.EACCES, errno.ESTALE, errno.EIO]


@pytest.fixture
def forbid(monkeypatch):
    """Makes a folder one that cannot be read, as to a user who is not root."""

    def go(folder, number=errno.EACCES):
        whole = os.scandir

        def scandir(path="."):
            if os.path.realpath(path) == os.path.realpath(folder):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return whole(path)

        monkeypatch.setattr(os, "scandir", scandir)
        return folder

    return go


@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize("kind", ["adni", "nacc", "bids"])
def test_a_folder_that_cannot_be_read_is_named(kind, number, forbid, tmp_path):
    cohort = small_cohorts.BUILDERS[kind](tmp_path / kind)
    lost = forbid(cohort.images[1].parent, number)
    mine = Cohort(name="X", format=cohort.format, path=str(cohort.path))
    with pytest.raises(BadInput, match="a folder that can be read, got " + os.strerror(number)) as told:
        ingest([mine], Ingest(), tmp_path / "out")
    assert str(lost) in told.value.where and told.value.fix
    study = config.parse(
        config.Study, {"cohorts": [mine.model_dump()], "results": str(tmp_path / "results")}, where="test"
    )
    assert any(str(lost) in missing.what for missing in look(mine, study).missing)


def test_a_link_to_a_folder_that_may_not_be_looked_at_is_told_too(tmp_path, monkeypatch):
    """`os.walk` takes it for a file: that it is a folder is what the system refuses to say."""
    (tmp_path / "s").mkdir()
    whole = os.scandir

    class Entry:
        def __init__(self, entry):
            self.name, self._whole = entry.name, entry

        def is_dir(self):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._whole.path)

    class Entries:
        def __init__(self, path):
            self._path = path

        def __enter__(self):
            return [Entry(entry) for entry in whole(self._path)]

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Entries)
    with pytest.raises(BadInput, match="/s: expected a folder that can be read, got Permission denied"):
        files_under(tmp_path)


def test_the_files_of_a_series_are_all_or_none(tmp_path, forbid):
    for name in ("d/1.dcm", "d/more/2.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    assert sizes(str(tmp_path / "d")) == (5, 5)
    forbid(tmp_path / "d" / "more")
    with pytest.raises(PermissionError):
        sizes(str(tmp_path / "d"))


@pytest.mark.skipif(os.geteuid() == 0, reason="no permission bit stops root")
def test_a_real_folder_without_rights(tmp_path):
    (tmp_path / "s").mkdir(mode=0)
    with pytest.raises(BadInput, match="Permission denied"):
        files_under(tmp_path)


def test_links_are_followed_once_and_circles_are_no_folders(tmp_path):
    for name in ("a/1.nii", "b/2.nii", ".hidden/3.nii", "__MACOSX/4.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to("b")
    (tmp_path / "loop").symlink_to("loop")
    found = [path.relative_to(tmp_path).as_posix() for path in files_under(tmp_path)]
    assert found == ["a/1.nii", "b/2.nii", "loop"]
    shutil.rmtree(tmp_path / "b")
    assert files_under(tmp_path)[-1] == tmp_path / "loop"
