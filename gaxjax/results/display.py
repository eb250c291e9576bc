"""How heatmaps look, in a notebook and in a report: their colours, and an image's panels."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = [
    "BLUE",
    "CURVE",
    "DIVERGING",
    "LABEL",
    "NOW",
    "QUIET",
    "SKY",
    "TARGET",
    "VERMILION",
    "abs_max",
    "bare",
    "draw_channels",
    "panels_png",
]

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, VERMILION, SKY = "#0072B2", "#D55E00", "#56B4E9"
DIVERGING = "RdBu_r"
"""Red raises a pixel and blue lowers it, as in the paper's figures; white leaves it."""
CURVE, NOW, TARGET, LABEL, QUIET = BLUE, VERMILION, VERMILION, SKY, "#CCCCCC"


def panels_png(
    caption: str,
    heatmap: Float[np.ndarray, "H W 3"] | None,
    curve: Float[np.ndarray, " T"] | None,
    stored: tuple[int, float] | None,
) -> bytes | None:
    """Draw one image's result: the heatmap's channels, and its scores while optimising.

    Args:
        caption: a line above.
        heatmap: in [-1, 1].
        curve: `curve[t]` is the score after t updates.
        stored: updates and CO score of the heatmap, a point beside the curve.

    Returns:
        A PNG file's bytes; None where there is neither heatmap nor curve.
    """
    from matplotlib.figure import Figure

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
        if stored is not None:
            axis.plot([stored[0]], [stored[1]], "o", color=NOW, markersize=5)
        axis.set_title("CO score", fontsize=10)
        axis.set_xlabel("updates", fontsize=9)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(caption, fontsize=10, ha="left", x=0.01)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def abs_max(heatmap: Float[np.ndarray, "..."]) -> float:
    """Return a heatmap's largest magnitude over all channels, at least 1e-6."""
    return float(np.nanmax(np.abs(heatmap), initial=1e-6))


def draw_channels(
    axes: Sequence[Any], heatmap: Float[np.ndarray, "H W 3"], scale: float
) -> list[Any]:
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
