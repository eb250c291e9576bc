"""Images and labels of class folders, flat folders and CSV files; and every bad input."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from image_folders import (
    assert_says,
    complaint,
    labels_of,
    manifest,
    opened,
    paint,
    tree,
)
from scipy.io import savemat

from gaxjax.data.batching import batches
from gaxjax.data.decode import UnreadableImageError
from gaxjax.data.labels import imagenet_wnids

GOLDFISH, SHARK, RAY = "n01443537", "n01484850", "n01498041"  # classes 1, 2 and 6


# --- Class folders -------------------------------------------------------------------------------


def test_sorted_folder_names_become_class_indices(tmp_path):
    images = opened(tree(tmp_path, dog=1, cat=2, ant=1))
    assert labels_of(images) == [
        ("ant/000.png", 0, "ant"),
        ("cat/000.png", 1, "cat"),
        ("cat/001.png", 1, "cat"),
        ("dog/000.png", 2, "dog"),
    ]
    assert (images.num_classes, images.label_names) == (3, ("ant", "cat", "dog"))
    assert images.name == "4 images in 3 class folders"


def test_labels_equal_torchvisions_imagefolder(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    root = tree(tmp_path, **{"10": 2, "9": 1, "B": 1, "a": 2, "ä": 1, "a b": 1})
    theirs = [
        (Path(path).relative_to(root).as_posix(), label)
        for path, label in datasets.ImageFolder(root).samples
    ]
    assert [(record.image_id, record.label) for record in opened(root).records] == sorted(theirs)


def test_images_deep_in_a_class_folder_count_and_other_files_do_not(tmp_path):
    paint(tmp_path / "cat/site/a/one.PNG")
    paint(tmp_path / "cat/two.JPEG")
    paint(tmp_path / "cat/.hidden.png")
    paint(tmp_path / "cat/.thumbnails/three.png")
    paint(tmp_path / ".git/four.png")
    (tmp_path / "cat/notes.txt").write_text("no image")
    (tmp_path / "LICENSE.txt").write_text("no image")
    assert [r.image_id for r in opened(tmp_path).records] == ["cat/site/a/one.PNG", "cat/two.JPEG"]


@pytest.mark.parametrize(
    "suffix", ["jpg", "JPEG", "png", "BMP", "webp", "gif", "tif", "TIFF", "ppm", "pgm"]
)
def test_every_common_suffix_counts_as_an_image(tmp_path, suffix):
    paint(tmp_path / f"cat/image.{suffix}")
    assert len(opened(tmp_path).records) == 1


def test_an_empty_class_folder_keeps_its_class_index(tmp_path):
    images = opened(tree(tmp_path, ant=0, bee=1), num_classes=2)
    assert labels_of(images) == [("bee/000.png", 1, "bee")]
    assert images.name == "1 image in 1 class folder"


def test_links_are_followed_and_a_loop_of_links_ends(tmp_path):
    tree(tmp_path / "real", cat=1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/cat").symlink_to(tmp_path / "real/cat")
    (tmp_path / "real/cat/again").symlink_to(tmp_path / "real/cat")
    assert [r.image_id for r in opened(tmp_path / "set").records] == ["cat/000.png"]


def test_a_broken_link_is_an_unreadable_image_and_not_passed_over(tmp_path):
    tree(tmp_path, cat=1)
    (tmp_path / "cat/gone.png").symlink_to(tmp_path / "nowhere.png")
    images = opened(tmp_path)
    assert len(images.records) == 2
    with pytest.raises(UnreadableImageError, match="no such file"):
        images.load(1)


def test_some_wnid_folders_take_their_labels_from_the_table_of_1000(tmp_path):
    root = tree(tmp_path, **{RAY: 1, GOLDFISH: 1, SHARK: 1})
    for num_classes in (None, 1000):
        images = opened(root, num_classes)
        assert [record.label for record in images.records] == [1, 2, 6]
        assert images.num_classes == 1000
        assert images.label_names == imagenet_wnids()
    assert images.name == "3 images in 3 class folders (ImageNet wnids)"


def test_wnid_folders_are_numbered_in_order_for_a_model_of_just_these_classes(tmp_path):
    images = opened(tree(tmp_path, **{RAY: 1, GOLDFISH: 1, SHARK: 1}), num_classes=3)
    assert [record.label for record in images.records] == [0, 1, 2]
    assert images.label_names == (GOLDFISH, SHARK, RAY)


def test_the_wnid_table_is_sorted_and_has_1000_different_entries():
    assert len(set(imagenet_wnids())) == 1000
    assert list(imagenet_wnids()) == sorted(imagenet_wnids())


# --- A flat ImageNet validation folder -----------------------------------------------------------


def flat_folder(root: Path, count: int = 3) -> Path:
    for i in range(1, count + 1):
        paint(root / f"ILSVRC2012_val_{i:08d}.JPEG", i)
    return root


def kaggle(path: Path, *rows: tuple[str, str]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("ImageId", "PredictionString"), *rows])
    return path


KAGGLE_ROWS = [
    ("ILSVRC2012_val_00000003", f"{GOLDFISH} 85 1 499 272 "),
    ("ILSVRC2012_val_00000001", f"{RAY} 1 2 3 4 {RAY} 5 6 7 8 "),
    ("ILSVRC2012_val_00000002", f"{SHARK} 0 0 9 9 "),
    ("ILSVRC2012_val_00000099", f"{SHARK} 0 0 9 9 "),
]


def devkit(folder: Path, lines: str, synsets: list[tuple[int, str, int]] | None = None) -> Path:
    """Write a groundtruth file and a meta.mat of the devkit's layout beside it."""
    folder.mkdir(exist_ok=True)
    path = folder / "ILSVRC2012_validation_ground_truth.txt"
    path.write_text(lines)
    if synsets is not None:
        names = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")
        table = np.zeros((len(synsets), 1), dtype=[(name, object) for name in names])
        for row, (number, wnid, num_children) in zip(table[:, 0], synsets, strict=True):
            for name, value in zip(
                names, (number, wnid, "a, b", "text", num_children, 0), strict=True
            ):
                row[name] = value
        savemat(folder / "meta.mat", {"synsets": table})
    return path


# The ids run against the sorted wnids, as in the devkit, and 4 is an inner node, not a class.
SYNSETS = [(1, RAY, 0), (2, SHARK, 0), (3, GOLDFISH, 0), (4, "n00001740", 2)]


def test_kaggles_solution_labels_a_flat_folder_by_image_name(tmp_path):
    labels = kaggle(tmp_path / "LOC_val_solution.csv", *KAGGLE_ROWS)
    images = opened(flat_folder(tmp_path / "val"), 1000, labels=labels)
    assert labels_of(images) == [
        ("ILSVRC2012_val_00000001.JPEG", 6, RAY),
        ("ILSVRC2012_val_00000002.JPEG", 2, SHARK),
        ("ILSVRC2012_val_00000003.JPEG", 1, GOLDFISH),
    ]
    assert "LOC_val_solution.csv (ImageNet wnids)" in images.name


def test_the_devkits_groundtruth_labels_images_in_name_order_through_meta_mat(tmp_path):
    labels = devkit(tmp_path / "devkit", "1\n3\n2\n", SYNSETS)
    images = opened(flat_folder(tmp_path / "val"), 1000, labels=labels)
    assert [record.label for record in images.records] == [6, 1, 2]
    assert [record.label_name for record in images.records] == [RAY, GOLDFISH, SHARK]


def test_the_devkit_is_read_as_torchvision_reads_it(tmp_path):
    pytest.importorskip("torchvision")
    labels = devkit(tmp_path, "1\n3\n2\n", SYNSETS)
    from scipy.io import loadmat

    # torchvision's parse_meta_mat, which is local to a function and cannot be called.
    meta = loadmat(labels.with_name("meta.mat"), squeeze_me=True)["synsets"]
    nums_children = list(zip(*meta, strict=True))[4]
    leaves = [meta[i] for i, num_children in enumerate(nums_children) if num_children == 0]
    wnid_of = {row[0]: row[1] for row in leaves}
    from gaxjax.data.labels import read_devkit_groundtruth

    assert read_devkit_groundtruth(labels) == [wnid_of[i] for i in (1, 3, 2)]


# --- A CSV file ----------------------------------------------------------------------------------


def test_a_manifest_with_names_numbers_them_in_sorted_order(tmp_path):
    tree(tmp_path, x=2)
    outside = paint(tmp_path / "elsewhere.png")
    path = manifest(
        tmp_path / "lists",
        f"\ufefflabel, path ,note\ndog,../x/001.png,a\n\ncat,../x/000.png\ncat,{outside},b\n",
    )
    paint(tmp_path / "lists/sub/own.png")
    path.write_text(path.read_text() + f"cat,{tmp_path}/lists/sub/own.png\n")
    images = opened(path, 2)
    assert labels_of(images) == [
        ("../x/000.png", 0, "cat"),
        ("../x/001.png", 1, "dog"),
        (str(outside), 0, "cat"),
        ("sub/own.png", 0, "cat"),
    ]
    assert [images.load(i).shape for i in range(4)] == [(8, 8, 3)] * 4
    assert images.name == "4 images listed in images.csv"


def test_a_manifest_with_numbers_keeps_them_as_class_indices(tmp_path):
    tree(tmp_path, x=2)
    path = manifest(tmp_path, "path,label\nx/000.png,7\nx/001.png,0\n")
    assert [record.label for record in opened(path).records] == [7, 0]
    assert opened(path).num_classes == 8
    assert (opened(path, 10).num_classes, opened(path, 10).label_names) == (10, None)


def test_a_manifest_with_wnids_uses_the_table(tmp_path):
    tree(tmp_path, x=2)
    path = manifest(tmp_path, f"path,label\nx/000.png,{RAY}\nx/001.png,{GOLDFISH}\n")
    assert [record.label for record in opened(path, 1000).records] == [6, 1]
    assert [record.label for record in opened(path, 2).records] == [1, 0]


def test_a_manifest_may_hold_names_with_any_line_separator(tmp_path):
    name = "a\u2028b\x0bc\x85.png"
    paint(tmp_path / name)
    path = manifest(tmp_path, f"path,label\n{name},0\n")
    assert [r.image_id for r in opened(path).records] == [name]


def test_a_missing_file_or_a_folder_in_a_manifest_is_unreadable_when_decoded(tmp_path):
    tree(tmp_path, x=1)
    path = manifest(tmp_path, "path,label\nx/000.png,0\nx/gone.png,0\nx,0\na\0b.png,0\n")
    [batch] = batches(opened(path), batch_size=4, threads=2)
    assert batch.indices.tolist() == [2]
    assert [position for position, _ in batch.unreadable] == [0, 1, 3]
    assert [reason for _, reason in batch.unreadable] == [
        "embedded null byte",
        "a folder, not a file",
        "no such file",
    ]


# --- Bad input: one clear line each --------------------------------------------------------------


def test_a_missing_folder_is_named_with_what_was_expected(tmp_path):
    gone = tmp_path / "gone"
    assert_says(complaint(gone), gone, "no such folder", "CSV file (path,label)", ".npz")
    assert_says(complaint("digit"), "did you mean 'digits'?")


def test_a_file_that_is_no_csv_is_refused(tmp_path):
    assert_says(complaint(paint(tmp_path / "a.png")), "a.png is a single image", "its class folder")
    (tmp_path / "a.txt").write_text("path,label")
    assert_says(complaint(tmp_path / "a.txt"), "a.txt is a file, but no .csv, .npz")


def test_an_empty_folder_and_one_without_images_are_refused(tmp_path):
    assert_says(complaint(tmp_path), tmp_path, "holds no images", ".jpeg")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/notes.txt").write_text("no image")
    assert_says(complaint(tmp_path), "holds no images", "one subfolder of images per class")


def test_a_flat_folder_without_labels_is_refused(tmp_path):
    assert_says(complaint(flat_folder(tmp_path)), "3 images but no class folders", "--labels")


def test_a_mixture_of_class_folders_and_loose_images_is_refused(tmp_path):
    paint(tree(tmp_path, cat=1) / "loose.png")
    assert_says(complaint(tmp_path), "mixes 1 image directly", "loose.png", "cat")


def test_a_folder_of_splits_is_not_taken_for_classes(tmp_path):
    paint(tmp_path / "train/cat/a.png")
    paint(tmp_path / "test/cat/a.png")
    assert_says(complaint(tmp_path, 2), "holds splits (test, train)", "--split test")


def test_a_class_count_that_does_not_fit_names_both_numbers(tmp_path):
    root = tree(tmp_path / "named", ant=1, bee=1, cat=1, dog=1)
    said = complaint(root, 1000)
    assert_says(said, "4 class folders", "(ant, bee, cat, …)", "1000 classes", "CSV file")
    root = tree(tmp_path / "wnids", **{GOLDFISH: 1, SHARK: 1})
    assert_says(complaint(root, 10), "2 class folders", "10 classes", "1000 classes or one of")
    assert_says(complaint("digits", 1000), "10 classes", "1000")


def test_a_draw_of_more_images_than_there_are_is_refused(tmp_path):
    root = tree(tmp_path, cat=3)
    assert_says(complaint(root, num_images=4), "--num-images 4", "the 3 images", "at most 3")


def test_labels_beside_a_source_that_has_its_own_are_refused(tmp_path):
    labels = kaggle(tmp_path / "labels.csv", *KAGGLE_ROWS)
    root = tree(tmp_path / "tree", cat=1)
    listed = manifest(root, "path,label\ncat/000.png,0\n")
    for data, kind in [(root, "class folders"), (listed, "a CSV file"), ("digits", "digits")]:
        assert_says(complaint(data, labels=labels), "--labels", kind, "leave --labels out")


def test_a_file_name_that_is_not_unicode_is_refused(tmp_path):
    tree(tmp_path, cat=1)
    paint(tmp_path / "cat/a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/cat/\xff.png"))
    assert_says(complaint(tmp_path), "not valid UTF-8", "rename")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    root = tree(tmp_path, cat=1)
    scandir = os.scandir

    def refuse(path):  # chmod would not stop root, as whom containers run their tests
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert_says(complaint(root), "cannot read the folder", root / "cat", "Permission denied")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("", ["no column 'path'", "found nothing"]),
        ("path;label\na.png;0\n", ["no column 'path'", "path;label; put commas"]),
        ("file,label\na.png,0\n", ["no column 'path'", "found file,label"]),
        ("path,class\na.png,0\n", ["no column 'label'"]),
        ("path,label\n", ["has a header but no rows"]),
        ("path,label\na.png\n", ["line 2", "'label' is empty"]),
        ("path,label\n,0\n", ["line 2", "'path' is empty"]),
        ("path,label\na.png,0\nb.png,cat\n", ["mixes class indices (0) and names (cat)"]),
        ("path,label\na.png,-1\n", ["label -1 is below 0"]),
        ("path,label\na.png,3\n", ["label 3 does not fit", "3 classes", "0 to 2"]),
        ("path,label\na.png,1.0\n", ["1.0 is a decimal number", "whole numbers"]),
        ("path,label\na.png,cat\n", ["1 label name in", "(cat)", "3 classes"]),
        ("path,label\na.png,0\n./a.png,0\n", ["line 3: ./a.png is on line 2 already"]),
        ('path,label\n"a.png,0\n', ["not valid CSV"]),
        ("path,label,label\na.png,0,1\n", ["2 columns 'label'", "rename or remove"]),
        ("path,label, path\na.png,0,b.png\n", ["2 columns 'path'"]),
        ("path,label,split,split\na.png,0,a,b\n", ["2 columns 'split'"]),
        ("path,label\na,b.png,0\n", ["line 2: 3 cells", "2 columns", "quotes"]),
        ("path,label\na.png,4294967299\n", ["label 4294967299 does not fit", "3 classes"]),
        ("path,label\na.png,0\nb.png,0\n", ["none of its 2 images exists", "relative to"]),
    ],
)
def test_a_malformed_manifest_is_named_with_its_fault(tmp_path, rows, parts):
    path = manifest(tmp_path, rows)
    assert_says(complaint(path, 3), path, *parts)


def test_a_manifest_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "images.csv"
    path.write_bytes("path,label\nä.png,0\n".encode("latin-1"))
    assert_says(complaint(path), "not UTF-8 text")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (KAGGLE_ROWS[:1], ["no row for 2 of the 3 images", "ILSVRC2012_val_00000001.JPEG"]),
        ([("a", "n99999999 1 2 3 4")], ["line 2", "1000 wnids", "n99999999"]),
        ([*KAGGLE_ROWS, ("ILSVRC2012_val_00000002", RAY)], ["line 6", SHARK, RAY]),
    ],
)
def test_a_solution_file_that_does_not_fit_is_named_with_its_fault(tmp_path, rows, parts):
    labels = kaggle(tmp_path / "LOC_val_solution.csv", *rows)
    said = complaint(flat_folder(tmp_path / "val"), 1000, labels=labels)
    assert_says(said, labels, *parts)


def test_a_missing_label_file_is_named(tmp_path):
    root = flat_folder(tmp_path / "val")
    gone = tmp_path / "gone.csv"
    assert_says(complaint(root, labels=gone), gone, "no such file", "LOC_val_solution.csv")


def test_a_devkit_that_does_not_fit_is_named_with_its_fault(tmp_path):
    root = flat_folder(tmp_path / "val")
    labels = devkit(tmp_path / "a", "1\n2\n3\n")
    assert_says(complaint(root, labels=labels), "needs the devkit's meta.mat")
    labels.with_name("meta.mat").write_bytes(b"not matlab")
    assert_says(complaint(root, labels=labels), "meta.mat is not the devkit's meta.mat")
    labels = devkit(tmp_path / "b", "1\n2\n", SYNSETS)
    assert_says(complaint(root, labels=labels), "2 lines", "3 images", "LOC_val_solution.csv")
    for line in ("goldfish", "4", ""):  # a name, an inner node, a gap
        labels = devkit(tmp_path / "c", f"1\n{line}\n3\n", SYNSETS)
        assert_says(complaint(root, labels=labels), "line 2", "ILSVRC2012_ID", repr(line))


def test_wnids_of_a_label_file_must_fit_the_model(tmp_path):
    labels = kaggle(tmp_path / "LOC_val_solution.csv", *KAGGLE_ROWS)
    said = complaint(flat_folder(tmp_path / "val"), 10, labels=labels)
    assert_says(said, "3 wnids", "10 classes")
