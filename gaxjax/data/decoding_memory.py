"""What decoding may take of the memory: a bound for one image, and for all threads together.

A file of half a megabyte may hold 176 megapixels, which would take more than a gigabyte in each
decoding thread. What an image takes is told from its header, before any pixel is decoded.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

MOST_BYTES = 640 * 2**20
"""For one image, and for all large ones that are decoded at the same time. The largest cameras'
151 megapixels of RGB fit, at 4 bytes each."""

_SMALL = 64 * 2**20  # 16 megapixels of RGB; such images never wait for one another

_LOADED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # all others: 4 bytes a pixel
# What the decoder keeps beside the image: WebP's two canvases, AVIF's planes and its copy,
# OpenJPEG's 32-bit components.
_BESIDE = {"WEBP": 8, "AVIF": 8, "JPEG2000": 16}
_COEFFICIENTS = 6  # libjpeg keeps all of a progressive file, 16 bits each, at most three a pixel


# Pillow keeps an image in blocks of 16 MiB, which glibc gives back to the system only from the
# end of a thread's heap: every thread would hold on to what its largest image took. Blocks above
# 32 MiB are mapped, and unmapped, one by one (mallopt(3), M_MMAP_THRESHOLD).
_BLOCK = 64 * 2**20


class TooLargeError(Exception):
    """An image that would take more memory than decoding may; the message is one line."""


def bytes_to_decode(image: Image.Image) -> int:
    """Return about how many bytes it takes to decode an opened image and turn it into RGB.

    Example:
        >>> bytes_to_decode(Image.new("P", (1000, 1000)))
        5000000
    """
    per_pixel = _LOADED.get(image.mode, 4) + _BESIDE.get(image.format or "", 0)
    if image.mode.startswith("I"):
        per_pixel += 4  # the high byte is taken from a copy
    if image.mode != "RGB":
        per_pixel += 4
    return per_pixel * image.width * image.height


class Budget:
    """Memory that threads share; who would take it past its end waits until others are done.

    Args:
        most: bytes, of all together and of each.
        small: what takes at most so many never waits.
    """

    def __init__(self, most: int = MOST_BYTES, small: int = _SMALL) -> None:
        self._most, self._small, self._taken = most, small, 0
        self._changed = threading.Condition()

    @contextmanager
    def taking(self, image: Image.Image, beside: int = 0) -> Iterator[None]:
        """Hold what it takes to decode an opened image, and `beside` bytes, until it is done.

        Raises:
            TooLargeError: decoding alone would take more than there is.
        """
        needed = bytes_to_decode(image)
        if needed > self._most:
            raise TooLargeError(
                f"{image.width}×{image.height} pixels ({image.format}, {image.mode}) would take "
                f"{needed / 2**20:,.0f} MiB to decode, more than {self._most / 2**20:,.0f}; make "
                "the image smaller"
            )
        needed += beside
        if image.info.get("progressive"):
            needed += _COEFFICIENTS * image.width * image.height
        needed = min(needed, self._most)
        if needed <= self._small:
            yield
            return
        Image.core.set_block_size(_BLOCK)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + needed <= self._most)
            self._taken += needed
        try:
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()
