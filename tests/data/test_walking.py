"""What a folder of images holds: every image once, and all else counted and told."""

import os
from pathlib import Path

import pytest
from image_folders import assert_says, complaint, opened, paint, tree
from PIL import Image

from gaxjax.data.decode import UnreadableImageError

PICTURE = Image.new("RGB", (12, 10), (200, 10, 10))


def ids(data: Path, **settings: object) -> list[str]:
    return [record.image_id for record in opened(data, **settings).records]


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((suffix, "JPEG") for suffix in (".jpe", ".JFIF")),
        *((suffix, "JPEG2000") for suffix in (".jp2", ".j2k", ".jpx")),
        *((".avif", "AVIF"), (".tga", "TGA"), (".qoi", "QOI"), (".dib", "DIB"), (".pnm", "PPM")),
        *((".apng", "PNG"), ("", "JPEG"), ("", "PNG"), ("", "WEBP"), ("", "GIF")),
    ],
)
def test_what_pillow_reads_is_an_image_under_its_usual_names_or_without_a_suffix(
    tmp_path, suffix, kind
):
    tree(tmp_path, cat=1)
    PICTURE.save(tmp_path / f"cat/picture{suffix}", kind)
    images = opened(tmp_path)
    assert [record.image_id for record in images.records][1:] == [f"cat/picture{suffix}"]
    assert images.load(1).shape == (8, 8, 3)
    assert images.notes == ()


def test_files_passed_over_are_counted_by_their_suffix_and_told(tmp_path):
    root = tree(tmp_path, cat=1, dog=1)
    for name in ("cat/1.dcm", "cat/2.DCM", "dog/3.dcm", "dog/README", "dog/old.jpg~", "list.txt"):
        (root / name).write_bytes(b"\0" * 128 + b"DICM")
    (root / "cat/.DS_Store").write_text("hidden files stay unseen")
    [note] = opened(root).notes
    assert_says(note, "6 files passed over", ".dcm 3", ".txt 1", "without suffix 1", ".jpg~ 1")


def test_a_folder_of_other_files_alone_says_what_they_are(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.dcm").write_bytes(b"DICM")
    assert_says(complaint(tmp_path), "holds no images", "1 file passed over", ".dcm 1")


def test_many_kinds_of_files_make_a_short_note(tmp_path):
    root = tree(tmp_path, cat=1)
    for i in range(20):
        (root / f"cat/1.2.{i}").write_text("a DICOM file is often called by its number")
    assert_says(opened(root).notes[0], "20 files", "others 14")


def test_a_pipe_without_a_suffix_is_not_waited_for(tmp_path):
    tree(tmp_path, cat=1)
    os.mkfifo(tmp_path / "cat/pipe")
    assert_says(opened(tmp_path).notes[0], "1 file passed over", "no files 1")


# --- Links ---------------------------------------------------------------------------------------


def test_a_link_to_a_folder_above_does_not_relabel_its_images(tmp_path):
    root = tree(tmp_path / "set", ant=1, bee=2)
    (root / "ant/up").symlink_to("..")
    (root / "bee/far").symlink_to(tmp_path)
    images = opened(root)
    assert [(r.image_id, r.label) for r in images.records] == [
        ("ant/000.png", 0),
        ("bee/000.png", 1),
        ("bee/001.png", 1),
    ]
    assert_says(images.notes[0], "2 links passed over", "in a circle", "ant/up")


def test_a_link_above_where_a_linked_class_folder_really_lies_is_passed_over(tmp_path):
    tree(tmp_path / "disk", ant=1, bee=1)
    (tmp_path / "disk/ant/up").symlink_to(tmp_path / "disk")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/ant").symlink_to(tmp_path / "disk/ant")
    assert ids(tmp_path / "set") == ["ant/000.png"]


def test_a_class_folder_that_is_a_link_to_the_whole_set_is_refused(tmp_path):
    root = tree(tmp_path / "set", bee=1)
    (root / "ant").symlink_to(root)
    assert_says(complaint(root), root / "ant", "a link to a folder that it lies in")


def test_a_class_folder_that_is_a_link_to_another_is_refused_naming_both(tmp_path):
    root = tree(tmp_path, bee=1)
    (root / "ant").symlink_to(root / "bee")
    assert_says(complaint(root), root / "ant", root / "bee", "the same folder by a link")


def test_a_link_inside_a_class_folder_to_another_class_is_refused(tmp_path):
    root = tree(tmp_path, ant=1, bee=1)
    (root / "bee/more").symlink_to(root / "ant")
    said = complaint(root)
    assert_says(said, f"{root}/ant and {root}/bee/more", "would be ant and bee")


def test_one_file_with_two_labels_by_a_link_is_refused_in_folders_and_tables(tmp_path):
    root = tree(tmp_path / "set", ant=1, bee=1)
    (root / "bee/link.png").symlink_to(root / "ant/000.png")
    assert_says(complaint(root), root / "ant/000.png", root / "bee/link.png", "the same file")
    path = root / "list.csv"
    path.write_text("path,label\nant/000.png,0\nbee/link.png,1\n")
    assert_says(complaint(path), root / "bee/link.png", "the same file by a link")
    path.write_text("path,label\nant/000.png,0\nbee/link.png,0\n")
    assert [record.label for record in opened(path).records] == [0, 0]


def test_hard_links_with_two_labels_are_files_of_their_own(tmp_path):
    root = tree(tmp_path, ant=1, bee=1)
    os.link(root / "ant/000.png", root / "bee/same.png")
    assert len(ids(root)) == 3


def test_links_in_a_circle_anywhere_do_not_stop_the_set(tmp_path):
    root = tree(tmp_path, ant=1, bee=1)
    for name in ("loop", "ant/loop", "bee/loop.png"):
        (root / name).symlink_to(Path(name).name)
    images = opened(root)
    assert [r.image_id for r in images.records] == ["ant/000.png", "bee/000.png", "bee/loop.png"]
    assert_says(images.notes[0], "2 links passed over, which lead in a circle", "loop")
    with pytest.raises(UnreadableImageError, match="symbolic links"):
        images.load(2)


def test_folders_that_link_to_one_another_are_walked_in_short_time(tmp_path):
    names = [f"part{i}" for i in range(9)]
    for name in names:
        paint(tmp_path / "cat" / name / "a.png")
        for other in names:
            (tmp_path / "cat" / name / other).symlink_to(tmp_path / "cat" / other)
    images = opened(tmp_path)  # 9! paths without a bound
    assert {f"cat/{name}/a.png" for name in names} <= {r.image_id for r in images.records}
    assert len(images.records) < 100
