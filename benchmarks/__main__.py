"""python -m benchmarks run | list | table | plot."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.run import BENCHMARKS, Run, run_suite
from benchmarks.suites import Suite, suite_measurements
from gaxjax.common.errors import UserError


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
        documents: Markdown files with `<!-- table:NAME -->` marks.
    """

    results: Path = BENCHMARKS / "results"
    documents: tuple[Path, ...] = (BENCHMARKS / "README.md", BENCHMARKS.parent / "README.md")


@dataclass(frozen=True)
class Plot:
    """Draw the pictures of benchmarks/README.md anew, from the stored rows alone.

    Attributes:
        results: Folder of rows.
        output: Folder of PNG files.
    """

    results: Path = BENCHMARKS / "results"
    output: Path = BENCHMARKS / "plots"


def main() -> None:
    """Parse the command line and do it; 1 where a row failed, 2 for a user's mistake."""
    command = tyro.cli(
        Run | List | Table | Plot,
        prog="python -m benchmarks",
        description="Throughput, peers, memory, scaling; see benchmarks/README.md.",
    )
    try:
        sys.exit(_execute(command))
    except UserError as error:
        sys.exit(_refuse(error))


def _execute(command: Run | List | Table | Plot) -> int:
    match command:
        case Run():
            return 1 if run_suite(command) else 0
        case List():
            print(*(one.key for one in suite_measurements(command.suite)), sep="\n")
        case Table():
            from benchmarks.table import write_tables

            for document in command.documents:
                print(*write_tables(command.results, document), sep="\n")
        case Plot():
            from benchmarks.plot import write_plots

            print(*write_plots(command.results, command.output), sep="\n")
    return 0


def _refuse(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
