"""Whatever names a path is met at the border: one line that says which flag, and why not."""

import errno
import os
import socket
from pathlib import Path

import pytest

from gaxjax.common import UserError
from gaxjax.common.paths import cannot_read, path_to_read, path_to_write, reason_of, spelt_out


@pytest.fixture
def places(tmp_path):
    """Return a folder with what is no regular file and no folder."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    (tmp_path / "here").symlink_to(tmp_path / "there")
    (tmp_path / "there").symlink_to(tmp_path / "here")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    return tmp_path


def test_a_tilde_is_the_home_folder_and_a_path_stays_what_it_was(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert spelt_out("~/run", "--output") == "/somewhere/run"
    assert spelt_out(Path("~/run"), "--output") == Path("/somewhere/run")
    assert spelt_out("./a//b/", "--output") == "./a//b/"
    assert path_to_write("~/run", "--output") == Path("/somewhere/run")


def test_a_folder_whose_name_begins_with_a_tilde_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody-of-this-name").mkdir()
    assert path_to_read("~nobody-of-this-name", "--data") == Path("~nobody-of-this-name")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "--output is empty: give a path"),
        (" ", "--output is empty: give a path"),
        ("a\0b", r"--output 'a\\x00b' holds a NUL character"),
        ("~nobody-of-this-name/run", "there is no user 'nobody-of-this-name' here"),
        ("x" * 300, "the name is longer than the system takes"),
        ("{}/here", "it is a link that leads in a circle"),
        ("{}/here/run", "it is a link that leads in a circle"),
    ],
)
@pytest.mark.parametrize("border", [path_to_read, path_to_write])
def test_a_path_that_no_system_takes_is_refused_in_one_line(border, path, said, places):
    with pytest.raises(UserError, match=said) as caught:
        border(path.format(places), "--output")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_what_has_no_end_is_not_read(places):
    with pytest.raises(UserError, match=r"--model .*pipe is a pipe; expected a file or a folder"):
        path_to_read(places / "pipe", "--model")
    with pytest.raises(UserError, match="--model /dev/zero is a device"):
        path_to_read("/dev/zero", "--model")
    with socket.socket(socket.AF_UNIX) as listening, pytest.MonkeyPatch.context() as patch:
        patch.chdir(places)
        listening.bind("socket")
        with pytest.raises(UserError, match="is a socket"):
            path_to_read("socket", "--model")


def test_a_file_a_folder_and_nothing_may_be_read(places):
    for path in (places / "file", places, places / "missing", places / "file" / "below"):
        assert path_to_read(path, "--data") == path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file/run", "file is a file, not a folder"),
        ("file/a/run", "file is a file, not a folder"),
        ("dangling/run", "dangling is a link to what does not exist"),
    ],
)
def test_nothing_is_written_below_what_is_no_folder(path, said, places):
    with pytest.raises(UserError, match=said):
        path_to_write(places / path, "--output")


def test_a_disk_without_permission_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"--output .*run: .* cannot be written"):
        path_to_write(tmp_path / "run", "--output")
    with pytest.raises(UserError, match="no permission to read it"):
        path_to_read(tmp_path, "--data")


def test_a_working_folder_that_was_deleted_is_told(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for border in (path_to_read, path_to_write):
        with pytest.raises(UserError, match="the folder you are in was deleted"):
            border("run", "--output")


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EMFILE, "too many files are open"), (errno.EACCES, "no permission"), (0, "odd")],
)
def test_a_refusal_of_the_system_says_its_reason(number, reason):
    assert reason in reason_of(OSError(number, "odd"))
    assert str(cannot_read("a.json", OSError(number, "odd"))).startswith("cannot read a.json: ")
