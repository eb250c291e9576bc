"""Takes heatmaps along the way: a few images of a finished run, replayed and watched.

A replay is held against the run: what does not go through the stored scores to the stored heatmap
is not kept.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from gaxjax.common import (
    StepProgress,
    UserError,
    in_bytes,
    interruption,
    lock,
    same_bits_at_any_count,
)
from gaxjax.config import GaxRunConfig, SnapshotConfig, to_dict
from gaxjax.data import ImageSet, UnreadableImageError, find_image
from gaxjax.gax import GaxEngine, Replay, Replayed, Watched
from gaxjax.results import (
    SNAPSHOT_ARRAY,
    SNAPSHOT_SCHEMA,
    HeatmapArray,
    SnapshotAbout,
    SnapshotSummary,
    drop_snapshots,
    has_snapshots,
    heatmap_sha256,
    read_heatmaps,
    read_scores,
    read_snapshot_about,
    read_snapshots,
    summarise_snapshots,
    write_snapshots,
)

_NEW = "snapshots.new.zarr"  # until all are there; those of an earlier request stay as long

__all__ = ["describe_disk", "snapshot_steps", "take_snapshots"]

# Where bits are not kept a replay differs in its last ones, which the optimisation amplifies.
_CURVE_TOLERANCE = 0.05  # of the curve's range
_SCORE_TOLERANCE = 1.0  # bfloat16 scores near 100 err by about 0.4
_UNREAD = "it can no longer be read"
_HEATMAP_TOLERANCE = 0.02  # mean difference of the final heatmap, whose values lie in (-1, 1)


class _Stored(NamedTuple):
    """What the run stored of a chosen image."""

    image_id: str
    label: int
    steps: int
    curve: np.ndarray
    heatmap_row: int | None


def snapshot_steps(curve: Float[np.ndarray, " T"], final: int, config: SnapshotConfig) -> list[int]:
    """Return the steps of which an image gets snapshots, ascending.

    Args:
        curve: scores after t updates.
        final: the step of the stored heatmap; before the curve's end where the target was missed.
        config: every how many steps, and at which scores.

    Returns:
        0, `final`, the curve's last step, every multiple of `snapshot_every`, and the first step
        at or above each of `snapshot_scores` that was reached; only steps with a finite score.

    Example:
        >>> snapshot_steps(np.array([0.0, 3.0, 9.0]), 2, SnapshotConfig(snapshot_every=5))
        [0, 2]
    """
    last = len(curve) - 1
    steps = {*range(0, last + 1, config.snapshot_every), final, last}
    for score in config.snapshot_scores:
        steps.update(np.flatnonzero(curve >= score)[:1].tolist())
    return sorted(step for step in steps if np.isfinite(curve[step]))


def describe_disk(config: GaxRunConfig) -> str:
    """Return one line on the disk that a run's snapshots will take: at most, and per 100 steps.

    Of heatmaps before their compression, which saves a little.
    """
    wanted, every = config.snapshots.most_images, config.snapshots.snapshot_every
    count = min(wanted, config.data.num_images or wanted)
    heatmap = 2 * 3 * config.data.decoding.size**2
    longest = config.gax.max_steps
    most = min(longest // every + 3 + len(config.snapshots.snapshot_scores), longest + 1)
    return (
        f"snapshots of {count:,} image{'s' * (count != 1)} take at most "
        f"{in_bytes(count * most * heatmap)} of disk ({longest:,} steps each), "
        f"{in_bytes(count * heatmap * 100 // every)} for every 100 steps"
    )


def take_snapshots(
    engine: GaxEngine, config: SnapshotConfig, images: ImageSet, run: Path
) -> SnapshotSummary:
    """Replay some images that a finished run optimised, and keep heatmaps along the way.

    What an earlier call of the same settings kept stays; that of other settings is replaced. An
    image whose replay does not go the way of the run is left out, and the summary says why.

    Args:
        engine: of the run: its settings and its slots.
        config: which images, and which steps.
        images: the run's.
        run: the run's folder, complete.

    Raises:
        UserError: the folder is in use, or the disk is full; then the run has no snapshots.
    """
    with closing(lock(run)):
        asked = to_dict(config)
        if has_snapshots(run):
            found = read_snapshots(run)
            earlier = read_snapshot_about(found)
            unread = any(_UNREAD in reason for reason in earlier["left_out"].values())
            if earlier["asked"] == asked and not unread:
                return summarise_snapshots(found)
        left_out: dict[str, str] = {}
        chosen = _choose(run, config, left_out)
        watched = _watch(chosen, config, images, left_out)
        about: SnapshotAbout = {
            "asked": asked,
            "left_out": left_out,
            "class_names": {},
            "difference": 0.0,
        }
        return _take(engine, watched, run, about, images)


def _choose(run: Path, config: SnapshotConfig, left_out: dict[str, str]) -> list[_Stored]:
    """Return the first optimised images, in the order of their names, and those asked for."""
    scores = read_scores(run, columns=[*_Stored._fields, "outcome"]).sort_by("image_id")
    image_ids = scores["image_id"].to_pylist()
    optimised = scores.filter(pc.is_valid(scores["steps"]))
    chosen = set(optimised["image_id"].to_pylist()[: config.snapshots])
    chosen |= {find_image(name, image_ids, run) for name in config.snapshot_images}
    found = []
    for row in scores.filter(
        pc.is_in(scores["image_id"], pa.array(sorted(chosen), pa.string()))
    ).to_pylist():
        outcome = row.pop("outcome")
        if row["steps"] is None:
            left_out[row["image_id"]] = f"it was not optimised ({outcome})"
        else:
            found.append(_Stored(**(row | {"curve": np.array(row["curve"], np.float32)})))
    return found


def _watch(
    chosen: list[_Stored], config: SnapshotConfig, images: ImageSet, left_out: dict[str, str]
) -> list[tuple[_Stored, Watched]]:
    """Read the images; those of about the same length come one after the other."""
    positions = {record.image_id: i for i, record in enumerate(images.records)}
    watched = []
    for stored in sorted(chosen, key=lambda stored: len(stored.curve)):
        try:
            image = images.load(positions[stored.image_id])
        except UnreadableImageError as error:
            left_out[stored.image_id] = f"{_UNREAD} ({error})"
            continue
        steps = snapshot_steps(stored.curve, stored.steps, config)
        last = len(stored.curve) - 1
        watched.append((stored, Watched(image, stored.label, last, stored.steps, steps)))
    return watched


def _take(
    engine: GaxEngine,
    watched: list[tuple[_Stored, Watched]],
    run: Path,
    about: SnapshotAbout,
    images: ImageSet,
) -> SnapshotSummary:
    """Replay, check and write the images, a few at a time; the table comes last."""
    exactly = engine.devices[0].platform == "cpu" and same_bits_at_any_count(engine.devices[0])
    replay = Replay(engine.objective, engine.devices[0], engine.slots, engine.heatmap_dtype)
    groups = [
        watched[start : start + replay.num_lanes]
        for start in range(0, len(watched), replay.num_lanes)
    ]
    total = sum(group[-1][1].last + 1 for group in groups)
    array = HeatmapArray(
        run / _NEW,
        num_shards=max(1, len(watched)),
        rows_per_shard=max((len(one.steps) for _, one in watched), default=1),
        image_shape=(images.size, images.size, 3),
        dtype="float16",
    )
    columns: dict[str, list[Any]] = {name: [] for name in SNAPSHOT_SCHEMA.names}
    differences, done = [0.0], 0
    with _writing():
        shutil.rmtree(run / _NEW, ignore_errors=True)
        array.create()
    shards = count()
    with StepProgress("Snapshots", total, "steps") as progress:

        def advance() -> None:
            nonlocal done
            interruption.check()
            done += 1
            progress.advance(done, f"{len(watched)} images")

        for group in groups:
            found = replay.run([one for _, one in group], advance)
            for (stored, one), replayed in zip(group, found, strict=True):
                reason = _departure(stored, replayed, run, exactly=exactly)
                if reason:
                    about["left_out"][stored.image_id] = reason
                    continue
                differences.append(_difference(stored.curve, replayed.curve))
                with _writing():
                    shard = next(shards)
                    array.write_shard(shard, replayed.heatmaps)
                seen = replay.see(one, replayed)
                first = array.first_row(shard)
                columns["image_id"] += [stored.image_id] * len(one.steps)
                columns["step"] += one.steps
                columns["row"] += range(first, first + len(one.steps))
                columns["co_score"] += list(seen.co_score)
                columns["top_classes"] += list(seen.classes)
                columns["top_probabilities"] += list(seen.probabilities)
                columns["heatmap_sha256"] += map(heatmap_sha256, replayed.heatmaps)
    names = engine.objective.classifier.class_names or images.label_names or ()
    shown = {int(number) for classes in columns["top_classes"] for number in classes}
    shown |= {one.label for _, one in watched}
    about["class_names"] = {str(number): names[number] for number in sorted(shown) if names}
    about["difference"] = max(differences)
    table = pa.table(columns, schema=SNAPSHOT_SCHEMA)
    table = table.sort_by([("image_id", "ascending"), ("step", "ascending")])
    with _writing():
        drop_snapshots(run)
        (run / _NEW).rename(run / SNAPSHOT_ARRAY)
        table = write_snapshots(run, table, about)
    return summarise_snapshots(table)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # TensorStore says ValueError for a full disk
        raise UserError(
            f"could not write snapshots ({str(error).splitlines()[0]}): the run's results are "
            "safe; mend it and give the same command again"
        ) from error


def _departure(stored: _Stored, found: Replayed, run: Path, *, exactly: bool) -> str | None:
    """Return in which way a replay is not the run's, or None."""
    if not np.array_equal(stored.curve, found.curve, equal_nan=True):
        difference = _difference(stored.curve, found.curve)
        spread = float(np.nanmax(stored.curve) - np.nanmin(stored.curve))
        if exactly or not difference <= max(_SCORE_TOLERANCE, _CURVE_TOLERANCE * spread):
            step = int(np.flatnonzero(stored.curve != found.curve)[0])
            return f"its scores leave the stored ones at step {step}, by up to {difference:.2g}"
    if stored.heatmap_row is None:
        return None
    kept = read_heatmaps(run, [stored.heatmap_row])[0]
    if np.array_equal(kept, found.final):
        return None
    distance = float(np.abs(kept.astype(np.float32) - found.final.astype(np.float32)).mean())
    if exactly or not distance <= _HEATMAP_TOLERANCE:
        return f"its final heatmap is not the stored one (mean difference {distance:.2g})"
    return None


def _difference(a: Float[np.ndarray, " T"], b: Float[np.ndarray, " T"]) -> float:
    """Return the largest difference of two curves; infinite where only one is finite."""
    finite = np.isfinite(a)
    if np.any(finite != np.isfinite(b)):
        return float("inf")
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0))
