"""The table of programs compiled for GPUs that were only described."""

from benchmarks.measure.rows import Row
from benchmarks.show.cells import markdown, number

_PROGRAM = ("target", "model", "size", "executable", "precision", "slots")
_COLUMNS = [
    *("network", "program", "precision", "images", "for", "kernels", "GB", "TFLOP"),
    *("ms at 60% of the peak", "images/s", "convolutions: forward / with ReLU / with addend"),
    *("host waits", "copies", "transposes", "MiB a slot: temporaries + arguments", "commit"),
]


def gpu_code_history(rows: list[Row]) -> str:
    """Return what became of the first program of the rows, by commit."""
    found = [row for row in rows if row.get("workload") == "gpu_code"]
    same = [row for row in found if all(row[name] == found[0][name] for name in _PROGRAM)]
    return markdown(_COLUMNS, [_cells(row) for row in same]) if same else ""


def gpu_code(rows: list[Row]) -> str:
    """Return the newest row of each program, in the order in which they were first seen."""
    newest: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.get("workload") == "gpu_code":
            newest[tuple(str(row[name]) for name in _PROGRAM)] = row
    return markdown(_COLUMNS, [_cells(row) for row in newest.values()]) if newest else ""


def _cells(row: Row) -> list[str]:
    return [
        f"{row['model']}, {row['size']} × {row['size']}",
        row["executable"],
        row["precision"],
        str(row["images"]),
        row["target"],
        str(row["kernels"]),
        number(row["gigabytes"]),
        number(row["teraflop"]),
        number(row["milliseconds_at_60_percent"]),
        number(row["images_per_s_at_60_percent"]),
        f"{row['forward_convolutions']} / {row['with_activation']} / {row['with_side_input']}",
        *(str(row[name]) for name in ("loops_that_wait", "large_copies", "transposes")),
        f"{number(row['temporary_mib_per_slot'])} + {number(row['argument_mib_per_slot'])}",
        row["commit"],
    ]
