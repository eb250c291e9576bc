"""python -m benchmarks run | list | table | gpu-code."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.gpu_code.look import GpuCode, look
from benchmarks.measure.run import BENCHMARKS, Run, run_suite
from benchmarks.measure.suites import Suite, suite_measurements
from gaxjax.common import UserError

_PROJECT = BENCHMARKS.parent
_DOCUMENTS = (
    *(BENCHMARKS / "README.md", _PROJECT / "README.md"),
    *sorted((_PROJECT / "docs").glob("*.md")),
)


@dataclass(frozen=True)
class List:
    """Name every row of a suite.

    Attributes:
        suite: quick, cpu or gpu.
    """

    suite: Suite = "quick"


@dataclass(frozen=True)
class Table:
    """Write the tables of Markdown files anew, from the stored rows alone.

    Attributes:
        results: Folder of rows.
        documents: Markdown files with `<!-- table:NAME -->` marks; by default those of README.md,
            docs/*.md and benchmarks/README.md that have some.
    """

    results: Path = BENCHMARKS / "results"
    documents: tuple[Path, ...] = ()


def main() -> None:
    """Parse the command line and do it; 1 where a row failed, 2 for a user's mistake."""
    command = tyro.cli(
        Run | List | Table | GpuCode,
        prog="python -m benchmarks",
        description="Throughput, peers, memory, scaling; see benchmarks/README.md.",
    )
    try:
        sys.exit(_execute(command))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _execute(command: Run | List | Table | GpuCode) -> int:
    match command:
        case Run():
            return 1 if run_suite(command) else 0
        case List():
            print(*(one.key for one in suite_measurements(command.suite)), sep="\n")
        case GpuCode():
            look(command)
        case Table():
            from benchmarks.show.documents import with_tables, write_tables

            documents = command.documents or with_tables(_DOCUMENTS)
            print(*write_tables(command.results, documents), sep="\n")
    return 0


if __name__ == "__main__":
    main()
