"""What no images can be read from: each a line that says what was given and how to mend it."""

import gzip

import pyarrow as pa
import pytest
from image_folders import assert_says, complaint, opened, paint, tree
from places import (
    parquet_table,
    pictures,
    samples,
    use_s3,
    write_folder,
    write_parquet,
    write_shards,
    write_tar,
    write_tars,
)

from gaxjax.config.inputs import DataConfig
from gaxjax.data.sources import open_images

IMAGES = pictures(per_class=2)
ONE = next(iter(IMAGES.values()))


def parquet(tmp_path, labels=None, name="a.parquet", **columns):
    return write_parquet(tmp_path / name, parquet_table(IMAGES, labels, **columns))


# --- Parquet -------------------------------------------------------------------------------------


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    whole = parquet(tmp_path).read_bytes()
    for content in (b"", b"PAR1", b"no table", whole[:-10], whole[: len(whole) // 2]):
        (tmp_path / "a.parquet").write_bytes(content)
        assert_says(complaint(tmp_path / "a.parquet"), "a.parquet is damaged or no Parquet file")


def test_a_name_that_is_no_text_is_refused(tmp_path):
    table = parquet_table(IMAGES, image_id=[f"name{i}" for i in range(6)])
    file = write_parquet(tmp_path / "a.parquet", table, compression="none", use_dictionary=False)
    file.write_bytes(file.read_bytes().replace(b"name3", b"nam\xfa3"))
    assert_says(complaint(file), "a.parquet is damaged", "UTF8")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    table = parquet_table(IMAGES)
    renamed = write_parquet(tmp_path / "a.parquet", table.rename_columns(["img", "label"]))
    assert_says(complaint(renamed), "has no column 'image', but img, label")
    renamed = write_parquet(tmp_path / "b.parquet", table.rename_columns(["image", "fine_label"]))
    assert_says(complaint(renamed), "has no column 'label', but image, fine_label")
    flat = pa.table({"image": list(IMAGES), "label": [0] * 6})
    assert_says(complaint(write_parquet(tmp_path / "c.parquet", flat)), "'image' is string")
    assert_says(complaint(parquet(tmp_path, [0.5] * 6)), "'label' is double", "class indices")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, 2, 3, 4, 1000], "label 1000 does not fit the model's 1000 classes"),
        ([0, 1, -1, -1, 4, 5], "2 of 6 labels are -1, as where the labels of test images are kept"),
        ([0, 1, -2, 3, 4, 5], "label -2 is below 0"),
        ([0, None, None, 3, 4, 5], "2 labels of 6 are null (first: row 1)"),
        (["cat", "3", "dog", "cow", "pig", "ant"], "mixes class indices (3) and names (ant)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, said):
    assert_says(complaint(parquet(tmp_path, labels), 1000), said)


def test_labels_that_the_file_does_not_name_are_refused(tmp_path):
    about = {"huggingface": '{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}'}
    table = parquet_table(IMAGES, [0, 1, 0, 1, 0, 2]).replace_schema_metadata(about)
    file = write_parquet(tmp_path / "a.parquet", table)
    assert_says(complaint(file, 2), "label 2 is none of the 2 classes that the file names, 0 to 1")
    table = parquet_table(IMAGES, [0, 1, 0, 1, 0, 1]).replace_schema_metadata(about)
    file = write_parquet(tmp_path / "a.parquet", table)
    assert_says(complaint(file, 3), "has 2 classes (cat, dog, …), but the model has 3")
    assert opened(file, 2).label_names == ("cat", "dog")


def test_empty_files_are_passed_over_with_a_note_where_others_have_rows(tmp_path):
    shards = write_shards(tmp_path / "shards", IMAGES)
    write_parquet(shards / "validation-9.parquet", parquet_table(IMAGES).slice(0, 0))
    [note] = opened(shards).notes
    assert_says(note, "1 Parquet file without rows (first: validation-9.parquet)")
    assert_says(complaint(shards / "validation-9.parquet"), "holds no rows")


def test_two_images_of_one_id_are_refused(tmp_path):
    file = parquet(tmp_path, image_id=["a", "b", "a", "c", "d", "e"])
    assert_says(complaint(file), "the image_id 'a' is that of several rows")


def test_files_that_name_their_classes_otherwise_are_refused(tmp_path):
    parquet(tmp_path, [0] * 6, "a.parquet")
    about = '{"info": {"features": {"label": {"names": ["cat"]}}}}'
    table = parquet_table(IMAGES, [0] * 6).replace_schema_metadata({"huggingface": about})
    write_parquet(tmp_path / "b.parquet", table)
    assert_says(complaint(tmp_path), "b.parquet names its classes otherwise than a.parquet")


# --- Tar archives --------------------------------------------------------------------------------


def test_a_compressed_archive_is_refused_whatever_its_name(tmp_path):
    whole = write_tar(tmp_path / "a.tar", samples(IMAGES)).read_bytes()
    for name in ("b.tar.gz", "b.tgz", "b.tar"):
        (tmp_path / name).write_bytes(gzip.compress(whole))
        assert_says(complaint(tmp_path / name), name, "is compressed", "repack it as a plain .tar")
    assert_says(complaint(tmp_path / "*.tar.gz"), "is compressed")


def test_an_archive_of_what_is_no_file_below_it_is_refused(tmp_path):
    import io
    import tarfile

    for name, kind, said in (
        ("cat/a.png", tarfile.SYMTYPE, "holds a link (cat/a.png)"),
        ("cat/a.png", tarfile.LNKTYPE, "holds a link"),
        ("cat/a.png", tarfile.FIFOTYPE, "holds a pipe"),
        ("/etc/a.png", tarfile.REGTYPE, "/etc/a.png, which leads out of it"),
        ("cat/../../a.png", tarfile.REGTYPE, "leads out of it"),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "b.png" if "link" in said else ""
        info.size = len(ONE) if kind == tarfile.REGTYPE else 0
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            archive.addfile(info, io.BytesIO(ONE))
        assert_says(complaint(tmp_path / "a.tar"), said)


def test_an_empty_or_foreign_or_damaged_archive_is_refused(tmp_path):
    file = write_tar(tmp_path / "a.tar", {})
    assert_says(complaint(file), "a.tar is empty")
    for content in (b"", b"no archive", b"no archive" * 200):
        file.write_bytes(content)
        assert_says(complaint(file), "damaged or no tar archive")
    whole = bytearray(write_tar(file, samples(IMAGES)).read_bytes())
    whole[3 * 1024 + 5] ^= 1  # within the header of the fourth file
    file.write_bytes(whole)
    assert_says(complaint(file), "damaged", "no header at byte 3072, after 3 files")
    file.write_bytes(whole[: 2 * 1024 + 100])
    assert_says(complaint(file), "damaged", "no header at byte 2048, after 2 files")


def test_an_image_without_a_label_is_refused_and_a_label_without_an_image_told(tmp_path):
    members = samples(IMAGES)
    [first, label, *_] = members
    file = write_tar(tmp_path / "a.tar", {k: v for k, v in members.items() if k != label})
    assert_says(complaint(file), f"the image {first} has no label beside it", label)
    file = write_tar(tmp_path / "a.tar", {k: v for k, v in members.items() if k != first})
    [note] = opened(file).notes
    assert_says(note, f"1 label without an image in a.tar (first: {first.removesuffix('.png')})")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ({"1.json": b'{"caption": "a cat"}'}, "1.json has none of the keys label, cls and class"),
        ({"1.json": b"[1]"}, "1.json has none of the keys"),
        ({"1.json": b"{"}, "1.json holds no label"),
        ({"1.json": b'{"label": [1]}'}, "the label in 1.json is '[1]'"),
        ({"1.json": b'{"label": true}'}, "the label in 1.json is 'True'"),
        ({"1.cls": b""}, "1.cls holds no label"),
        ({"1.cls": b"\xff\xfe"}, "1.cls holds no label"),
        ({"1.cls": b"1000"}, "label 1000 does not fit the model's 1000 classes"),
        ({"1.cls": b"1", "1.jpg": b"1"}, "1.png and 1.jpg are two images of one sample"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path, label, said):
    assert_says(complaint(write_tar(tmp_path / "a.tar", {"1.png": ONE} | label), 1000), said)


# --- Names ---------------------------------------------------------------------------------------


def test_patterns_that_match_nothing_or_other_files_are_refused(tmp_path):
    write_tars(tmp_path, IMAGES)
    assert_says(complaint(tmp_path / "val-*.parquet"), "val-*.parquet matches nothing")
    assert_says(
        complaint(tmp_path / "shard-{000..003}.tar"), "2 of the 4 files are not there", "shard-002"
    )
    paint(tmp_path / "a.png")
    assert_says(complaint(tmp_path / "*.png"), "a.png; a pattern is for Parquet files")


def test_a_mixture_in_one_folder_is_refused(tmp_path):
    write_tars(tmp_path / "a", IMAGES)
    write_shards(tmp_path / "a", IMAGES)
    assert_says(complaint(tmp_path / "a"), "mixes Parquet files and tar archives", "'*.parquet'")
    write_tars(tree(tmp_path / "b", cat=1), IMAGES)
    assert_says(complaint(tmp_path / "b"), "mixes images (cat/000.png) with 2 files", "'*.tar'")


def test_labels_and_splits_that_do_not_go_with_the_files_are_refused(tmp_path):
    (tmp_path / "l.csv").write_text("")
    for place in (parquet(tmp_path), write_tar(tmp_path / "a.tar", samples(IMAGES))):
        assert_says(complaint(place, labels=tmp_path / "l.csv"), "leave --labels out")
        assert_says(complaint(place, split="val"), "named by splits", "leave --split out")


# --- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nosuch://bucket/val", "expected a path, or a URL such as s3://"),
        ("memory://nothing/val", "there is no such file or folder"),
        ("memory://nothing/val.csv", "there is no such file"),
        ("memory://nothing/*.parquet", "matches nothing"),
        ("memory://bucket/cat/1.png", "is a single image"),
        ("memory://bucket/images.tar.gz", "is compressed"),
        ("memory://bucket/pneumoniamnist.npz", "download it"),
        ("memory://bucket/mixed", "mixes images (1.png) with 1 file"),
        ("memory://bucket/table.csv", "names memory://other/1.png; a table by URL"),
    ],
)
def test_urls_that_lead_to_no_images_are_refused(memory, url, said):
    memory.pipe(
        {"/bucket/mixed/1.png": ONE, "/bucket/mixed/a.tar": b"tar", "/bucket/cat/1.png": ONE}
    )
    memory.pipe("/bucket/table.csv", b"path,label\nmemory://other/1.png,cat\n")
    assert_says(complaint(url), url.partition("*")[0], said)


def test_a_bucket_that_is_not_there_and_missing_credentials_are_told(s3, s3_address, monkeypatch):
    for url in ("s3://nosuchbucket/val", "s3://nosuchbucket/a.tar", "s3://nosuchbucket/*.tar"):
        assert_says(complaint(url), url)
    assert_says(complaint("s3://images/nothing"), "there is no such file or folder")
    use_s3(s3_address, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert_says(complaint("s3://images/val"), "there are no credentials", "AWS_ACCESS_KEY_ID")


def test_a_missing_package_is_named(monkeypatch):
    import fsspec

    def missing(*_args, **_settings):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    assert_says(complaint("s3://images/val"), "Install s3fs", "pip install 'gaxjax[remote]'")


def test_a_web_server_without_the_file_is_told(web):
    assert_says(complaint(f"{web}/nothing.tar"), "there is no such file")
    assert_says(complaint(f"{web}/nothing/"), "there is no such file or folder")


def test_an_address_with_a_query_is_no_pattern(web, tmp_path):
    write_tar(tmp_path / "a.tar", samples(IMAGES))
    assert len(opened(f"{web}/a.tar?download=true").records) == len(IMAGES)


def test_a_web_servers_folder_is_read_as_any(web, tmp_path):
    expected = opened(write_folder(tmp_path / "served", {f"a b/{k}": v for k, v in IMAGES.items()}))
    found = open_images(DataConfig(data=f"{web}/served", size=8))
    assert found.fingerprint == expected.fingerprint
    assert (found.load(3) == expected.load(3)).all()
