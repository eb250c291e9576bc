"""The table of the places that images are read from."""

from benchmarks.measure.rows import Row
from benchmarks.show.cells import captioned, markdown, spread
from benchmarks.show.comparison import failed, rate

__all__ = ["sources"]

_NAMES = {"folder": "class folders", "parquet": "Parquet files", "tar": "tar archives"}


def sources(rows: list[Row]) -> str:
    """Return a line for each place: how fast it is read, and how long opening it takes."""
    found = [row for row in rows if row["workload"] == "sources" and not failed(row)]
    return "\n\n".join(_table(row) for row in found)


def _table(row: Row) -> str:
    lines = []
    for name, place in row["places"].items():
        kind = name.removeprefix("s3 ")
        lines.append(
            [
                f"{_NAMES[kind]} {'by `s3://`' if kind != name else 'on the disk'}",
                str(row["threads"][name]),
                spread(rate(place, "images")),
                f"{place['first_opening_seconds']:.2f}",
                f"{place['opening_seconds']:.2f}",
            ]
        )
    titles = ["place", "threads", "images/s", "first opening, s", "opening again, s"]
    return captioned(markdown(titles, lines), [{"precision": "uint8", **row}])
