"""Splits and classes chosen by a flag, of folders and of CSV files."""

from collections import Counter
from pathlib import Path

import pytest
from image_folders import (
    assert_says,
    complaint,
    labels_of,
    opened,
    paint,
    tree,
    xrays,
)

from gaxjax.common.errors import UserError
from gaxjax.config.base import from_dict, to_dict
from gaxjax.config.inputs import DataConfig
from gaxjax.data.selection import canonical_split
from gaxjax.data.sources import splits_of


@pytest.fixture
def kaggle(tmp_path) -> Path:
    return xrays(
        tmp_path / "xray",
        train={"NORMAL": 3, "PNEUMONIA": 2},
        val={"PNEUMONIA": 1},
        test={"NORMAL": 1, "PNEUMONIA": 2},
    )


# --- Splits in folders ---------------------------------------------------------------------------


def test_a_split_of_a_folder_keeps_the_ids_of_the_root_and_the_labels_of_all_splits(kaggle):
    images = opened(kaggle, 2, split="test")
    assert labels_of(images) == [
        ("test/NORMAL/000.png", 0, "NORMAL"),
        ("test/PNEUMONIA/000.png", 1, "PNEUMONIA"),
        ("test/PNEUMONIA/001.png", 1, "PNEUMONIA"),
    ]
    assert images.load(0).shape == (8, 8, 3)
    assert images.name == "3 images in 2 class folders, split test"
    # The validation folder has no NORMAL images, not even a folder for them.
    images = opened(kaggle, 2, split="val")
    assert labels_of(images) == [("val/PNEUMONIA/000.png", 1, "PNEUMONIA")]
    assert images.label_names == ("NORMAL", "PNEUMONIA")


@pytest.mark.parametrize("folder", ["val", "valid", "Validation"])
@pytest.mark.parametrize("given", ["val", "valid", "validation", "VAL"])
def test_every_usual_spelling_finds_the_split(tmp_path, folder, given):
    root = xrays(tmp_path, train={"cat": 1}, **{folder: {"cat": 1}})
    assert labels_of(opened(root, split=given)) == [(f"{folder}/cat/000.png", 0, "cat")]


def test_training_and_testing_are_train_and_test():
    assert [canonical_split(name) for name in ("training", "Testing")] == ["train", "test"]


def test_two_folders_that_mean_the_same_split_are_told_apart_by_their_own_names(tmp_path):
    root = xrays(tmp_path, val={"cat": 1}, valid={"cat": 2})
    assert len(opened(root, split="valid").records) == 2
    assert_says(complaint(root, split="validation"), "--split validation", "val or valid")


def test_the_extras_of_kaggles_archive_are_passed_over(kaggle):
    xrays(kaggle / "chest_xray", train={"NORMAL": 1}, test={"NORMAL": 1})
    (kaggle / "__MACOSX/train").mkdir(parents=True)
    assert len(opened(kaggle, split="test").records) == 3
    assert_says(complaint(kaggle), "holds splits (test, train, val)")


def test_a_class_called_train_among_others_is_a_class(tmp_path):
    root = tree(tmp_path, train=1, bus=1)
    assert [record.label_name for record in opened(root).records] == ["bus", "train"]


def test_a_folder_of_splits_needs_a_split_that_it_holds(kaggle):
    assert_says(complaint(kaggle), "holds splits (test, train, val)", "such as --split test")
    assert_says(complaint(kaggle, split="tset"), "--split tset", "did you mean 'test'?")
    assert_says(complaint(kaggle, split="validatoin"), "did you mean 'validation'?")
    (kaggle / "val/PNEUMONIA/000.png").unlink()
    assert_says(complaint(kaggle, split="val"), kaggle / "val", "holds no images")


def test_a_missing_split_is_told_with_those_that_are_there(tmp_path):
    root = xrays(tmp_path, train={"cat": 1}, test={"cat": 1})
    assert_says(complaint(root, split="val"), "--split val is no split", "holds test, train")


def test_a_split_with_images_outside_class_folders_is_refused(kaggle):
    paint(kaggle / "test/loose.png")
    assert_says(complaint(kaggle, split="test"), "1 image outside class folders (loose.png)")
    assert len(opened(kaggle, split="train").records) == 5


def test_labels_beside_splits_are_refused(kaggle):
    assert_says(complaint(kaggle, split="test", labels=kaggle / "x.csv"), "--labels", "splits")


def test_a_split_of_a_source_without_splits_is_refused(tmp_path):
    root = tree(tmp_path / "tree", ant=1, bee=1)
    flat = paint(tmp_path / "flat/a.png").parent
    listed = root / "list.csv"
    listed.write_text("path,label\nant/000.png,0\n")
    for data, kind in [
        (root, "class folders (ant, bee)"),
        (flat, "one flat folder"),
        (listed, "without a column 'split'"),
        ("digits", "the built-in digits"),
    ]:
        assert_says(complaint(data, split="test"), "--split test", kind, "leave --split out")


# --- Splits in a CSV file ------------------------------------------------------------------------


@pytest.fixture
def listed(tmp_path) -> Path:
    tree(tmp_path, x=4)
    path = tmp_path / "list.csv"
    path.write_text(
        "split,path,label\ntrain,x/000.png,ant\nvalid,x/001.png,bee\nval,x/002.png,bee\n"
        "fold 3,x/003.png,cat\n"
    )
    return path


def test_a_manifests_split_keeps_its_rows_and_the_labels_of_all_rows(listed):
    images = opened(listed, 3, split="validation")
    assert labels_of(images) == [("x/001.png", 1, "bee"), ("x/002.png", 1, "bee")]
    assert images.label_names == ("ant", "bee", "cat")
    assert images.name == "2 images listed in list.csv, split val"
    assert labels_of(opened(listed, 3, split="fold 3")) == [("x/003.png", 2, "cat")]


def test_a_manifest_with_splits_needs_one_that_it_names(listed):
    assert_says(complaint(listed), "holds splits (fold 3, train, val)", "--split")
    assert_says(complaint(listed, split="test"), "which holds fold 3, train, val")
    assert_says(complaint(listed, split="fold3"), "did you mean 'fold 3'?")


def test_a_row_without_its_split_is_refused(listed):
    listed.write_text("path,label,split\nx/000.png,ant,\n")
    assert_says(complaint(listed, split="train"), "line 2", "'split' is empty")


# --- Classes -------------------------------------------------------------------------------------


def test_chosen_classes_keep_the_class_indices_of_the_whole_set(kaggle):
    images = opened(kaggle, 2, split="test", classes=("PNEUMONIA",))
    assert {(record.label, record.label_name) for record in images.records} == {(1, "PNEUMONIA")}
    assert (images.num_classes, images.label_names) == (2, ("NORMAL", "PNEUMONIA"))
    assert images.name == "2 images in 2 class folders, split test, only PNEUMONIA"
    whole = opened(kaggle, 2, split="test")
    both = opened(kaggle, 2, split="test", classes=("PNEUMONIA", "NORMAL"))
    assert (both.records, both.fingerprint) == (whole.records, whole.fingerprint)
    assert both.name.endswith("only NORMAL, PNEUMONIA")
    assert images.fingerprint != whole.fingerprint


def test_classes_are_chosen_before_the_draw(tmp_path):
    root = tree(tmp_path, ant=20, bee=3)
    images = opened(root, classes=("bee",), num_images=3)
    assert Counter(record.label_name for record in images.records) == {"bee": 3}
    said = complaint(root, classes=("bee",), num_images=4)
    assert_says(said, "--num-images 4", "the 3 images", "--classes bee")


def test_classes_of_a_manifest_and_of_the_digits_are_chosen_by_their_label_text(tmp_path):
    tree(tmp_path, x=3)
    path = tmp_path / "list.csv"
    path.write_text("path,label\nx/000.png,4\nx/001.png,0\nx/002.png,4\n")
    assert [r.image_id for r in opened(path, 10, classes=("4",)).records] == [
        "x/000.png",
        "x/002.png",
    ]
    digits = opened("digits", 10, classes=("3", "7"))
    assert {record.label for record in digits.records} == {3, 7}
    assert digits.num_classes == 10


def test_an_unknown_class_is_told_with_the_nearest(kaggle):
    assert_says(complaint(kaggle, split="test", classes=("NORMALE",)), "did you mean 'NORMAL'?")
    assert_says(complaint(kaggle, split="test", classes=("normal",)), "did you mean 'NORMAL'?")
    assert_says(complaint(kaggle, split="test", classes=("x",)), "labels are NORMAL, PNEUMONIA")
    said = complaint(kaggle, split="val", classes=("NORMAL",))
    assert_says(said, "--classes NORMAL keeps none of the 1 images", "--split val")


def test_a_class_given_twice_is_refused():
    with pytest.raises(UserError, match="--classes must be without repetition; got A A"):
        DataConfig(data="d", classes=("A", "A"))


def test_a_stored_config_keeps_split_and_classes_and_an_older_one_has_none():
    config = DataConfig(data="d", split="val", classes=("A", "B"))
    assert from_dict(DataConfig, to_dict(config)) == config
    older = from_dict(DataConfig, {"data": "d"})
    assert (older.split, older.classes) == (None, ())


def test_the_splits_of_a_source_are_told_by_the_names_that_we_write(kaggle, tmp_path):
    assert splits_of(str(kaggle)) == ("test", "train", "val")
    (kaggle / "val").rename(kaggle / "Validation")
    assert splits_of(str(kaggle)) == ("test", "train", "val")
    assert splits_of(str(kaggle / "train")) == splits_of("digits") == ()
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label,split\na.png,a,training\nb.png,b,fold 2\n")
    assert splits_of(str(manifest)) == ("fold 2", "train")
    manifest.write_text("path,label\na.png,a\n")
    assert splits_of(str(manifest)) == ()
