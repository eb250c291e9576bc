"""What several figures draw alike: a heatmap's channels, an augmented image, a curve's colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gaxjax.config import Operation

CURVE, NOW, TARGET, LABEL, QUIET = "#0072B2", "#D55E00", "#D55E00", "#56B4E9", "#CCCCCC"
"""From Okabe and Ito's palette, which colour-blind readers can tell apart; and a grey."""

DIVERGING = "RdBu_r"
"""Red raises a pixel and blue lowers it, as in the paper's figures; white leaves it."""


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
    """Leave out ticks, which tell nothing about an image, and write a title."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=10)


def augmented(
    image: Float[np.ndarray, "H W 3"], heatmap: Float[np.ndarray, "H W 3"], operation: Operation
) -> Float[np.ndarray, "H W 3"]:
    """Return the augmented image stretched to [0, 1], which its pixels leave, to be shown."""
    shown = image + heatmap if operation == "sum" else image * heatmap
    low, high = float(shown.min()), float(shown.max())
    return (shown - low) / max(high - low, 1e-6)
