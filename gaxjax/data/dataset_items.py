"""One item of a dataset of the user's own: an image becomes pixels, a label a class index.

What cannot is one line that names its position in the dataset and the mend.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from gaxjax.common import UserError, comes_from, described, unreadable, what_raised
from gaxjax.config import Decoding
from gaxjax.data.decode import UnreadableImageError, fit, to_rgb

__all__ = ["IMAGE_NAMES", "LABEL_NAMES", "Example", "class_index", "examples", "pixels_of"]

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels")

_ITEM = "expected (image, label), or a dict of image and label"
_IMAGE = (
    "expected a PIL image, a tensor [3, H, W] or a NumPy array [H, W, 3], RGB, uint8 or floats in "
    "[0, 1]"
)

_OVERSHOT = 0.25  # what a bicubic filter makes of a hard edge, at most; normalised pixels go beyond


# --- An item: one image with its label, or a batch of them ---------------------------------------


class Example(NamedTuple):
    """An image and its label as a dataset gave them, not looked at yet."""

    image: Any
    label: Any
    batched: bool
    """Whether they came in a batch."""


def examples(item: Any, columns: tuple[str, str] | None, where: str) -> Iterator[Example]:
    """Yield the images of an item, each with its label.

    Args:
        item: (image, label), a mapping that holds both, or either of whole batches.
        columns: the mapping's names of image and label; None finds them.
        where: what the item is called, for messages.

    Raises:
        UserError: it is no such item; a batch has more images than labels, or fewer.
    """
    image, label = _halves(item, columns, where)
    if not (isinstance(image, list | tuple) or len(getattr(image, "shape", ())) == 4):
        yield Example(image, label, batched=False)
        return
    if not (isinstance(label, list | tuple) or len(getattr(label, "shape", ()))):
        raise UserError(f"{where} has a batch of images, and for its labels {described(label)}")
    if len(image) != len(label):
        raise UserError(f"{where} has {len(image)} images and {len(label)} labels")
    for one, other in zip(image, label, strict=True):
        yield Example(one, other, batched=True)


def _halves(item: Any, columns: tuple[str, str] | None, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        names = columns or tuple(
            next((name for name in known if name in item), known[0])
            for known in (IMAGE_NAMES, LABEL_NAMES)
        )
        missing = [name for name in names if name not in item]
        if missing:
            held = ", ".join(map(str, item))[:100] or "nothing"
            raise UserError(f"{where} has no {' and no '.join(missing)} but {held}; {_ITEM}")
        return item[names[0]], item[names[1]]
    if not isinstance(item, tuple | list):
        raise UserError(f"{where} is {described(item)}; {_ITEM}")
    if len(item) != 2:
        mend = ": ((x, y) for x, y, *_ in dataset) takes the first two" * (len(item) > 2)
        raise UserError(f"{where} has {len(item)} parts; {_ITEM}{mend}")
    return item[0], item[1]


# --- An image ------------------------------------------------------------------------------------


def pixels_of(
    image: Any, decoding: Decoding, where: str
) -> UInt8[np.ndarray, "H W 3"] | Float32[np.ndarray, "H W 3"]:
    """Return an image as pixels, channels last.

    Args:
        image: a PIL image of any mode, which is resized; or an array of any library, which is
            taken as it is: channels first or last, whichever are three, and where both are, first
            of a torch tensor and last of any other.
        decoding: how a PIL image is resized.
        where: what the image is called, for messages.

    Returns:
        uint8, 0 to 255, or float32 in [0, 1].

    Raises:
        UserError: it is no RGB image, or its values are of another range.

    Example:
        >>> grey = Image.new("L", (40, 30))
        >>> pixels_of(grey, Decoding(size=32, resize_size=32), "image 0").shape
        (32, 32, 3)
    """
    if isinstance(image, Image.Image):
        return _fitted(image, decoding, where)
    pixels = _array(image, where, _IMAGE)
    if pixels.ndim != 3 or not pixels.size:
        raise UserError(f"{where} is {_kind(image, pixels)}; {_IMAGE}")
    first = comes_from(image, "torch") if pixels.shape[0] == pixels.shape[2] == 3 else False
    if first or pixels.shape[2] != 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.shape[2] != 3:
        mend = ": transforms.Grayscale(3) makes grey RGB" * (1 in np.shape(image))
        raise UserError(f"{where} is {_kind(image, np.asarray(image))}; {_IMAGE}{mend}")
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f" and pixels.dtype.name != "bfloat16":
        mend = ": as uint8, if these are 0…255" * (pixels.dtype.kind in "iu")
        raise UserError(f"{where} is {_kind(image, pixels)}; {_IMAGE}{mend}")
    _check_range(pixels, where)
    return pixels.astype(np.float32)


def _fitted(image: Image.Image, decoding: Decoding, where: str) -> UInt8[np.ndarray, "S S 3"]:
    if image.mode in ("I", "F") and image.format != "PPM":
        raise UserError(
            f"{where} has pixels of 32 bits (Pillow's mode {image.mode}), which have no set range: "
            "make it 8-bit in the dataset"
        )
    try:
        return fit(to_rgb(image), **asdict(decoding))
    except UnreadableImageError as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    except Exception as error:  # Pillow decodes when pixels are asked for, and raises many types
        raise UserError(f"{where} cannot be read ({what_raised(error)})") from error


def _check_range(pixels: np.ndarray, where: str) -> None:
    lowest, highest = float(pixels.min()), float(pixels.max())
    if not np.isfinite([lowest, highest]).all():
        raise UserError(f"{where} holds NaN or infinity; expected floats in [0, 1]")
    if lowest >= 0 and 2 < highest <= 255:
        raise UserError(
            f"{where} holds {highest:.6g}, and floats are expected in [0, 1]: divide by 255, or "
            "give uint8"
        )
    if lowest < 0 or highest > 1:
        value = lowest if lowest < 0 else highest
        mend = (
            "leave Normalize out of the dataset's transforms, for the model's own normalisation is "
            "applied (mean=… and std=… where the model declares none)"
        )
        if lowest > -_OVERSHOT and highest < 1 + _OVERSHOT:
            mend = f"clamp(0, 1) where a resize overshot; or {mend}"
        raise UserError(f"{where} holds {value:.6g}, and floats are expected in [0, 1]: {mend}")


# --- A label -------------------------------------------------------------------------------------


def class_index(label: Any, where: str) -> int:
    """Return a label as a whole number, at least 0.

    Args:
        label: an integer, or what holds one.
        where: what the label is called, for messages.

    Raises:
        UserError: it is none, or missing.
    """
    if label is None:
        raise UserError(f"{where} is missing (None): choose a split that has labels")
    if isinstance(label, str | bytes):
        raise UserError(
            f"{where} is the text {label!r:.40}; expected a class index: of a Hugging Face dataset "
            "class_encode_column(…) makes it one"
        )
    number = _array(label, where, "expected a class index")
    whole = number.dtype.kind in "iu"
    if number.shape != ():
        mend = ""
        if number.size == 1:
            mend = ": label.item() is the one inside"
        elif whole and number.ndim == 1 and sorted(np.unique(number)) == [0, 1]:
            mend = ": its argmax, if it is one-hot"
        raise UserError(f"{where} has shape {number.shape}; expected one class index{mend}")
    if not whole:
        kinds = {"b": "a truth value", "f": "a floating-point number"}
        value, kind = f"{number[()]!s:.40}", kinds.get(number.dtype.kind)
        mend = f": int({value}), if that is the class" if kind else ""
        raise UserError(f"{where} is {kind or 'no number'}, {value}; expected a class index{mend}")
    if number == -1:
        raise UserError(f"{where} is -1, which stands for none: choose a split that has labels")
    return int(number)


# --- Arrays of any library -----------------------------------------------------------------------


def _array(value: Any, where: str, wanted: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype == object and hasattr(value, "__dlpack__"):
            array = np.from_dlpack(value)
    except Exception as error:  # of whatever was given
        raise UserError(f"{where}: {unreadable(value, error)}; {wanted}") from error
    return array


def _kind(value: Any, array: np.ndarray) -> str:
    """Say what was given for an image: by its shape and type where it has some."""
    if array.dtype == object or array.dtype.kind in "US" or not array.ndim:
        return described(value)
    return f"{array.dtype} {list(array.shape)}"
