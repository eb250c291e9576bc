"""How a training went: the loss and the validation accuracy, drawn from its curve.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gaxjax.report.figures.figure import save
from gaxjax.report.figures.style import CORRECT, INK, WRONG, styled

__all__ = ["draw_learning_curve"]


def draw_learning_curve(
    rows: Sequence[Mapping[str, Any]], wanted: float, output: Path, file_format: str
) -> None:
    """Draw one point per validation: the mean loss since the one before, and the accuracy.

    Args:
        rows: of curve.csv, with `iteration`, `loss` and `validation_accuracy`.
        wanted: the validation accuracy to stop at, in [0, 1], drawn as a dashed line.
        output: the file, whatever its ending.
        file_format: `png` or `svg`.
    """
    from matplotlib.figure import Figure

    iterations = [row["iteration"] for row in rows]
    with styled():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(iterations, [row["loss"] for row in rows], ".-", color=WRONG)
        above.set_ylabel("training loss")
        above.set_ylim(bottom=0)
        accuracies = [row["validation_accuracy"] for row in rows]
        below.plot(iterations, accuracies, ".-", color=CORRECT)
        below.axhline(wanted, color=INK, linestyle="--", linewidth=0.9)
        below.annotate(
            f"wanted {wanted:g}",
            (0, wanted),
            xycoords=("axes fraction", "data"),
            xytext=(3, -10),
            textcoords="offset points",
        )
        below.set_ylabel("validation accuracy")
        below.set_xlabel("iteration")
        save(figure, output, file_format)
