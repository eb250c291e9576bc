"""How a file becomes pixels: as it was asked for, else as the model wants it, else as the paper."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from gaxjax.config.base import require

Resize = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]
"""Pillow's filters, by the names that torchvision and timm give them too."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Every setting of decoding, with a value; the paper's where nothing else is said.

    Attributes:
        size: height and width of the decoded image, in pixels.
        resize: as in `gaxjax.config.DataConfig`.
        resize_size: side before the centre is cut, in pixels.
        interpolation: the filter.
    """

    size: int = 256
    resize: Resize = "squash"
    resize_size: int = 256
    interpolation: Interpolation = "bilinear"


PAPERS = Decoding()


def require_cut(size: int, resize_size: int) -> None:
    """Refuse a centre that would be cut of less than itself.

    Raises:
        UserError: `resize_size` is below `size`.
    """
    expected = f"at least --size ({size}), or the crop would leave the image"
    require(resize_size >= size, "resize_size", resize_size, expected)


def chosen_decoding(
    *,
    size: int | None,
    resize: Resize | None,
    resize_size: int | None,
    interpolation: Interpolation | None,
    input_size: int | None = None,
    own: Mapping[str, Any] | None = None,
) -> Decoding:
    """Fill in what is not asked for: from the model, else from the paper.

    A model's `resize_size` is meant for its own size and its own way of resizing: for another size
    it grows or shrinks with it, never below the size, and for another way it does not count.

    Args:
        size: as asked for, or None; likewise the next three.
        resize: see size.
        resize_size: see size.
        interpolation: see size.
        input_size: the model's own size, where it is known.
        own: any of the model's own `resize`, `resize_size` and `interpolation`.

    Raises:
        UserError: the `resize_size` that is asked for is below the size.

    Example:
        >>> own = {"resize": "crop", "resize_size": 232}
        >>> asked = {"size": None, "resize": None, "resize_size": None, "interpolation": None}
        >>> chosen_decoding(**asked, input_size=224, own=own).resize_size
        232
        >>> chosen_decoding(**{**asked, "size": 112}, input_size=224, own=own).resize_size
        116
    """
    own = own or {}
    own_size = input_size or PAPERS.size
    own_side = own.get("resize_size")
    own_resize = own.get("resize", PAPERS.resize if own_side is None else "crop")
    size = own_size if size is None else size
    resize = cast(Resize, own_resize) if resize is None else resize
    if resize_size is None:
        meant = own_side is not None and resize == own_resize
        resize_size = max(size, size * int(own_side or 0) // own_size) if meant else size
    require_cut(size, resize_size)
    if interpolation is None:
        interpolation = own.get("interpolation", PAPERS.interpolation)
    return Decoding(size=size, resize=resize, resize_size=resize_size, interpolation=interpolation)
