"""Labels follow the model's names or are the indices they say; two meanings are asked about."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from image_folders import assert_says, labels_of, paint, tree

from gaxjax.common import UserError
from gaxjax.config import DataConfig
from gaxjax.data import ImageSet, open_images, reopen_images
from gaxjax.data.image_set import _fingerprint
from gaxjax.data.image_source import FolderSource
from gaxjax.data.labels import imagenet_wnids

GOLDFISH, SHARK, RAY = "n01443537", "n01484850", "n01498041"  # classes 1, 2 and 6


def opened(data: object, *names: str, count: int | None = None, **settings: object) -> ImageSet:
    config = DataConfig(**{"data": str(data), "size": 8, **settings})
    return open_images(config, num_classes=count or len(names) or None, class_names=names or None)


def label_of(images: ImageSet) -> dict[str, int]:
    return {record.label_name: record.label for record in images.records}


def refusal(data: object, *names: str, count: int | None = None, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        opened(data, *names, count=count, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(folder: Path, *labels: str) -> Path:
    path = folder / "images.csv"
    rows = [f"{i}.png,{label}\n" for i, label in enumerate(labels)]
    for i in range(len(labels)):
        paint(folder / f"{i}.png", i)
    path.write_text("path,label\n" + "".join(rows), encoding="utf-8")
    return path


# --- Names ---------------------------------------------------------------------------------------


def test_class_folders_follow_the_models_names_and_not_their_own_order(tmp_path):
    images = opened(tree(tmp_path, cock=1, hen=1), "hen", "cock")
    assert label_of(images) == {"cock": 1, "hen": 0}
    assert images.label_names == ("hen", "cock")
    assert images.labels_from == "class folders, matched by name with the model's class names"


def test_a_table_of_names_follows_the_models_names(tmp_path):
    images = opened(table(tmp_path, "cock", "hen"), "hen", "cock")
    assert label_of(images) == {"cock": 1, "hen": 0}
    assert images.labels_from.startswith("the labels in images.csv, matched by name")


def test_splits_follow_the_models_names(tmp_path):
    tree(tmp_path / "train", cock=1, hen=1)
    tree(tmp_path / "val", cock=1)
    assert label_of(opened(tmp_path, "hen", "cock", split="val")) == {"cock": 1}


def test_some_of_the_models_classes_are_enough(tmp_path):
    root = tree(tmp_path, ibis=1, crow=1)
    assert label_of(opened(root, "emu", "crow", "dodo", "ibis")) == {"crow": 1, "ibis": 3}


@pytest.mark.parametrize(
    "text", ["great white shark", "Great_White_Shark", "great-white shark", "GREAT  WHITE SHARK"]
)
def test_case_blanks_and_hyphens_do_not_matter_and_that_is_said(tmp_path, text):
    images = opened(tree(tmp_path, **{text: 1}), "ray", "great white shark")
    assert label_of(images) == {text: 1}
    assert ("whatever their case" in images.labels_from) == (text != "great white shark")


def test_how_an_accent_is_written_does_not_matter(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert label_of(opened(tree(tmp_path, **{decomposed: 1}), "Tee", composed)) == {decomposed: 1}


def test_a_name_is_matched_exactly_before_it_is_matched_loosely(tmp_path):
    assert label_of(opened(tree(tmp_path, cat=1, Cat=1), "Cat", "cat")) == {"cat": 1, "Cat": 0}
    said = refusal(tree(tmp_path / "loose", CAT=1), "Cat", "cat")
    assert_says(said, "the class folder CAT", "0 (Cat) and 1 (cat)", "class indices")


def test_a_name_that_two_classes_have_is_refused(tmp_path):
    said = refusal(tree(tmp_path, crane=1), "crane", "ibis", "crane")
    assert_says(said, "the class folder crane", "0 (crane) and 2 (crane)", "class indices")


def test_names_that_are_not_the_models_are_refused_with_both_sides_and_the_nearest(tmp_path):
    said = refusal(tree(tmp_path, cock=1, henn=1), "hen", "cock")
    assert_says(said, "2 class folders", "(cock, henn)", "henn is no class name of the model")
    assert_says(said, "2 classes are hen, cock", "did you mean 'hen'?", "--label-by order")
    said = refusal(table(tmp_path, "ant", "bee"), "hen", "cock")
    assert_says(said, "2 label names", "(ant, bee)", "(2 are none)", "--label-by order")


def test_sorted_order_is_a_choice_and_says_where_it_differs_from_the_models_names(tmp_path):
    images = opened(tree(tmp_path, cock=1, hen=1), "hen", "cock", label_by="order")
    assert label_of(images) == {"cock": 0, "hen": 1}
    assert_says(images.labels_from, "sorted order", "(cock = 0, hen = 1", "--label-by order asks")
    assert_says(images.notes[0], "0 is cock here, hen in the model")


def test_sorted_order_is_said_where_the_model_names_no_classes(tmp_path):
    images = opened(tree(tmp_path, cock=1, hen=1), count=2)
    assert images.labels_from == (
        "class folders in sorted order, as torchvision's ImageFolder numbers them "
        "(cock = 0, hen = 1; the model names no classes)"
    )
    said = refusal(tmp_path, count=2, label_by="names")
    assert_says(said, "the model names no classes", "--class-names")


def test_an_empty_folder_and_other_programs_folders_need_no_name(tmp_path):
    root = tree(tmp_path, cock=1, hen=1, unknown=0, **{"__MACOSX": 0})
    paint(root / "@eaDir/cock/thumb.jpg")
    paint(root / "hen/@eaDir/x.jpg/thumb.jpg")
    images = opened(root, "hen", "cock")
    assert labels_of(images) == [("cock/000.png", 1, "cock"), ("hen/000.png", 0, "hen")]
    assert_says("; ".join(images.notes), "@eaDir folders 2", "__MACOSX folders 1")
    paint(root / "unknown/a.png")
    assert_says(refusal(root, "hen", "cock"), "unknown is no class name")


def test_a_count_of_names_that_is_not_the_models_is_refused(tmp_path):
    with pytest.raises(UserError, match="2 class names for 3 classes"):
        opened(tree(tmp_path, cock=1), "hen", "cock", count=3)


# --- ImageNet's wnids ----------------------------------------------------------------------------


def test_wnids_keep_the_table_where_the_model_calls_its_1000_classes_otherwise(tmp_path):
    names = [f"thing {i}" for i in range(1000)]
    images = opened(tree(tmp_path, **{RAY: 1, SHARK: 1}), *names)
    assert label_of(images) == {RAY: 6, SHARK: 2}
    assert images.labels_from.startswith("class folders, which are ImageNet wnids")
    assert images.name == "2 images in 2 class folders (ImageNet wnids)"


def test_wnids_follow_a_model_that_names_its_classes_by_wnid(tmp_path):
    root = tree(tmp_path, **{RAY: 1, SHARK: 1})
    assert label_of(opened(root, RAY, GOLDFISH, SHARK)) == {RAY: 0, SHARK: 2}
    assert label_of(opened(root, *reversed(imagenet_wnids())))[RAY] == 993
    assert_says(refusal(root, "ray", "shark"), f"{SHARK} is no class name of the model")


# --- Class indices -------------------------------------------------------------------------------


def test_numbered_class_folders_are_class_indices(tmp_path):
    root = tree(tmp_path, **{str(i): 1 for i in range(12)})
    for images in (opened(root), opened(root, count=12), opened(root, *"abcdefghijkl")):
        assert label_of(images) == {str(i): i for i in range(12)}
        assert images.labels_from == "class folders, which are class indices (0 to 11)"
        assert images.name == "12 images in 12 class folders"
    assert opened(root).label_names == tuple(map(str, range(12)))


def test_some_numbers_of_a_large_model_are_class_indices_too(tmp_path):
    root = tree(tmp_path, **{"007": 1, "999": 1, "10": 1})
    assert label_of(opened(root, count=1000)) == {"007": 7, "10": 10, "999": 999}


def test_numbers_that_count_from_1_are_refused_or_told(tmp_path):
    root = tree(tmp_path, **{str(i): 1 for i in (1, 2, 3)})
    said = refusal(root, count=3)
    assert_says(said, "class folder 3", "3 classes", "0 to 2", "count from 1", "--label-by order")
    assert label_of(opened(root, count=3, label_by="order")) == {"1": 0, "2": 1, "3": 2}
    assert_says(opened(root, count=4).notes[0], "no image has the class index 0")
    assert opened(tree(tmp_path / "two", **{"1": 1, "3": 1}), count=4).notes == ()
    assert_says(refusal(table(tmp_path, "1", "2"), count=2), "label 2", "count from 1")


@pytest.mark.parametrize("label", [str(2**31), str(2**32 + 3), "9" * 5000, "-1"])
def test_a_label_beyond_every_class_is_refused_and_never_wraps_round(tmp_path, label):
    path = table(tmp_path, "0", label)
    for count in (None, 10):
        assert_says(refusal(path, count=count), "label", label[:30], "class indices start at 0")


@pytest.mark.parametrize("label", ["3.0", "1e3", "٣", "1_0", "+3.", "²"])
def test_a_number_written_otherwise_than_by_digits_is_refused_in_a_table(tmp_path, label):
    if label == "²":  # no number to Python or to a spreadsheet: a name
        assert_says(refusal(table(tmp_path, "0", label), count=10), "mixes class indices (0)")
    else:
        assert_says(refusal(table(tmp_path, label), count=10), label, "whole numbers")


def test_blanks_and_a_sign_around_a_tables_label_do_not_count(tmp_path):
    assert label_of(opened(table(tmp_path, " 3 ", "+4"), count=10)) == {"3": 3, "+4": 4}
    assert label_of(opened(table(tmp_path, "hen "), "cock", "hen")) == {"hen": 1}


def test_two_folders_of_one_class_index_are_refused(tmp_path):
    said = refusal(tree(tmp_path, **{"1": 1, "01": 1}), count=3)
    assert_says(said, "01 and 1 are the same class index")


def test_numbers_beside_names_are_refused_where_text_and_number_differ(tmp_path):
    root = tree(tmp_path, unknown=1, **{str(i): 1 for i in range(11)})
    assert_says(refusal(root, count=12), "the class folder 10 is class 2", "--label-by order")
    assert label_of(opened(root, count=12, label_by="order"))["10"] == 2
    assert label_of(opened(root, "unknown", *map(str, range(11))))["10"] == 11
    few = tree(tmp_path / "few", unknown=1, **{"0": 1, "1": 1})
    assert label_of(opened(few, count=3)) == {"0": 0, "1": 1, "unknown": 2}
    points = tree(tmp_path / "points", **{"10.0": 1, "9.5": 1})
    assert_says(refusal(points, count=2), "9.5 is class 1", "--label-by order")


def test_indices_can_be_asked_for(tmp_path):
    said = refusal(tree(tmp_path, cock=1, **{"1": 1}), count=2, label_by="indices")
    assert_says(said, "--label-by indices", "cock", "no whole number")


# --- Numbers that are names ----------------------------------------------------------------------


SORTED_AS_TEXT = ("0", "1", "10", "2")


def test_numbers_that_mean_another_class_by_name_are_asked_about(tmp_path):
    root = tree(tmp_path, **{"1": 1, "2": 1})
    said = refusal(root, *SORTED_AS_TEXT)
    assert_says(said, "class folder 2", "0, 1, 10, …", "2 is the class 3 by its name")
    assert_says(said, "--label-by indices or --label-by names")
    assert label_of(opened(root, *SORTED_AS_TEXT, label_by="names")) == {"1": 1, "2": 3}
    assert label_of(opened(root, *SORTED_AS_TEXT, label_by="indices")) == {"1": 1, "2": 2}


def test_an_index_that_is_no_name_of_a_model_with_numbers_for_names_is_asked_about(tmp_path):
    root = tree(tmp_path, **{"0": 1, "1": 1, "2": 1})
    said = refusal(root, "0", "1", "10")
    assert_says(said, "class folder 2", "2 is no class name", "--label-by indices")
    assert label_of(opened(root, "0", "1", "10", label_by="indices"))["2"] == 2
    assert label_of(opened(root, "00", "01", "02"))["2"] == 2


def test_numbers_that_are_only_names_are_names(tmp_path):
    names = [str(i) for i in range(1, 11)]
    root = tree(tmp_path, **{name: 1 for name in names})
    assert label_of(opened(root, *names)) == {name: int(name) - 1 for name in names}


def test_numbers_that_mean_the_same_by_name_and_index_need_no_question(tmp_path):
    root = tree(tmp_path, **{str(i): 1 for i in range(11)})
    assert label_of(opened(root, *map(str, range(11))))["10"] == 10


# --- Sets that number their classes themselves ---------------------------------------------------


def medmnist(path: Path) -> Path:
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((2, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.array([[0], [1]])
    np.savez(path, **arrays)
    return path


def test_a_medmnist_set_with_names_follows_the_models_names(tmp_path):
    path = medmnist(tmp_path / "pneumoniamnist.npz")
    assert label_of(opened(path, "PNEUMONIA", "NORMAL", split="test")) == {
        "normal": 1,
        "pneumonia": 0,
    }
    assert_says(refusal(path, "ill", "well", split="test"), "normal is no class name", "ill, well")
    kept = opened(path, "well", "ill", split="test", label_by="indices")
    assert label_of(kept) == {"normal": 0, "pneumonia": 1}
    assert "(normal = 0, pneumonia = 1)" in kept.labels_from


def test_a_medmnist_set_of_numbers_keeps_them_whatever_the_model_calls_its_classes(tmp_path):
    images = opened(medmnist(tmp_path / "other.npz"), "x", "y", split="test")
    assert label_of(images) == {"0": 0, "1": 1}
    assert images.labels_from == "the labels of other.npz, which are class indices"


def test_digits_are_asked_about_where_the_model_numbers_them_otherwise():
    assert opened("digits", *map(str, range(10))).records[0].label == 3
    assert opened("digits", "zero", *"abcdefghi").records[0].label == 3
    assert_says(refusal("digits", *"9876543210"), "--label-by")
    assert opened("digits", *"9876543210", label_by="names").records[0].label == 6


# --- Stored runs ---------------------------------------------------------------------------------


def test_a_run_of_an_earlier_version_finds_its_images_again(tmp_path):
    root = tree(tmp_path, **{str(i): 1 for i in range(11)})
    (root / "0/000.png").with_suffix(".jfif").write_bytes((root / "0/000.png").read_bytes())
    config = DataConfig(data=str(root), size=8)
    # What earlier versions made of it: numbers sorted as text, and no .jfif.
    before = opened(root, label_by="order")
    records = tuple(r for r in before.records if r.image_id.endswith(".png"))
    assert {record.label_name: record.label for record in records}["10"] == 2
    sizes = FolderSource(root).sizes([record.image_id for record in records])
    stored = _fingerprint(records, config, sizes)
    found = reopen_images(config, stored, num_classes=11)
    assert found.fingerprint == stored
    assert found.records == records
    assert_says(found.notes[-1], "an earlier version", "10 = 2", "class indices (0 to 10)")
    now = opened(root, count=11)
    assert reopen_images(config, now.fingerprint, num_classes=11).records == now.records
    assert reopen_images(config, "another", num_classes=11).records == now.records
