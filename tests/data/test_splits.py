"""Splits and classes chosen by a flag, and the paper's division of training and validation."""

import csv
import itertools
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from image_folders import (
    TEST_DATA,
    assert_says,
    complaint,
    labels_of,
    needs_data,
    opened,
    paint,
    tree,
)

from gaxjax.common.errors import UserError
from gaxjax.config.base import from_dict, to_dict
from gaxjax.config.inputs import DataConfig
from gaxjax.data.selection import canonical_split
from gaxjax.data.sources import splits_of
from gaxjax.data.splits import Split, SplitImage, make_split, read_split


def xrays(root: Path, **splits: dict[str, int]) -> Path:
    """Write split folders of class folders with so many images each, all different."""
    for value, (split, classes) in enumerate(splits.items()):
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                paint(root / split / name / f"{i:03d}.png", 40 * value + i)
    return root


def files(root: Path, **splits: dict[str, int]) -> Path:
    """Write the same with files of a few different bytes, which are no images."""
    value = itertools.count()
    for split, classes in splits.items():
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i:04d}.jpeg").write_text(str(next(value)))
    return root


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


# --- The division --------------------------------------------------------------------------------


POOL = {"train": {"a": 30, "b": 11}, "val": {"a": 2, "b": 1}, "test": {"a": 4, "b": 3}}


def test_a_division_is_complete_disjoint_and_stratified(tmp_path):
    root = files(tmp_path, **POOL)
    split = make_split(root, validation=0.25)
    ids = [image.image_id for image in split.images]
    on_disk = {path.relative_to(root).as_posix() for path in root.rglob("*.jpeg")}
    assert len(ids) == len(on_disk)
    assert set(ids) == on_disk
    assert ids == sorted(ids)
    assert split.counts() == {
        "train": {"a": 24, "b": 9},
        "val": {"a": 8, "b": 3},
        "test": {"a": 4, "b": 3},
    }
    for image in split.images:
        folder, label, _ = image.image_id.split("/")
        assert image.label == label
        assert (image.split == "test") == (folder == "test")


def test_the_same_seed_gives_the_same_bytes_in_any_order_of_the_disk(tmp_path, monkeypatch):
    root = files(tmp_path / "images", **POOL)
    make_split(root, seed=3).save(tmp_path / "first.csv")
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path):
            self.entries = list(scandir(path))
            random.Random(len(self.entries)).shuffle(self.entries)

        def __enter__(self):
            return self.entries

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(os, "scandir", Shuffled)
    make_split(root, seed=3).save(tmp_path / "second.csv")
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()
    make_split(root, seed=4).save(tmp_path / "other.csv")
    assert (tmp_path / "first.csv").read_bytes() != (tmp_path / "other.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.csv*")) == [
        "first.csv",
        "other.csv",
        "second.csv",
    ]


def test_a_classs_draw_does_not_depend_on_the_other_classes(tmp_path):
    def validating(root: Path) -> set[str]:
        split = make_split(root)
        return {i.image_id for i in split.images if i.split == "val" and i.label == "b"}

    with_few = files(tmp_path / "few", train={"a": 5, "b": 20})
    with_many = files(tmp_path / "many", train={"a": 50, "b": 20, "c": 9})
    assert validating(with_few) == validating(with_many)
    assert len(validating(with_few)) == 4


def test_the_papers_pool_gives_the_papers_counts(tmp_path):
    root = files(
        tmp_path,
        train={"NORMAL": 1341, "PNEUMONIA": 3875},
        val={"NORMAL": 8, "PNEUMONIA": 8},
        test={"NORMAL": 2, "PNEUMONIA": 3},
    )
    split = make_split(root)
    assert split.counts() == {
        "train": {"NORMAL": 1083, "PNEUMONIA": 3093},
        "val": {"NORMAL": 266, "PNEUMONIA": 790},
        "test": {"NORMAL": 2, "PNEUMONIA": 3},
    }
    # Any other share, or one image less, is plain rounding.
    assert make_split(root, validation=0.1).counts()["val"] == {"NORMAL": 135, "PNEUMONIA": 388}
    (root / "val/NORMAL/0000.jpeg").unlink()
    assert make_split(root).counts()["val"] == {"NORMAL": 270, "PNEUMONIA": 777}


def test_a_split_file_is_an_ordinary_manifest(tmp_path):
    root = xrays(tmp_path / "data/xray", train={"NORMAL": 8, "PNEUMONIA": 6}, test={"NORMAL": 1})
    for path in (tmp_path / "lists/split.csv", root / "split.csv"):
        path.parent.mkdir(exist_ok=True)
        split = make_split(root)
        split.save(path)
        for name, count in {"train": 11, "val": 3, "test": 1}.items():
            images = opened(path, 2, split=name)
            assert [record.label_name for record in images.records] == [
                image.label for image in split.images if image.split == name
            ]
            assert len(images.records) == count
            assert images.label_names == ("NORMAL", "PNEUMONIA")
            assert images.load(0).shape == (8, 8, 3)
    with open(root / "split.csv", newline="") as file:
        header, first, *_ = csv.reader(file)
    assert header == ["path", "label", "split", "sha256"]
    assert first[:3] == ["test/NORMAL/000.png", "NORMAL", "test"]
    assert len(first[3]) == 64


def test_a_split_file_works_where_folders_are_links(tmp_path):
    root = xrays(tmp_path / "disk/deep/xray", train={"cat": 5})
    (tmp_path / "disk/other/folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk/other/folder")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/train").symlink_to(root / "train")
    for source in (root, tmp_path / "images"):
        path = tmp_path / "link/split.csv"
        split = make_split(source)
        split.save(path)
        images = opened(path, split="train")
        assert [images.load(i).shape for i in range(4)] == [(8, 8, 3)] * 4
        assert read_split(path, source) == split


def test_names_with_commas_quotes_and_odd_separators_survive_the_file(tmp_path):
    names = ["a,b.png", 'c"d.png', "e\u2028f.png", "g\nh.png", "ä ö.png"]
    for i, name in enumerate(names):
        paint(tmp_path / "train/cat" / name, i)
    split = make_split(tmp_path)
    split.save(tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path) == split
    assert len(opened(tmp_path / "split.csv", split="train").records) == 4


# --- Duplicates ----------------------------------------------------------------------------------


def test_equal_bytes_across_splits_and_across_labels_are_found(tmp_path):
    root = files(tmp_path, train={"a": 5, "b": 5}, test={"a": 2, "b": 2})
    assert make_split(root).duplicates().summary().startswith("no equal images")
    (root / "test/a/0000.jpeg").write_bytes((root / "train/a/0000.jpeg").read_bytes())
    (root / "test/b/0000.jpeg").write_bytes((root / "test/a/0001.jpeg").read_bytes())
    found = make_split(root).duplicates()
    [across_splits], [across_labels] = found.across_splits, found.across_labels
    assert [i.image_id for i in across_splits] == ["test/a/0000.jpeg", "train/a/0000.jpeg"]
    assert [i.image_id for i in across_labels] == ["test/a/0001.jpeg", "test/b/0000.jpeg"]
    summary = found.summary()
    assert "\n" not in summary
    assert_says(
        summary,
        "1 group of equal images in different splits (2 images",
        "test/a/0000.jpeg (test) = train/a/0000.jpeg (",
        "1 group of equal images with different labels",
        "test/a/0001.jpeg (a) = test/b/0000.jpeg (b)",
    )


def test_equal_images_within_one_split_and_class_are_not_reported():
    twins = tuple(SplitImage(f"train/a/{i}.png", "a", "train", "0" * 64) for i in range(2))
    found = Split(root=Path("x"), images=twins).duplicates()
    assert (found.across_splits, found.across_labels) == ((), ())


# --- A split file that is there already ----------------------------------------------------------


def test_a_split_file_is_checked_against_the_disk(tmp_path):
    root, path = files(tmp_path / "xray", **POOL), tmp_path / "split.csv"
    split = make_split(root)
    split.save(path)
    assert read_split(path, root) == split
    (root / "train/a/new.jpeg").write_text("new")
    with pytest.raises(UserError, match=r"does not list 1 image of .*train/a/new\.jpeg\); rest"):
        read_split(path, root)
    (root / "train/a/new.jpeg").unlink()
    (root / "train/a/0000.jpeg").unlink()
    with pytest.raises(UserError, match=r"lists 1 image that .* does not hold .*a/0000\.jpeg"):
        read_split(path, root)


def test_a_list_without_the_columns_of_a_split_file_is_refused(tmp_path):
    root, path = files(tmp_path / "xray", **POOL), tmp_path / "split.csv"
    path.write_text("path,label\nx,a\n")
    with pytest.raises(UserError, match="no column 'split'"):
        read_split(path, root)


# --- Bad input -----------------------------------------------------------------------------------


def refusal(root: Path, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        make_split(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_class_with_too_few_images_is_named(tmp_path):
    root = files(tmp_path, train={"a": 30, "b": 2}, test={"c": 1})
    assert_says(refusal(root), "class b has 2 images", "0 would validate", "at least one in each")
    assert_says(refusal(root, validation=0.9), "class b has 2 images", "2 would validate")
    root = files(tmp_path / "more", train={"a": 30}, test={"c": 1})
    assert_says(refusal(root), "class c has 0 images in train and val")


def test_a_root_without_splits_is_refused(tmp_path):
    assert_says(refusal(tmp_path / "gone"), "gone is no folder", "train")
    assert_says(refusal(files(tmp_path / "a", test={"a": 1})), "holds test only")
    assert_says(refusal(tree(tmp_path / "b", cat=1)), "holds no split folders")
    (tmp_path / "c/train").mkdir(parents=True)
    assert_says(refusal(tmp_path / "c"), "holds no class folders")


def test_a_share_or_seed_that_makes_no_sense_is_refused(tmp_path):
    for share in (0.0, 1.0, -0.1, float("nan")):
        assert_says(refusal(tmp_path, validation=share), "must lie in (0, 1)", share)
    assert_says(refusal(tmp_path, seed=-1), "--seed must be at least 0; got -1")


def test_class_folders_that_a_csv_file_would_number_otherwise_are_refused(tmp_path):
    root = files(tmp_path / "a", train={"1": 5, "2": 5})
    assert_says(refusal(root), "the class folder 1 is class 0", "rename")
    root = files(tmp_path / "b", train={"0": 5, "1": 5})
    assert make_split(root).counts()["val"] == {"0": 1, "1": 1}
    root = files(tmp_path / "c", train={"3": 5, "9": 5})
    assert_says(refusal(root), "the class folder 3 is class 0", "0 … 1")


def test_numbered_class_folders_divide_into_class_indices(tmp_path):
    root = xrays(tmp_path / "set", train={str(i): 2 for i in range(11)})
    make_split(root, validation=0.5).save(tmp_path / "split.csv")
    images = opened(tmp_path / "split.csv", split="train")
    assert {record.label_name: record.label for record in images.records} == {
        str(i): i for i in range(11)
    }


def test_a_division_of_earlier_does_not_miss_the_kinds_of_files_it_passed_over(tmp_path):
    root = xrays(tmp_path / "set", train={"cat": 4})
    make_split(root).save(tmp_path / "split.csv")
    paint(root / "train/cat/new.png").rename(root / "train/cat/new.jfif")
    assert len(read_split(tmp_path / "split.csv", root).images) == 4
    paint(root / "train/cat/new.png")
    with pytest.raises(UserError, match=r"does not list 1 image of .*new\.png"):
        read_split(tmp_path / "split.csv", root)
    assert len(make_split(root).images) == 6


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    root = files(tmp_path, train={"a": 5})
    (root / "train/a/gone.jpeg").symlink_to(tmp_path / "nowhere")
    assert_says(refusal(root), "cannot read", "gone.jpeg", "No such file")


def test_a_split_that_cannot_be_kept_is_refused(tmp_path):
    split = make_split(files(tmp_path / "xray", train={"a": 5}))
    with pytest.raises(UserError, match=r"in a CSV file; got .*split\.txt"):
        split.save(tmp_path / "split.txt")
    with pytest.raises(UserError, match=r"cannot write .*gone/split\.csv: No such file"):
        split.save(tmp_path / "gone/split.csv")
    padded = make_split(files(tmp_path / "padded", train={" a": 5}))
    with pytest.raises(UserError, match="begins or ends with a blank"):
        padded.save(tmp_path / "split.csv")
    (tmp_path / "xray/train/a/0000.jpeg").rename(
        os.fsdecode(os.fsencode(tmp_path) + b"/xray/train/a/\xff.jpeg")
    )
    with pytest.raises(UserError, match="not valid UTF-8"):
        make_split(tmp_path / "xray").save(tmp_path / "split.csv")


# --- Real images ---------------------------------------------------------------------------------


@pytest.mark.data
@needs_data
def test_the_chest_x_rays_divide_into_readable_splits(tmp_path):
    root, path = Path(TEST_DATA, "data/chest_xray"), tmp_path / "split.csv"
    split = make_split(root)
    split.save(path)
    # A fifth of 1341 and 3875: these files come without Kaggle's 16 validation images.
    assert split.counts() == {
        "train": {"NORMAL": 1073, "PNEUMONIA": 3100},
        "val": {"NORMAL": 268, "PNEUMONIA": 775},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    }
    for name, classes in split.counts().items():
        images = opened(path, 2, split=name)
        assert Counter(record.label_name for record in images.records) == classes
        assert images.load(0).shape == (8, 8, 3)
    normal = opened(root, 2, split="test", classes=("NORMAL",))
    assert normal.name == "234 images in 2 class folders, split test, only NORMAL"
    assert {record.label for record in normal.records} == {0}
    found = split.duplicates()
    assert found.across_labels == ()
    # 30 pairs and triples of equal files lie in the training folder; the draw parts some of them.
    assert 0 < len(found.across_splits) < 30
    assert {image.split for group in found.across_splits for image in group} == {"train", "val"}
