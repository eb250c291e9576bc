"""Rows of results: JSON lines, appended."""

import json
from pathlib import Path
from typing import Any


def append_row(row: dict[str, Any], path: Path) -> None:
    """Append a row to a file of JSON lines, and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))
