"""Archives and Parquet files cut off or with bits flipped: a line, an outcome, or what is there."""

import contextlib
import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from image_folders import opened
from places import everything, parquet_table, pictures, samples, write_parquet, write_tar

from gaxjax.common.errors import UserError
from gaxjax.data.decode import UnreadableImageError, decode

IMAGES = pictures(per_class=2)


def wholes(folder):
    table = parquet_table(IMAGES)
    return [
        write_tar(folder / "a.tar", samples(IMAGES)),
        write_parquet(folder / "a.parquet", table, row_group_size=2, compression="none"),
        write_parquet(folder / "b.parquet", table, write_page_checksum=True),
    ]


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """Cut a file off, or flip some of its bits."""
    if rng.random() < 0.5:
        return whole[: rng.integers(len(whole))]
    content = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
        content[rng.integers(len(whole))] ^= 1 << rng.integers(8)
    return bytes(content)


def contents(file) -> dict[str, bytes]:
    """Read what another program finds in a damaged file, by the images' names."""
    found: dict[str, bytes] = {}
    with contextlib.suppress(Exception):
        if file.suffix == ".tar":
            with tarfile.open(file) as archive:
                for member in archive:
                    found[member.name.rpartition("/")[2]] = archive.extractfile(member).read()
        else:
            for row in pq.read_table(file, columns=["image"])["image"].to_pylist():
                found[row["path"]] = row["bytes"]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_damage_is_told_in_a_line_and_no_image_has_the_pixels_of_another(tmp_path, seed):
    rng = np.random.default_rng(seed)
    [whole] = wholes(tmp_path)[seed : seed + 1]
    content, refused, unreadable = whole.read_bytes(), 0, 0
    for case in range(70):
        file = whole.with_stem(f"damaged{case}")
        file.write_bytes(damaged(content, rng))
        try:
            images = opened(file)
        except UserError as error:
            refused += "\n" not in str(error)
            continue
        pixels, reasons = everything(images)
        unreadable += bool(reasons)
        found = contents(file)
        for position, record in enumerate(images.records):
            if position not in reasons:
                name = record.image_id.rpartition("/")[2]
                wanted = [IMAGES.get(record.image_id), found.get(name)]
                assert any((pixels[position] == same).all() for same in map(_decoded, wanted))
    assert refused > 5
    assert unreadable > 5


def _decoded(content: bytes | None):
    try:
        return decode(content, size=8) if content else -1
    except UnreadableImageError:
        return -1


def test_an_image_that_is_cut_off_is_its_own_outcome(tmp_path):
    file = write_tar(tmp_path / "a.tar", IMAGES)
    last = list(IMAGES)[-1]
    with tarfile.open(file) as archive:
        place = archive.getmember(last).offset_data
    with open(file, "r+b") as opened_file:
        opened_file.truncate(place + 20)
    images = opened(file)
    assert images.notes == (f"a.tar is cut off within {last}, its last file",)
    reasons = everything(images)[1]
    position = [record.image_id for record in images.records].index(last)
    assert reasons == {position: "a.tar is cut off within it"}


def test_an_archive_written_anew_is_not_read_by_its_old_index(tmp_path):
    file = write_tar(tmp_path / "a.tar", IMAGES)
    images = opened(file)
    write_tar(file, dict(list(IMAGES.items())[1:] + list(IMAGES.items())[:1]))
    _, reasons = everything(images)
    assert set(reasons.values()) == {"a.tar has changed since it was opened"}
    assert len(reasons) == len(IMAGES)
    assert not everything(opened(file))[1]


def test_a_parquet_file_written_anew_is_not_read_by_its_old_index(tmp_path):
    some = pictures(per_class=7, classes=[f"c{i:02d}" for i in range(4)])
    file = write_parquet(tmp_path / "a.parquet", parquet_table(some), row_group_size=7)
    images, expected = opened(file), [decode(content, size=8) for content in some.values()]
    write_parquet(file, parquet_table(dict(list(some.items())[::-1])), row_group_size=7)
    pixels, reasons = everything(images)
    assert set(reasons.values()) == {"a.parquet has changed since it was opened"}
    ids = [record.image_id for record in images.records]
    read = dict(zip(some, expected, strict=True))
    assert all((pixels[i] == read[ids[i]]).all() for i in set(range(28)) - reasons.keys())


def test_a_damaged_index_is_made_anew(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("GAXJAX_CACHE", str(cache))
    for file in wholes(tmp_path)[:2]:
        expected = opened(file)
        [index] = (cache / "indexes").iterdir()
        whole = index.read_bytes()
        for content in (b"", whole[:-1], whole[:50] + b"!" + whole[51:], whole + b"!"):
            index.write_bytes(content)
            assert opened(file).fingerprint == expected.fingerprint
            assert index.read_bytes() == whole
        index.unlink()


def test_an_index_is_kept_and_read_again(tmp_path, monkeypatch):
    from gaxjax.data import parquet, tar_shards

    files = wholes(tmp_path)[:2]
    expected = [opened(file).fingerprint for file in files]

    def refuse(*_args):
        raise AssertionError("it was indexed already")

    monkeypatch.setattr(tar_shards, "tar_index", refuse)
    monkeypatch.setattr(parquet, "_index", refuse)
    monkeypatch.setattr(parquet, "row_sizes", refuse)
    assert [opened(file).fingerprint for file in files] == expected


def test_without_a_cache_folder_to_write_to_all_is_read_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"no folder")
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "file"))
    for file in wholes(tmp_path):
        assert not everything(opened(file))[1]


def test_an_image_without_bytes_is_its_own_outcome(tmp_path):
    table = parquet_table(IMAGES, ["cat"] * 6)
    image = table["image"].to_pylist()
    image[1]["bytes"], image[4] = None, None
    image[2]["bytes"] = b""
    image[3]["bytes"] = b"no image"
    table = table.append_column("image_id", [[str(i) for i in range(6)]])
    table = table.set_column(0, table.schema.field("image"), [image])
    images = opened(write_parquet(tmp_path / "a.parquet", table))
    _, reasons = everything(images)
    assert reasons == {
        1: "its row holds no bytes of an image",
        2: "the file is empty (0 bytes)",
        3: "not an image that Pillow can read",
        4: "its row holds no bytes of an image",
    }
    assert images.num_bytes.tolist()[1:5] == [-1, 0, 8, -1]


def test_a_name_that_is_no_text_is_told_of_its_image(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", errors="surrogateescape") as archive:
        content = next(iter(IMAGES.values()))
        info = tarfile.TarInfo("cat/\udcff.png")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    with pytest.raises(UserError, match="is not valid UTF-8"):
        opened(tmp_path / "a.tar")
