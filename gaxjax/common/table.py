"""A table as data, and its forms: for a terminal, a page, a document and a CSV file."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from gaxjax.common.text import printable

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["Column", "Strong", "Table", "columns_of", "to_csv"]


class Strong(str):
    """The text of a cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Column:
    """A column's name, which may have two lines, the side where its cells stand, and their width.

    A terminal that is too narrow breaks the lines of a column that wraps, and no others.
    """

    name: str
    align: Literal["left", "right"] = "right"
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of text under named columns.

    Attributes:
        columns: their names and sides.
        rows: a cell for each column, which may have several lines, and may be `Strong`.
        title, notes: what stands above and below, on a terminal; other forms are of the cells
            alone, for a page or a document has headings of its own.
        framed: whether a terminal draws lines around all cells.

    Example:
        >>> table = Table((Column("method", "left"), Column("AUROC")), (("saliency", "0.625"),))
        >>> print(table.to_markdown(), end="")
        | method | AUROC |
        | --- | ---: |
        | saliency | 0.625 |
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    framed: bool = False

    def __rich__(self) -> "RichTable":
        """Return what `rich` prints: `rich.print(table)`."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        # Text throughout, since rich takes "[sum]" in a plain string for a style.
        def shown(text: str, style: str = "") -> Text:
            return Text(printable(text, keep="\n"), style)

        table = RichTable(
            title=shown(self.title, "table.title" if self.framed else "bold"),
            caption=shown("\n".join((*self.notes, ""))) if self.notes else None,
            title_justify="left",
            caption_justify="left",
            box=box.HEAVY_HEAD if self.framed else box.SIMPLE_HEAD,
            padding=(0, 1) if self.framed else (0, 1, 0, 0),
        )
        for column in self.columns:
            table.add_column(
                shown(column.name),
                justify=column.align,
                overflow="fold" if column.wraps else "ellipsis",
                no_wrap=not column.wraps,
            )
        for row in self.rows:
            table.add_row(*(shown(cell, "bold" if _is_strong(cell) else "") for cell in row))
        return table

    def to_html(self, css_class: str | None = None) -> str:
        """Return a `<table>` with all text escaped; cells on the left are of the class `word`."""
        sides = [' class="word"' if column.align == "left" else "" for column in self.columns]
        head = "".join(
            f'<th scope="col"{side}>{escape(_one_line(column.name))}</th>'
            for side, column in zip(sides, self.columns, strict=True)
        )
        lines = [
            f'<table class="{css_class}">' if css_class else "<table>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
        ]
        for row in self.rows:
            pairs = zip(sides, row, strict=True)
            cells = "".join(f"<td{side}>{_html(cell)}</td>" for side, cell in pairs)
            lines.append(f"<tr>{cells}</tr>")
        return "\n".join([*lines, "</tbody>", "</table>"])

    def to_markdown(self) -> str:
        """Return the lines of a GitHub-flavoured Markdown table."""

        def cell(text: str) -> str:
            plain = printable(text, keep="\n").replace("|", "\\|").replace("\n", "<br>")
            return f"**{plain}**" if _is_strong(text) else plain

        names = [cell(_one_line(column.name)) for column in self.columns]
        rule = ["---:" if column.align == "right" else "---" for column in self.columns]
        lines = [names, rule, *(map(cell, row) for row in self.rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_latex(self) -> str:
        """Return a `tabular` with the rules of the package booktabs."""

        def cell(text: str) -> str:
            plain = "".join(_LATEX.get(letter, letter) for letter in printable(_one_line(text)))
            plain = "{}" * plain.startswith(("[", "*")) + plain  # else an option of the row before
            return f"\\textbf{{{plain}}}" if _is_strong(text) else plain

        def line(cells: Iterable[str]) -> str:
            return f"{' & '.join(map(cell, cells))} \\\\\n"

        sides = "".join(column.align[0] for column in self.columns)
        return (
            f"\\begin{{tabular}}{{{sides}}}\n\\toprule\n"
            f"{line(column.name for column in self.columns)}\\midrule\n"
            f"{''.join(map(line, self.rows))}\\bottomrule\n\\end{{tabular}}\n"
        )


_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "–": "--",
}


def _is_strong(cell: str) -> bool:
    return isinstance(cell, Strong)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").strip()


def _html(cell: str) -> str:
    text = "<br>".join(map(escape, cell.split("\n")))
    return f"<strong>{text}</strong>" if _is_strong(cell) else text


# --- CSV -----------------------------------------------------------------------------------------


def to_csv(columns: Mapping[str, Sequence[object]]) -> str:
    r"""Return the text of a CSV file: a line of names, then one for each row; None is empty.

    Numbers are written in full, and texts in quotes only where they hold a comma, a quote or a line
    break: pyarrow's writer would quote all of them. A text that a spreadsheet would take for a
    formula gets a ' before it.

    Args:
        columns: by name, all of one length.

    Example:
        >>> to_csv({"name": ["a,b", "c"], "score": [0.5, None]})
        'name,score\n"a,b",0.5\nc,\n'
        >>> to_csv({"name": ["=1+1"], "score": [-0.5]})
        "name,score\n'=1+1,-0.5\n"
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (tuple(columns), *zip(*columns.values(), strict=True)):
        # Python quotes no carriage return, at which every reader ends the row.
        returns = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoting if returns else plain).writerow(map(_no_formula, row))
    return text.getvalue()


def _no_formula(cell: object) -> object:
    """Return a cell as it is, but a text that begins like a formula, and is no number, quoted."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def columns_of(rows: Iterable[Mapping[str, object]]) -> dict[str, list[object]]:
    """Turn rows into the columns that any of them has, in the order in which they first occur.

    Example:
        >>> columns_of([{"a": 1}, {"a": 2, "b": 3}])
        {'a': [1, 2], 'b': [None, 3]}
    """
    kept = list(rows)
    names = dict.fromkeys(name for row in kept for name in row)
    return {name: [row.get(name) for row in kept] for name in names}
