"""Outputs appear whole or not at all, and know what they came from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elr_mri.config import Split
from elr_mri.errors import BadInput
from elr_mri.provenance import (
    alone,
    atomic,
    digest_file,
    digest_json,
    is_current,
    outdate,
    read_json,
    record,
    sidecar,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_block_that_fails_leaves_nothing_behind_and_the_old_file_alone(tmp_path):
    path = tmp_path / "deep" / "a.nii.gz"
    with pytest.raises(ZeroDivisionError), atomic(path) as draft:
        assert draft.name == path.name and draft.parent != path.parent
        draft.write_text("half")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_files_and_folders_are_replaced_whole(tmp_path):
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two\n")
    assert (tmp_path / "a.txt").read_bytes() == b"two\n"
    for content in ("one", "two"):
        with atomic(tmp_path / "folder") as draft:
            draft.mkdir()
            (draft / content).write_text(content)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_new_files_follow_the_umask(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert os.stat(tmp_path / "a.txt").st_mode == os.stat(tmp_path / "b.txt").st_mode


@given(content=st.dictionaries(st.text(), JSON, max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(content):
    assert digest_json(content) == digest_json(dict(reversed(list(content.items()))))


def test_digests_tell_values_apart(tmp_path):
    assert len({digest_json(v) for v in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": [1]}, {"a": "1"}, {})}) == 6
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert digest_file(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_json_keeps_words_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Müller λ", "x": [1.5, None]})
    assert read_json(tmp_path / "a.json") == {"name": "Müller λ", "x": [1.5, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json")["name"] == "Müller λ"


FACTS = {"step": "split", "version": 1, "inputs": {"scans": "aa"}, "settings": Split()}


def test_an_output_is_current_for_its_own_facts_only(tmp_path):
    out = tmp_path / "splits.tsv"
    assert not is_current(out, **FACTS)
    record(out, **FACTS)
    assert not is_current(out, **FACTS)  # a sidecar without its output
    out.write_text("x")
    assert is_current(out, **FACTS)
    for change in (
        {"step": "other"},
        {"version": 2},
        {"inputs": {"scans": "bb"}},
        {"inputs": {}},
        {"settings": Split(seed=1)},
    ):
        assert not is_current(out, **(FACTS | change))


@pytest.mark.parametrize("settings", [{"iterations": (40, 20)}, {"shape": [1, 2], "flag": True}, {}, {3: "three"}])
def test_plain_settings_are_recognised_again(tmp_path, settings):
    (tmp_path / "a").write_text("x")
    record(tmp_path / "a", step="s", version=1, inputs={}, settings=settings)
    assert is_current(tmp_path / "a", step="s", version=1, inputs={}, settings=settings)


@pytest.mark.parametrize("told", ["", "[]", "{", "null", '{"step": "split"}'])
def test_a_broken_sidecar_means_not_current(tmp_path, told):
    (tmp_path / "a").write_text("x")
    sidecar(tmp_path / "a").write_text(told)
    assert not is_current(tmp_path / "a", **FACTS)


def test_a_sidecar_names_versions_and_command(tmp_path):
    record(tmp_path / "a.tsv", n_scans=3, **FACTS)
    told = json.loads((tmp_path / "a.tsv.json").read_text())
    assert told["settings"] == Split().model_dump(mode="json") and told["n_scans"] == 3
    assert told["versions"]["elr_mri"] and told["versions"]["pandas"] and told["command"].startswith("elr-mri")


KILLED = """
import os, signal, sys
from elr_mri.provenance import alone, atomic
with alone(sys.argv[1]), atomic(sys.argv[1]) as draft:
    draft.write_text("half")
    print("writes", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def begun(path):
    """A process that has half-written `path` and waits for a line, to kill itself."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writes\n"
    return process


def test_what_a_killed_process_left_is_cleared_away_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "a.txt"
    process = begun(path)
    write_text(tmp_path / "b.txt", "whole")
    assert not path.exists() and len(list(tmp_path.glob(".partial-*/a.txt"))) == 1
    process.communicate(b"\n")
    assert process.returncode == -9 and not path.exists() and len(list(tmp_path.glob(".partial-*"))) == 1
    write_text(path, "whole")
    assert path.read_text() == "whole" and not list(tmp_path.glob(".partial-*"))


def test_a_second_writer_waits_until_the_first_is_gone(tmp_path):
    first = begun(tmp_path / "a.txt")
    second = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "a.txt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert second.stdout.readline().startswith(b"waiting for another process")
    first.communicate(b"\n")  # killed, and with it its lock is gone
    assert second.stdout.readline() == b"writes\n"
    second.communicate(b"\n")
    with alone(tmp_path / "a.txt"):
        write_text(tmp_path / "a.txt", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.txt.lock", "a.txt"]


def test_an_outdated_output_stands_for_nothing(tmp_path):
    out = tmp_path / "splits.tsv"
    out.write_text("x")
    record(out, **FACTS)
    outdate(out)
    assert out.exists() and not is_current(out, **FACTS)
    outdate(out)


@pytest.mark.parametrize("told", ["", '{"a": [1, 2', '{"a": \x00', "\udcff"])
def test_a_file_that_was_cut_off_is_named(tmp_path, told):
    (tmp_path / "a.json").write_bytes(told.encode(errors="surrogateescape"))
    with pytest.raises(BadInput, match=r"a\.json: expected a whole JSON file"):
        read_json(tmp_path / "a.json")
