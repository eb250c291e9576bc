"""The images of a stored run, opened again."""

import dataclasses
from typing import Any

from gaxjax.common import UserError
from gaxjax.config import DataConfig
from gaxjax.data import ImageSet, ModelClasses, dataset_images, reopen_images
from gaxjax.results.image_list import changes_since
from gaxjax.results.stored_run import Run

__all__ = ["own_images"]


def own_images(run: Run, config: DataConfig, num_classes: int, dataset: Any = None) -> ImageSet:
    """Open a run's images where they are now, those that are as they were.

    Args:
        run: the run.
        config: the run's, with the place where the images are now.
        num_classes: of its model.
        dataset: that the run was over, in place of files.

    Returns:
        The images; a note of theirs says what has changed.

    Raises:
        UserError: they are other images than the run's.
    """
    there = run.header["data"]["fingerprint"]
    classes = {**run.classes, "num_classes": num_classes}
    if dataset is None:
        images = reopen_images(config, there, **classes)
    else:
        names = classes["class_names"]
        model = ModelClasses(num_classes, None if names is None else tuple(names))
        images = dataset_images(dataset, config, model)
    changes = changes_since(run.path, run.header, images, run.header["config"])
    if changes is not None:
        note = f"images are not as the run had them: {changes}"
        images = dataclasses.replace(changes.before, notes=(*changes.before.notes, note))
    if images.fingerprint != there:
        raise UserError(
            f"{run.path} was made with other images: {run.header['data']['name']} {there[:16]} "
            f"there, {images.name} {images.fingerprint[:16]} here ({config.data}); give the run's "
            "own by --data"
        )
    return images
