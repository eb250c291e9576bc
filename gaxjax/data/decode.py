"""From an image file to pixels: uint8 RGB of one fixed size, exactly as torchvision makes them.

Pillow opens the file, `convert("RGB")` and a resize by one of its filters follow. EXIF orientation
is left alone, as torchvision's image folders leave it. Only the formats of a list are opened:
Pillow would start Ghostscript for a PostScript file, whatever its name.
"""

import io
import os
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from gaxjax.config import Interpolation, Resize
from gaxjax.data.decoding_memory import Budget, TooLargeError

HostImage = UInt8[np.ndarray, "S S 3"]
"""One decoded square RGB image on the host, 0 to 255."""

# Above this Pillow refuses to open a file; the enlargement before a centre crop is held to it too.
_MAX_PIXELS = 178_956_970

# Pillow's own decoders of pictures, which run no other program, read no other file and say in the
# header how large the picture is (an ICO file may hold a larger one than it says). TGA is
# last: it has no signature, and is what no other format wanted.
_FORMATS = tuple(
    "JPEG PNG GIF BMP DIB TIFF WEBP PPM JPEG2000 AVIF PCX SGI QOI TGA".split()  # noqa: SIM905
)

_TIFF_BITS = 258  # the tag BitsPerSample
_MOST_IN_16_BITS = 65535

_BUDGET = Budget()

_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class UnreadableImageError(Exception):
    """An image file that cannot be decoded; the message is one line that says why."""


def decode_file(
    path: Path,
    *,
    size: int,
    resize: Resize = "squash",
    resize_size: int | None = None,
    interpolation: Interpolation = "bilinear",
    pixel_max: int | None = None,
) -> HostImage:
    """Decode one image file to `size × size` RGB; see `decode`.

    Example:
        >>> decode_file(Path("cat.jpg"), size=256).shape
        (256, 256, 3)
    """
    return decode(
        path,
        size=size,
        resize=resize,
        resize_size=resize_size,
        interpolation=interpolation,
        pixel_max=pixel_max,
    )


def decode(
    encoded: Path | bytes,
    *,
    size: int,
    resize: Resize = "squash",
    resize_size: int | None = None,
    interpolation: Interpolation = "bilinear",
    pixel_max: int | None = None,
) -> HostImage:
    """Decode one image to `size × size` RGB, from its file or from the bytes of one.

    Args:
        encoded: in any usual format, whatever its name; of several frames the first counts.
        size: height and width of the result, in pixels.
        resize: `squash` resizes both sides to `resize_size`, `crop` the short one; the centre is
            cut then.
        resize_size: the side before the cut, in pixels, at least `size` (the default).
        interpolation: Pillow's filter.
        pixel_max: as for `to_rgb`.

    Returns:
        uint8 `[size, size, 3]`, 0 to 255.

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, not an image, a folder, or too
            large to decode safely; whatever Pillow raised is the cause.

    Example:
        >>> decode(Path("cat.jpg").read_bytes(), size=256).shape
        (256, 256, 3)
    """
    try:
        with open_image(encoded) as image:
            grown = 0
            if resize == "crop":
                short, long = _grown(image.size, resize_size or size)
                grown = 4 * short * long
            elif resize_size is not None and resize_size > size:
                grown = 4 * resize_size**2
            with _BUDGET.taking(image, grown):
                rgb = to_rgb(image, pixel_max=pixel_max)
                return fit(
                    rgb,
                    size=size,
                    resize=resize,
                    resize_size=resize_size,
                    interpolation=interpolation,
                )
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every built-in type on bad bytes
        raise UnreadableImageError(_reason(error)) from error


def open_image(encoded: Path | bytes) -> Image.Image:
    """Open an image and read its header; its pixels are decoded when they are asked for.

    Raises:
        UnreadableImageError: no regular file, or an empty one.
        Exception: whatever Pillow raises on a file that is no image.
    """
    _silence_pillow()
    _load_every_format()
    if isinstance(encoded, Path):
        status = os.stat(encoded)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImageError("a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError("not a regular file")  # reading a pipe would wait for ever
    if (len(encoded) if isinstance(encoded, bytes) else status.st_size) == 0:
        raise UnreadableImageError("the file is empty (0 bytes)")
    # A build of Pillow may lack some, such as AVIF.
    formats = [name for name in _FORMATS if name in Image.OPEN]
    return Image.open(
        io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=formats
    )


def holds_image(encoded: Path | bytes) -> bool:
    """Tell by its first bytes whether a file of any name is an image that is read."""
    try:
        with open_image(encoded) as image:
            return image.format != "TGA"  # which has no signature
    except Exception:  # as in `decode`
        return False


def to_rgb(image: Image.Image, *, pixel_max: int | None = None) -> Image.Image:
    """Turn an image of any Pillow mode into 8-bit RGB, dropping transparency as torchvision does.

    16-bit grey is the one departure from torchvision, whose `convert("RGB")` clips it to 255: a
    16-bit X-ray would come out white. We keep the high byte, as Pillow itself does for 16-bit
    colour files; of a TIFF file that declares 12 bits the highest 8.

    Args:
        image: the image.
        pixel_max: the value v of grey pixels with more than 8 bits that is white: they become
            round(255 · value / v), at least 0 and at most 255. Files that declare a smaller range
            than 16 bits (Netpbm's, TIFF's with 12 bits) keep to that.

    Raises:
        UnreadableImageError: 32-bit integer or floating-point pixels, which declare no range,
            without `pixel_max`.
    """
    bits = _bits(image)
    if pixel_max is not None and takes_pixel_max(image):
        image = Image.fromarray(_scaled(np.asarray(image), pixel_max))
    elif bits is not None:
        image = Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    elif image.mode in ("I", "F"):
        kind = "integer" if image.mode == "I" else "floating-point"
        raise UnreadableImageError(
            f"32-bit {kind} pixels have no set range; save the image with 8 or 16 bits, or say by "
            "--pixel-max which value is white"
        )
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")  # it would copy RGB


def takes_pixel_max(image: Image.Image) -> bool:
    """Tell whether `pixel_max` applies: grey, more than 8 bits, and no smaller range declared."""
    if image.format == "PPM" and image.mode == "I":
        args = tile_arguments(image)
        return args == "I;16B" or (len(args) > 0 and args[-1] == _MOST_IN_16_BITS)
    return image.mode.startswith(("I", "F")) and _bits(image) != 12


def tile_arguments(image: Image.Image) -> Any:
    """Return what Pillow's decoder is told of a file's pixels, such as `RGB;16B`; () if nothing."""
    tiles = getattr(image, "tile", None)
    return tiles[0].args if tiles else ()


def _bits(image: Image.Image) -> int | None:
    """Return how many bits grey pixels of more than 8 have; None for others, and where unknown."""
    # Netpbm files with more than 8 bits arrive as mode I, already stretched to 0..65535.
    if image.mode == "I" and image.format == "PPM":
        return 16
    if not image.mode.startswith("I;16"):
        return None
    tags = getattr(image, "tag_v2", {})
    return 12 if tags.get(_TIFF_BITS) == (12,) else 16


def _scaled(pixels: np.ndarray, pixel_max: int) -> np.ndarray:
    """Return round(255 · pixels / pixel_max) as uint8, clipped."""
    if not np.isfinite(pixels).all():
        raise UnreadableImageError("a pixel is not a finite number")
    clipped = np.clip(pixels, 0, pixel_max)
    if clipped.dtype.itemsize > 2:
        return np.rint(clipped * (255 / pixel_max)).astype(np.uint8)
    # By a table: the image may be large, and 16 bits have few values.
    table = (
        np.rint(np.arange(_MOST_IN_16_BITS + 1) * (255 / pixel_max)).clip(0, 255).astype(np.uint8)
    )
    return table[clipped]


def fit(
    image: Image.Image,
    *,
    size: int,
    resize: Resize = "squash",
    resize_size: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> HostImage:
    """Resize an RGB image to `size × size` pixels, bit for bit as torchvision does.

    `squash` is torchvision's `Resize((resize_size, resize_size))` and `crop` `Resize(resize_size)`,
    both with `CenterCrop(size)` after it, including its rounding; timm's evaluation does the same.
    Pillow's filters antialias, all but `nearest`.

    Args:
        image: 8-bit RGB of any size.
        size: height and width of the result, in pixels.
        resize: how the aspect ratio is met.
        resize_size: the side before the cut, in pixels, at least `size` (the default): of `crop`
            the short one, of `squash` both.
        interpolation: Pillow's filter.

    Returns:
        uint8 `[size, size, 3]`, 0 to 255; the caller may write to it.

    Raises:
        UnreadableImageError: so long an image that its enlargement for the crop would not fit.

    Example:
        >>> fit(Image.new("RGB", (400, 300)), size=224, resize="crop", resize_size=256).shape
        (224, 224, 3)
    """
    side = size if resize_size is None else resize_size
    new_width = new_height = side
    if resize == "crop":
        short, long = _grown(image.size, side)
        new_width, new_height = (short, long) if image.width <= image.height else (long, short)
    image = image.resize((new_width, new_height), Image.Resampling[interpolation.upper()])
    if (new_width, new_height) == (size, size):
        return np.array(image)
    # round() to even, as torchvision's center_crop: 0.5 goes to 0 and 1.5 to 2.
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    return np.array(image.crop((left, top, left + size, top + size)))


def _grown(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Return the short and the long side before the crop, as torchvision's Resize rounds them."""
    width, height = size
    long = int(short * max(size) / min(size))
    if short * long > _MAX_PIXELS:
        raise UnreadableImageError(
            f"{width}×{height} pixels would grow to {short}×{long} before the crop; "
            "use --resize squash"
        )
    return short, long


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
        (TooLargeError, lambda: str(error)),
        (Image.DecompressionBombError, lambda: f"more than {_MAX_PIXELS:,} pixels"),
        (MemoryError, lambda: "not enough memory to decode it"),
    ]
    for kind, explain in explained:
        if isinstance(error, kind):
            return explain()
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
