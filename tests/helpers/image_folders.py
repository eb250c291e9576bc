"""Small folders of images, opened as the commands open them, and what is said of bad ones."""

import itertools
import os
from pathlib import Path

import pytest
from PIL import Image

from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig
from gaxjax.data.image_set import ImageSet
from gaxjax.data.sources import open_images

TEST_DATA = os.environ.get("GAXJAX_TEST_DATA")
needs_data = pytest.mark.skipif(not TEST_DATA, reason="needs images under $GAXJAX_TEST_DATA")


def paint(path: Path, value: int = 0) -> Path:
    """Write a small image, all of one grey value so that a test can tell it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (value, value, value)).save(path)
    return path


def tree(root: Path, **classes: int) -> Path:
    """Write class folders with so many images each."""
    value = itertools.count()
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            paint(root / name / f"{i:03d}.png", next(value))
    return root


def xrays(root: Path, **splits: dict[str, int]) -> Path:
    """Write split folders of class folders with so many images each, all different."""
    for value, (split, classes) in enumerate(splits.items()):
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                paint(root / split / name / f"{i:03d}.png", 40 * value + i)
    return root


def manifest(folder: Path, text: str) -> Path:
    """Write a CSV file of images."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "images.csv"
    path.write_text(text, encoding="utf-8")
    return path


def opened(data: object, num_classes: int | None = None, **settings: object) -> ImageSet:
    settings = {"size": 8, **settings}
    return open_images(DataConfig(data=str(data), **settings), num_classes=num_classes)


def labels_of(images: ImageSet) -> list[tuple[str, int, str]]:
    return [(record.image_id, record.label, record.label_name) for record in images.records]


def complaint(data: object, num_classes: int | None = None, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        opened(data, num_classes, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_says(message: str, *parts: object) -> None:
    for part in parts:
        assert str(part) in message, f"{part!r} is not in {message!r}"
