"""The mean heatmap of each class, channel by channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaxjax.common import counted
from gaxjax.report.figures.figure import Drawing, Figure, all_rows, finish, new_figure
from gaxjax.report.figures.style import cut, styled
from gaxjax.results import (
    DIVERGING,
    Run,
    read_class_means,
    read_class_patterns,
    summarise_class_patterns,
)

__all__ = ["ClassMean", "class_mean_figures", "draw_class_means"]

_CHANNELS = ("red", "green", "blue")
_ABREAST = 2  # classes side by side


@dataclass(frozen=True)
class ClassMean:
    """A class with the mean of its heatmaps, [S, S, 3], and how many these are."""

    title: str
    count: int
    mean: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per channel."""
        return [
            {"class": self.title, "count": self.count, "channel": name}
            | {"mean": float(values.mean()), "low": float(values.min())}
            | {"high": float(values.max())}
            for name, values in zip(_CHANNELS, np.moveaxis(self.mean, -1, 0), strict=True)
        ]


def draw_class_means(classes: Sequence[ClassMean]) -> Drawing:
    """Draw the three channels of each class in a row, two classes abreast; one scale for all."""
    limit = max(float(np.abs(one.mean).max()) for one in classes) or 1.0
    lines = -(-len(classes) // _ABREAST)
    with styled():
        figure = new_figure(9.6, 1.55 * lines + 0.9)
        axes = figure.subplots(lines, 3 * _ABREAST, squeeze=False)
        shade = None
        for place, row in enumerate(axes.reshape(-1, 3)):
            for axis in row:
                axis.set_xticks([])
                axis.set_yticks([])
                axis.spines[:].set_visible(False)
            if place >= len(classes):
                continue
            one = classes[place]
            for axis, channel, name in zip(
                row, np.moveaxis(one.mean, -1, 0), _CHANNELS, strict=True
            ):
                shade = axis.imshow(channel, cmap=DIVERGING, vmin=-limit, vmax=limit)
                if place < _ABREAST:
                    axis.set_title(name, fontsize=9)
            row[0].set_ylabel(cut(f"{one.title}\n{counted(one.count, 'image')}", 16), fontsize=8)
        bar = figure.colorbar(shade, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.03)
        bar.set_label("mean heatmap", fontsize=8)
        return finish(figure)


def class_mean_figures(run: Run) -> list[Figure]:
    """Draw the mean heatmaps of a run's largest classes, where they were computed.

    Of several methods, layers or settings, those whose heatmaps tell most classes.

    Raises:
        UserError: stored rows are damaged.
    """
    found = read_class_means(run.path)
    if found is None or not len(found[0]):
        return []
    rows = found[0].to_pylist()
    keys = dict.fromkeys((row["method"], row["layer"], row["setting"]) for row in rows)
    key = next(iter(keys))
    told = read_class_patterns(run.path)
    if told is not None and len(told[0]) and len(keys) > 1:
        best = max(summarise_class_patterns(told[0]), key=lambda one: one.from_heatmap)
        key = (best.method, best.layer, best.setting)
    classes = [
        ClassMean(
            run.class_name(row["label"]),
            row["count"],
            np.reshape(np.float32(row["mean"]), (row["side"], row["side"], 3)),
        )
        for row in rows
        if (row["method"], row["layer"], row["setting"]) == key
    ]
    name = " ".join(filter(None, key))
    chosen = ", whose heatmaps tell most classes" if len(keys) > 1 else ""
    return [
        Figure(
            f"{run.key}-class-means",
            f"Mean heatmap by class, {run.name}",
            f"Of {name}{chosen}: the mean over each class's heatmaps, of the classes with the most "
            "images, at least two. All panels share one colour scale.",
            draw_class_means(classes),
            all_rows(classes),
        )
    ]
