"""What each setting of a sweep came to, and which one to take."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float

from gaxjax.config import GaxConfig, Setting, as_text, with_setting
from gaxjax.results.columns import numbers, texts
from gaxjax.results.method_statistics import StepSummary

__all__ = ["SettingSummary", "SweepSummary", "run_sweep"]

_AS_GOOD = 0.01  # of the share reached: what settings may differ by and still count as equal


@dataclass(frozen=True)
class SettingSummary:
    """What one setting came to; None: undefined.

    Attributes:
        setting: as in the rows.
        values: by field of `GaxConfig`.
        num_optimised: images that were optimised with it.
        num_reached: of these, those whose verified score is at least the target.
        share_reached: of `num_optimised`.
        steps: updates behind the heatmaps that reached the target.
        mean_updates: updates an image, over all that were optimised, however they ended.
        probability_gained: mean of the right class's probability after, less before.
        distance: median of mean((h - x + ε)² / (x + ε)) between heatmap and image, by the
            similarity loss; None where its weight is 0.
        seconds: an image, of the time that the run was at work: all settings ran side by side, and
            share it by their image-steps.
    """

    setting: str
    values: Setting
    num_optimised: int
    num_reached: int
    share_reached: float | None
    steps: StepSummary | None
    mean_updates: float | None
    probability_gained: float | None
    distance: float | None
    seconds: float | None

    def row(self) -> dict[str, Any]:
        """Return it as one flat row, with a column for each swept field."""
        steps = [field.name for field in dataclasses.fields(StepSummary)]
        rest = {name: value for name, value in vars(self).items() if name != "values"}
        summary = rest.pop("steps")
        return (
            {"setting": rest.pop("setting")}
            | dict(self.values)
            | rest
            | {f"steps_{name}": getattr(summary, name, None) for name in steps}
        )


@dataclass(frozen=True)
class SweepSummary:
    """All settings of a run, in the order of its sweep.

    Attributes:
        settings: one each.
        recommended: which to take, one for each target that was tried; none where no image reached.
        why: that in words, with the rule.
    """

    settings: tuple[SettingSummary, ...]
    recommended: tuple[str, ...]
    why: str


def run_sweep(
    scores: pa.Table, gax: GaxConfig, settings: Sequence[Setting], seconds: float | None = None
) -> SweepSummary:
    """Sum a sweep up, setting by setting, from a run's score table.

    Args:
        scores: `gaxjax.Run.scores`.
        gax: the method, without a setting's values.
        settings: those of the sweep.
        seconds: for which the run was at work, where that is known.
    """
    lengths = pc.fill_null(pc.list_value_length(scores["curve"]), 0)
    columns = {
        name: numbers(scores, name)
        for name in ("steps", "similarity_loss", "probability_before", "probability_after")
    }
    columns["measured"] = lengths.to_numpy().astype(float)
    setting_of, outcome = texts(scores, "setting"), texts(scores, "outcome")
    total = columns["measured"].sum()
    pace = None if seconds is None or not total else seconds / float(total)
    found = []
    for setting in settings:
        mine = (setting_of == as_text(setting)) & (columns["measured"] > 0)
        method = with_setting(gax, setting)
        found.append(_summary(setting, method, columns, mine, outcome == "reached", pace))
    recommended = tuple(_recommended(found, gax))
    return SweepSummary(tuple(found), recommended, _why(found, recommended))


def _summary(
    setting: Setting,
    method: GaxConfig,
    columns: dict[str, Float[np.ndarray, " N"]],
    mine: Bool[np.ndarray, " N"],
    reached: Bool[np.ndarray, " N"],
    pace: float | None,
) -> SettingSummary:
    measured = columns["measured"][mine]
    taken = columns["steps"][mine & reached]
    gained = (columns["probability_after"] - columns["probability_before"])[mine]
    losses = columns["similarity_loss"][mine]
    distances = method.similarity_factor / losses[losses > 0]
    steps = None
    if len(taken):
        low, median, high = np.quantile(taken, [0.25, 0.5, 0.75]).tolist()
        steps = StepSummary(len(taken), low, median, high, int(taken.max()))
    return SettingSummary(
        setting=as_text(setting),
        values=setting,
        num_optimised=len(measured),
        num_reached=len(taken),
        share_reached=len(taken) / len(measured) if len(measured) else None,
        steps=steps,
        mean_updates=_mean(measured - 1),
        probability_gained=_mean(gained[np.isfinite(gained)]),
        distance=float(np.median(distances)) if len(distances) else None,
        seconds=pace * float(measured.mean()) if pace is not None and len(measured) else None,
    )


def _mean(values: Float[np.ndarray, " N"]) -> float | None:
    return float(values.mean()) if len(values) else None


# --- Which to take -------------------------------------------------------------------------------


def _recommended(found: Sequence[SettingSummary], gax: GaxConfig) -> Iterator[str]:
    by_target: dict[Any, list[SettingSummary]] = {}
    for one in found:
        if one.num_reached:
            by_target.setdefault(one.values.get("target", gax.target), []).append(one)
    for rivals in by_target.values():
        best = max(one.share_reached or 0.0 for one in rivals)
        good = [one for one in rivals if (one.share_reached or 0.0) >= best - _AS_GOOD]
        yield min(good, key=lambda one: (one.mean_updates or 0.0, -(one.distance or 0.0))).setting


def _why(found: Sequence[SettingSummary], recommended: Sequence[str]) -> str:
    by_name = {one.setting: one for one in found}
    said = []
    for name in recommended:
        one = by_name[name]
        said.append(
            f"Recommended: {name}, by which {one.num_reached:,} of {one.num_optimised:,} images "
            f"reached the target, in {one.mean_updates:.1f} updates an image"
        )
    if not said:
        return "No setting is recommended: none brought any image to the target."
    rule = (
        "The rule: of the settings whose share of images that reached the target is within 1 "
        "percentage point of the largest, the one with the fewest updates an image (the mean over "
        "all, however they ended); of equals, the one whose heatmaps are farther from their images"
    )
    each = "; each target is judged by itself" if len(recommended) > 1 else ""
    return f"{'. '.join(said)}. {rule}{each}."
