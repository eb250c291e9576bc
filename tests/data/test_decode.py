"""Decoding: the same pixels as torchvision, and one reason per file that has none."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaxjax.data.decode import UnreadableImageError, decode_file

TEST_DATA = os.environ.get("GAXJAX_TEST_DATA")


def pattern(height: int, width: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, 256, (height, width, channels), np.uint8)


def photo(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(pattern(height, width))


def torchvision_pixels(path: Path, size: int, resize_size: int | None = None) -> np.ndarray:
    transforms = pytest.importorskip("torchvision.transforms")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(path).convert("RGB")
        if resize_size is None:
            image = transforms.Resize((size, size))(image)
        else:
            image = transforms.CenterCrop(size)(transforms.Resize(resize_size)(image))
    return np.asarray(image)


SHAPES = [(37, 53), (53, 37), (64, 64), (500, 375), (31, 500), (1, 90), (2, 3), (227, 226)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("size", [32, 64])
def test_squash_equals_torchvision_bit_for_bit(tmp_path, height, width, size):
    path = tmp_path / "image.png"
    Image.fromarray(pattern(height, width)).save(path)
    ours = decode_file(path, size=size)
    assert ours.shape == (size, size, 3)
    np.testing.assert_array_equal(ours, torchvision_pixels(path, size))


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("size", "resize_size"), [(32, 36), (33, 36), (64, 64), (64, 75)])
def test_crop_equals_torchvision_bit_for_bit(tmp_path, height, width, size, resize_size):
    path = tmp_path / "image.png"
    Image.fromarray(pattern(height, width)).save(path)
    ours = decode_file(path, size=size, resize="crop", resize_size=resize_size)
    np.testing.assert_array_equal(ours, torchvision_pixels(path, size, resize_size))


def test_crop_without_a_resize_size_takes_the_short_side_to_the_size(tmp_path):
    path = tmp_path / "image.png"
    photo(90, 60).save(path)
    np.testing.assert_array_equal(
        decode_file(path, size=32, resize="crop"),
        decode_file(path, size=32, resize="crop", resize_size=32),
    )


def palette(transparency: bytes | int | None = None) -> bytes:
    options = {} if transparency is None else {"transparency": transparency}
    buffer = io.BytesIO()
    photo().quantize(64).save(buffer, "PNG", **options)
    return buffer.getvalue()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo(), "JPEG", exif=exif)


MODES = {
    "grey": lambda: encoded(photo().convert("L"), "JPEG"),
    "grey and alpha": lambda: encoded(photo().convert("LA"), "PNG"),
    "alpha": lambda: encoded(Image.fromarray(pattern(30, 40, 4), "RGBA"), "PNG"),
    "one bit": lambda: encoded(photo().convert("1"), "PNG"),
    "palette": palette,
    "palette with a transparent entry": lambda: palette(3),
    "palette with transparency per entry": lambda: palette(bytes(range(64))),
    "RGB with a transparent colour": lambda: encoded(photo(), "PNG", transparency=(1, 2, 3)),
    "animated GIF": lambda: encoded(
        photo(), "GIF", save_all=True, append_images=[photo().rotate(90)]
    ),
    "CMYK JPEG": lambda: encoded(photo().convert("CMYK"), "JPEG"),
    "CMYK TIFF": lambda: encoded(photo().convert("CMYK"), "TIFF"),
    "YCbCr TIFF": lambda: encoded(photo().convert("YCbCr"), "TIFF"),
    "progressive JPEG": lambda: encoded(photo(), "JPEG", progressive=True),
    "rotated by EXIF": rotated_by_exif,
    "WebP": lambda: encoded(photo(), "WEBP", lossless=True),
    "BMP": lambda: encoded(photo(), "BMP"),
    "PPM": lambda: encoded(photo(), "PPM"),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_decodes_as_in_torchvision(tmp_path, mode):
    path = tmp_path / "image"
    path.write_bytes(MODES[mode]())
    np.testing.assert_array_equal(decode_file(path, size=32), torchvision_pixels(path, 32))


def test_exif_orientation_is_left_alone(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(rotated_by_exif())
    plain = tmp_path / "plain.jpg"
    photo().save(plain)
    np.testing.assert_array_equal(decode_file(path, size=30), decode_file(plain, size=30))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path, suffix):
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(deep).save(path)
    expected = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_file(path, size=64), expected)


def test_big_endian_16_bit_grey_reads_the_same(tmp_path):
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    header = b"P5 64 64 65535 "
    (tmp_path / "image.pgm").write_bytes(header + deep.astype(">u2").tobytes())
    # A big-endian TIFF written by hand: Pillow writes little-endian ones only.
    entries = [(256, 3, 64), (257, 3, 64), (258, 3, 16), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    entries += [(278, 3, 64), (273, 4, 8), (279, 4, 8192)]
    directory = len(entries).to_bytes(2, "big")
    for tag, kind, value in sorted(entries):
        stored = value.to_bytes(2, "big") + b"\0\0" if kind == 3 else value.to_bytes(4, "big")
        directory += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + b"\0\0\0\1" + stored
    start = b"MM\0\x2a" + (8 + 8192).to_bytes(4, "big")
    big_endian = start + deep.astype(">u2").tobytes() + directory + b"\0\0\0\0"
    (tmp_path / "image.tif").write_bytes(big_endian)
    for name in ("image.pgm", "image.tif"):
        pixels = decode_file(tmp_path / name, size=64)[..., 0]
        np.testing.assert_array_equal(pixels, (deep >> 8).astype(np.uint8))


def test_decoded_pixels_can_be_written_to(tmp_path):
    photo(32, 32).save(tmp_path / "image.png")
    assert decode_file(tmp_path / "image.png", size=32).flags.writeable


def bomb() -> bytes:
    data = encoded(Image.new("1", (8, 8)), "BMP")
    return data[:18] + (20000).to_bytes(4, "little") * 2 + data[26:]


def cut(kind: str) -> bytes:
    data = encoded(photo(200, 150), kind)
    return data[: len(data) // 2]


DAMAGED = {
    "empty": (lambda: b"", "the file is empty"),
    "text": (lambda: b"<html>404 not found</html>", "not an image"),
    "truncated JPEG": (lambda: cut("JPEG"), "truncated"),
    "truncated PNG": (lambda: cut("PNG"), "truncated"),
    "truncated TIFF": (lambda: cut("TIFF"), ""),
    "truncated GIF": (lambda: cut("GIF"), "truncated"),
    "truncated WebP": (lambda: cut("WEBP"), ""),
    "truncated BMP": (lambda: cut("BMP"), "truncated"),
    "header only": (lambda: encoded(photo(), "PNG")[:20], ""),
    "decompression bomb": (bomb, "more than 178,956,970 pixels"),
    "32-bit integers": (
        lambda: encoded(Image.fromarray(np.arange(900, dtype=np.int32).reshape(30, 30)), "TIFF"),
        "32-bit integer pixels",
    ),
    "floating point": (
        lambda: encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"),
        "32-bit floating-point pixels",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_unreadable_for_one_reason(tmp_path, damage):
    data, reason = DAMAGED[damage]
    path = tmp_path / "image.jpg"
    path.write_bytes(data())
    with pytest.raises(UnreadableImageError) as caught:
        decode_file(path, size=32)
    message = str(caught.value)
    assert reason in message
    assert message
    assert "\n" not in message
    assert str(tmp_path) not in message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_no_flipped_byte_raises_anything_but_unreadable(tmp_path, kind):
    whole = encoded(photo().convert("P" if kind == "GIF" else "RGB"), kind)
    rng = np.random.default_rng(0)
    path = tmp_path / "image"
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 400), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert decode_file(path, size=16).shape == (16, 16, 3)
            outcomes.add("decoded")
        except UnreadableImageError as error:
            outcomes.add("unreadable" if "\n" not in str(error) else "more than one line")
    # PNG's checksums find every flipped byte; the other formats decode some of them.
    assert outcomes == ({"unreadable"} if kind == "PNG" else {"decoded", "unreadable"})


def test_a_folder_a_missing_file_and_a_pipe_are_unreadable(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, reason in [
        (tmp_path, "a folder, not a file"),
        (tmp_path / "gone.jpg", "no such file"),
        (tmp_path / "pipe.jpg", "not a regular file"),
    ]:
        with pytest.raises(UnreadableImageError, match=reason):
            decode_file(path, size=32)


def test_a_very_long_image_is_unreadable_by_crop_and_readable_by_squash(tmp_path):
    path = tmp_path / "line.png"
    Image.new("L", (60000, 1)).save(path)
    with pytest.raises(UnreadableImageError, match="use --resize squash"):
        decode_file(path, size=256, resize="crop")
    assert decode_file(path, size=256).shape == (256, 256, 3)


def test_a_damaged_exif_block_does_not_cost_the_image_nor_warn(tmp_path):
    # One entry (the resolution) whose value lies far beyond the end of the block.
    exif = b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\0\0\0\0\0\0"
    path = tmp_path / "image.jpg"
    photo().save(path, exif=exif)
    data = path.read_bytes()
    jfif = data.index(b"JFIF") - 4  # without JFIF's density, Pillow looks for one in the EXIF
    path.write_bytes(data[:jfif] + data[jfif + 2 + int.from_bytes(data[jfif + 2 : jfif + 4]) :])
    with pytest.warns(UserWarning, match="Truncated File Read"):
        Image.open(path).close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode_file(path, size=32).shape == (32, 32, 3)
    assert caught == []


def test_other_packages_warnings_still_show_after_decoding(tmp_path):
    photo().save(tmp_path / "image.png")
    decode_file(tmp_path / "image.png", size=32)
    with pytest.warns(UserWarning, match="still here"):
        warnings.warn("still here", stacklevel=1)


@pytest.mark.data
@pytest.mark.skipif(not TEST_DATA, reason="needs real images under $GAXJAX_TEST_DATA")
@pytest.mark.parametrize("folder", ["imagenet_sample", "chest_xray/test"])
@pytest.mark.parametrize(("size", "resize_size"), [(256, None), (224, 256)])
def test_real_images_equal_torchvision_bit_for_bit(folder, size, resize_size):
    paths = sorted(Path(TEST_DATA, "data", folder).glob("*/*"))[::10]
    assert len(paths) >= 50
    for path in paths:
        ours = decode_file(
            path, size=size, resize="crop" if resize_size else "squash", resize_size=resize_size
        )
        np.testing.assert_array_equal(ours, torchvision_pixels(path, size, resize_size))
