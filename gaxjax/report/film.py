"""One image's way through its optimisation, from stored snapshots, for window and page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Float

from gaxjax.common import AnyPath, UserError
from gaxjax.config import GaxRunConfig, Operation, as_text, from_text
from gaxjax.data import HostImage, find_image
from gaxjax.report.pictures import heatmap_picture, image_picture, robust_limit
from gaxjax.report.sampling import rounded, spread, thinned
from gaxjax.results import (
    Run,
    RunImages,
    images_of,
    open_run,
    read_snapshot_about,
    read_snapshot_heatmaps,
)

__all__ = [
    "MOST_IMAGES",
    "MOST_STEPS",
    "Film",
    "Frame",
    "evolutions",
    "left_out",
    "read_film",
    "read_frames",
    "snapshots_of",
    "spread_snapshots",
]

MOST_IMAGES, MOST_STEPS = 16, 12
"""Of a page: an image's steps take up to half a megabyte."""

_MOST_FRAMES = 200  # of a window or an animation
_EVOLUTION_SIZE = 160  # height and width of the page's pictures, in pixels


@dataclass(frozen=True)
class Frame:
    """One snapshot.

    Attributes:
        step: updates behind it.
        co_score: verified.
        heatmap: [H, W, 3], float32 in [-1, 1].
        top: number, name and probability of the augmented image's most probable classes.
    """

    step: int
    co_score: float
    heatmap: Float[np.ndarray, "H W 3"]
    top: tuple[tuple[int, str, float], ...]


@dataclass(frozen=True)
class Film:
    """One image's way, as a window, an animation or the page shows it.

    Attributes:
        image_id: the image's.
        label: its groundtruth class.
        label_name: that class's name, or its number.
        image: uint8 [H, W, 3], None where its file is gone.
        operation: how the heatmap meets it.
        target: the CO score aimed at.
        probability_before: of the groundtruth class, without a heatmap.
        curve: scores after t updates, as measured while optimising.
        frames: snapshots by step; the stored heatmap alone where there are none.
        final: place of the stored heatmap among the frames.
        num_snapshots: how many there are, of which the frames may be some.
        notes: lines for the user, on what cannot be shown.
    """

    image_id: str
    label: int
    label_name: str
    image: HostImage | None
    operation: Operation
    target: float
    probability_before: float | None
    curve: Float[np.ndarray, " T"]
    frames: tuple[Frame, ...]
    final: int
    num_snapshots: int
    notes: tuple[str, ...] = ()


# --- Reading -------------------------------------------------------------------------------------


def snapshots_of(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Return the snapshots' rows by image, each in the order of its steps; {} where none were kept.

    An image whose stored step has none is left out: its row was computed anew since.

    Raises:
        UserError: they are damaged.
    """
    if run.snapshots is None:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in run.snapshots.to_pylist():
        found.setdefault(row["image_id"], []).append(row)
    steps = dict(
        zip(run.scores["image_id"].to_pylist(), run.scores["steps"].to_pylist(), strict=True)
    )
    return {
        image_id: rows
        for image_id, rows in found.items()
        if steps.get(image_id) in [row["step"] for row in rows]
    }


def spread_snapshots(
    snapshots: Sequence[dict[str, Any]], final: int, count: int
) -> list[dict[str, Any]]:
    """Take at most so many of an image's snapshots, evenly, and that of its stored step."""
    if count >= len(snapshots):
        return list(snapshots)
    stored = next(row for row in snapshots if row["step"] == final)
    kept = spread([row for row in snapshots if row is not stored], count - 1)
    return sorted([*kept, stored], key=lambda row: row["step"])


def read_frames(run: Run, snapshots: Sequence[dict[str, Any]]) -> tuple[Frame, ...]:
    """Read the heatmaps of some rows of `snapshots_of`.

    Raises:
        UserError: one is missing or damaged.
    """
    heatmaps = read_snapshot_heatmaps(run.path, [row["row"] for row in snapshots])
    return tuple(
        Frame(
            row["step"],
            row["co_score"],
            heatmap.astype(np.float32),
            tuple(
                (number, run.class_name(number), probability)
                for number, probability in zip(
                    row["top_classes"], row["top_probabilities"], strict=True
                )
            ),
        )
        for row, heatmap in zip(snapshots, heatmaps, strict=True)
    )


def read_film(
    path: AnyPath, image: str, *, data: str | None = None, setting: str | None = None
) -> Film:
    """Read one image's snapshots, or its final heatmap where it has none.

    Args:
        path: folder of a GAX run.
        image: the image's id, or an ending that only one image has.
        data: where the run's images are now, if they were moved.
        setting: of a sweep, as in the rows: `learning-rate=0.1`.

    Raises:
        UserError: no such image or setting, or several; it has no heatmap; the run is not of
            `gaxjax gax`; something is missing or damaged.
    """
    run = open_run(path, data=data)
    run.require_scores()
    if not isinstance(run.config, GaxRunConfig):
        raise UserError(f"{path} is a run of gaxjax ax: view shows GAX runs")
    if setting is not None:
        setting = as_text(from_text(setting))
    if setting not in run.methods:
        given = "several settings" if setting is None else f"no setting {setting}"
        known = "; ".join(filter(None, run.methods)) or "one alone, without a sweep"
        raise UserError(f"{path} has {given}: choose one by --setting ({known})")
    scores = run.scores if setting is None else run.scores.filter(pc.field("setting") == setting)
    image_id = find_image(image, scores["image_id"].to_pylist(), path)
    (row,) = scores.filter(pc.equal(scores["image_id"], image_id)).to_pylist()
    snapshots = snapshots_of(run).get(image_id, [])
    if not snapshots and row["heatmap_row"] is None:
        raise UserError(_no_heatmap(run, row))
    load, note = images_of(run)
    pixels = load(image_id)
    if pixels is None and note is None:
        note = f"{image_id} can no longer be read"
    film = _film(run, row, snapshots, pixels, _MOST_FRAMES)
    notes = [note] if note else []
    if not snapshots:
        notes.append(_why_none(run, image_id))
    elif len(film.frames) < len(snapshots):
        notes.append(f"{len(film.frames)} of its {len(snapshots):,} snapshots are shown")
    return replace(film, notes=tuple(notes))


def _film(
    run: Run,
    row: dict[str, Any],
    snapshots: Sequence[dict[str, Any]],
    pixels: HostImage | None,
    most: int,
) -> Film:
    """Put together an image's row and at most so many of its snapshots, or its stored heatmap."""
    if snapshots:
        frames = read_frames(run, spread_snapshots(snapshots, row["steps"], most))
    else:
        (heatmap,) = run.heatmaps([row["heatmap_row"]])
        top = (row["label"], run.class_name(row["label"]), row["probability_after"])
        frames = (Frame(row["steps"], row["co_score"], heatmap, (top,)),)
    target = run.target_of(row["setting"])
    assert target is not None, "only GAX has films"
    return Film(
        row["image_id"],
        row["label"],
        run.class_name(row["label"]),
        pixels,
        row["operation"],
        target,
        row["probability_before"],
        np.array(row["curve"], np.float32),
        frames,
        [frame.step for frame in frames].index(row["steps"]),
        len(snapshots),
    )


def _no_heatmap(run: Run, row: dict[str, Any]) -> str:
    if row["steps"] is None or run.keeps_heatmaps:
        return f"{row['image_id']} has no heatmap in {run.path} (outcome {row['outcome']})"
    return (
        f"{run.path} keeps no heatmaps (--heatmaps none): give its command again with "
        f"--snapshot-images {shlex.quote(row['image_id'])} to have those of {row['image_id']}"
    )


def _why_none(run: Run, image_id: str) -> str:
    if run.settings:
        return f"a sweep keeps no snapshots, so this is the final heatmap of {image_id}"
    reason = (
        None
        if run.snapshots is None
        else read_snapshot_about(run.snapshots)["left_out"].get(image_id)
    )
    if reason:
        return f"{image_id} has no snapshots, as {reason}: this is its final heatmap"
    return (
        f"{image_id} has no snapshots, so this is its final heatmap: give the run's command again "
        f"with --snapshot-images {shlex.quote(image_id)} to have them"
    )


def left_out(run: Run) -> list[str]:
    """Return a line for each image whose snapshots were wanted and could not be kept."""
    if run.snapshots is None:
        return []
    missing = read_snapshot_about(run.snapshots)["left_out"]
    return [f"No snapshots of {image_id}: {reason}" for image_id, reason in missing.items()]


# --- The page's viewer ---------------------------------------------------------------------------


def evolutions(run: Run, load: RunImages, number: int, most: int) -> list[dict[str, Any]]:
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
    order = sorted(rows, key=lambda image: (-rows[image]["steps"], image))
    return [
        _evolution(_film(run, rows[image], snapshots[image], load(image), MOST_STEPS), number)
        for image in spread(order, most)
    ]


def _evolution(film: Film, number: int) -> dict[str, Any]:
    scale = max(robust_limit(frame.heatmap) for frame in film.frames)
    stored = film.frames[film.final].step
    return {
        "run": number,
        "name": film.image_id,
        "label": film.label_name,
        "operation": film.operation,
        "before": rounded(film.probability_before),
        "image": None if film.image is None else image_picture(film.image, _EVOLUTION_SIZE),
        "taken": film.num_snapshots,
        "stored": stored,
        "curve": thinned(film.curve.tolist(), stored),
        "steps": [
            _step(frame, earlier, scale)
            for frame, earlier in zip(film.frames, (None, *film.frames), strict=False)
        ],
    }


def _step(frame: Frame, earlier: Frame | None, scale: float) -> dict[str, Any]:
    change = None if earlier is None else frame.heatmap - earlier.heatmap
    return {
        "step": frame.step,
        "score": rounded(frame.co_score),
        "top": [[name, rounded(probability)] for _, name, probability in frame.top],
        "heatmap": heatmap_picture(frame.heatmap, _EVOLUTION_SIZE, scale=scale),
        "change": None
        if change is None
        else heatmap_picture(change.mean(-1, keepdims=True), _EVOLUTION_SIZE),
    }
