"""Files of rows: JSON lines, appended."""

import json
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def append_row(row: Row, path: Path) -> None:
    """Append a row to a file, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_lines(path: Path) -> list[Row]:
    """Read all rows of a file; a line that a crash tore is skipped, and said on stderr."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}:{number}: skipped a torn line", file=sys.stderr)
    return rows
