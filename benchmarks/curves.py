"""Rates and memory over a size, and the histogram of steps."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from benchmarks.bars import INK, OURS, WIDTH
from benchmarks.cells import problem
from benchmarks.comparison import Unit, arithmetic_of, by_machine, failed, is_ours, rate
from benchmarks.rows import Row

_VERMILION = "#D55E00"
_LINES = (OURS, _VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's
_MARKERS = "osD^vP"
_MEMORY = {
    "peak_device_bytes": "peak device memory, GB",
    "peak_host_bytes": "peak host memory, GB",
}
_MOST_BARS = 50


def draw_curves(
    rows: Sequence[Row], *, over: tuple[str, str, int], unit: tuple[Unit, str], memory: str
) -> Figure:
    """Draw rates and peak memory over a size, a line of two panels for each machine.

    Args:
        rows: of one workload.
        over: the field across, what it is called, and the base of its logarithms.
        unit: of the rate, and what it is called.
        memory: `peak_device_bytes` or `peak_host_bytes`; where no row of a machine has the first,
            it is the second.
    """
    field, across, base = over
    machines = by_machine(rows)
    figure = Figure(figsize=(WIDTH, 2.9 * len(machines)), layout="constrained")
    axes = figure.subplots(len(machines), 2, squeeze=False)
    for part, (left, right) in zip(machines, axes, strict=True):
        held = memory if any(row.get(memory) for row in part) else "peak_host_bytes"
        lines: dict[str, list[Row]] = {}
        for row in sorted(part, key=lambda row: row[field]):
            lines.setdefault(f"{problem(row)}, {arithmetic_of(row)}", []).append(row)
        for i, (label, line) in enumerate(lines.items()):
            colour, marker = _LINES[i % len(_LINES)], _MARKERS[i % len(_MARKERS)]
            look = {"color": colour, "marker": marker, "markersize": 4, "label": label}
            rates = [(row[field], found) for row in line if (found := rate(row, unit[0]))]
            left.plot([x for x, _ in rates], [found.median for _, found in rates], **look)
            for x, found in rates:
                left.plot([x, x], [found.low, found.high], color=INK, linewidth=1)
            known = [(row[field], row[held] / 1e9) for row in line if row.get(held)]
            right.plot([x for x, _ in known], [size for _, size in known], **look)
            for row in filter(failed, line):
                left.annotate(
                    *("failed", (row[field], 0), (0, 3)),
                    textcoords="offset points",
                    ha="center",
                    style="italic",
                    fontsize=8,
                )
        sizes = sorted({row[field] for row in part})
        margin = max(base**0.5, sizes[-1] / sizes[0]) ** 0.08
        for axis, upwards in ((left, unit[1]), (right, _MEMORY[held])):
            axis.set_xscale("log", base=base)
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.set_xlim(sizes[0] / margin, sizes[-1] * margin)
            axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
            axis.yaxis.set_major_formatter("{x:,g}")
            axis.grid(axis="y")
            axis.set_xlabel(across)
            axis.set_ylabel(upwards)
        alone = f"{next(iter(lines))}\n" if len(lines) == 1 else ""
        left.set_title(f"{alone}{part[0]['device']}")
        if not alone:
            right.legend()
    return figure


def draw_steps(axis: Axes, rows: Sequence[Row]) -> None:
    """Draw how many updates images took, in the first row of ours that says so."""
    row = next((row for row in rows if is_ours(row) and row.get("steps")), None)
    if row is None:
        axis.set_axis_off()
        return
    steps = row["steps"]
    middle, most = statistics.median(steps), max(steps)
    width = -(-(most + 1) // _MOST_BARS)
    edges = [width * i - 0.5 for i in range(-(-(most + 1) // width) + 1)]
    axis.hist(steps, edges, color=OURS, edgecolor="white", linewidth=0.4)
    axis.axvline(middle, color=_VERMILION, linewidth=1.2)
    axis.text(
        *(middle, 1.0, f"  median {middle:g}, most {most}"),
        transform=axis.get_xaxis_transform(),
        va="top",
        color=_VERMILION,
    )
    axis.set_ylim(top=1.15 * axis.get_ylim()[1])  # room for the median's label
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        direction.set_major_formatter("{x:,g}")
    axis.set_xlabel("updates until the target" + (f", {width} to a bar" if width > 1 else ""))
    axis.set_ylabel("images")
    stopped = (row.get("outcomes") or {}).get("step_limit", 0)
    more = f"{stopped:,} more stopped without it at {row['max_steps']:,}" if stopped else ""
    axis.set_title(f"ours, {arithmetic_of(row)}: {len(steps):,} images reached the target\n{more}")
