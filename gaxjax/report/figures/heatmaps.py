"""Draws heatmaps channel by channel: the paper's Fig. 5."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaxjax.report.figures.style import Drawing, finish, new_figure, styled
from gaxjax.results.display import DIVERGING

__all__ = ["Panel", "draw_panels"]


@dataclass(frozen=True)
class Panel:
    """One row of heatmap panels: an image, its heatmap's channels, and the two together.

    Attributes:
        title: what it is; untrusted text.
        image: uint8 [H, W, 3], None where its file is gone.
        heatmap: float [H, W, 3].
        augmented: [H, W, 3] in [0, 1], stretched to be shown; None without an image.
        limit: where its colours end, above 0.
        notes: what stands under image and augmented image.
    """

    title: str
    image: np.ndarray | None
    heatmap: np.ndarray
    augmented: np.ndarray | None
    limit: float
    notes: tuple[str, str]


def draw_panels(panels: Sequence[Panel]) -> Drawing:
    """Draw images with the three channels of their heatmaps (paper, Fig. 5).

    A row's channels share one scale, from minus to plus its limit; where the rows' limits differ,
    the colour bar counts in limits.
    """
    limits = {panel.limit for panel in panels}
    with styled():
        figure = new_figure(9.6, 2.05 * len(panels) + 0.8)
        figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06)
        axes = figure.subplots(len(panels), 5, squeeze=False)
        shade = None
        for row, panel in zip(axes, panels, strict=True):
            for axis in row:
                axis.set_xticks([])
                axis.set_yticks([])
                axis.spines[:].set_visible(False)
            _show(row[0], panel.image)
            row[0].set_ylabel(panel.title, fontsize=8)
            row[0].set_xlabel(panel.notes[0], fontsize=8)
            for axis, channel in zip(row[1:4], np.moveaxis(panel.heatmap, -1, 0), strict=True):
                shown = channel if len(limits) == 1 else channel / panel.limit
                end = panel.limit if len(limits) == 1 else 1
                shade = axis.imshow(shown, cmap=DIVERGING, vmin=-end, vmax=end)
            largest = f"abs max {np.abs(panel.heatmap).max():.3g}"
            if len(limits) > 1:
                largest += f", colours ±{panel.limit:.2g}"
            row[2].set_xlabel(largest, fontsize=8)
            _show(row[4], panel.augmented)
            row[4].set_xlabel(panel.notes[1], fontsize=8)
        heads = ("image", "heatmap, red", "green", "blue", "image with heatmap\n(rescaled)")
        for axis, head in zip(axes[0], heads, strict=True):
            axis.set_title(head, fontsize=9)
        if shade is not None:
            bar = figure.colorbar(
                shade, ax=axes[:, 1:4], location="bottom", shrink=0.6, aspect=40, pad=0.02
            )
            if len(limits) > 1:
                bar.set_ticks([-1, 0, 1], labels=["−", "0", "+"])
            label = "heatmap" if len(limits) == 1 else "heatmap, from − to + the row's limit"
            bar.set_label(label, fontsize=8)
        return finish(figure)


def _show(axis: Any, image: np.ndarray | None) -> None:
    if image is not None:
        axis.imshow(image)
        return
    axis.text(0.5, 0.5, "image not\navailable", ha="center", va="center", transform=axis.transAxes)
    axis.set_aspect("equal")
