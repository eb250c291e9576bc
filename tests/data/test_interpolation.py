"""Resizing by any of Pillow's filters: the same pixels as torchvision and timm; fingerprints."""

import hashlib
import json
import typing

import numpy as np
import pytest
from PIL import Image

from gaxjax.config import DataConfig, Interpolation
from gaxjax.data import open_images
from gaxjax.data.decode import decode_file, fit
from gaxjax.data.digits import digit_image

FILTERS = typing.get_args(Interpolation)
SHAPES = [(37, 53), (53, 37), (32, 32), (31, 500), (2, 3), (227, 226)]


def picture(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(height * 1000 + width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_each_filter_equals_torchvision_bit_for_bit(height, width, interpolation):
    transforms = pytest.importorskip("torchvision.transforms")
    mode = transforms.InterpolationMode(interpolation)
    image = picture(height, width)
    for resize, side in (("squash", 32), ("squash", 37), ("crop", 32), ("crop", 37)):
        resized = transforms.Resize((side, side) if resize == "squash" else side, mode)(image)
        expected = np.asarray(transforms.CenterCrop(32)(resized))
        found = fit(image, size=32, resize=resize, resize_size=side, interpolation=interpolation)
        np.testing.assert_array_equal(found, expected, err_msg=f"{resize} {side}")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0])
def test_each_filter_equals_timms_evaluation_bit_for_bit(mode, crop_pct, interpolation):
    data = pytest.importorskip("timm.data")
    settings = {"crop_pct": crop_pct, "crop_mode": mode, "interpolation": interpolation}
    theirs = data.create_transform((3, 64, 64), normalize=False, **settings)
    for height, width in SHAPES:
        image = picture(height, width)
        found = fit(
            image,
            size=64,
            resize="crop" if mode == "center" else "squash",
            resize_size=int(64 // crop_pct),
            interpolation=interpolation,
        )
        expected = theirs(image).numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(found, expected, err_msg=f"{height} × {width}")


def test_the_filters_differ_from_each_other():
    found = [fit(picture(50, 70), size=32, interpolation=name).tobytes() for name in FILTERS]
    assert len(set(found)) == len(FILTERS)


def test_files_and_digits_are_resized_by_the_configs_filter(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    for label in "01":
        picture(20, 30).save(tmp_path / label / "a.png")
    config = DataConfig(data=str(tmp_path), size=8, resize_size=9, interpolation="lanczos")
    images = open_images(config)
    settings = {"size": 8, "resize_size": 9, "interpolation": "lanczos"}
    expected = decode_file(tmp_path / "0" / "a.png", **settings)
    np.testing.assert_array_equal(images.load(0), expected)
    assert (expected != decode_file(tmp_path / "0" / "a.png", size=8)).any()
    digits = open_images(DataConfig(data="digits", size=12, interpolation="bicubic"))
    np.testing.assert_array_equal(digits.load(0), digit_image(3, size=12, interpolation="bicubic"))
    assert (digits.load(0) != digit_image(3, size=12)).any()


def test_a_fingerprint_of_older_settings_is_what_it_was():
    def older(*settings):
        images = open_images(DataConfig(data="digits", size=16))
        rows = [[record.image_id, record.label, 64] for record in images.records]
        lines = [json.dumps(row).encode() + b"\n" for row in (list(settings), *rows)]
        return hashlib.sha256(b"".join(lines)).hexdigest()

    def found(**settings):
        return open_images(DataConfig(data="digits", **settings)).fingerprint

    assert found() == older(256, "squash", None)
    assert found(size=16) == older(16, "squash", None)
    assert found(size=16, resize="squash", interpolation="bilinear") == older(16, "squash", None)
    assert found(size=16, resize="crop") == older(16, "crop", 16)
    assert found(size=16, resize="crop", resize_size=20) == older(16, "crop", 20)
    assert found(size=16, pixel_max=4095) == older(16, "squash", None, 4095)
    assert DataConfig(data="digits").resolved(None, {}) != DataConfig(data="digits")
    whole = DataConfig(data="digits", size=16).resolved(None, {})
    assert open_images(whole).fingerprint == older(16, "squash", None)


def test_settings_that_change_pixels_change_the_fingerprint():
    settings = [
        {},
        {"interpolation": "bicubic"},
        {"interpolation": "box"},
        {"resize_size": 20},
        {"resize": "crop", "resize_size": 20},
        {"resize": "crop", "resize_size": 20, "interpolation": "bicubic"},
    ]
    found = {open_images(DataConfig(data="digits", size=16, **one)).fingerprint for one in settings}
    assert len(found) == len(settings)
