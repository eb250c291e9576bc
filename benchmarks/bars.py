"""Grouped horizontal bars: a group for each contender, a bar for each arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from benchmarks.cells import number
from benchmarks.comparison import Spread, arithmetic_of, arithmetic_order, is_ours, name_of
from benchmarks.rows import Row

WIDTH, BAR_INCHES = 9.0, 0.19
_ABOVE, _BELOW, _LEGEND = 0.48, 0.5, 0.35  # inches: title, axis with its unit, legend
OURS, BARE = "#0072B2", "#E69F00"  # of Okabe and Ito's palette, made for colour-blind readers
OTHERS, INK = "#6e6e6e", "#333333"
_TOWARDS_WHITE = {"float32": 0.0, "tf32": 0.35, "bfloat16": 0.6}
_GAP = 0.5  # between groups, in bars


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        colour: who it is, and by lightness in which arithmetic.
        length: median of the turns, with whiskers to the least and the most; None where the
            measurement failed.
        text: what stands at its end; the median when not given.
    """

    colour: str
    length: Spread | None
    text: str | None = None


@dataclass(frozen=True)
class Panel:
    """Named groups of bars under a title."""

    title: str
    groups: dict[str, list[Bar]]

    @property
    def height(self) -> float:
        """Height in bars."""
        return sum(map(len, self.groups.values())) + _GAP * (len(self.groups) + 1)


def bar_colour(row: Row) -> str:
    """Return the colour of who was measured, lighter for shorter arithmetic."""
    colour = OURS if is_ours(row) else BARE if name_of(row) == "bare" else OTHERS
    return _lighter(colour, arithmetic_of(row))


def _lighter(colour: str, arithmetic: str) -> str:
    towards = _TOWARDS_WHITE.get(arithmetic, 0.0)
    red, green, blue = (part + (1 - part) * towards for part in to_rgb(colour))
    return to_hex((red, green, blue))


def bar_figure(panels: Sequence[Panel], unit: str, rows: Sequence[Row], others: str) -> Figure:
    """Draw panels in two columns, bars of one thickness, each panel where there is room first.

    Args:
        panels: what to draw.
        unit: under each panel.
        rows: what the legend has to explain; none for no legend.
        others: who the grey ones are.
    """
    columns: list[list[Panel]] = [[] for _ in panels[:2]]
    for panel in panels:
        min(columns, key=_inches).append(panel)
    legend = _LEGEND if rows else 0.0
    width, height = WIDTH / len(columns), max(map(_inches, columns)) + legend
    figure = Figure(figsize=(WIDTH, height))
    for i, column in enumerate(columns):
        left = width * i + 0.15 + max(_text_inches(name) for one in column for name in one.groups)
        right, top = width * (i + 1) - 0.2, height - legend
        for panel in column:
            bars = BAR_INCHES * panel.height
            bottom = top - _ABOVE - bars
            place = (left / WIDTH, bottom / height, (right - left) / WIDTH, bars / height)
            draw_panel(figure.add_axes(place), panel, unit, panel.height)
            top = bottom - _BELOW
    add_legend(figure, rows, others)
    return figure


def _inches(column: Sequence[Panel]) -> float:
    return sum(_ABOVE + BAR_INCHES * panel.height + _BELOW for panel in column)


def _text_inches(text: str) -> float:
    return TextPath((0, 0), text, size=8.5).get_extents().width / 72


def draw_panel(axis: Axes, panel: Panel, unit: str, height: float) -> None:
    """Draw one panel into an axis that is `height` bars high."""
    ends = [bar.length.high for bars in panel.groups.values() for bar in bars if bar.length]
    longest = max(ends, default=1.0)
    y, ticks = _GAP, []
    for bars in panel.groups.values():
        ticks.append(y + len(bars) / 2)
        for bar in bars:
            _draw_bar(axis, bar, y + 0.5, longest)
            y += 1
        y += _GAP
    axis.set_yticks(ticks, list(panel.groups))
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(height, 0)
    axis.set_xlim(0, 1.2 * longest)
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.grid(axis="x")
    axis.set_xlabel(unit)
    axis.set_title(panel.title)


def _draw_bar(axis: Axes, bar: Bar, y: float, longest: float) -> None:
    if bar.length is None:
        axis.text(0.01 * longest, y, "failed", va="center", style="italic", fontsize=8)
        return
    low, high = bar.length.low, bar.length.high
    axis.barh(y, bar.length.median, height=0.88, color=bar.colour)
    if low < high:
        axis.plot([low, high], [y, y], color=INK, linewidth=1)
        axis.plot([low, high], [y, y], "|", color=INK, markersize=5)
    text = number(bar.length.median) if bar.text is None else bar.text
    axis.text(high + 0.015 * longest, y, text, va="center", color=INK, fontsize=8)


def add_legend(figure: Figure, rows: Sequence[Row], others: str) -> None:
    """Explain what colours and lightness mean; nothing where there is but one of them."""
    whose = {
        OURS: ("ours", any(is_ours(row) for row in rows)),
        OTHERS: (others, any(not is_ours(row) and name_of(row) != "bare" for row in rows)),
        BARE: ("our bare step, without an engine", any(name_of(row) == "bare" for row in rows)),
    }
    colours = {colour: text for colour, (text, there) in whose.items() if there}
    names = list(dict.fromkeys(map(arithmetic_of, sorted(rows, key=arithmetic_order))))
    handles: dict[str, Any] = {text: Patch(color=colour) for colour, text in colours.items()}
    if len(names) > 1:
        handles |= {
            name: tuple(Patch(color=_lighter(colour, name)) for colour in colours) for name in names
        }
    if len(handles) > 1:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper center" if figure.get_layout_engine() else "upper center",
            ncols=len(handles),
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        )
