"""Files and folders of ours: whole or not at all, durable everywhere, one process at a time."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gaxjax.common import files
from gaxjax.common.errors import UserError
from gaxjax.common.files import (
    cannot_write,
    file_sha256,
    lock,
    replacing,
    replacing_folder,
    write_text,
)

HOLD = """
import sys, time
from pathlib import Path
from gaxjax.common.files import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folders_that_do_not_open(monkeypatch):
    """As on Windows, where a folder cannot be opened and a file is synced only for writing."""
    opened = os.open

    def refuse_folders(path, flags, *rest):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        assert flags & os.O_RDWR, "Windows syncs only what is open for writing"
        return opened(path, flags, *rest)

    monkeypatch.setattr(files, "_ON_WINDOWS", True)
    monkeypatch.setattr(files.os, "open", refuse_folders)


# --- One file, one folder ------------------------------------------------------------------------


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_a_file_that_could_not_be_finished_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with contextlib.suppress(RuntimeError), replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old"


@pytest.mark.parametrize("before", [None, {}, {"old.txt": "old"}])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path, before):
    path = tmp_path / "state"
    if before is not None:
        path.mkdir()
        for name, text in before.items():
            (path / name).write_text(text)
    with replacing_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep/new.txt").write_text("new")
    assert [entry.name for entry in path.iterdir()] == ["deep"]
    assert (path / "deep/new.txt").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the old one steps aside")
def test_the_earlier_folder_is_there_at_every_moment(tmp_path, monkeypatch):
    def rename(*_):
        raise AssertionError("for an instant there is none")

    path = tmp_path / "state"
    path.mkdir()
    (path / "old.txt").write_text("old")
    monkeypatch.setattr(type(path), "rename", rename)
    with replacing_folder(path) as temporary:
        (temporary / "new.txt").write_text("new")
    assert [entry.name for entry in path.iterdir()] == ["new.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_folder_that_could_not_be_finished_leaves_the_earlier_one_alone(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/old.txt").write_text("old")
    with contextlib.suppress(RuntimeError), replacing_folder(tmp_path / "state") as temporary:
        (temporary / "new.txt").write_text("new")
        raise RuntimeError
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        "state",
        "state/old.txt",
    ]


@pytest.mark.usefixtures("folders_that_do_not_open")
def test_files_and_folders_are_replaced_where_a_folder_cannot_be_opened(tmp_path):
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").write_text("new")
    assert (tmp_path / "file").read_text() == (tmp_path / "folder/inner").read_text() == "new"


def test_what_was_written_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def renamed(self, target):
        events.append("renamed")
        return rename(self, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    with replacing_folder(tmp_path / "state") as temporary:
        (temporary / "array").write_text("new")
    assert events == ["array", temporary.name, "renamed", tmp_path.name]


def test_text_is_written_in_utf_8_with_plain_line_ends(tmp_path):
    write_text(tmp_path / "table.md", "κ × 2\n")
    assert (tmp_path / "table.md").read_bytes() == "κ × 2\n".encode()


def test_text_for_a_folder_that_is_gone_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"^cannot write .*gone/table\.md: No such file or direct"):
        write_text(tmp_path / "gone/table.md", "")


def test_a_failed_write_says_the_reason_and_how_to_mend_it():
    full = OSError(28, "No space left on device", "/run/a.zarr")
    assert str(cannot_write("a.csv", full)) == "cannot write a.csv: No space left on device"
    wrapped = ValueError("RESOURCE_EXHAUSTED: no room\n[source locations='x.cc:1']")
    assert str(cannot_write("results", wrapped, "free some")) == (
        "cannot write results (RESOURCE_EXHAUSTED: no room): free some"
    )


def test_the_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


WRITE = """
import sys
from pathlib import Path
from gaxjax.common.files import replacing_folder
with replacing_folder(Path(sys.argv[1])) as folder:
    (folder / "new.txt").write_text("from elsewhere")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writing_elsewhere(path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    return process


def test_the_next_write_removes_what_a_killed_one_left_and_nothing_that_is_being_written(tmp_path):
    path = tmp_path / "a[b].ckpt"
    dead, living = writing_elsewhere(path), writing_elsewhere(path)
    other = writing_elsewhere(tmp_path / "b.ckpt")
    for process in (dead, other):
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(list(tmp_path.glob("*.partial"))) == 3
    with replacing_folder(path) as temporary:
        (temporary / "new.txt").write_text("ours")
    assert (path / "new.txt").read_text() == "ours"
    assert sum(file.name.startswith(".a[b]") for file in tmp_path.glob("*.partial")) == 1
    living.communicate("\n")
    assert living.returncode == 0
    assert (path / "new.txt").read_text() == "from elsewhere"
    left = sorted(file.suffix for file in tmp_path.iterdir() if file.name.startswith(".b.ckpt"))
    assert left == [".lock", ".partial"]  # another folder's, for its own next write
    with replacing_folder(tmp_path / "b.ckpt"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a[b].ckpt", "b.ckpt"]


def test_the_folder_that_stepped_aside_stays_where_it_is_all_there_is(tmp_path):
    (tmp_path / ".state.0123abcd.old").mkdir()
    with contextlib.suppress(RuntimeError), replacing_folder(tmp_path / "state"):
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == [".state.0123abcd.old"]
    with replacing_folder(tmp_path / "state"):
        pass
    with replacing_folder(tmp_path / "state"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


# --- One process ---------------------------------------------------------------------------------


def test_a_folder_is_locked_until_the_lock_is_closed(tmp_path):
    with lock(tmp_path / "run"), pytest.raises(UserError, match="is in use by another gaxjax proc"):
        lock(tmp_path / "run")
    lock(tmp_path / "run").close()


def test_another_process_is_kept_out_and_its_death_frees_the_folder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="is in use by another gaxjax process"):
            lock(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        lock(tmp_path).close()


def test_a_lock_file_left_behind_locks_nobody_out(tmp_path):
    (tmp_path / ".lock").write_text("")
    lock(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(UserError, match="is a file; expected a folder to write to"):
            lock(path)

    def read_only(*_, **__):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(
        UserError, match=r"^cannot write to output folder .*run: Read-only file sys"
    ):
        lock(tmp_path / "run")
