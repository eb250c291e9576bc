"""URLs: whatever a storage raises becomes one line."""

import uuid
from pathlib import Path

import pytest

from gaxjax.common import UserError, path_to_read, path_to_write, replacing
from gaxjax.common.remote import file_system, is_url, remote_errors, remote_reason, trying_again


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3://bucket/run", True),
        ("hf://datasets/a/b", True),
        ("run", False),
        ("./s3:/run", False),
        ("C:/run", False),
        ("://x", False),
        (Path("s3://bucket"), False),  # it has lost a slash, and is a folder's
    ],
)
def test_urls_are_told_from_paths(text, told):
    assert is_url(text) is told


def test_a_path_of_a_url_does_what_a_folders_does():
    place = path_to_write(f"memory://{uuid.uuid4().hex}/run", "--output", urls=True)
    assert is_url(place)
    with replacing(place / "scores" / "a.txt") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in (place / "scores").iterdir()] == ["a.txt"]
    assert (place / "scores" / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("look", [path_to_read, path_to_write])
def test_urls_are_refused_where_none_is_meant(look):
    with pytest.raises(UserError, match=r"--model s3://b/m is a URL, which is not taken here"):
        look("s3://b/m", "--model")


def test_unknown_kinds_of_urls_are_one_line():
    with pytest.raises(UserError, match=r"--data foo://x: Protocol not known: foo; expected"):
        file_system("foo://x", "--data")


def test_a_missing_package_is_one_line(monkeypatch):
    import fsspec

    def lacking(*_, **__):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", lacking)
    with pytest.raises(UserError, match=r"install gcsfs .*pip install 'gaxjax\[remote\]'"):
        file_system("gs://x/y", "--data")


class NoCredentialsError(Exception):
    """As botocore names it."""


def test_what_storages_raise_is_a_reason():
    assert "AWS_ACCESS_KEY_ID" in remote_reason(NoCredentialsError("Unable to locate credentials"))
    assert remote_reason(TimeoutError()) == "it did not answer in time"
    assert remote_reason(FileNotFoundError("x/y")) == "there is no such file"
    assert remote_reason(RuntimeError("a\nb")).startswith("a")
    with pytest.raises(OSError, match="AWS_ACCESS_KEY_ID"), remote_errors():
        raise NoCredentialsError
    with pytest.raises(UserError, match="as it is"), remote_errors():
        raise UserError("as it is")


def test_what_may_pass_is_tried_again(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    answers = iter([TimeoutError(), ConnectionError(), b"data"])

    def call():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert trying_again(call) == b"data"


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError(), NoCredentialsError()])
def test_what_will_not_pass_is_told_at_once(error):
    calls = []

    def call():
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        trying_again(call)
    assert len(calls) == 1
