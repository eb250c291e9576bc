"""How results show themselves in a notebook: one image as a figure, many as a table."""

import io
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from gaxjax.results.solution import Solution, Solutions

_ROWS = 10

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, VERMILION, SKY = "#0072B2", "#D55E00", "#56B4E9"
DIVERGING = "RdBu_r"
"""Red raises a pixel and blue lowers it, as in the paper's figures; white leaves it."""
CURVE, NOW, TARGET, LABEL, QUIET = BLUE, VERMILION, VERMILION, SKY, "#CCCCCC"


def solution_png(solution: "Solution") -> bytes | None:
    """Draw one result: the heatmap's channels, the curve, outcome and scores.

    Returns:
        A PNG file's bytes; None where there is neither heatmap nor curve.
    """
    from matplotlib.figure import Figure

    heatmap, curve = solution.heatmap, solution.curve
    if heatmap is None and curve is None:
        return None
    panels = 3 * (heatmap is not None) + (curve is not None)
    widths = [1.0] * (3 * (heatmap is not None)) + [1.5] * (curve is not None)
    figure = Figure(figsize=(2.3 * sum(widths) + 0.6, 2.9), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False, width_ratios=widths)[0])
    if heatmap is not None:
        values = heatmap.astype("float32")
        drawn = draw_channels(axes[:3], values, abs_max(values))
        bar = figure.colorbar(drawn[0], ax=axes[:3], shrink=0.8, aspect=30, pad=0.01)
        bar.ax.tick_params(labelsize=8)
        axes[1].set_xlabel(f"abs max {abs_max(values):.3f}", fontsize=9)
    if curve is not None:
        axis = axes[-1]
        axis.plot(curve, color=CURVE, linewidth=1.6)
        if solution.steps is not None and solution.co_score is not None:
            axis.plot([solution.steps], [solution.co_score], "o", color=NOW, markersize=5)
        axis.set_title("CO score", fontsize=10)
        axis.set_xlabel("updates", fontsize=9)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_caption(solution), fontsize=10, ha="left", x=0.01)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def solutions_html(solutions: "Solutions") -> str:
    """Return a small HTML table: how many images ended how, and the first ten of them."""
    counts = Counter(str(outcome) for outcome in solutions.outcome)
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    columns = {
        "image": lambda item: str(item.index),
        "outcome": lambda item: str(item.outcome),
        "label": lambda item: str(item.label),
        "prediction": lambda item: _number(item.prediction, "d"),
        "probability before": lambda item: _number(item.probability_before, ".3f"),
        "after": lambda item: _number(item.probability_after, ".3f"),
        "CO score": lambda item: _number(item.co_score, ".2f"),
        "steps": lambda item: _number(item.steps, "d"),
        "reason": lambda item: item.reason or "",
    }
    if not any(item.reason for item in solutions[:_ROWS]):
        del columns["reason"]
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(show(item))}</td>" for show in columns.values()) + "</tr>"
        for item in solutions[:_ROWS]
    )
    left = len(solutions) - _ROWS
    more = f"<p>… and {left:,} more</p>" if left > 0 else ""
    summary = escape(f"{len(solutions):,} images: {said or 'none'}")
    return (
        f"<p>{summary}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"
    )


def _caption(solution: "Solution") -> str:
    parts = [f"image {solution.index}", str(solution.outcome), f"label {solution.label}"]
    if solution.method != "gax":
        parts.insert(1, _method(solution))
    if solution.prediction is not None:
        parts.append(f"predicted {solution.prediction}")
    if solution.co_score is not None:
        parts.append(f"CO score {solution.co_score:.2f}")
    if solution.steps is not None:
        parts.append(f"after {solution.steps} steps")
    if solution.probability_before is not None and solution.probability_after is not None:
        parts.append(f"p {solution.probability_before:.3f} → {solution.probability_after:.3f}")
    return " · ".join(parts)


def _method(solution: "Solution") -> str:
    return " ".join(filter(None, [solution.method, solution.layer, solution.operation]))


def _number(value: int | float | None, kind: str) -> str:
    return "–" if value is None else format(value, kind)


def abs_max(heatmap: Float[np.ndarray, "..."]) -> float:
    """Return a heatmap's largest magnitude over all channels, at least 1e-6."""
    return float(np.nanmax(np.abs(heatmap), initial=1e-6))


def draw_channels(axes: Sequence[Any], heatmap: Float[np.ndarray, "H W 3"], scale: float) -> list:
    """Draw a heatmap's channels R, G and B, with one symmetric colour scale, ±scale.

    Returns:
        The three drawn images; their `set_data` shows another heatmap.
    """
    drawn = []
    for axis, channel, name in zip(axes, np.moveaxis(heatmap, -1, 0), "RGB", strict=True):
        bare(axis, f"heatmap, {name}")
        drawn.append(axis.imshow(channel, cmap=DIVERGING, vmin=-scale, vmax=scale))
    return drawn


def bare(axis: Any, title: str) -> None:
    """Leave out ticks and frame, which tell nothing about an image, and write a title."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=10)
