"""From an image file to pixels: uint8 RGB of one fixed size, exactly as torchvision makes them.

Pillow opens the file, `convert("RGB")` and a bilinear, antialiased resize follow. EXIF orientation
is left alone, as torchvision's image folders leave it.
"""

import os
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

HostImage = UInt8[np.ndarray, "S S 3"]
"""One decoded square RGB image on the host, 0 to 255."""

# Above this Pillow refuses to open a file; the enlargement before a centre crop is held to it too.
_MAX_PIXELS = 178_956_970

_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class UnreadableImageError(Exception):
    """An image file that cannot be decoded; the message is one line that says why."""


def decode_file(
    path: Path,
    *,
    size: int,
    resize: Literal["squash", "crop"] = "squash",
    resize_size: int | None = None,
) -> HostImage:
    """Decode one image file to `size × size` RGB.

    Args:
        path: the file, in any format that Pillow reads; of several frames the first is taken.
        size: height and width of the result, in pixels.
        resize: `squash` resizes both sides to `size`; `crop` resizes the short side to
            `resize_size` and cuts the centre.
        resize_size: the short side before the cut, in pixels, at least `size` (the default).

    Returns:
        uint8 `[size, size, 3]`, 0 to 255.

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, not an image, a folder, or too
            large to decode safely; whatever Pillow raised is the cause.

    Example:
        >>> decode_file(Path("cat.jpg"), size=256).shape
        (256, 256, 3)
    """
    _silence_pillow()
    _load_every_format()
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImageError("a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError("not a regular file")  # reading a pipe would wait for ever
        if status.st_size == 0:
            raise UnreadableImageError("the file is empty (0 bytes)")
        with Image.open(path) as image:
            return fit(to_rgb(image), size=size, resize=resize, resize_size=resize_size)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every built-in type on bad bytes
        raise UnreadableImageError(_reason(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image of any Pillow mode into 8-bit RGB, dropping transparency as torchvision does.

    16-bit grey is the one departure from torchvision, whose `convert("RGB")` clips it to 255: a
    16-bit X-ray would come out white. We keep the high byte, as Pillow itself does for 16-bit
    colour files.

    Raises:
        UnreadableImageError: 32-bit integer or floating-point pixels, which declare no range.
    """
    # Netpbm files with more than 8 bits arrive as mode I, already stretched to 0..65535.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        high_byte = (np.asarray(image) >> 8).astype(np.uint8)
        image = Image.fromarray(high_byte)
    elif image.mode in ("I", "F"):
        kind = "integer" if image.mode == "I" else "floating-point"
        raise UnreadableImageError(
            f"32-bit {kind} pixels have no set range; save the image with 8 or 16 bits"
        )
    return image.convert("RGB")


def fit(
    image: Image.Image,
    *,
    size: int,
    resize: Literal["squash", "crop"] = "squash",
    resize_size: int | None = None,
) -> HostImage:
    """Resize an RGB image to `size × size` pixels, bit for bit as torchvision does.

    `squash` is torchvision's `Resize((size, size))`; `crop` is `Resize(resize_size)` followed by
    `CenterCrop(size)`, including its rounding. Pillow's bilinear filter always antialiases.

    Args:
        image: 8-bit RGB of any size.
        size: height and width of the result, in pixels.
        resize: how the aspect ratio is met.
        resize_size: the short side before the cut, in pixels, at least `size` (the default).

    Returns:
        uint8 `[size, size, 3]`, 0 to 255; the caller may write to it.

    Raises:
        UnreadableImageError: so long an image that its enlargement for the crop would not fit.

    Example:
        >>> fit(Image.new("RGB", (400, 300)), size=224, resize="crop", resize_size=256).shape
        (224, 224, 3)
    """
    bilinear = Image.Resampling.BILINEAR
    if resize == "squash":
        return np.array(image.resize((size, size), bilinear))
    width, height = image.size
    short = size if resize_size is None else resize_size
    long = int(short * max(width, height) / min(width, height))
    if short * long > _MAX_PIXELS:
        raise UnreadableImageError(
            f"{width}×{height} pixels would grow to {short}×{long} before the crop; "
            "use --resize squash"
        )
    new_width, new_height = (short, long) if width <= height else (long, short)
    image = image.resize((new_width, new_height), bilinear)
    # round() to even, as torchvision's center_crop: 0.5 goes to 0 and 1.5 to 2.
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    return np.array(image.crop((left, top, left + size, top + size)))


def _load_every_format() -> None:
    """Have all of Pillow's format plugins loaded before any file is opened.

    Pillow loads most of them when the first file needs one. Of two threads that get there
    together, one may find them marked as tried already and give up on a good file. Once loaded
    this costs nothing. The common formats go first, as in Pillow's own order.
    """
    Image.preinit()
    Image.init()


def _silence_pillow() -> None:
    """Ignore Pillow's warnings: what matters in them becomes an image or a reason here.

    Large collections are full of damaged EXIF blocks and palettes with transparency; under
    `-W error` each would turn a good image into an unreadable one. `warnings.catch_warnings` is
    no help, because it is not thread-safe and decoding runs in threads
    (https://docs.python.org/3/library/warnings.html#warnings.catch_warnings).
    """
    if warnings.filters[:1] != [_PILLOW_WARNINGS]:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _reason(error: Exception) -> str:
    """Say in one line, without the path, why an image could not be decoded."""
    explained: list[tuple[type[Exception], Callable[[], str]]] = [
        (FileNotFoundError, lambda: "no such file"),
        (PermissionError, lambda: "no permission to read the file"),
        (UnidentifiedImageError, lambda: "not an image that Pillow can read"),
        (Image.DecompressionBombError, lambda: f"more than {_MAX_PIXELS:,} pixels"),
        (MemoryError, lambda: "not enough memory to decode it"),
    ]
    for kind, explain in explained:
        if isinstance(error, kind):
            return explain()
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
