"""Do heatmaps tell the classes of their images? The paper's third contribution, measured.

    RUN/class_patterns.parquet   one row per heatmap that was judged: its class, its fold, and the
                                 class that a linear classifier told from the heatmap, and from the
                                 image, fitted on the other folds alone
    RUN/class_means.parquet      mean heatmap of each class that has at least two

A heatmap of GAX is made with the groundtruth class, and one of AX with the prediction: what tells
classes apart in them is in part what was put in.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from gaxjax.common import AnyPath, UserError, interruption
from gaxjax.results.columns import numbers, texts
from gaxjax.results.later_tables import read_later, refuse_url, write_later
from gaxjax.results.linear_classes import FOLDS, downsampled, folds_of, linear_predictions
from gaxjax.results.separation import Interval, Resampling, checked, percentile_interval
from gaxjax.results.stored_run import Run, RunImages, images_of, open_run

__all__ = [
    "ClassPatterns",
    "find_class_patterns",
    "read_class_means",
    "read_class_patterns",
    "summarise_class_patterns",
]

SIDE = 16  # of what the linear classifier sees
MOST_CLASSES = 12  # whose means are kept: as many as a page shows
_MEAN_SIDE = 64
_BLOCK = 64  # heatmaps read at once

_KEYS = ("method", "layer", "setting")  # operations share heatmaps
_PATTERNS, _MEANS = "class_patterns", "class_means"
_KEY_FIELDS = [pa.field(name, pa.string(), nullable=name != "method") for name in _KEYS]
PATTERN_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        *_KEY_FIELDS,
        pa.field("label", pa.int32(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("from_heatmap", pa.int32(), nullable=False),
        pa.field("from_image", pa.int32(), nullable=False),
        pa.field("most_frequent", pa.int32(), nullable=False),
    ]
)
MEAN_SCHEMA = pa.schema(
    [
        *_KEY_FIELDS,
        pa.field("label", pa.int32(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
        pa.field("side", pa.int32(), nullable=False),
        pa.field("mean", pa.list_(pa.float32()), nullable=False),
    ]
)
"""`mean` is [side, side, 3] in C order."""


# --- What is kept --------------------------------------------------------------------------------


def find_class_patterns(
    run: AnyPath,
    *,
    seed: int = 0,
    data: str | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Compute the class patterns of a run's heatmaps, and keep them beside its results.

    Classes with fewer than five images are left out of the judgement, and of the means those with
    fewer than two. Where fewer than two classes are left, nothing is judged. Nothing is written
    before all is computed.

    Args:
        run: folder of a GAX or AX run, finished or not.
        seed: of the folds.
        data: where the run's images are now, if they were moved.
        progress: called with the number of heatmaps read, and of all.

    Raises:
        UserError: no run, one without heatmaps, or its images cannot be read.
    """
    refuse_url(run, "--class-patterns")
    stored = open_run(run, data=data)
    if not stored.keeps_heatmaps:
        raise UserError(
            f"{stored.path} stores no heatmaps to look for patterns in (--heatmaps none): run it "
            "anew with --heatmaps float16"
        )
    stored.require_scores()
    groups = _groups(stored)
    if not groups:
        raise UserError(f"no image of {stored.path} has a heatmap")
    load, reason = images_of(stored)
    if reason is not None:
        raise UserError(reason)
    ids = sorted({row["image_id"] for rows in groups.values() for row in rows})
    images = dict(_small_images(load, ids))
    total, done = sum(map(len, groups.values())), 0
    patterns: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for key, rows in groups.items():
        named = dict(zip(_KEYS, key, strict=True))
        counts = Counter(row["label"] for row in rows)
        shown = [label for label, count in counts.most_common(MOST_CLASSES) if count > 1]
        sums: dict[int, Any] = dict.fromkeys(shown, 0.0)
        small: list[np.ndarray] = []
        for start in range(0, len(rows), _BLOCK):
            interruption.check()
            block = rows[start : start + _BLOCK]
            heatmaps = stored.heatmaps([row["heatmap_row"] for row in block])
            small += list(downsampled(heatmaps, SIDE).astype(np.float32))
            for row, heatmap in zip(block, downsampled(heatmaps, _MEAN_SIDE), strict=True):
                if row["label"] in sums:
                    sums[row["label"]] += heatmap
            done += len(block)
            progress(done, total)
        for label, added in sums.items():
            mean = np.asarray(added / counts[label], np.float32)
            one = {"label": label, "count": counts[label], "side": len(mean)}
            means.append(named | one | {"mean": mean.ravel().tolist()})
        judged = [place for place, row in enumerate(rows) if row["image_id"] in images]
        counts = Counter(rows[place]["label"] for place in judged)
        judged = [place for place in judged if counts[rows[place]["label"]] >= FOLDS]
        left_out[_name(key)] = sum(count < FOLDS for count in counts.values())
        if len({rows[place]["label"] for place in judged}) > 1:
            mine = [rows[place] for place in judged]
            patterns += _judged(named, mine, np.stack([small[p] for p in judged]), images, seed)
    about = {"seed": seed, "folds": FOLDS, "side": SIDE, "left_out": left_out}
    about |= {"num_images": len(ids), "num_unreadable": len(ids) - len(images)}
    write_later(stored.path, _MEANS, pa.Table.from_pylist(means, MEAN_SCHEMA), about)
    write_later(stored.path, _PATTERNS, pa.Table.from_pylist(patterns, PATTERN_SCHEMA), about)


def _name(key: Sequence[str | None]) -> str:
    return " ".join(filter(None, key))


def _small_images(load: RunImages, ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    for image_id in ids:
        interruption.check()
        pixels = load(image_id)
        if pixels is not None:
            yield image_id, downsampled(pixels[None] / 255, SIDE)[0].astype(np.float32)


def _groups(run: Run) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return the rows of each method, layer and setting, one per heatmap, by image."""
    names = ["image_id", *_KEYS, "label", "heatmap_row"]
    found: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {
        (method.method, method.layer, method.setting): {} for method in run.statistics.methods
    }
    for row in run.scores.select(names).sort_by("image_id").to_pylist():
        if row["heatmap_row"] is not None:
            found[tuple(row[key] for key in _KEYS)][row["heatmap_row"]] = row
    return {key: list(rows.values()) for key, rows in found.items() if rows}


def _judged(
    named: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    heatmaps: Float[np.ndarray, "N S S C"],
    images: dict[str, np.ndarray],
    seed: int,
) -> list[dict[str, Any]]:
    labels = np.array([row["label"] for row in rows])
    folds = folds_of(labels, seed)
    pixels = np.stack([images[row["image_id"]] for row in rows])
    frequent = np.empty(len(labels), labels.dtype)
    for fold in range(FOLDS):
        frequent[folds == fold] = Counter(labels[folds != fold].tolist()).most_common(1)[0][0]
    columns = {
        "label": labels,
        "fold": folds,
        "from_heatmap": linear_predictions(heatmaps.reshape(len(rows), -1), labels, folds),
        "from_image": linear_predictions(pixels.reshape(len(rows), -1), labels, folds),
        "most_frequent": frequent,
    }
    return [
        {"image_id": row["image_id"]}
        | named
        | {name: int(values[place]) for name, values in columns.items()}
        for place, row in enumerate(rows)
    ]


def read_class_patterns(run: AnyPath) -> tuple[pa.Table, dict[str, Any]] | None:
    """Read a run's judged heatmaps, and how they were; None where they were not.

    Raises:
        UserError: the rows are damaged, or of another run.
    """
    return read_later(run, _PATTERNS, PATTERN_SCHEMA)


def read_class_means(run: AnyPath) -> tuple[pa.Table, dict[str, Any]] | None:
    """Read a run's mean heatmaps; None where there are none.

    Raises:
        UserError: they are damaged, or of another run.
    """
    return read_later(run, _MEANS, MEAN_SCHEMA)


# --- Summed up -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassPatterns:
    """How well classes are told from the heatmaps of one method, layer and setting.

    Attributes:
        method, layer, setting: as in the scores.
        num_images, num_classes: that were judged.
        from_heatmap, from_image: share of images whose class was told, with intervals.
        from_heatmap_interval, from_image_interval: None where all resamples agree.
        difference: `from_heatmap - from_image`, on the same images, and its interval.
        difference_interval: likewise.
        chance: share that the most frequent class of the other folds tells.
    """

    method: str
    layer: str | None
    setting: str | None
    num_images: int
    num_classes: int
    from_heatmap: float
    from_heatmap_interval: Interval | None
    from_image: float
    from_image_interval: Interval | None
    difference: float
    difference_interval: Interval | None
    chance: float

    @property
    def name(self) -> str:
        """As `layer_grad_cam conv1`, or `gax learning-rate=0.1`."""
        return _name((self.method, self.layer, self.setting))

    def row(self) -> dict[str, Any]:
        """Return it as one flat row."""
        flat = dict(vars(self))
        for name in ("from_heatmap", "from_image", "difference"):
            flat[f"{name}_low"], flat[f"{name}_high"] = flat.pop(f"{name}_interval") or (None, None)
        return flat


def summarise_class_patterns(
    table: pa.Table, *, num_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[ClassPatterns, ...]:
    """Sum judged heatmaps up, per method, layer and setting, in their order.

    Intervals are percentile intervals of bootstrap resamples of the judged images, the fitted
    classifiers as they are.

    Args:
        table: of `read_class_patterns`.
        num_resamples: behind each interval.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.

    Raises:
        UserError: a setting is impossible.
    """
    resampling = checked(Resampling(num_resamples, confidence, seed))
    keys = list(zip(*(texts(table, name) for name in _KEYS), strict=True))
    names = ("label", "from_heatmap", "from_image", "most_frequent")
    columns = {name: numbers(table, name) for name in names}
    found = []
    for key in dict.fromkeys(keys):
        mine = np.array([other == key for other in keys])
        labels, *told = (columns[name][mine] for name in names)
        right = np.stack([(one == labels).astype(float) for one in told])
        compared = np.stack([right[0], right[1], right[0] - right[1]])
        generator = np.random.default_rng(seed)
        count = len(labels)
        resampled = np.array(
            [
                compared[:, generator.integers(count, size=count)].mean(axis=1)
                for _ in range(num_resamples)
            ]
        )
        intervals = [percentile_interval(drawn, resampling) for drawn in resampled.T]
        found.append(
            ClassPatterns(
                **dict(zip(_KEYS, key, strict=True)),
                num_images=count,
                num_classes=len(np.unique(labels)),
                from_heatmap=float(right[0].mean()),
                from_heatmap_interval=intervals[0],
                from_image=float(right[1].mean()),
                from_image_interval=intervals[1],
                difference=float(compared[2].mean()),
                difference_interval=intervals[2],
                chance=float(right[2].mean()),
            )
        )
    return tuple(found)
