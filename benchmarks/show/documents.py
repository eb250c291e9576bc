"""Markdown files with tables in them: markers on lines of their own say which, and where.

    <!-- table:fixed_steps -->
    <!-- end -->

What stands between is replaced.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure.rows import Row
from benchmarks.show.comparison import read_rows
from benchmarks.show.table import TABLES
from gaxjax.common import UserError, nearest

_MARKER = re.compile(
    r"^<!-- table:(?P<name>\S+) -->\n(?P<between>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL
)
_OPENING = re.compile(r"^<!-- table:(\S+) -->$", re.MULTILINE)


def with_tables(documents: Iterable[Path]) -> list[Path]:
    """Return those files that exist and have a marker."""
    return [path for path in documents if path.exists() and _OPENING.search(path.read_text())]


def write_tables(results: Path, documents: Iterable[Path]) -> list[Path]:
    """Replace the tables of Markdown files by those of the stored rows.

    Args:
        results: a file of rows, or a folder of such files.
        documents: files with markers.

    Returns:
        What was written.

    Raises:
        UserError: an unknown table, a marker without its end, or no marker at all.
    """
    rows, written = read_rows(results), []
    for document in documents:
        document.write_text(_filled(document.read_text(), document, rows))
        written.append(document)
    return written


def _filled(text: str, document: Path, rows: list[Row]) -> str:
    names = _OPENING.findall(text)
    if not names:
        raise UserError(
            f"{document} has no line like <!-- table:fixed_steps --> to put a table under"
        )
    for name in names:
        if name not in TABLES:
            raise UserError(
                f"{document} asks for an unknown table {name!r}{nearest(name, TABLES)}; known: "
                + ", ".join(TABLES)
            )
    ended = [
        found["name"] for found in _MARKER.finditer(text) if not _OPENING.search(found["between"])
    ]
    if ended != names:
        raise UserError(f"{document}: a table's marker lacks its <!-- end --> on a line of its own")

    def fill(found: re.Match[str]) -> str:
        table = TABLES[found["name"]](rows) or "not measured yet\n"
        return f"<!-- table:{found['name']} -->\n\n{table}\n<!-- end -->"

    return _MARKER.sub(fill, text)
