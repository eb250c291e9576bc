"""The JSON beside weights and scores, altered: read as it is written, or refused in a line."""

import json

import pytest
from altered_runs import write_header
from fuzzing import TEXTS, fuzz, user_errors
from hypothesis import strategies as st
from stored_runs import gax_run, image_folder

import gaxjax
from converters import convert_state_dict
from converters.random_weights import random_state_dict
from gaxjax.models import checkpoint
from gaxjax.report import write_report

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def _places(values, path=()):
    """Every place in a JSON value, as the keys that lead there."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list) and value:
            yield from _places(value, (*path, key))


@st.composite
def alterations(draw):
    """(where among the places, in [0, 1); what comes there; whether it goes altogether)."""
    return draw(st.floats(0, 1, exclude_max=True)), draw(JSON), draw(st.booleans())


def altered(values, alteration):
    where, value, goes = alteration
    values = json.loads(json.dumps(values))
    places = list(_places(values))
    *path, last = places[int(where * len(places))]
    inner = values
    for key in path:
        inner = inner[key]
    if goes:
        del inner[last]
    else:
        inner[last] = value
    return values


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metadata") / "model.ckpt"
    model = convert_state_dict(random_state_dict("small_resnet", num_classes=3), "small_resnet")
    checkpoint.save(
        folder,
        model,
        checkpoint.CheckpointMetadata(
            architecture="small_resnet",
            num_classes=3,
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            class_names=("a", "b", "c"),
            assumptions={"network": "known by its keys"},
        ),
    )
    about = json.loads((folder / "gaxjax.json").read_text())
    del about["sha256"]  # as an earlier version wrote it: else every alteration is told by that
    return folder, json.dumps(about)


@fuzz(80, ordinarily=12, alteration=alterations(), cut=st.none() | st.floats(0, 1))
def test_a_checkpoint_with_an_altered_description_loads_or_says_so(stored, alteration, cut):
    folder, text = stored
    new = json.dumps(altered(json.loads(text), alteration))
    (folder / "gaxjax.json").write_text(new if cut is None else new[: int(cut * len(new))])
    with user_errors():
        classifier = gaxjax.load_classifier(folder)
        assert isinstance(classifier.num_classes, int)
        if classifier.mean is not None:
            assert all(isinstance(value, float | int) for value in classifier.mean)
            assert len(classifier.mean) == len(classifier.std) == 3
        if classifier.class_names is not None:
            assert all(isinstance(name, str) for name in classifier.class_names)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    image_folder(folder / "images", 4)
    return gax_run(folder / "run", folder / "images"), (folder / "run" / "run.json").read_text()


def alter(file, text, alteration):
    """Write an altered description, with the checksum that fits it where it can have one."""
    values = altered(json.loads(text), alteration)
    if isinstance(values, dict) and isinstance(values.get("identity", {}), dict):
        write_header(file, values)
    else:
        file.write_text(json.dumps(values))


@fuzz(150, alteration=alterations())
def test_a_run_with_an_altered_description_is_read_or_says_so(run, alteration):
    folder, text = run
    alter(folder / "run.json", text, alteration)
    with user_errors():
        opened = gaxjax.open_run(folder)
        assert repr(opened)
        for name in ("config", "method", "statistics", "num_found", "num_wanted", "target"):
            getattr(opened, name)


@fuzz(6, alteration=alterations())
def test_a_report_of_a_run_with_an_altered_description_is_written_or_refused(run, alteration):
    folder, text = run
    alter(folder / "run.json", text, alteration)
    with user_errors():
        write_report([folder], folder.parent / "report.html", num_pictures=0)
