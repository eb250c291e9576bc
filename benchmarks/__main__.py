"""python -m benchmarks run | list | table | gpu-code | coverage | soak | scaling | sources |
generators | saturation.
"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.coverage.cover import Coverage, cover
from benchmarks.generators import Generators, generators
from benchmarks.gpu_code.look import GpuCode, look
from benchmarks.measure.run import BENCHMARKS, Run, run_suite
from benchmarks.measure.suites import Stage, Suite, suite_stages
from benchmarks.saturation import Saturation, saturation
from benchmarks.scaling.command import Scaling, scaling
from benchmarks.soak import Soak, soak
from benchmarks.sources import Sources, sources
from gaxjax.cli.startup import restart_with_kept_memory
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
        stage: Only this stage of the gpu suite.
    """

    suite: Suite = "quick"
    stage: Stage | None = None


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
    """Parse the command line and do it; 1 where a row failed or memory grew, 2 for a mistake.

    Stopped by SIGTERM or Ctrl-C, a run ends its contestants and says what it has.
    """
    command = tyro.cli(
        Run
        | List
        | Table
        | GpuCode
        | Coverage
        | Soak
        | Scaling
        | Sources
        | Generators
        | Saturation,
        prog="python -m benchmarks",
        description="Throughput, peers, memory, scaling; see benchmarks/README.md.",
    )
    try:
        sys.exit(_execute(command))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)


def _execute(
    command: Run
    | List
    | Table
    | GpuCode
    | Coverage
    | Soak
    | Scaling
    | Sources
    | Generators
    | Saturation,
) -> int:
    match command:
        case Run():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            return 1 if run_suite(command) else 0
        case List():
            stages = suite_stages(command.suite, command.stage).values()
            print(*(one.key for measurements in stages for one in measurements), sep="\n")
        case GpuCode():
            look(command)
        case Coverage():
            return 1 if any("error" in row for row in cover(command)) else 0
        case Soak():
            restart_with_kept_memory()  # as `gaxjax gax` does
            return 0 if soak(command)["flat"] else 1
        case Sources():
            sources(command)
        case Generators():
            generators(command)
        case Saturation():
            saturation(command)
        case Scaling():
            restart_with_kept_memory()  # as `gaxjax gax` does
            scaling(command)
        case Table():
            from benchmarks.show.documents import with_tables, write_tables

            documents = command.documents or with_tables(_DOCUMENTS)
            print(*write_tables(command.results, documents), sep="\n")
    return 0


if __name__ == "__main__":
    main()
