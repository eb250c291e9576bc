"""Figures 1 and 6 of the paper, drawn from the tables of `gaxjax.gax.toy` alone."""

from pathlib import Path
from typing import Any

import numpy as np

from gaxjax.report.figures.figure import save
from gaxjax.results import BLUE, VERMILION

_FIRST, _SECOND = VERMILION, BLUE  # for the paper's red and blue
_SHADE = "#EFEFEF"


def draw_figure(table: np.ndarray, output: Path, file_format: str) -> None:
    """Draw one panel per amount a_1: the sample x solid, the heatmap h dotted, against θ.

    Grey marks where both components of the sample are non-negative, as in an image.

    Args:
        table: rows of `gaxjax.gax.toy.figure_table`; those with `drawn` are shown.
        output: the file, whatever its ending.
        file_format: `png` or `svg`.
    """
    from matplotlib.figure import Figure

    table = table[table["drawn"]]
    amounts = np.unique(table["a1"])[::-1]
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    panels = figure.subplots(1, len(amounts), sharey=True, squeeze=False)[0]
    for axis, amount in zip(panels, amounts, strict=True):
        _draw_panel(axis, table[table["a1"] == amount])
    panels[0].set_ylabel("component")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    save(figure, output, file_format)


def _draw_panel(axis: Any, rows: np.ndarray) -> None:
    theta = rows["theta"]
    axis.fill_between(
        theta,
        0,
        1,
        where=(rows["x1"] >= 0) & (rows["x2"] >= 0),
        transform=axis.get_xaxis_transform(),
        color=_SHADE,
        linewidth=0,
        label="$x_1, x_2 \\geq 0$",
    )
    axis.axhline(0, color="black", linewidth=0.6)
    for number, color in (("1", _FIRST), ("2", _SECOND)):
        axis.plot(theta, rows["x" + number], color=color, linewidth=1.4, label=f"$x_{number}$")
        axis.plot(
            theta,
            rows["h" + number],
            color=color,
            linewidth=2.2,
            linestyle=(0, (1, 1.2)),
            label=f"$h_{number}$",
        )
    quarters = np.arange(np.ceil(theta[0] * 4 / np.pi - 1e-6), theta[-1] * 4 / np.pi + 1e-6)
    axis.set_xticks(quarters * np.pi / 4, [_as_fraction_of_pi(int(n)) for n in quarters])
    axis.grid(axis="x", color="#BBBBBB", linewidth=0.5, linestyle="--")
    axis.set_xlim(theta[0], theta[-1])
    axis.tick_params(labelsize=9)
    axis.set_xlabel("rotation θ")
    axis.set_title(f"$a_1 = {rows['a1'][0]:g},\\ a_2 = {rows['a2'][0]:g}$", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)


def _as_fraction_of_pi(quarters: int) -> str:
    """Return n · π/4 in lowest terms, as mathematical text."""
    if quarters == 0:
        return "$0$"
    divisor = int(np.gcd(quarters, 4))
    numerator, denominator = abs(quarters) // divisor, 4 // divisor
    top = ("" if numerator == 1 else str(numerator)) + r"\pi"
    sign = "-" if quarters < 0 else ""
    return f"${sign}{top}$" if denominator == 1 else f"${sign}{top}/{denominator}$"
