"""Tables and folders: every image has the label that it is given, or the whole is refused."""

import csv
import io
import re

import numpy as np
import pytest
from fuzzing import TEXTS, fuzz, user_errors
from hypothesis import strategies as st
from PIL import Image

from gaxjax.config import DataConfig
from gaxjax.data import open_images

NAMES = ("hen", "cock", "Fox")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name in ("1.png", "2.png", "3.png", "a b.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


PATHS = st.sampled_from(["1.png", "2.png", "./3.png", "a b.png", "none.png"]) | TEXTS
LABELS = (
    st.integers(-1, 4).map(str)
    | st.sampled_from(
        [*NAMES, "fox", " hen ", "2.0", "1e0", "٣", "+1", "00", "4294967299", "n01440764"]
    )
    | TEXTS
)
SPLITS = st.sampled_from(["train", "test", "Val", ""]) | TEXTS


@st.composite
def tables(draw):
    columns = draw(
        st.sampled_from([["path", "label"], ["label", "path", "split"], ["path", "label", "note"]])
        | st.lists(st.sampled_from(["path", "label", "split", "x"]), max_size=4)
    )
    cell = {"path": PATHS, "label": LABELS, "split": SPLITS}
    rows = draw(
        st.lists(st.tuples(*(cell.get(name, TEXTS) for name in columns)), max_size=4, unique=True)
    )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    whole = text.getvalue().encode(errors="replace")
    if draw(st.integers(0, 9)) == 0:  # and sometimes damaged
        at = draw(st.integers(0, len(whole)))
        whole = whole[:at] + draw(st.binary(max_size=3)) + whole[at + draw(st.integers(0, 3)) :]
    return whole


@fuzz(
    1200,
    table=tables(),
    num_classes=st.sampled_from([None, 2, 3, 5, 1000]),
    names=st.sampled_from([None, NAMES]),
    split=st.sampled_from([None, "test", "train"]),
)
def test_a_table_gives_each_image_its_own_label_or_is_refused(
    folder, table, num_classes, names, split
):
    (folder / "table.csv").write_bytes(table)
    if names is not None:
        num_classes = len(names)
    config = DataConfig(data=str(folder / "table.csv"), size=4, split=split)
    with user_errors():
        images = open_images(config, num_classes=num_classes, class_names=names)
        ids = [record.image_id for record in images.records]
        assert ids
        assert len(set(ids)) == len(ids)
        assert images.labels_from
        for record in images.records:
            assert 0 <= record.label < (num_classes or images.num_classes)
            text = record.label_name
            if re.fullmatch("[+-]?[0-9]+", text) and not (names and text in names):
                assert record.label == int(text)
            elif names is not None:
                assert names[record.label].casefold() == text.strip().casefold()


@fuzz(
    250,
    classes=st.lists(LABELS | TEXTS, min_size=1, max_size=4, unique=True),
    num_classes=st.sampled_from([None, 2, 3, 1000]),
    names=st.sampled_from([None, NAMES]),
)
def test_class_folders_give_each_image_its_own_label_or_are_refused(
    tmp_path_factory, classes, num_classes, names
):
    root = tmp_path_factory.mktemp("classes")
    made = []
    for name in classes:
        try:
            (root / name).mkdir()
            Image.new("RGB", (4, 4), len(made)).save(root / name / "1.png")
            made.append(name)
        except (OSError, ValueError):  # no name for a folder
            continue
    if names is not None:
        num_classes = len(names)
    with user_errors():
        images = open_images(
            DataConfig(data=str(root), size=4), num_classes=num_classes, class_names=names
        )
        for record in images.records:
            text = record.label_name
            known = num_classes is not None  # without a model any order is as good
            if known and re.fullmatch("[+-]?[0-9]+", text) and not (names and text in names):
                assert record.label == int(text)
            elif names is not None:
                assert names[record.label].casefold() == text.strip().casefold()


@fuzz(200, arrays=st.data())
def test_a_medmnist_file_gives_labels_in_range_or_is_refused(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("npz") / "pneumoniamnist_28.npz"
    kinds = st.sampled_from([np.uint8, np.int64, np.uint64, np.float32, np.float16, bool, np.int8])
    shapes = st.sampled_from(
        [(3, 28, 28), (3, 28, 28, 3), (2, 28, 28), (3, 28), (0, 28, 28), (3, 28, 20)]
    )
    label = st.integers(-1, 3) | st.sampled_from([2**32 + 1, 2**63, 2.5, float("nan")])
    stored = {}
    for split in ("train", "val", "test"):
        if arrays.draw(st.integers(0, 5)) == 0:
            continue
        with np.errstate(all="ignore"):
            pixels = np.zeros(arrays.draw(shapes)).astype(arrays.draw(kinds))
            values = np.array(arrays.draw(st.lists(label, min_size=1, max_size=3)), dtype=object)
            try:
                values = values.astype(arrays.draw(kinds))
            except (OverflowError, ValueError):
                continue
        values = arrays.draw(st.sampled_from([values, values[:, None]]))
        stored |= {f"{split}_images": pixels, f"{split}_labels": values}
    np.savez(path, **stored)
    num_classes = arrays.draw(st.sampled_from([None, 2, 3]))
    with user_errors():
        images = open_images(
            DataConfig(data=str(path), split="test", size=8), num_classes=num_classes
        )
        wanted = stored["test_labels"].reshape(-1)
        for record in images.records:
            assert record.label == wanted[int(record.image_id.rpartition("/")[2])]
        assert images.load(0).shape == (8, 8, 3)
