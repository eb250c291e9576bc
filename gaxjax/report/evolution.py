"""Heatmaps along the way, for the page's viewer; most runs keep none."""

from typing import Any

from gaxjax.report.film import Frame, read_frames, snapshots_of
from gaxjax.report.gallery import rounded, spread
from gaxjax.report.pictures import heatmap_picture, image_picture
from gaxjax.report.runs import Images, StoredRun
from gaxjax.snapshot_store import has_snapshots, read_summary

__all__ = ["evolutions", "left_out"]

SIZE = 160
"""Height and width of the viewer's pictures, in pixels."""

MOST_IMAGES, MOST_STEPS = 24, 16


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
    snapshots = snapshots_of(run)
    rows = {row["image_id"]: row for row in run.scores.to_pylist() if row["image_id"] in snapshots}
    # An image without a row: the run was begun anew since.
    order = sorted(rows, key=lambda image: (snapshots[image][-1]["step"], image))
    found = []
    for image_id in spread(order, MOST_IMAGES):
        row = rows[image_id]
        frames = read_frames(run, spread(snapshots[image_id], MOST_STEPS))
        pixels = load(image_id)
        found.append(
            {
                "run": number,
                "name": image_id,
                "label": run.class_name(row["label"]),
                "operation": row["operation"],
                "before": rounded(row["probability_before"]),
                "image": None if pixels is None else image_picture(pixels, SIZE),
                "taken": len(snapshots[image_id]),
                "steps": [
                    _step(frame, earlier)
                    for frame, earlier in zip(frames, (None, *frames), strict=False)
                ],
            }
        )
    return found


def _step(frame: Frame, earlier: Frame | None) -> dict[str, Any]:
    change = None if earlier is None else heatmap_picture(frame.heatmap - earlier.heatmap, SIZE)
    return {
        "step": frame.step,
        "score": rounded(frame.co_score),
        "top": [[name, rounded(probability)] for _, name, probability in frame.top],
        "heatmap": heatmap_picture(frame.heatmap, SIZE),
        "change": change,
    }


def left_out(run: StoredRun) -> list[str]:
    """Return a line for each image whose snapshots were wanted and could not be kept."""
    if not has_snapshots(run.path):
        return []
    missing = read_summary(run.path).left_out
    return [f"No snapshots of {image_id}: {reason}" for image_id, reason in missing.items()]
