"""What a notebook gives: images, labels and a model, held against what is expected.

Each mistake is one line that names the argument, what was given, and what to give instead. Tensors
of other libraries become NumPy arrays by their own means: nothing foreign is imported.
"""

import dataclasses
from pathlib import Path, PurePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.common import UserError, described, one_line, refuse_foreign_converters
from gaxjax.models import (
    Classifier,
    as_classifier,
    count_classes,
    is_torch_module,
    load_classifier,
    renormalized,
)

__all__ = ["checked_images", "checked_labels", "opened_model"]

_IMAGES = "expected [N, H, W, 3] (channels last, RGB), N ≥ 1"


def checked_images(images: Any) -> np.ndarray:
    """Return images [N, H, W, 3] as uint8, or as float32 in [0, 1].

    Raises:
        UserError: they are no such images.
    """
    pixels = _as_array(images, "images", _IMAGES)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.size == 0:
        raise UserError(f"images have shape {pixels.shape}; {_IMAGES}{_reshaped(pixels.shape)}")
    if pixels.dtype == np.uint8:
        return pixels
    if not jnp.issubdtype(pixels.dtype, np.floating):
        mend = ""
        if jnp.issubdtype(pixels.dtype, np.integer) and 0 <= pixels.min() <= pixels.max() <= 255:
            mend = ": np.asarray(images, np.uint8), if these are 0…255"
        raise UserError(
            f"images have type {pixels.dtype}; expected uint8, or floats in [0, 1]{mend}"
        )
    lowest, highest = float(pixels.min()), float(pixels.max())
    if not np.isfinite([lowest, highest]).all():
        faulty = int(np.argmax(~np.isfinite(pixels).all(axis=(1, 2, 3))))
        raise UserError(f"images hold NaN or infinity, first in image {faulty}; expected [0, 1]")
    if lowest < 0 or highest > 1:
        mend = "give pixels before normalisation, and the model's mean and std"
        if lowest >= 0 and 2 < highest <= 255:
            mend = "divide by 255, or give uint8"
        raise UserError(
            f"float images run from {lowest:.9g} to {highest:.9g}; expected [0, 1]: {mend}"
        )
    return pixels.astype(np.float32)


def checked_labels(labels: Any, count: int) -> np.ndarray:
    """Return labels [N], integers of whatever width they were given in.

    Raises:
        UserError: they are no such labels.
    """
    wanted = f"expected one integer for each of the {count} images"
    classes = _as_array(labels, "labels", wanted)
    if classes.dtype.kind in "US" or (
        classes.dtype == object and all(isinstance(name, str) for name in classes.flat)
    ):
        raise UserError(f"labels are texts such as {classes.flat[0]!s:.40}; {wanted}: their index")
    if classes.dtype == object:
        if uneven := _uneven(list(classes)):
            raise UserError(f"labels: {uneven}; {wanted}")
        raise UserError(f"labels are objects such as {classes.flat[0]!s:.40}; {wanted}: as int64")
    if classes.shape != (count,) or not np.issubdtype(classes.dtype, np.integer):
        raise UserError(
            f"labels have shape {classes.shape} and type {classes.dtype}; {wanted}"
            f"{_mended(classes, count)}"
        )
    return classes


def opened_model(
    model: Any, pixels: np.ndarray, labels: np.ndarray, mean: Any, std: Any, *, fold: bool
) -> tuple[Classifier, np.ndarray]:
    """Make a classifier of what a user may give, and hold the labels against it.

    A torch module is imported for images of their size; nothing is written.

    Returns:
        The classifier, and the labels as int32.
    """
    if isinstance(model, str | PurePath):
        classifier = load_classifier(Path(model), fold=fold)
    elif isinstance(model, Classifier):
        classifier = model
    elif is_torch_module(model):
        classifier = _imported(model, pixels.shape[1:3], mean, std, fold=fold)
    else:
        classifier = as_classifier(model, num_classes=2, mean=mean, std=std)
        classifier = dataclasses.replace(
            classifier, num_classes=count_classes(classifier, pixels.shape[1:], len(pixels))
        )
    if isinstance(model, str | PurePath | Classifier):
        if (mean, std) != (None, None):
            classifier = renormalized(classifier, mean, std)
        count = count_classes(classifier, pixels.shape[1:], len(pixels))
        if count != classifier.num_classes:
            raise UserError(
                f"model: {classifier.name} returns {count} logits, and num_classes is "
                f"{classifier.num_classes}"
            )
    if not (labels.min() >= 0 and labels.max() < classifier.num_classes):
        raise UserError(
            f"labels run from {labels.min()} to {labels.max()}; the model has classes 0 to "
            f"{classifier.num_classes - 1}"
        )
    return classifier, labels.astype(np.int32)


def _imported(model: Any, size: tuple[int, int], mean: Any, std: Any, *, fold: bool) -> Classifier:
    """Import a torch module, for which torch is here already."""
    refuse_foreign_converters()
    from converters import import_classifier

    return import_classifier(model, size, mean=mean, std=std, fold=fold)


def _as_array(given: Any, name: str, wanted: str) -> np.ndarray:
    """Turn what was given into a NumPy array."""
    if given is None or isinstance(given, str | bytes | PurePath | dict | set | type):
        raise UserError(f"{name}: {described(given)}; {wanted}")
    if isinstance(given, jax.core.Tracer):
        raise UserError(f"{name} are being traced: call gaxjax outside jit, grad and vmap")
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise UserError(f"{name} are masked in places; {wanted}: fill them, or leave those out")
    try:
        array = np.asarray(given)
    except Exception as error:  # of whatever was given
        raise UserError(f"{name}: {_unreadable(given, error)}; {wanted}") from error
    if array.dtype == object and array.ndim == 0:
        raise UserError(f"{name}: {described(given)}; {wanted}")
    if array.dtype == object and name == "images":
        raise UserError(f"{name}: {_uneven(list(array)) or 'objects, not numbers'}; {wanted}")
    return array


def _unreadable(given: Any, error: Exception) -> str:
    """Say why NumPy cannot read a value, and what would let it."""
    tensor = given[0] if isinstance(given, list | tuple) and len(given) else given
    if getattr(tensor, "requires_grad", False):
        return f"{described(tensor)} that requires a gradient: give .detach().cpu().numpy()"
    device = str(getattr(tensor, "device", "cpu"))
    if device != "cpu" and not isinstance(tensor, jax.Array):
        return f"{described(tensor)} on {device}: give .cpu().numpy()"
    if "bfloat16" in str(getattr(tensor, "dtype", "")):
        return f"{described(tensor)} of bfloat16, which NumPy lacks: give .float().numpy()"
    if isinstance(given, list | tuple) and (uneven := _uneven(given)):
        return uneven
    return f"{described(given)} that NumPy cannot read ({one_line(error)})"


def _uneven(items: Any) -> str | None:
    """Say which shapes a list holds, where they are several."""
    shapes: dict[Any, int] = {}
    for position, item in enumerate(items):
        try:
            shape: Any = np.shape(item)
        except Exception:  # of whatever was given
            shape = type(item).__name__
        shapes.setdefault(shape, position)
    if len(shapes) < 2:
        return None
    (one, first), (other, second) = list(shapes.items())[:2]
    return f"items of several shapes, [{first}] {one} and [{second}] {other}: make them one"


def _reshaped(shape: tuple[int, ...]) -> str:
    """Say how to make images of an array of another shape."""
    if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4):
        return ": images.transpose(0, 2, 3, 1) puts channels last"
    if len(shape) == 4 and shape[-1] == 4:
        return ": images[..., :3] leaves the opacity out"
    if len(shape) == 4 and shape[-1] == 1:
        return ": np.repeat(images, 3, axis=-1) makes grey RGB"
    if len(shape) == 3 and shape[-1] == 3:
        return ": images[None] makes a batch of one"
    if len(shape) == 3 and shape[0] == 3:
        return ": images.transpose(1, 2, 0)[None] puts channels last, in a batch of one"
    if len(shape) == 3:
        return ": np.repeat(images[..., None], 3, axis=-1) makes grey RGB"
    return ""


def _mended(labels: np.ndarray, count: int) -> str:
    """Say how to make labels of an array of another shape or type."""
    whole = np.issubdtype(labels.dtype, np.integer)
    if labels.ndim == 2 and labels.shape[0] == count and labels.shape[1] > 1:
        return ": labels.argmax(1), if they are one-hot"
    if labels.ndim == 2 and labels.shape == (count, 1):
        return ": labels[:, 0]"
    if labels.ndim == 0:
        return ": np.full(len(images), label) repeats one" if whole else ""
    if labels.shape == (count,) and np.issubdtype(labels.dtype, np.floating):
        return ": labels.astype(int), if they are whole numbers"
    if labels.shape == (count,) and labels.dtype == bool:
        return ": labels.astype(int) makes classes 0 and 1"
    return ""
