"""An indicator and the baselines: ROC and risk-coverage curves, and what they score."""

from typing import Any

import numpy as np

from gaxjax.report.figures.figure import Drawing, Figure, as_rows, finish, new_figure
from gaxjax.report.figures.kinds import kind_handles
from gaxjax.report.figures.style import CORRECT, INK, WRONG, colors_of, styled
from gaxjax.results import SCORERS, TITLES, Judgement, risk_coverage, roc

__all__ = ["indicator_figures"]

_BINS = 30
_SHOWN = ("indicator", "max_probability")
_AXES = {"indicator": "CO score for the prediction", "max_probability": "maximum softmax"}


def indicator_figures(judgement: Judgement) -> list[Figure]:
    """Draw the curves and the histograms; without both kinds of predictions there are none."""
    if not judgement.has_both_kinds:
        return []
    rows: list[dict[str, Any]] = []
    for name in SCORERS:
        for kind, (x, y) in _curves(judgement, name).items():
            rows += as_rows({"x": x, "y": y}, told_by=name, curve=kind)
    scores = {"correct": judgement.right} | {
        name: np.where(np.isfinite(values), values, np.nan)
        for name, values in judgement.scores.items()
    }
    return [
        Figure(
            "indicator-curves",
            "Right told from wrong predictions",
            "Left: shares of the right and of the wrong predictions above each threshold. Right: "
            "the share of errors among the images accepted, from the surest up; lower is better. "
            "In the CSV x and y are false and true positives, or coverage and error.",
            _draw_curves(judgement),
            rows,
        ),
        Figure(
            "indicator-scores",
            "Scores of right and wrong predictions",
            "Shares of either kind, each adding up to 1, of the images with a score; what lies "
            "left of the dashed line is rejected. The indicator's is counted in its direction.",
            _draw_scores(judgement),
            as_rows(scores),
        ),
    ]


def _curves(judgement: Judgement, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    score = judgement.scores[name], judgement.right
    return {"roc": roc(*score), "risk_coverage": risk_coverage(*score)}


def _draw_curves(judgement: Judgement) -> Drawing:
    with styled():
        figure = new_figure(8.6, 4.4)
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
        for place, (name, color) in enumerate(zip(SCORERS, colors_of(len(SCORERS)), strict=True)):
            ours = name in ("indicator", "together")
            width, line = (2.2, "-") if ours else (1.4, ("--", "-.", ":", (0, (5, 1)))[place - 2])
            for axis, (x, y) in zip((left, right), _curves(judgement, name).values(), strict=True):
                shown = {"color": color, "linewidth": width, "linestyle": line}
                axis.plot(x, y, **shown, label=TITLES[name] if axis is left else None)
        error = judgement.right.size - judgement.right.sum()
        right.axhline(
            error / judgement.right.size, color=INK, linewidth=0.8, linestyle="--", alpha=0.6
        )
        left.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        left.set(xlabel="wrong predictions accepted", ylabel="right predictions accepted")
        right.set(xlim=(0, 1), ylim=(0, None))
        right.set(xlabel="coverage: share of the images accepted", ylabel="share of errors")
        figure.legend(loc="outside lower center", ncols=3)
        return finish(figure)


def _draw_scores(judgement: Judgement) -> Drawing:
    with styled():
        figure = new_figure(8.6, 3.4)
        for axis, name in zip(figure.subplots(1, 2), _SHOWN, strict=True):
            score, right = judgement.scores[name], judgement.right
            known = np.isfinite(score)
            ends = np.quantile(score[known], [0.005, 0.995]) if known.any() else np.zeros(2)
            low, high = ends if ends[0] < ends[1] else (ends[0] - 0.5, ends[0] + 0.5)
            edges = np.linspace(low, high, _BINS + 1)
            for kind, color, fill in ((right, CORRECT, True), (~right, WRONG, False)):
                values = np.clip(score[known & kind], low, high)
                if len(values):
                    shares = np.histogram(values, edges)[0] / len(values)
                    axis.stairs(shares, edges, color=color, fill=fill, alpha=0.45 if fill else 1)
                    axis.stairs(shares, edges, color=color, linewidth=1.3)
            threshold = judgement.accepted[name].threshold
            if threshold is not None:
                axis.axvline(threshold, color=INK, linewidth=1.2, linestyle="--")
            title = judgement.indicator.chosen.name if name == "indicator" else TITLES[name]
            axis.set_title(title, loc="left", fontsize=9)
            reverse = name == "indicator" and judgement.indicator.chosen.direction < 0
            axis.set(xlabel=f"{'less the ' * reverse}{_AXES[name]}", ylabel="share")
        figure.legend(handles=kind_handles(), loc="outside lower center", ncols=2)
        return finish(figure)
