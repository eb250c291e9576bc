"""The paper's Table 1: for the terminal, and as Markdown, LaTeX or CSV."""

import csv
import io
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from gaxjax.evaluate import Evaluation

__all__ = ["FORMATS", "render", "table_1", "written"]

FORMATS = (".md", ".tex", ".csv")
"""Endings of the files that `written` writes."""


def table_1(result: Evaluation, validation_accuracy: float | None) -> dict[str, float | None]:
    """Return Table 1's figures of a classifier with two classes, and AUROC; None: undefined."""
    figures = {"accuracy": result.accuracy, **result.binary()}
    figures["AUROC"] = figures.pop("auroc")
    return figures | {"val. acc.": validation_accuracy}


def render(
    result: Evaluation, names: Sequence[str], validation_accuracy: float | None
) -> list[Table]:
    """Return Table 1's row, with AUROC, and the confusion matrix.

    Args:
        result: of a classifier with two classes.
        names: of the classes, the positive one second.
        validation_accuracy: in [0, 1], where it is known.
    """
    names = [escape(name) for name in names]
    figures = table_1(result, validation_accuracy)
    table = Table(title=f"Positive: {names[1]}", title_justify="left")
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*map(_rounded, figures.values()))
    confusion = Table(title="Images", title_justify="left")
    confusion.add_column("label")
    for name in names:
        confusion.add_column(f"predicted {name}", justify="right")
    for name, row in zip(names, result.confusion.tolist(), strict=True):
        confusion.add_row(name, *map(str, row))
    return [table, confusion]


def written(figures: dict[str, float | None], model: str, ending: str) -> str:
    """Return Table 1 as a file's text.

    Args:
        figures: from `table_1`.
        model: what its row is called.
        ending: `.md`, `.tex` (a booktabs tabular) or `.csv` (figures unrounded).

    Example:
        >>> print(written({"accuracy": 0.8, "recall": None}, "resnet34", ".md"), end="")
        | model | accuracy | recall |
        | --- | ---: | ---: |
        | resnet34 | 0.800 | – |
    """
    if ending == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", *figures])
        writer.writerow([model, *figures.values()])
        return text.getvalue()
    cells = [model, *map(_rounded, figures.values())]
    if ending == ".md":
        cells = [cell.replace("|", "\\|") for cell in cells]
        lines = [["model", *figures], ["---", *["---:"] * len(figures)], cells]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    assert ending == ".tex", ending
    cells = ["".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells]
    return (
        f"\\begin{{tabular}}{{l{'r' * len(figures)}}}\n\\toprule\n"
        f"{' & '.join(['model', *figures])} \\\\\n\\midrule\n"
        f"{' & '.join(cells)} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "–": "--",
}


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
