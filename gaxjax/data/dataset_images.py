"""A dataset of the user's own as the images of a stored run: read by position, and known again.

An image's id is its position in the dataset. The fingerprint of a set is over its ids, labels and
decode settings, as that of files, and over the pixels of up to 16 images, evenly spaced: a dataset
that changed elsewhere alone is not noticed.
"""

import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gaxjax.common import UserError, comes_from, described, what_raised
from gaxjax.config import DataConfig
from gaxjax.data.dataset_items import class_index, examples, pixels_of
from gaxjax.data.datasets import chosen_columns, class_names, numbered
from gaxjax.data.decode import HostImage, UnreadableImageError
from gaxjax.data.image_set import ImageSet, image_set
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.label_space import label_space
from gaxjax.data.selection import DATASET, refuse_labels, refuse_split

__all__ = ["dataset_images"]

_SAMPLED = 16
_ROUNDING = 1e-6  # of value / 255 in float32, whichever way it was computed


def dataset_images(dataset: Any, config: DataConfig, model: ModelClasses) -> ImageSet:
    """Make an image set of a map-style dataset, whose items are read again when they are decoded.

    Labels come from a Hugging Face dataset's column or a torchvision dataset's `targets`; of any
    other every item is read for its label here.

    Args:
        dataset: has `__len__` and `__getitem__`, items as for `gaxjax.explain`. It is read from one
            thread at a time. Floats are values of 8 bits divided by 255, as `ToTensor` makes them.
        config: its `data` is `dataset:` and a name for people; decoding, classes and draw as ever.
        model: the classes that labels must fit.

    Raises:
        UserError: it is no such dataset; labels do not fit; its first image cannot be read, or an
            image is another one each time it is read.

    Example:
        >>> pairs = [(np.full((8, 8, 3), value, np.uint8), value % 2) for value in range(5)]
        >>> images = dataset_images(pairs, DataConfig(data="dataset:five", size=8), ModelClasses(2))
        >>> images.name, images.records[3].image_id, images.load(3).shape
        ('5 images of dataset:five', '000003', (8, 8, 3))
    """
    if not config.data.startswith(DATASET) or config.data == DATASET:
        raise UserError(
            f"a dataset is given, and --data is {config.data}: name the dataset for people, "
            "DataConfig(data='dataset:NAME')"
        )
    refuse_labels(config, "a dataset, which has its own labels")
    refuse_split(config, "a dataset given in Python")
    _require_positions(dataset)
    columns = chosen_columns(dataset)
    names = class_names(dataset, columns)
    labels = [
        class_index(label, f"the label of image {position}")
        for position, label in enumerate(_labels(dataset, columns))
    ]
    if not labels:
        raise UserError("dataset: it is empty; expected at least one (image, label)")
    if names is not None:
        space = numbered(names, model, config.label_by)
        wrong = next((i for i, label in enumerate(labels) if not 0 <= label < len(names)), None)
        if wrong is not None:
            raise UserError(
                f"the label of image {wrong} is {labels[wrong]}; the dataset has classes 0 to "
                f"{len(names) - 1}"
            )
        texts = [names[label] for label in labels]
    else:
        texts = list(map(str, labels))
        whose = "the dataset's labels"
        space = label_space(
            set(texts),
            model,
            noun="label",
            source="the dataset",
            whose=whose,
            by=config.label_by,
            listed=True,
        )
    width = max(6, len(str(len(labels) - 1)))  # so that the ids sort in the dataset's order
    images = image_set(
        [(f"{position:0{width}d}", text) for position, text in enumerate(texts)],
        space,
        config,
        read=_Reader(dataset, columns, labels, config),
        sizes=lambda ids: np.full(len(ids), 3 * config.decoding.size**2, np.int64),
        arrangement=f"of {config.data}",
    )
    return replace(images, fingerprint=_fingerprint(images, config.data))


def _require_positions(dataset: Any) -> None:
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        if isinstance(dataset, dict | str | bytes):
            raise UserError(f"dataset: {described(dataset)}; expected one dataset of images")
        return
    mend = "loader.dataset has" if hasattr(dataset, "dataset") else "a map-style dataset has"
    raise UserError(
        f"dataset: {described(dataset)} cannot be read by position, as a stored run must "
        f"(__len__ and __getitem__, which {mend}): gaxjax.explain and attribute take it as it is"
    )


# --- Labels --------------------------------------------------------------------------------------


def _labels(dataset: Any, columns: tuple[str, str] | None) -> Iterable[Any]:
    """Return every item's label, where possible without its image."""
    if columns is not None:
        return dataset.with_format(None)[columns[1]]
    if comes_from(dataset, "torch") and hasattr(dataset, "indices"):  # Subset
        whole = _targets(dataset.dataset)
        return _read_for(dataset) if whole is None else [whole[i] for i in dataset.indices]
    return _targets(dataset) or _read_for(dataset)


def _targets(dataset: Any) -> Sequence[Any] | None:
    plain = comes_from(dataset, "torchvision") and getattr(dataset, "target_transform", 0) is None
    targets = getattr(dataset, "targets", None) if plain else None
    return list(targets) if targets is not None and len(targets) == len(dataset) else None


def _read_for(dataset: Any) -> Iterable[Any]:
    for position in range(len(dataset)):
        where = f"item {position} of the dataset"
        try:
            item = dataset[position]
        except Exception as error:  # of the user's dataset
            raise UserError(f"{where} cannot be read ({what_raised(error)})") from error
        example = next(examples(item, None, where), None)
        if example is None or example.batched:
            raise UserError(f"{where} is a batch; expected one image with its label")
        yield example.label


# --- Images --------------------------------------------------------------------------------------


class _Reader:
    """Reads one image of a dataset, from one thread at a time, as not every dataset bears more."""

    def __init__(
        self,
        dataset: Any,
        columns: tuple[str, str] | None,
        labels: Sequence[int],
        config: DataConfig,
    ) -> None:
        self._dataset, self._columns, self._labels = dataset, columns, labels
        self._decoding = config.decoding
        self._lock = threading.Lock()

    def __call__(self, image_id: str) -> HostImage:
        position = int(image_id)
        try:
            with self._lock:
                item = self._dataset[position]
        except Exception as error:  # of the user's dataset
            raise UnreadableImageError(what_raised(error)) from error
        try:
            [example] = examples(item, self._columns, f"item {position} of the dataset")
            pixels = pixels_of(example.image, self._decoding, f"image {position}")
            label = class_index(example.label, f"the label of image {position}")
        except UserError as error:
            raise UnreadableImageError(str(error)) from error
        if label != self._labels[position]:
            raise UnreadableImageError(
                f"its label is {label}, and was {self._labels[position]} when labels were read"
            )
        side = self._decoding.size
        if pixels.shape[:2] != (side, side):
            raise UnreadableImageError(
                f"it is {pixels.shape[0]} × {pixels.shape[1]} pixels, and those of the run are "
                f"{side} × {side} (DataConfig(size=…)); PIL images are resized"
            )
        return pixels if pixels.dtype == np.uint8 else _in_8_bits(pixels)


def _in_8_bits(pixels: np.ndarray) -> HostImage:
    """Return the 8-bit values that were divided by 255."""
    values = np.rint(pixels * 255)
    if np.abs(values / np.float32(255) - pixels).max() > _ROUNDING:
        raise UnreadableImageError(
            "its floats are no values of 8 bits divided by 255, as a stored run keeps: give uint8, "
            "rounded after any resize"
        )
    return values.astype(np.uint8)


def _fingerprint(images: ImageSet, name: str) -> str:
    """Return the set's fingerprint with the pixels of a few of its images.

    Raises:
        UserError: the first one cannot be read, or one is another each time.
    """
    digest = hashlib.sha256(images.fingerprint.encode())
    chosen = np.linspace(0, len(images.records) - 1, min(len(images.records), _SAMPLED))
    for index in map(int, chosen):
        image_id = images.records[index].image_id
        try:
            pixels, again = images.load(index), images.load(index)
        except UnreadableImageError as error:
            if index == 0:
                raise UserError(f"image {image_id} of {name}: {error}") from error
            digest.update(b"unreadable")
            continue
        if not np.array_equal(pixels, again):
            raise UserError(
                f"image {image_id} of {name} is another one each time it is read: leave random "
                "transforms out, or the run could neither be resumed nor verified"
            )
        digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()
