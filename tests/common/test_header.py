"""The header of a folder: begun once, resumed by the same identity only, whole at every moment."""

import json
from typing import Any, TypedDict

import pytest

from gaxjax.common.errors import UserError
from gaxjax.common.header import FolderHeader, read_values

IDENTITY = {"command": "gax", "target": 48.0}


class Form(TypedDict):
    identity: dict[str, Any]
    sessions: list[dict[str, Any]]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.json"


def begun(file):
    return FolderHeader(file, {"format": 2, "identity": IDENTITY, "status": "running"}, None)


def stored(file):
    values = json.loads(file.read_text())
    assert len(values.pop("sha256")) == 64
    return values


def test_a_new_folder_has_its_header_at_once(file):
    begun(file)
    assert stored(file) == {
        "format": 2,
        "identity": IDENTITY,
        "status": "running",
        "sessions": [],
    }


def test_an_old_folder_goes_on_with_what_its_file_holds(file):
    begun(file).begin_session({"device": "cpu"})
    before = file.read_bytes()
    again = FolderHeader(file, {"identity": IDENTITY, "status": "new"}, read_values(file, Form))
    assert file.read_bytes() == before
    assert again["sessions"] == [{"device": "cpu"}]
    again.write(status="complete", seconds=3)
    after = json.loads(before) | {"status": "complete", "seconds": 3}
    assert stored(file) == {name: value for name, value in after.items() if name != "sha256"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 15.0}, r"holds another run: target is 48\.0 there and 15\.0 here\. Choose"),
        ({"layer": "conv1"}, "layer is None there and conv1 here"),
        ({"command": "ax"}, "holds a run of gaxjax gax: choose another --output"),
    ],
)
def test_another_identity_is_refused_and_the_file_left_alone(file, changes, message):
    begun(file)
    before = file.read_bytes()
    with pytest.raises(UserError, match=message):
        FolderHeader(file, {"identity": IDENTITY | changes}, read_values(file, Form))
    assert file.read_bytes() == before


def test_sessions_are_kept_in_order_and_the_last_one_gets_its_figures(file):
    header = begun(file)
    header.write(status="complete")
    for started in (1, 2):
        header.begin_session({"started": started})
        assert stored(file)["status"] == "running"
        header.update_session({"seconds": 10 * started})
    assert stored(file)["sessions"] == [
        {"started": 1, "seconds": 10},
        {"started": 2, "seconds": 20},
    ]


@pytest.mark.parametrize("text", ["{", "[]", "null", "{}", '{"identity": {}}'])
def test_a_damaged_file_is_one_clear_line(file, text):
    file.write_text(text)
    with pytest.raises(UserError, match=r"run\.json is damaged \(.+\): restore it or start anew$"):
        read_values(file, Form)


def test_any_altered_value_is_found_by_the_checksum(file):
    begun(file)
    text = file.read_text()
    for old, new in (("48.0", "47.0"), ("running", "Running"), ('"format": 2', '"format": 3')):
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))
        with pytest.raises(UserError, match="not what was written, by its own checksum"):
            read_values(file, Form)
    file.write_text(json.dumps(json.loads(text)))  # the same values otherwise spaced
    assert read_values(file, Form)["status"] == "running"


def test_a_missing_file_is_the_callers_to_explain(file):
    with pytest.raises(FileNotFoundError):
        read_values(file, Form)
