"""The paper's division of training and validation: its file, its duplicates, its refusals."""

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
    needs_data,
    opened,
    paint,
    tree,
    xrays,
)

from gaxjax.common.errors import UserError
from gaxjax.data.splits import Split, SplitImage, make_split, read_split


def files(root: Path, **splits: dict[str, int]) -> Path:
    """Write split folders like `xrays` with files of a few different bytes, which are no images."""
    value = itertools.count()
    for split, classes in splits.items():
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i:04d}.jpeg").write_text(str(next(value)))
    return root


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
