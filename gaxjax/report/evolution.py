"""Heatmaps along the way, for the page's viewer; most runs keep none."""

from typing import Any

import pyarrow.compute as pc

from gaxjax.report.film import Frame, read_frames, snapshots_of, spread_snapshots
from gaxjax.report.pictures import heatmap_picture, image_picture, robust_limit
from gaxjax.report.runs import Images, StoredRun
from gaxjax.report.sampling import rounded, spread, thinned
from gaxjax.snapshot_store import has_snapshots, read_summary

__all__ = ["MOST_IMAGES", "MOST_STEPS", "evolutions", "left_out"]

SIZE = 160
"""Height and width of the viewer's pictures, in pixels."""

MOST_IMAGES, MOST_STEPS = 16, 12
"""Of a page: an image's steps take up to half a megabyte."""


def evolutions(run: StoredRun, load: Images, number: int, most: int) -> list[dict[str, Any]]:
    """Return what the viewer shows of a run, ready for JSON.

    Images are spread from the most to the fewest steps. An image's heatmaps share one scale; a
    step's `change` is what came since the step shown before, as the mean of the channels.

    Args:
        run: the run.
        load: its images.
        number: of the run in the page.
        most: images at most.

    Raises:
        UserError: the snapshots are damaged.
    """
    snapshots = snapshots_of(run)
    if not snapshots:
        return []
    mine = pc.is_in(run.scores["image_id"], pc.cast(list(snapshots), "string"))
    rows = {row["image_id"]: row for row in run.scores.filter(mine).to_pylist()}
    found = []
    order = sorted(rows, key=lambda image: (-rows[image]["steps"], image))
    for image_id in spread(order, most):
        row = rows[image_id]
        frames = read_frames(run, spread_snapshots(snapshots[image_id], row["steps"], MOST_STEPS))
        pixels = load(image_id)
        scale = max(robust_limit(frame.heatmap) for frame in frames)
        found.append(
            {
                "run": number,
                "name": image_id,
                "label": run.class_name(row["label"]),
                "operation": row["operation"],
                "before": rounded(row["probability_before"]),
                "image": None if pixels is None else image_picture(pixels, SIZE),
                "taken": len(snapshots[image_id]),
                "stored": row["steps"],
                "curve": thinned(row["curve"], row["steps"]),
                "steps": [
                    _step(frame, earlier, scale)
                    for frame, earlier in zip(frames, (None, *frames), strict=False)
                ],
            }
        )
    return found


def _step(frame: Frame, earlier: Frame | None, scale: float) -> dict[str, Any]:
    change = None if earlier is None else frame.heatmap - earlier.heatmap
    return {
        "step": frame.step,
        "score": rounded(frame.co_score),
        "top": [[name, rounded(probability)] for _, name, probability in frame.top],
        "heatmap": heatmap_picture(frame.heatmap, SIZE, scale=scale),
        "change": None if change is None else heatmap_picture(change.mean(-1, keepdims=True), SIZE),
    }


def left_out(run: StoredRun) -> list[str]:
    """Return a line for each image whose snapshots were wanted and could not be kept."""
    if not has_snapshots(run.path):
        return []
    missing = read_summary(run.path).left_out
    return [f"No snapshots of {image_id}: {reason}" for image_id, reason in missing.items()]
