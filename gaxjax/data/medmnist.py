"""MedMNIST's two-dimensional sets: one .npz file with six arrays (https://medmnist.com).

    {train,val,test}_images   uint8 [N, H, W], or [N, H, W, 3] in colour
    {train,val,test}_labels   integer [N, 1]

The file brings its split along. PneumoniaMNIST is the chest X-rays of Kermany et al. (2018), made
small: https://doi.org/10.1038/s41597-022-01721-8.
"""

import dataclasses
import math
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Integer
from PIL import Image

from gaxjax.common import UserError
from gaxjax.config import DataConfig
from gaxjax.data.decode import HostImage, fit
from gaxjax.data.image_set import ImageSet, image_set
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.label_space import LabelBy, numbered_space
from gaxjax.data.selection import SPLITS, chosen_split

_T = TypeVar("_T")

_CLASS_NAMES = {"pneumoniamnist": ("normal", "pneumonia")}
_ARRAYS = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))
_MOST_CLASSES = 1000  # the largest set has 11; anything beyond this is no class index


def open_medmnist(path: Path, config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    """Open one split of a MedMNIST file; the pixels are read when the first image is decoded.

    Image ids are the split and the position in it, such as `test/0007`. Labels are numbers, and
    named in PneumoniaMNIST alone (normal, pneumonia). Grey images get three equal channels.

    Args:
        path: the .npz file, which exists.
        config: the split and the decode settings.
        model: the classes that the labels must fit.
        by: how labels are read.

    Returns:
        The split's image set. Its `load` raises UserError where the file's pixels are damaged,
        because then no image can be read.

    Raises:
        UserError: no MedMNIST file, a set with several labels per image or with volumes, no split
            chosen, or another class count than the model's.

    Example:
        >>> config = DataConfig(data="pneumoniamnist.npz", split="test")
        >>> path = Path("pneumoniamnist.npz")
        >>> open_medmnist(path, config, ModelClasses(2), "auto").name  # doctest: +SKIP
        '624 images of pneumoniamnist.npz, split test'
    """
    _require_arrays(path)
    split = chosen_split(config, SPLITS)
    labels = {name: _read_labels(path, name) for name in SPLITS}
    shape = _read_image_shape(path, split)
    if shape[0] != len(labels[split]):
        raise _foreign(path, f"{shape[0]} {split} images, but {len(labels[split])} labels")
    names = _class_names(path, 1 + max(int(each.max()) for each in labels.values()), model)
    space = numbered_space(names, model, noun="label", source=path.name, by=by)
    width = max(4, len(str(shape[0] - 1)))  # so that the ids sort in the file's order
    labelled = [
        (f"{split}/{position:0{width}d}", names[label])
        for position, label in enumerate(labels[split])
    ]
    pixels = _read_once(path, f"{split}_images")
    settings = dataclasses.asdict(config.decoding)

    def read(image_id: str) -> HostImage:
        image = Image.fromarray(pixels()[int(image_id.rpartition("/")[2])])
        return fit(image.convert("RGB"), **settings)

    return image_set(
        labelled,
        space,
        config,
        read=read,
        sizes=lambda ids: np.full(len(ids), math.prod(shape[1:]), np.int64),
        arrangement=f"of {path.name}, split {split}",
    )


def _class_names(path: Path, count: int, model: ModelClasses) -> tuple[str, ...]:
    """Name the classes of a file whose labels go up to `count - 1`."""
    names = tuple(str(index) for index in range(count))
    for name, known in _CLASS_NAMES.items():
        if path.name.lower().startswith(name) and count <= len(known):
            names = known
    if model.num_classes not in (None, len(names)):
        raise UserError(
            f"--data {path} has {len(names)} classes, but the model has {model.num_classes}; give "
            "a model trained on this set"
        )
    return names


# --- The file ------------------------------------------------------------------------------------


def _require_arrays(path: Path) -> None:
    def members() -> list[str]:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()

    present = [name.removesuffix(".npy") for name in _trying(path, members)]
    missing = [name for name in _ARRAYS if name not in present]
    if missing:
        found = ", ".join(present)[:80] or "nothing"
        raise _foreign(path, f"no array {missing[0]}, found {found}")


def _read_labels(path: Path, split: str) -> Integer[np.ndarray, " N"]:
    """Read a split's class indices, which are at least 0."""
    labels = _read_array(path, f"{split}_labels")
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise UserError(
            f"{path} gives each image {labels.shape[1]} labels at once; only sets with one class "
            "per image are supported"
        )
    if labels.ndim != 2 or labels.shape[1] != 1 or labels.dtype.kind not in "iu":
        raise _foreign(path, f"{split}_labels is {_kind(labels.dtype, labels.shape)}")
    if not len(labels):
        raise _foreign(path, f"{split}_labels is empty")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= _MOST_CLASSES:
        raise _foreign(path, f"{split}_labels goes from {low} to {high}")
    return labels[:, 0]


def _read_image_shape(path: Path, split: str) -> tuple[int, ...]:
    """Read the shape of a split's images, [N, H, W] or [N, H, W, 3], without the pixels."""
    name = f"{split}_images"

    def header() -> tuple[tuple[int, ...], np.dtype]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(member)
            return shape, dtype

    shape, dtype = _trying(path, header)
    if len(shape) > 4 or (len(shape) == 4 and shape[3] != 3):
        raise UserError(
            f"{path} holds volumes ({name} is {_kind(dtype, shape)}); only two-dimensional sets "
            "are supported"
        )
    if len(shape) not in (3, 4) or dtype != np.uint8 or 0 in shape:
        raise _foreign(path, f"{name} is {_kind(dtype, shape)}")
    return shape


def _read_once(path: Path, name: str) -> Callable[[], np.ndarray]:
    """Return a function that gives an array, read by whichever decoding thread comes first."""
    lock = threading.Lock()
    kept: list[np.ndarray] = []

    def array() -> np.ndarray:
        with lock:
            if not kept:
                kept.append(_read_array(path, name))
            return kept[0]

    return array


def _read_array(path: Path, name: str) -> np.ndarray:
    def read() -> np.ndarray:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
            # The checksum is looked at only when the end is met, where np.load does not go.
            member.read(1)
            return array

    return _trying(path, read)


def _trying(path: Path, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except MemoryError as error:
        raise UserError(
            f"{path} does not fit in memory ({error}); take the set at a smaller size"
        ) from error
    except Exception as error:  # zipfile, zlib and numpy raise many types on a damaged file
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise _foreign(path, reason) from error


def _kind(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    return f"{dtype} {list(shape)}"


def _foreign(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged or no MedMNIST file ({reason}); expected {{train,val,test}}_images "
        "(uint8) and _labels as medmnist.com gives them"
    )
