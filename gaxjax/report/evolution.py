"""Heatmaps along the way, for the page's viewer; most runs keep none."""

from typing import Any

import numpy as np

from gaxjax.errors import UserError
from gaxjax.report.gallery import rounded, spread
from gaxjax.report.pictures import heatmap_picture, image_picture
from gaxjax.report.runs import Images, StoredRun
from gaxjax.snapshots import (
    has_snapshots,
    read_class_names,
    read_snapshot_heatmaps,
    read_snapshots,
    read_summary,
)

__all__ = ["evolutions", "left_out"]

SIZE = 160
"""Height and width of the viewer's pictures, in pixels."""

MOST_IMAGES, MOST_STEPS = 8, 16


def evolutions(run: StoredRun, load: Images, number: int) -> list[dict[str, Any]]:
    """Return what the viewer shows of a run, ready for JSON: at most so many images and steps.

    Images are spread from the fewest to the most steps. A step's `change` is what came to the
    heatmap since the step shown before it.

    Args:
        run: the run.
        load: its images.
        number: of the run in the page.

    Raises:
        UserError: the snapshots are damaged.
    """
    if not has_snapshots(run.path):
        return []
    snapshots: dict[str, list[dict[str, Any]]] = {}
    for snapshot in read_snapshots(run.path).to_pylist():
        snapshots.setdefault(snapshot["image_id"], []).append(snapshot)
    names = read_class_names(run.path)
    order = sorted(snapshots, key=lambda image: (snapshots[image][-1]["step"], image))
    rows = {row["image_id"]: row for row in run.scores.to_pylist() if row["image_id"] in snapshots}
    found = []
    for image_id in spread(order, MOST_IMAGES):
        row = rows.get(image_id)
        if row is None:
            continue  # the run was begun anew since
        shown = spread(snapshots[image_id], MOST_STEPS)
        heatmaps = _heatmaps(run, [snapshot["row"] for snapshot in shown])
        pixels = load(image_id)
        found.append(
            {
                "run": number,
                "name": image_id,
                "label": names.get(row["label"]) or run.class_name(row["label"]),
                "operation": row["operation"],
                "before": rounded(row["probability_before"]),
                "image": None if pixels is None else image_picture(pixels, SIZE),
                "taken": len(snapshots[image_id]),
                "steps": [
                    _step(run, names, shown[i], heatmaps[i], heatmaps[i - 1] if i else None)
                    for i in range(len(shown))
                ],
            }
        )
    return found


def _step(
    run: StoredRun,
    names: dict[int, str],
    snapshot: dict[str, Any],
    heatmap: np.ndarray,
    earlier: np.ndarray | None,
) -> dict[str, Any]:
    top = zip(snapshot["top_classes"], snapshot["top_probabilities"], strict=True)
    return {
        "step": snapshot["step"],
        "score": rounded(snapshot["co_score"]),
        "top": [[names.get(index) or run.class_name(index), rounded(p)] for index, p in top],
        "heatmap": heatmap_picture(heatmap, SIZE),
        "change": None if earlier is None else heatmap_picture(heatmap - earlier, SIZE),
    }


def _heatmaps(run: StoredRun, rows: list[int]) -> np.ndarray:
    found = read_snapshot_heatmaps(run.path, rows).astype(np.float32)
    if not np.isfinite(found).all():
        raise UserError(
            f"{run.path}/snapshots.zarr is damaged (a snapshot is missing): delete it with "
            "snapshots.parquet and give the run's command again"
        )
    return found


def left_out(run: StoredRun) -> list[str]:
    """Return a line for each image whose snapshots were wanted and could not be kept."""
    if not has_snapshots(run.path):
        return []
    missing = read_summary(run.path).left_out
    return [f"No snapshots of {image_id}: {reason}" for image_id, reason in missing.items()]
