"""The names of a run's classes, from wherever they are known."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa

from gaxjax.results.snapshots import read_snapshot_about

__all__ = ["class_names"]


def class_names(
    scores: pa.Table, snapshots: pa.Table | None, model: str, num_classes: int | None
) -> dict[int, str]:
    """Return the best name of each class that has one: by images' labels, snapshots, checkpoint.

    Args:
        scores: the run's.
        snapshots: its, where it has some.
        model: its name or place, of which a checkpoint has names.
        num_classes: of the model.
    """
    labels = scores.select(["label", "label_name"]).group_by(["label", "label_name"])
    found = {
        row["label"]: row["label_name"]
        for row in labels.aggregate([]).to_pylist()
        if row["label_name"]
    }
    if snapshots is not None:
        names = read_snapshot_about(snapshots)["class_names"]
        found |= {int(index): name for index, name in names.items()}
    found |= _checkpoint_names(model, num_classes)
    counts = Counter(found.values())  # ImageNet has two cranes
    return {
        index: name if counts[name] == 1 else f"{name} ({index})" for index, name in found.items()
    }


def _checkpoint_names(model: str, num_classes: int | None) -> dict[int, str]:
    """Read the class names beside a checkpoint's weights, where they are; they only decorate."""
    try:
        names = json.loads((Path(model) / "gaxjax.json").read_text())["metadata"]["class_names"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    fits = isinstance(names, list) and len(names) == num_classes
    return dict(enumerate(map(str, names))) if fits else {}
