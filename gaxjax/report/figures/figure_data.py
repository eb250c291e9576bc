"""The numbers behind a report's figures, as arrays, from stored rows alone.

Each class is one figure's data: `drawing` draws it, and `rows` gives it out for a CSV file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from gaxjax.results.statistics import MethodStatistics, Statistics
from gaxjax.results.stored_run import numbers, of_method, texts

__all__ = [
    "BAND",
    "Box",
    "Curves",
    "Histogram",
    "Probabilities",
    "Steps",
    "all_rows",
    "boxes",
    "curves",
    "histograms",
    "probabilities",
    "steps",
]

BAND = (0.1, 0.9)
"""Quantiles between which the curves' band lies."""

_BINS = 40
_SHOWN_STEPS = 1000
_KINDS = (("correct", True), ("wrong", False))


@dataclass(frozen=True)
class Box:
    """The box of one method's scores over the images predicted correctly, or wrongly.

    Whiskers reach to the furthest score within 1.5 interquartile ranges of the box (Tukey); what
    lies beyond is in `outliers`.
    """

    method: str
    layer: str | None
    operation: str
    kind: str
    count: int
    low_whisker: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high_whisker: float
    outliers: Float[np.ndarray, " O"]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give the box in one row and each outlier in another."""
        values = dict(vars(self))
        outliers = values.pop("outliers")
        key = {name: values[name] for name in ("method", "layer", "operation", "kind")}
        yield values | {"outlier": None}
        for outlier in outliers.tolist():
            yield key | {"outlier": outlier}


@dataclass(frozen=True)
class Histogram:
    """How often a method's scores fall between `edges`; the outer bins hold all beyond them."""

    method: str
    layer: str | None
    operation: str
    edges: Float[np.ndarray, " B1"]
    correct: Int[np.ndarray, " B"]
    wrong: Int[np.ndarray, " B"]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give one row per bin."""
        for low, high, correct, wrong in zip(
            self.edges[:-1], self.edges[1:], self.correct, self.wrong, strict=True
        ):
            yield {
                "method": self.method,
                "layer": self.layer,
                "operation": self.operation,
                "from": float(low),
                "to": float(high),
                "correct": int(correct),
                "wrong": int(wrong),
            }


@dataclass(frozen=True)
class Curves:
    """The scores of a GAX run's images while they were optimised.

    Attributes:
        run: its name. target: where an image stops.
        lines: one curve per image, of any length; `lines[i][t]` is the score after t updates.
        steps: numbers of updates at which the quantiles are taken: all of them, up to 1,000.
        low, median, high: quantiles over all images. One that has stopped keeps its last score.
        running: images that had not stopped before that step.
    """

    run: str
    target: float
    lines: tuple[Float[np.ndarray, " _"], ...]
    steps: Int[np.ndarray, " S"]
    low: Float[np.ndarray, " S"]
    median: Float[np.ndarray, " S"]
    high: Float[np.ndarray, " S"]
    running: Int[np.ndarray, " S"]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give one row per step; the single curves are in the run's column `curve`."""
        columns = (self.steps, self.running, self.low, self.median, self.high)
        for step, running, low, median, high in zip(*columns, strict=True):
            yield {
                "run": self.run,
                "step": int(step),
                "running": int(running),
                "low": float(low),
                "median": float(median),
                "high": float(high),
            }


@dataclass(frozen=True)
class Steps:
    """How many updates a run's images took, those that reached the target and those that did not.

    `edges` lie halfway between whole numbers, so that no count of updates lies on one.
    """

    run: str
    edges: Float[np.ndarray, " B1"]
    reached: Int[np.ndarray, " B"]
    not_reached: Int[np.ndarray, " B"]
    median: float | None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give one row per bin."""
        bins = zip(self.edges[:-1], self.edges[1:], self.reached, self.not_reached, strict=True)
        for low, high, reached, not_reached in bins:
            yield {
                "run": self.run,
                "from": float(low),
                "to": float(high),
                "reached": int(reached),
                "not_reached": int(not_reached),
            }


@dataclass(frozen=True)
class Probabilities:
    """The right class's probability before and after, over the images that have both."""

    run: str
    edges: Float[np.ndarray, " B1"]
    before: Int[np.ndarray, " B"]
    after: Int[np.ndarray, " B"]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give one row per bin."""
        bins = zip(self.edges[:-1], self.edges[1:], self.before, self.after, strict=True)
        for low, high, before, after in bins:
            yield {
                "run": self.run,
                "from": float(low),
                "to": float(high),
                "before": int(before),
                "after": int(after),
            }


def _by_kind(scores: pa.Table, method: MethodStatistics) -> dict[str, Float[np.ndarray, " K"]]:
    """Return a method's finite scores of correct and of wrong predictions of the plain image."""
    mine = scores.filter(pa.array(of_method(scores, method)))
    score, correct = numbers(mine, "co_score"), numbers(mine, "correct")
    return {kind: score[np.isfinite(score) & (correct == value)] for kind, value in _KINDS}


def boxes(scores: pa.Table, statistics: Statistics) -> list[Box]:
    """Return one box per method, layer, operation and kind of prediction that has scores."""
    found = []
    for method in statistics.methods:
        for kind, values in _by_kind(scores, method).items():
            if not len(values):
                continue
            lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
            reach = 1.5 * (upper - lower)
            inside = (values >= lower - reach) & (values <= upper + reach)
            found.append(
                Box(
                    method.method,
                    method.layer,
                    method.operation,
                    kind,
                    len(values),
                    # An interpolated quartile can lie beyond every score inside the reach.
                    min(lower, float(values[inside].min(initial=np.inf))),
                    lower,
                    median,
                    upper,
                    max(upper, float(values[inside].max(initial=-np.inf))),
                    np.sort(values[~inside]),
                )
            )
    return found


def histograms(scores: pa.Table, statistics: Statistics) -> list[Histogram]:
    """Return one histogram per method, layer and operation that has scores.

    The edges span all but the outermost half percent of each kind, which goes to the outer bins.
    """
    found = []
    for method in statistics.methods:
        kinds = _by_kind(scores, method)
        ends = [np.quantile(values, [0.005, 0.995]) for values in kinds.values() if len(values)]
        if not ends:
            continue
        low, high = np.min(ends), np.max(ends)
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, _BINS + 1)
        counts = {
            kind: np.histogram(np.clip(values, low, high), edges)[0]
            for kind, values in kinds.items()
        }
        found.append(Histogram(method.method, method.layer, method.operation, edges, **counts))
    return found


def curves(run: str, scores: pa.Table, target: float) -> Curves | None:
    """Return a GAX run's curves with their quantiles; None where no image has a curve."""
    lines = []
    for values in scores["curve"].to_pylist():
        line = np.array(values or [], np.float32)
        finite = np.isfinite(line)
        if finite.any():
            # From the first score that is not finite the optimisation went nowhere.
            lines.append(line if finite.all() else line[: int(np.argmin(finite))])
    lines = [line for line in lines if len(line)]
    if not lines:
        return None
    longest = max(map(len, lines))
    places = np.linspace(0, longest - 1, min(longest, _SHOWN_STEPS)).round().astype(int)
    places = np.unique(places)
    held = np.stack([line[np.minimum(places, len(line) - 1)] for line in lines])
    low, median, high = np.quantile(held, [BAND[0], 0.5, BAND[1]], axis=0)
    lengths = np.sort([len(line) for line in lines])
    running = len(lines) - np.searchsorted(lengths, places, side="right")
    return Curves(run, target, tuple(lines), places, low, median, high, running)


def steps(run: str, scores: pa.Table) -> Steps | None:
    """Return the distribution of a GAX run's updates; None where no image was optimised."""
    taken = numbers(scores, "steps")
    reached = texts(scores, "outcome") == "reached"
    found = np.isfinite(taken)
    if not found.any():
        return None
    most = int(taken[found].max())
    width = max(1, -(-(most + 1) // 60))  # at most 60 bins, each of whole numbers
    edges = np.arange(0, most + width + 1, width) - 0.5
    good = taken[found & reached]
    return Steps(
        run,
        edges,
        np.histogram(good, edges)[0],
        np.histogram(taken[found & ~reached], edges)[0],
        float(np.median(good)) if len(good) else None,
    )


def probabilities(run: str, scores: pa.Table) -> Probabilities | None:
    """Return the right class's probabilities before and after; None where none has both."""
    before, after = numbers(scores, "probability_before"), numbers(scores, "probability_after")
    both = np.isfinite(before + after)
    if not both.any():
        return None
    edges = np.linspace(0, 1, 21)
    # Rounding in float32 can leave a probability a hair above 1.
    counts = [np.histogram(np.clip(p[both], 0, 1), edges)[0] for p in (before, after)]
    return Probabilities(run, edges, counts[0], counts[1])


def all_rows(parts: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the rows of several figures' data, one after the other."""
    return [row for part in parts for row in part.rows()]
