"""The paper's Table 1 for the terminal: how well a model tells two classes apart."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from gaxjax.evaluate import Evaluation


def render(
    result: Evaluation, names: Sequence[str], validation_accuracy: float | None
) -> list[Table]:
    """Return Table 1's row, with AUROC, and the confusion matrix.

    Args:
        result: of a classifier with two classes.
        names: of the classes, the positive one second.
        validation_accuracy: in [0, 1], where it is known.
    """
    figures = {"accuracy": result.accuracy, **result.binary(), "val. acc.": validation_accuracy}
    names = [escape(name) for name in names]
    table = Table(title=f"Positive: {names[1]}", title_justify="left")
    for name in figures:
        table.add_column(name.upper() if name == "auroc" else name, justify="right")
    table.add_row(*("–" if value is None else f"{value:.3f}" for value in figures.values()))
    confusion = Table(title="Images", title_justify="left")
    confusion.add_column("label")
    for name in names:
        confusion.add_column(f"predicted {name}", justify="right")
    for name, row in zip(names, result.confusion.tolist(), strict=True):
        confusion.add_row(name, *map(str, row))
    return [table, confusion]
