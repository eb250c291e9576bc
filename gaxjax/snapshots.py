"""Heatmaps along the way: a few images of a finished run, replayed and watched.

    RUN/
      snapshots.zarr     [rows, H, W, 3], float16, Zarr v3
      snapshots.parquet  one row per snapshot; written last, so that it stands for all of it

A replay is held against the run: what does not go through the stored scores to the stored heatmap
is not kept.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float

from gaxjax import interruption
from gaxjax.config import RunConfig, SnapshotConfig, to_dict
from gaxjax.data import ImageSet, UnreadableImageError
from gaxjax.engine import Engine
from gaxjax.errors import UserError
from gaxjax.folder import lock, replacing
from gaxjax.progress import TrainingProgress
from gaxjax.replay import Replay, Replayed, Watched
from gaxjax.store import open_heatmap_array, read_heatmap_rows, read_heatmaps, read_scores

__all__ = [
    "SCHEMA",
    "SnapshotSummary",
    "describe_disk",
    "has_snapshots",
    "read_class_names",
    "read_snapshot_heatmaps",
    "read_snapshots",
    "read_summary",
    "snapshot_steps",
    "take_snapshots",
]

_TABLE, _ARRAY = "snapshots.parquet", "snapshots.zarr"
_ABOUT = b"gaxjax"  # key of the table's metadata: what was asked for, and what is missing

# Off the CPU a replay differs in its last bits, which the optimisation amplifies.
_CURVE_TOLERANCE = 0.05  # of the curve's range
_SCORE_TOLERANCE = 1.0  # bfloat16 scores near 100 err by about 0.4
_HEATMAP_TOLERANCE = 0.02  # mean difference of the final heatmap, whose values lie in (-1, 1)

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("co_score", pa.float32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("top_classes", pa.list_(pa.int32()), nullable=False),
        pa.field("top_probabilities", pa.list_(pa.float32()), nullable=False),
    ]
)
"""One row per snapshot, by image and step: the heatmap after `step` updates lies at `row` of
snapshots.zarr, and `co_score` is verified, in float32, of the heatmap as it lies there. The
classes are the most probable ones of the augmented image, up to five; probabilities in [0, 1]."""


@dataclass(frozen=True)
class SnapshotSummary:
    """Which snapshots a run has.

    Attributes:
        image_ids: images that have some, in order.
        rows: snapshots in all.
        left_out: why a chosen image has none, by its id.
        difference: largest difference between a replayed and a stored curve, as a CO score; 0 on
            a CPU.
    """

    image_ids: tuple[str, ...]
    rows: int
    left_out: dict[str, str]
    difference: float


class _Stored(NamedTuple):
    """What the run stored of a chosen image."""

    image_id: str
    label: int
    steps: int
    curve: np.ndarray
    heatmap_row: int | None


# -- before the run -----------------------------------------------------------------------------


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


def describe_disk(config: RunConfig) -> str:
    """Return one line on the disk that a run's snapshots will take: at most, and per 100 steps.

    Of heatmaps before their compression, which saves a little.
    """
    wanted, every = config.snapshots.snapshots, config.snapshots.snapshot_every
    count = min(wanted, config.data.num_images or wanted)
    heatmap = 2 * 3 * config.data.size**2
    longest = config.gax.max_steps
    most = min(longest // every + 3 + len(config.snapshots.snapshot_scores), longest + 1)
    return (
        f"snapshots of {count:,} image{'s' * (count != 1)} take at most "
        f"{_in_bytes(count * most * heatmap)} of disk ({longest:,} steps each), "
        f"{_in_bytes(count * heatmap * 100 // every)} for every 100 steps"
    )


# -- after the run ------------------------------------------------------------------------------


def take_snapshots(
    engine: Engine, config: SnapshotConfig, images: ImageSet, run: Path
) -> SnapshotSummary:
    """Replay the first images that a finished run optimised, and keep heatmaps along the way.

    What an earlier call of the same settings kept stays; that of other settings is replaced. An
    image whose replay does not go the way of the run is left out, and the summary says why.

    Args:
        engine: of the run: its settings and its slots.
        config: how many images, and which steps.
        images: the run's.
        run: the run's folder, complete.

    Raises:
        UserError: the folder is in use, or the disk is full; then the run has no snapshots.
    """
    with closing(lock(run)):
        asked = to_dict(config)
        if has_snapshots(run):
            found = read_snapshots(run)
            if _about(found)["asked"] == asked:
                return _summary(found)
        (run / _TABLE).unlink(missing_ok=True)
        shutil.rmtree(run / _ARRAY, ignore_errors=True)
        chosen = _choose(run, config.snapshots)
        left_out: dict[str, str] = {}
        watched = _watch(chosen, config, images, left_out)
        return _take(engine, watched, run, {"asked": asked, "left_out": left_out}, images)


def _choose(run: Path, count: int) -> list[_Stored]:
    """Return the first images with a heatmap, in the order of their names."""
    scores = read_scores(run, columns=_Stored._fields)
    scores = scores.filter(pc.is_valid(scores["steps"])).sort_by("image_id")
    return [
        _Stored(**(row | {"curve": np.array(row["curve"], np.float32)}))
        for row in scores.slice(0, count).to_pylist()
    ]


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
            left_out[stored.image_id] = f"it can no longer be read ({error})"
            continue
        steps = snapshot_steps(stored.curve, stored.steps, config)
        last = len(stored.curve) - 1
        watched.append((stored, Watched(image, stored.label, last, stored.steps, steps)))
    return watched


def _take(
    engine: Engine,
    watched: list[tuple[_Stored, Watched]],
    run: Path,
    about: dict[str, Any],
    images: ImageSet,
) -> SnapshotSummary:
    """Replay, check and write the images, a few at a time; the table comes last."""
    on_cpu = engine.devices[0].platform == "cpu"
    replay = Replay(engine)
    groups = [
        watched[start : start + replay.num_lanes]
        for start in range(0, len(watched), replay.num_lanes)
    ]
    total = sum(group[-1][1].last + 1 for group in groups)
    rows = sum(len(one.steps) for _, one in watched)
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    differences, done, array = [0.0], 0, None
    with TrainingProgress("Snapshots", total, "steps") as progress:

        def advance() -> None:
            nonlocal done
            interruption.check()
            done += 1
            progress.advance(done, f"{len(watched)} images")

        for group in groups:
            found = replay.run([one for _, one in group], advance)
            for (stored, one), replayed in zip(group, found, strict=True):
                reason = _departure(stored, replayed, run, exactly=on_cpu)
                if reason:
                    about["left_out"][stored.image_id] = reason
                    continue
                differences.append(_difference(stored.curve, replayed.curve))
                place = range(len(columns["row"]), len(columns["row"]) + len(one.steps))
                with _writing():
                    if array is None:
                        shape = (rows, *one.image.shape)
                        array = open_heatmap_array(run.resolve() / _ARRAY, shape, "float16")
                    array[place.start : place.stop].write(replayed.heatmaps).result()
                seen = replay.see(one, replayed)
                columns["image_id"] += [stored.image_id] * len(place)
                columns["step"] += one.steps
                columns["row"] += place
                columns["co_score"] += list(seen.co_score)
                columns["top_classes"] += list(seen.classes)
                columns["top_probabilities"] += list(seen.probabilities)
    names = engine.objective.classifier.class_names or images.label_names or ()
    shown = {int(number) for classes in columns["top_classes"] for number in classes}
    shown |= {one.label for _, one in watched}
    about["class_names"] = {number: names[number] for number in sorted(shown) if names}
    about["difference"] = max(differences)
    table = pa.table(columns, schema=SCHEMA)
    table = table.sort_by([("image_id", "ascending"), ("step", "ascending")])
    table = table.replace_schema_metadata({_ABOUT: json.dumps(about)})
    if len(table):
        with _writing(), replacing(run / _TABLE) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    return _summary(table)


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


# -- reading ------------------------------------------------------------------------------------


def has_snapshots(run: Path | str) -> bool:
    """Return whether a run has snapshots."""
    return (Path(run) / _TABLE).exists()


def read_snapshots(run: Path | str) -> pa.Table:
    """Return a run's snapshots, one row each, ordered by image and step; columns as in `SCHEMA`.

    Raises:
        UserError: the run has none, or the table is damaged.

    Example:
        >>> frame = read_snapshots("run").to_pandas()
    """
    path = Path(run) / _TABLE
    if not path.exists():
        raise UserError(
            f"{run} has no snapshots: give its gaxjax gax command again with --snapshots 8"
        )
    try:
        table = pq.read_table(path, partitioning=None)
        json.loads(table.schema.metadata[_ABOUT])
        return table.cast(SCHEMA.with_metadata(table.schema.metadata))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is damaged ({reason}): delete it and give the run's command again"
        ) from None


def read_snapshot_heatmaps(run: Path | str, rows: Iterable[int]) -> Float[np.ndarray, "N H W 3"]:
    """Return heatmaps by the column `row` of `read_snapshots`: float16, values in [-1, 1].

    Raises:
        UserError: they are missing or damaged.
    """
    return read_heatmap_rows(Path(run).resolve() / _ARRAY, rows)


def read_summary(run: Path | str) -> SnapshotSummary:
    """Return which images have snapshots, and why others have none.

    Raises:
        UserError: as `read_snapshots`.
    """
    return _summary(read_snapshots(run))


def read_class_names(run: Path | str) -> dict[int, str]:
    """Return the names of labels and `top_classes` by number, where model or images tell them.

    Raises:
        UserError: as `read_snapshots`.
    """
    return {int(key): name for key, name in _about(read_snapshots(run))["class_names"].items()}


def _about(table: pa.Table) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(table.schema.metadata[_ABOUT])
    return about


def _summary(table: pa.Table) -> SnapshotSummary:
    about = _about(table)
    image_ids = tuple(sorted(set(table["image_id"].to_pylist())))
    return SnapshotSummary(image_ids, len(table), about["left_out"], about["difference"])


def _in_bytes(count: int) -> str:
    power = min(max(len(str(count)) - 1, 3) // 3, 4)
    return f"{count / 1000**power:,.3g} {('', 'kB', 'MB', 'GB', 'TB')[power]}"
