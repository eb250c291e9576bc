"""Rows of results: JSON lines, appended, each with the commit it was measured at."""

import json
import subprocess
from pathlib import Path
from typing import Any


def append_row(row: dict[str, Any], path: Path) -> None:
    """Append a row to a file of JSON lines, and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


def current_commit() -> str:
    """Return the short hash of the checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
