"""What is left of a run's CO scores when heatmap or augmented image are disturbed a little.

    RUN/robustness.parquet   one row per heatmap and operation, of the images that were chosen

`gaxjax.runs` computes the rows, with the run's classifier; here they are summed up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from gaxjax.common import AnyPath
from gaxjax.results.columns import numbers, texts
from gaxjax.results.later_tables import read_later, write_later
from gaxjax.results.method_statistics import KEYS
from gaxjax.results.separation import Interval, Resampling, checked, percentile_interval

__all__ = [
    "DISTURBANCES",
    "ROBUSTNESS_SCHEMA",
    "Kept",
    "MethodRobustness",
    "read_robustness",
    "summarise_robustness",
    "write_robustness",
]

DISTURBANCES = ("shifted", "rounded", "jpeg", "noisy")
"""Columns of the disturbed scores: heatmap shifted by a pixel against the image; of the augmented
image clipped to [0, 1] and rounded to 8 bits, that as a JPEG file, and noise upon it."""

ROBUSTNESS_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        *(pa.field(name, pa.string(), nullable=name in ("layer", "setting")) for name in KEYS),
        pa.field("co_score", pa.float32(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in DISTURBANCES),
        pa.field("total_variation", pa.float32(), nullable=False),
        pa.field("high_frequency_power", pa.float32(), nullable=False),
    ]
)
"""`co_score` is that of the heatmap as stored, computed as the others beside it were."""

_NAME = "robustness"


def write_robustness(run: AnyPath, table: pa.Table, about: dict[str, Any]) -> AnyPath:
    """Keep a run's rows of `ROBUSTNESS_SCHEMA`, in place of earlier ones; return their file.

    Raises:
        UserError: they cannot be written.
    """
    return write_later(run, _NAME, table, about)


def read_robustness(run: AnyPath) -> tuple[pa.Table, dict[str, Any]] | None:
    """Read a run's rows, and how they were computed; None where there are none.

    Raises:
        UserError: they are damaged, or of another run.
    """
    return read_later(run, _NAME, ROBUSTNESS_SCHEMA)


@dataclass(frozen=True)
class Kept:
    """What is left under one disturbance; None: undefined.

    Attributes:
        ratio: median of the disturbed score over the one as stored, of the scores above 0.
        ratio_interval: of that median.
        at_target: share that is still at the target, of the scores that are; None for AX.
        at_target_interval: of that share.
    """

    ratio: float | None
    ratio_interval: Interval | None
    at_target: float | None
    at_target_interval: Interval | None


@dataclass(frozen=True)
class MethodRobustness:
    """One method, layer, operation and setting under the disturbances.

    Attributes:
        method, layer, operation, setting: as in the rows.
        num_images: whose heatmaps were disturbed.
        num_above_zero: of these, those whose score is above 0: a ratio says nothing of others.
        num_at_target: of these, those whose score is at least the target; 0 for AX.
        mean, median: of the score as stored, in logits.
        kept: by the names in `DISTURBANCES`.
        total_variation, high_frequency_power: medians of the heatmaps' roughness.
    """

    method: str
    layer: str | None
    operation: str
    setting: str | None
    num_images: int
    num_above_zero: int
    num_at_target: int
    mean: float
    median: float
    kept: dict[str, Kept]
    total_variation: float
    high_frequency_power: float

    @property
    def name(self) -> str:
        """As that of `MethodStatistics`."""
        words = [self.method, self.layer, f"[{self.operation}]", self.setting]
        return " ".join(filter(None, words))

    def row(self) -> dict[str, Any]:
        """Return it as one flat row."""
        flat = {name: value for name, value in vars(self).items() if name != "kept"}
        for disturbance, kept in self.kept.items():
            for name in ("ratio", "at_target"):
                low, high = getattr(kept, f"{name}_interval") or (None, None)
                flat |= {
                    f"{disturbance}_{name}": getattr(kept, name),
                    f"{disturbance}_{name}_low": low,
                    f"{disturbance}_{name}_high": high,
                }
        return flat


def summarise_robustness(
    table: pa.Table,
    target_of: Callable[[str | None], float | None],
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[MethodRobustness, ...]:
    """Sum a run's rows up, per method, layer, operation and setting, in their order.

    Intervals are percentile intervals of bootstrap resamples of the images.

    Args:
        table: of `read_robustness`.
        target_of: gives the score that GAX aimed at with a setting, None for AX: `Run.target_of`.
        num_resamples: behind each interval.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.

    Raises:
        UserError: a setting is impossible.
    """
    resampling = checked(Resampling(num_resamples, confidence, seed))
    keys = list(zip(*(texts(table, name) for name in KEYS), strict=True))
    columns = {name: numbers(table, name) for name in ROBUSTNESS_SCHEMA.names[1 + len(KEYS) :]}
    found = []
    for key in dict.fromkeys(keys):
        mine = np.array([other == key for other in keys])
        found.append(
            _summary(
                key,
                {name: column[mine] for name, column in columns.items()},
                target_of(key[-1]),
                resampling,
            )
        )
    return tuple(found)


def _summary(
    key: tuple[Any, ...],
    columns: dict[str, Float[np.ndarray, " N"]],
    target: float | None,
    resampling: Resampling,
) -> MethodRobustness:
    method, layer, operation, setting = key
    score = columns["co_score"]
    positive = score > 0
    reached = np.zeros(len(score), bool) if target is None else score >= target
    kept = {}
    for name in DISTURBANCES:
        disturbed = columns[name]
        ratios = disturbed[positive] / score[positive]
        still = disturbed[reached] >= (target or 0.0)
        kept[name] = Kept(
            *_with_interval(np.median, ratios[np.isfinite(ratios)], resampling),
            *_with_interval(np.mean, still.astype(float), resampling),
        )
    return MethodRobustness(
        method=method,
        layer=layer,
        operation=operation,
        setting=setting,
        num_images=len(score),
        num_above_zero=int(positive.sum()),
        num_at_target=int(reached.sum()),
        mean=float(score.mean()),
        median=float(np.median(score)),
        kept=kept,
        total_variation=float(np.median(columns["total_variation"])),
        high_frequency_power=float(np.median(columns["high_frequency_power"])),
    )


def _with_interval(
    of: Callable[..., Any], values: Float[np.ndarray, " N"], resampling: Resampling
) -> tuple[float | None, Interval | None]:
    if not len(values):
        return None, None
    generator = np.random.default_rng(resampling.seed)
    count = len(values)
    drawn = [
        float(of(values[generator.integers(count, size=count)]))
        for _ in range(resampling.num_resamples * (count > 1))
    ]
    return float(of(values)), percentile_interval(np.array(drawn), resampling)
