"""Bytes that are nearly an image: pixels of the wanted size, or one line that says why not."""

import io
import typing

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import strategies as st
from PIL import Image

from gaxjax.config import Interpolation
from gaxjax.data import UnreadableImageError
from gaxjax.data.decode import decode_file

_RANDOM = np.random.default_rng(0)
_MODES = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "L", "1"),
    "TIFF": ("RGB", "L", "I;16", "F", "CMYK", "LAB"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("RGB", "L"),
}


def _image(mode):
    if mode == "I;16":
        return Image.fromarray(_RANDOM.integers(0, 65536, (9, 14), dtype=np.uint16))
    if mode == "F":
        return Image.fromarray(_RANDOM.random((9, 14), dtype=np.float32))
    pixels = Image.fromarray(_RANDOM.integers(0, 256, (9, 14, 3), dtype=np.uint8))
    if mode == "LAB":
        return Image.frombytes("LAB", (14, 9), pixels.tobytes())
    return pixels.convert(mode)


def _encoded():
    for kind, modes in _MODES.items():
        for mode in modes:
            file = io.BytesIO()
            _image(mode).save(file, kind)
            yield file.getvalue()


FILES = tuple(_encoded())


@st.composite
def damaged(draw):
    """A file with bytes changed, cut, doubled or joined with another's."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)) | st.integers(0, 60))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "splice", "fill"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        elif kind == "splice":
            data[at:] = draw(st.sampled_from(FILES))[at:]
        else:
            data[at : at + 4] = b"\xff" * 4  # of sizes and offsets the largest
    return bytes(data)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "image.jpg"


@fuzz(
    1500,
    data=st.one_of(damaged(), st.binary(max_size=40)),
    size=st.sampled_from([1, 8, 33]),
    resize=st.sampled_from(["squash", "crop"]),
    grown=st.sampled_from([0, 5]),
    interpolation=st.sampled_from(typing.get_args(Interpolation)),
)
def test_bytes_become_pixels_or_a_reason(file, data, size, resize, grown, interpolation):
    file.write_bytes(data)
    reason = "none"
    try:
        side = size + grown
        pixels = decode_file(
            file, size=size, resize=resize, resize_size=side, interpolation=interpolation
        )
        assert (pixels.shape, pixels.dtype) == ((size, size, 3), np.uint8)
    except UnreadableImageError as error:
        reason = str(error)
    assert reason.strip()
    assert "\n" not in reason
