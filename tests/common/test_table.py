"""A table has the same cells in every form, and a CSV file gives back what was written."""

import csv
import io

import pytest
from rich.console import Console

from gaxjax.common.table import Column, Strong, Table, columns_of, to_csv

TABLE = Table(
    (Column("method", "left", wraps=True), Column("AUROC\nafter")),
    ((Strong("saliency [sum]"), "0.625\n0.500"), ("<b>a|b_c</b>", "–")),
    "Gap",
    ("A legend.", "A verdict."),
)


@pytest.mark.parametrize("framed", [False, True])
def test_a_terminal_shows_title_cells_and_notes(framed):
    console = Console(width=60, file=io.StringIO())
    console.print(Table(TABLE.columns, TABLE.rows, TABLE.title, TABLE.notes, framed))
    lines = console.file.getvalue().splitlines()
    assert lines[0].rstrip() == "Gap"
    text = "\n".join(lines)
    for words in ("saliency [sum]", "0.500", "<b>a|b_c</b>", "A legend.", "A verdict."):
        assert words in text
    assert ("│" in text) == framed


def test_html_escapes_every_text():
    html = TABLE.to_html("numbers")
    assert html.startswith('<table class="numbers">')
    assert '<th scope="col" class="word">method</th><th scope="col">AUROC after</th>' in html
    assert "<td>0.625<br>0.500</td>" in html
    assert "<strong>saliency [sum]</strong>" in html
    assert "&lt;b&gt;a|b_c&lt;/b&gt;" in html


def test_markdown_keeps_cells_apart():
    assert TABLE.to_markdown() == (
        "| method | AUROC after |\n"
        "| --- | ---: |\n"
        "| **saliency [sum]** | 0.625<br>0.500 |\n"
        "| <b>a\\|b_c</b> | – |\n"
    )


def test_latex_escapes_its_own_letters():
    lines = TABLE.to_latex().splitlines()
    assert lines[0] == "\\begin{tabular}{lr}"
    assert lines[2] == "method & AUROC after \\\\"
    assert lines[4] == "\\textbf{saliency [sum]} & 0.625 0.500 \\\\"
    assert lines[5] == "<b>a|b\\_c</b> & -- \\\\"


def test_a_csv_file_gives_back_what_was_written():
    columns = {"name": ["a,b", 'say "c"', "two\nlines"], "score": [0.1, None, 1e-7]}
    text = to_csv(columns)
    assert "\r" not in text
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == [
        {"name": "a,b", "score": "0.1"},
        {"name": 'say "c"', "score": ""},
        {"name": "two\nlines", "score": "1e-07"},
    ]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        to_csv({"a": [1, 2], "b": [1]})


def test_rows_become_the_columns_that_any_of_them_has():
    assert columns_of(iter([{"a": 1}, {"b": 2, "a": 3}])) == {"a": [1, 3], "b": [None, 2]}
    assert columns_of([]) == {}


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_text_that_a_spreadsheet_would_compute_is_quoted(text):
    (_, (cell,)) = csv.reader(io.StringIO(to_csv({"name": [text]}), newline=""))
    assert cell == f"'{text}"


def test_numbers_stay_numbers_in_a_csv_file():
    cells = [-0.5, -3, "-0.5", "+7", "-inf", None, "a=b"]
    text = to_csv({"row": range(len(cells)), "value": cells})
    assert text == "row,value\n0,-0.5\n1,-3\n2,-0.5\n3,+7\n4,-inf\n5,\n6,a=b\n"


def test_a_name_of_a_column_is_quoted_too():
    assert to_csv({"=x": [1]}) == "'=x\n1\n"


def test_escapes_reach_neither_terminal_nor_document():
    table = Table(
        (Column("name\x1b[1m", "left"),), (("\x1b]0;t\x07",),), "Title\x1b[2J", ("\u202e",)
    )
    screen = Console(file=io.StringIO(), width=80)
    screen.print(table)
    for text in (screen.file.getvalue(), table.to_markdown(), table.to_latex()):
        assert not set("\x1b\x07\u202e") & set(text)
        assert "x1b" in text


def test_a_cell_in_brackets_is_no_option_of_the_row_before_it_in_latex():
    table = Table((Column("name", "left"),), (("[sum]",), ("*",)))
    assert "\n{}[sum] \\\\\n{}* \\\\\n" in table.to_latex()
