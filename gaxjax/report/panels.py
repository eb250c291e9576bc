"""What window and notebook draw alike: a heatmap's channels, and a curve's colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gaxjax.report.drawing import BLUE, DIVERGING, SKY, VERMILION

CURVE, NOW, TARGET, LABEL, QUIET = BLUE, VERMILION, VERMILION, SKY, "#CCCCCC"


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
