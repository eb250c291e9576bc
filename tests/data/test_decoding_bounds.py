"""Decoding starts no program and takes bounded memory; dark images of 16 bits are told."""

import os
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_folders import assert_says, opened, tree
from PIL import EpsImagePlugin, Image

from gaxjax.common import UserError
from gaxjax.config import DataConfig, FinetuneConfig, from_dict, to_dict
from gaxjax.data import decode
from gaxjax.data.decode import UnreadableImageError, decode_file
from gaxjax.data.decoding_memory import MOST_BYTES, Budget, TooLargeError, bytes_to_decode

# --- Formats -------------------------------------------------------------------------------------


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_postscript_starts_no_program_under_any_name(tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    ghostscript = tmp_path / "bin/gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {mark}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # look for it anew
    root = tree(tmp_path / "set", cat=1)
    for name in ("cat.jpg", "cat.png", "cat"):
        (root / "cat" / name).write_bytes(POSTSCRIPT)
    with Image.open(root / "cat/cat.jpg") as plain, pytest.raises(Exception):  # noqa: B017, PT011
        plain.load()
    assert mark.exists()  # Pillow by itself does start it
    mark.unlink()
    images = opened(root)
    assert_says(images.notes[0], "1 file passed over", "without suffix 1")
    for record in images.records[1:]:
        with pytest.raises(UnreadableImageError, match="not an image"):
            images.read(record.image_id)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICNS"])
def test_formats_off_the_list_are_unreadable(tmp_path, kind):
    Image.new("L", (16, 16)).save(tmp_path / "cat.jpg", kind)
    with pytest.raises(UnreadableImageError, match="not an image"):
        decode_file(tmp_path / "cat.jpg", size=8)


# --- Memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "P"), ("GIF", "P"), ("PNG", "RGB")])
def test_an_image_that_would_take_too_much_is_unreadable_before_it_is_decoded(
    tmp_path, monkeypatch, kind, mode
):
    path = tmp_path / "bomb"
    Image.new(mode, (2000, 1000)).save(path, kind)
    assert decode_file(path, size=8).shape == (8, 8, 3)
    monkeypatch.setattr(decode, "_BUDGET", Budget(most=2_000_000))
    monkeypatch.setattr(Image.Image, "resize", None)
    with pytest.raises(UnreadableImageError, match=rf"2000×1000 pixels \({kind}, {mode}\) would"):
        decode_file(path, size=8)


def test_the_largest_cameras_pictures_fit_and_176_megapixels_do_not():
    def fits(mode: str, width: int, height: int) -> bool:
        image = Image.new(mode, (1, 1))
        image._size = (width, height)  # as after reading a header
        return bytes_to_decode(image) <= MOST_BYTES

    assert fits("RGB", 14204, 10652)
    assert fits("P", 11000, 11000)
    assert not any(fits(mode, 13300, 13300) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK"))


def test_large_images_wait_for_one_another_and_small_ones_do_not():
    budget = Budget(most=10_000_000, small=1_000_000)
    large, small = Image.new("RGB", (1000, 2000)), Image.new("RGB", (100, 100))
    entered = threading.Event()

    def second() -> None:
        with budget.taking(large):
            entered.set()

    with budget.taking(large):
        thread = threading.Thread(target=second)
        thread.start()
        with budget.taking(small):
            assert not entered.wait(0.1)
    thread.join(5)
    assert entered.is_set()
    with (
        pytest.raises(TooLargeError, match="more than 10"),
        budget.taking(large.resize((2000, 2000))),
    ):
        pass
    with budget.taking(large, beside=10**9):  # alone, whatever the crop makes of it
        assert budget._taken == 10_000_000
    assert budget._taken == 0


# --- More than 8 bits ----------------------------------------------------------------------------


def deep(path: Path, largest: int, dtype: type = np.uint16) -> Path:
    """Write grey pixels from 0 to the largest value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.linspace(0, largest, 64).reshape(8, 8)
    Image.fromarray(values.round().astype(dtype)).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_12_bits_in_a_16_bit_file_are_told_and_scaled_on_request(tmp_path, suffix):
    for i in range(3):
        deep(tmp_path / f"xray/{i}.{suffix}", 4095)
    images = opened(tmp_path)
    assert images.load(0).max() == 15
    assert_says(images.notes[0], "3 of the 3 images", "4095", "15 of 255", "--pixel-max 4095")
    scaled = opened(tmp_path, pixel_max=4095)
    assert scaled.notes == ()
    expected = np.linspace(0, 4095, 64).round() * 255 / 4095
    np.testing.assert_array_equal(scaled.load(0)[..., 0].ravel(), np.rint(expected))
    assert scaled.fingerprint != images.fingerprint
    assert scaled.name == images.name


def test_16_bits_that_are_used_need_no_word(tmp_path):
    deep(tmp_path / "xray/0.png", 65535)
    assert opened(tmp_path).notes == ()
    [note] = opened(tmp_path, pixel_max=4095).notes
    assert_says(note, "1 of the 1 image", "above --pixel-max 4095", "up to 65535")


def test_a_largest_value_for_images_that_have_none_is_told(tmp_path):
    [note] = opened(tree(tmp_path, cat=1), pixel_max=4095).notes
    assert_says(note, "--pixel-max 4095 changes grey images of 16 or 32 bits alone")


def test_32_bit_and_floating_point_pixels_are_readable_with_a_largest_value(tmp_path):
    for name, dtype in (("0.tif", np.int32), ("1.tif", np.float32)):
        path = deep(tmp_path / f"xray/{name}", 1000, dtype)
        with pytest.raises(UnreadableImageError, match="--pixel-max"):
            decode_file(path, size=8)
        pixels = decode_file(path, size=8, pixel_max=500)[..., 0].ravel()
        assert (pixels[0], pixels[-1], pixels[16]) == (0, 255, round(16 / 63 * 2 * 255))
    Image.fromarray(np.array([[np.nan]], np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(UnreadableImageError, match="not a finite number"):
        decode_file(tmp_path / "nan.tif", size=8, pixel_max=1)


def test_a_file_that_declares_its_range_keeps_to_it(tmp_path):
    (tmp_path / "x").mkdir()
    path = tmp_path / "x/declared.pgm"
    path.write_bytes(b"P5 2 1 4095 " + np.array([0, 4095], ">u2").tobytes())
    for pixel_max in (None, 100):
        assert decode_file(path, size=2, pixel_max=pixel_max)[0, -1, 0] == 255
    path.write_bytes(b"P5 2 1 65535 " + np.array([0, 4095], ">u2").tobytes())
    assert decode_file(path, size=2, pixel_max=4095)[0, -1, 0] == 255
    assert_says(opened(tmp_path).notes[0], "--pixel-max 4095")


def test_a_tiff_file_of_12_bits_keeps_its_highest_8(tmp_path):
    values = [0, 0x123, 0xFFF, 0x800]
    packed = b"".join(
        (a << 12 | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True)
    )
    entries = [(256, 3, 4), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 3, 1), (279, 4, len(packed))]
    directory = len(entries).to_bytes(2, "little")
    for tag, kind, value in entries:
        directory += b"".join(
            v.to_bytes(n, "little") for v, n in ((tag, 2), (kind, 2), (1, 4), (value, 4))
        )
    path = tmp_path / "xray.tif"
    start = b"II\x2a\0" + (8 + len(packed)).to_bytes(4, "little")
    path.write_bytes(start + packed + directory + b"\0\0\0\0")
    with Image.open(path) as image:
        assert np.asarray(image).ravel().tolist() == values
    short = decode_file(path, size=4)[0, :, 0].tolist()
    assert short == [value >> 4 for value in values]


def test_dark_16_bit_colour_is_told(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + np.full((8, 3), 4095, ">u2").tobytes() for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/colour.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert_says(opened(tmp_path).notes[0], "16 bits a colour", "at most 15 of 255")


def test_at_most_16_images_are_looked_at(tmp_path, monkeypatch):
    for i in range(40):
        deep(tmp_path / f"xray/{i:02d}.png", 4095)
    seen = []
    monkeypatch.setattr(
        "gaxjax.data.depth.open_image", lambda path: seen.append(path) or Image.open(path)
    )
    assert_says(opened(tmp_path).notes[0], "16 of the 16 images looked at")
    assert len(seen) == 16


def test_the_largest_value_is_a_setting_that_older_configs_lack():
    assert from_dict(DataConfig, to_dict(DataConfig(data="d", pixel_max=4095))).pixel_max == 4095
    assert from_dict(DataConfig, {"data": "d"}).pixel_max is None
    for kind in (DataConfig, FinetuneConfig):
        for value in (0, -1, 2**31):
            with pytest.raises(UserError, match="--pixel-max must be at least 1"):
                kind(data="d", pixel_max=value)
