"""What a notebook gives: a model, and images with labels, held against what is expected.

Each mistake is one line that names the argument, what was given, and what to give instead. Tensors
of other libraries become NumPy arrays by their own means: nothing foreign is imported.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.common import UserError, described, refuse_foreign_converters, uneven, unreadable
from gaxjax.config import AxConfig, DataConfig, GaxConfig
from gaxjax.data import Batch, ImageStream, ModelClasses, is_dataset
from gaxjax.models import (
    Classifier,
    as_classifier,
    count_classes,
    is_torch_module,
    load_classifier,
    renormalized,
)

__all__ = ["Given", "checked_images", "checked_labels", "opened", "opened_model"]

_IMAGES = "expected [N, H, W, 3] (channels last, RGB), N ≥ 1"


@dataclasses.dataclass(frozen=True)
class Given:
    """A model and the images it is asked about.

    Attributes:
        classifier: the model.
        sample: some of the images, [N, H, W, 3], N ≥ 1, whose shape and type are those of all.
        num_images: how many there are, where that is known before they are read.
        batches: gives all of them with their labels, once, in batches of a size.
    """

    classifier: Classifier
    sample: np.ndarray
    num_images: int | None
    batches: Callable[[int], Iterator[Batch]]


def opened(model: Any, images: Any, labels: Any, mean: Any, std: Any, *, fold: bool) -> Given:
    """Make a classifier of a model, and batches of arrays, or of a dataset that has its labels.

    Args:
        model: as for `gaxjax.explain`; also the next four.
        images: see model.
        labels: see model.
        mean: see model.
        std: see model.
        fold: fold batch norm.

    Raises:
        UserError: any of it is not as expected.
    """
    if isinstance(labels, GaxConfig | AxConfig):
        raise UserError(f"labels: {described(labels)}; give it by its name: config=…")
    if is_dataset(images) and labels is None:
        return _streamed(model, ImageStream(images), mean, std, fold=fold)
    if is_dataset(images) and not isinstance(images, Sequence):
        raise UserError(
            f"images: {described(images)}, whose items are read with their labels: leave out "
            f"labels; or give both as arrays, {_IMAGES}"
        )
    pixels = checked_images(images)
    classes = checked_labels(labels, len(pixels))
    classifier, classes = opened_model(model, pixels, classes, mean, std, fold=fold)
    whole = Batch(np.arange(len(pixels), dtype=np.int32), pixels, classes, ())
    return Given(classifier, pixels, len(pixels), whole.split)


def _streamed(model: Any, stream: ImageStream, mean: Any, std: Any, *, fold: bool) -> Given:
    """Open a model for a dataset whose PIL images are made as it wants them."""
    size: int | None = None
    own: Mapping[str, int | str] = {}
    if isinstance(model, str | PurePath):
        model = load_classifier(Path(model), fold=fold)
    if isinstance(model, Classifier):
        size, own = model.input_size, model.decoding
    sample = stream.first(DataConfig(data="a dataset").resolved(size, own).decoding)
    classifier = _opened_classifier(model, sample.shape[1:], 1, mean, std, fold=fold)
    classes = ModelClasses(classifier.num_classes, classifier.class_names)
    return Given(classifier, sample, stream.num_images, lambda size: stream.batches(size, classes))


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
        if shapes := uneven(list(classes)):
            raise UserError(f"labels: {shapes}; {wanted}")
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
    shape = pixels.shape[1:]
    classifier = _opened_classifier(model, shape, len(pixels), mean, std, fold=fold)
    if not (labels.min() >= 0 and labels.max() < classifier.num_classes):
        raise UserError(
            f"labels run from {labels.min()} to {labels.max()}; the model has classes 0 to "
            f"{classifier.num_classes - 1}"
        )
    return classifier, labels.astype(np.int32)


def _opened_classifier(
    model: Any, shape: tuple[int, ...], num_images: int, mean: Any, std: Any, *, fold: bool
) -> Classifier:
    if isinstance(model, str | PurePath):
        classifier = load_classifier(Path(model), fold=fold)
    elif isinstance(model, Classifier):
        classifier = model
    elif is_torch_module(model):
        classifier = _imported(model, (shape[0], shape[1]), mean, std, fold=fold)
    else:
        classifier = as_classifier(model, num_classes=2, mean=mean, std=std)
        count = count_classes(classifier, shape, num_images)
        classifier = dataclasses.replace(classifier, num_classes=count)
    if isinstance(model, str | PurePath | Classifier):
        if (mean, std) != (None, None):
            classifier = renormalized(classifier, mean, std)
        count = count_classes(classifier, shape, num_images)
        if count != classifier.num_classes:
            raise UserError(
                f"model: {classifier.name} returns {count} logits, and num_classes is "
                f"{classifier.num_classes}"
            )
    return classifier


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
        raise UserError(f"{name}: {unreadable(given, error)}; {wanted}") from error
    if array.dtype == object and array.ndim == 0:
        raise UserError(f"{name}: {described(given)}; {wanted}")
    if array.dtype == object and name == "images":
        raise UserError(f"{name}: {uneven(list(array)) or 'objects, not numbers'}; {wanted}")
    return array


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
