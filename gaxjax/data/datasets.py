"""Datasets of the user's own, as a stream of batches: Hugging Face's, torch's, any (image, label).

They are known by what they have, not by what they are: nothing foreign is imported. A dataset is
read once, from its first item to its last, and no more of it is in memory than a batch.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import PurePath
from typing import Any

import numpy as np

from gaxjax.common import HostImages, UserError, comes_from, described, what_raised
from gaxjax.config import Decoding
from gaxjax.data.batching import Batch
from gaxjax.data.dataset_items import (
    IMAGE_NAMES,
    LABEL_NAMES,
    Example,
    class_index,
    examples,
    pixels_of,
)
from gaxjax.data.label_readings import LabelSpace, ModelClasses
from gaxjax.data.label_space import LabelBy, numbered_space

__all__ = ["ImageStream", "chosen_columns", "class_names", "is_dataset", "numbered"]


def is_dataset(given: Any) -> bool:
    """Tell whether a value is read item by item, and not as an array of images.

    Example:
        >>> is_dataset([("image", 3)]), is_dataset(np.zeros((2, 8, 8, 3))), is_dataset("val")
        (True, False, False)
    """
    if isinstance(given, Mapping) and comes_from(given, "datasets"):
        return True  # its splits: refused with the mend
    is_array = hasattr(given, "dtype") and hasattr(given, "shape")
    if is_array or isinstance(given, str | bytes | PurePath | Mapping | set | frozenset | type):
        return False
    return hasattr(given, "__iter__") or hasattr(given, "__getitem__")


class ImageStream:
    """The images of a dataset with their labels, in its order.

    Args:
        dataset: a Hugging Face `Dataset` or `IterableDataset`, a torch `Dataset` or `DataLoader`,
            or any iterable of (image, label) or of batches of both. Its first item is read here.

    Attributes:
        num_images: how many there are, where the dataset tells.

    Raises:
        UserError: it is empty, its first item cannot be read, or has no image or no label.

    Example:
        >>> stream = ImageStream([(np.zeros((8, 8, 3), np.uint8), 2)] * 5)
        >>> stream.first(Decoding()).shape
        (1, 8, 8, 3)
        >>> [batch.labels.tolist() for batch in stream.batches(3, ModelClasses(4))]
        [[2, 2, 2], [2, 2]]
    """

    def __init__(self, dataset: Any) -> None:
        _refuse(dataset)
        columns = chosen_columns(dataset)
        self._classes = class_names(dataset, columns)
        self._decoding = Decoding()
        given = _examples(dataset, columns)
        first = next(given, None)
        if first is None:
            raise UserError("dataset: it is empty; expected at least one (image, label)")
        self._first = first
        self._examples = chain([first], given)
        self.num_images = None if first.batched else _length(dataset)

    def first(self, decoding: Decoding) -> HostImages:
        """Return the first image, [1, H, W, 3], whose shape and type are those of all.

        Args:
            decoding: how PIL images are resized, here and from now on.

        Raises:
            UserError: it is no image.
        """
        self._decoding = decoding
        return pixels_of(self._first.image, decoding, "image 0")[None]

    def batches(self, batch_size: int, model: ModelClasses) -> Iterator[Batch]:
        """Return the images in batches of `batch_size`, once.

        Args:
            batch_size: images per batch; the last may have fewer.
            model: the classes that labels must fit. Where both the model and the dataset name
                their classes, they are matched by name.

        Raises:
            UserError: the classes are not the model's; and on the way, what is wrong with an item.
        """
        numbers = None
        if self._classes is not None:
            indices = numbered(self._classes, model).indices
            numbers = [indices[name] for name in self._classes]
        return self._batches(batch_size, numbers, model.num_classes)

    def _batches(
        self, batch_size: int, numbers: list[int] | None, num_classes: int | None
    ) -> Iterator[Batch]:
        like = self.first(self._decoding)[0]
        pixels = np.empty((batch_size, *like.shape), like.dtype)
        labels: list[int] = []
        start = 0
        for position, given in enumerate(self._examples):
            where = f"image {position}"
            found = pixels_of(given.image, self._decoding, where)
            _require_alike(found, like, where)
            pixels[len(labels)] = found
            where = f"the label of {where}"
            number = class_index(given.label, where)
            labels.append(_in_model(number, numbers, num_classes, where))
            if len(labels) == batch_size:
                yield _batch(start, pixels, labels)
                # A new buffer each time: the caller keeps the one it was given.
                pixels, labels, start = np.empty_like(pixels), [], position + 1
        if labels:
            yield _batch(start, pixels, labels)


def _batch(start: int, pixels: np.ndarray, labels: list[int]) -> Batch:
    indices = np.arange(start, start + len(labels), dtype=np.int32)
    return Batch(indices, pixels[: len(labels)], np.array(labels, np.int32), ())


def _require_alike(found: np.ndarray, like: np.ndarray, where: str) -> None:
    if found.dtype != like.dtype:
        raise UserError(
            f"{where} is {found.dtype}, and those before it {like.dtype}: give all of one type"
        )
    if found.shape != like.shape:
        raise UserError(
            f"{where} is {found.shape[0]} × {found.shape[1]} pixels, and those before it "
            f"{like.shape[0]} × {like.shape[1]}: resize all to one size in the dataset's "
            "transforms, or give PIL images, which are resized here"
        )


# --- Items ---------------------------------------------------------------------------------------


def _refuse(dataset: Any) -> None:
    """Refuse what is no dataset, or several."""
    if isinstance(dataset, Mapping):
        names = ", ".join(map(str, dataset))[:80]
        first = next(iter(dataset), "test")
        raise UserError(
            f"dataset: {described(dataset)} of the splits {names}: give one of them, "
            f"dataset[{first!r}]"
        )
    if not hasattr(dataset, "__iter__") and not hasattr(dataset, "__len__"):
        raise UserError(
            f"dataset: {described(dataset)} has __getitem__ and no __len__: give it one, or give "
            "an iterator of (image, label)"
        )


def _examples(dataset: Any, columns: tuple[str, str] | None) -> Iterator[Example]:
    for number, item in enumerate(_items(dataset)):
        yield from examples(item, columns, f"item {number} of the dataset")


def _items(dataset: Any) -> Iterator[Any]:
    """Yield what a dataset holds; what it raises is one line with the position."""
    number = 0
    by_position = not hasattr(dataset, "__iter__")
    try:
        for item in (dataset[i] for i in range(len(dataset))) if by_position else dataset:
            yield item
            number += 1
    except Exception as error:  # of the user's dataset
        raise UserError(f"dataset: item {number} cannot be read ({what_raised(error)})") from error


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except Exception:  # of the user's dataset; of a generator TypeError
        return None


# --- The columns and classes that a Hugging Face dataset declares --------------------------------


def chosen_columns(dataset: Any) -> tuple[str, str] | None:
    """Return the names of a Hugging Face dataset's image and label; None of any other.

    Args:
        dataset: any; the first image column and class label of its features, else by their names.

    Raises:
        UserError: there is none, or several and none that bears the usual name.
    """
    features = getattr(dataset, "features", None)
    if features is None or not comes_from(dataset, "datasets"):
        return None
    image = _column(features, "Image", IMAGE_NAMES, "cast_column(…, datasets.Image()) makes one")
    label = _column(features, "ClassLabel", LABEL_NAMES, "rename_column(…, 'label') names one")
    if getattr(features[image], "decode", True) is False:
        raise UserError(
            f"dataset: its images are not decoded: dataset.cast_column({image!r}, datasets.Image())"
        )
    return image, label


def _column(features: Mapping[str, Any], kind: str, names: tuple[str, ...], mend: str) -> str:
    found = [name for name, feature in features.items() if type(feature).__name__ == kind]
    if len(found) == 1:
        return found[0]
    usual = [name for name in names if name in (found or features)]
    if usual:
        return usual[0]
    held = ", ".join(map(str, found or features))[:100]
    if found:
        raise UserError(
            f"dataset: it has {len(found)} columns of {kind} ({held}): rename_column(…, "
            f"{names[0]!r}) names the one that is meant"
        )
    raise UserError(f"dataset: none of its columns ({held}) is its {names[0]}: {mend}")


def class_names(dataset: Any, columns: tuple[str, str] | None) -> tuple[str, ...] | None:
    """Return the names of the classes that a dataset's labels count, where it declares them."""
    names = getattr(dataset.features[columns[1]], "names", None) if columns else None
    return None if names is None else tuple(map(str, names))


def numbered(names: tuple[str, ...], model: ModelClasses, by: LabelBy = "auto") -> LabelSpace:
    """Give each class of a dataset that names its own its index in the model.

    Args:
        names: the dataset's own, in the order of its numbers.
        model: the classes they must fit.
        by: as for `numbered_space`.

    Raises:
        UserError: they are not the model's classes.

    Example:
        >>> numbered(("normal", "ill"), ModelClasses(2, ("Ill", "Normal"))).indices
        {'ill': 0, 'normal': 1}
    """
    mend = (
        "; where its numbers are the model's own, dataset.cast_column(…, datasets.Value('int64')) "
        "leaves the names out"
    )
    try:
        space = numbered_space(names, model, noun="label", source="the dataset", by=by)
    except UserError as error:
        fault = str(error).partition("; ")[0]  # the mend after it is of a command's flags
        raise UserError(f"{fault}{mend}") from error
    if model.num_classes not in (None, space.num_classes):
        raise UserError(
            f"the dataset names {len(names)} classes, and the model has {model.num_classes}: give "
            f"one that was trained on them{mend}"
        )
    return space


def _in_model(number: int, numbers: list[int] | None, count: int | None, where: str) -> int:
    """Return a label as the model counts its classes."""
    most = len(numbers) if numbers is not None else count
    if number < 0 or (most is not None and number >= most):
        whose = "the model" if numbers is None else "the dataset"
        raise UserError(f"{where} is {number}; {whose} has classes 0 to {(most or 0) - 1}")
    return number if numbers is None else numbers[number]
