"""How commands talk: what they did, what they wrote and what to try next."""

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from gaxjax.common import AnyPath, printable

if TYPE_CHECKING:
    from gaxjax.results import Evaluation
    from gaxjax.runs import RunSummary

__all__ = [
    "check_or_report",
    "complain",
    "console",
    "counting",
    "note",
    "print_evaluation",
    "print_gap",
    "print_outcomes",
    "say",
    "tables",
    "verify_command",
    "what_is_stored",
    "wrote",
]


class _Console(Console):
    """Goes on in silence when nobody reads any more (`gaxjax … | head`), so that all is written."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = _Console(highlight=False, soft_wrap=True)
tables = _Console(highlight=False, width=120)


def say(text: str) -> None:
    """Print a line: brackets in it are no markup, and nothing in it commands the terminal."""
    console.print(printable(text), markup=False)


def complain(text: str) -> None:
    """Print to stderr why a command ends; a message may have several lines."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    errors.print(f"gaxjax: {printable(text, keep=_LINE_BREAK)}")


_LINE_BREAK = "\n"


def note(text: str) -> None:
    """Print a line on what the user may not expect."""
    say(f"Note: {text}")


@contextlib.contextmanager
def counting(task: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar while the block works; gives a function that takes how many are done, of all.

    Args:
        task: such as Verifying.
        what: is counted, such as images.
    """
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TextColumn(f"{what}, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(task, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def wrote(*files: tuple[AnyPath, str], next_command: str) -> None:
    """Print each file with what it holds, then a command to try next."""
    names = [printable(str(path)) for path, _ in files]
    width = max(map(len, names))
    for name, (_, what) in zip(names, files, strict=True):
        say(f"Wrote {name:<{width}}  {what}")
    say(f"Next: {next_command}")


def print_outcomes(outcomes: dict[str, int], what: str) -> None:
    """Print how many rows of a run ended how, such as "5 images: 4 target, 1 step_limit"."""
    total = sum(outcomes.values())
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    say(f"{total:,} {what}: {counts}")


def print_gap(run: AnyPath) -> None:
    """Print how far correct and wrong predictions lie apart in a run, where it has scores."""
    from gaxjax.report import statistics_tables
    from gaxjax.results import read_scores, run_statistics

    statistics = run_statistics(read_scores(run))
    if statistics.methods:
        tables.print(statistics_tables(statistics)[0])


def print_evaluation(
    result: "Evaluation", names: tuple[str, ...] | None, validation_accuracy: float | None
) -> None:
    """Print how well a model classifies, and of two classes the tables.

    Args:
        result: what an evaluation found.
        names: of the classes, where they are known.
        validation_accuracy: in [0, 1], where it is known.
    """
    from gaxjax.report import evaluation_tables

    say(
        f"{result.num_correct} of {result.num_images} images correct ({result.accuracy:.1%}), "
        f"mean probability of the right class {result.mean_probability:.3f}"
    )
    if result.num_unreadable:
        say(f"{result.num_unreadable} images could not be read")
    if result.num_classes == 2:
        tables.print(*evaluation_tables(result, names or ("0", "1"), validation_accuracy))


def what_is_stored(heatmaps: str) -> str:
    """Return what a run's folder holds, for a run's `--heatmaps`."""
    return "scores (Parquet)" + (" and heatmaps (Zarr)" if heatmaps != "none" else "")


def check_or_report(summary: "RunSummary", heatmaps: str) -> str:
    """Return the command after a run: verify it, or report it where no heatmaps are stored.

    Of a run that others go on with, inspect it.
    """
    if summary.missing:
        say(f"{summary.missing:,} images of other slices have no rows yet")
        return f"gaxjax inspect {shlex.quote(str(summary.output))}"
    if heatmaps == "none":
        return f"gaxjax report {shlex.quote(str(summary.output))}"
    return verify_command(summary.output, summary.num_images)


def verify_command(run: AnyPath, num_images: int) -> str:
    """Return the command that verifies a run, of at most 20 images."""
    return f"gaxjax verify {shlex.quote(str(run))}" + " --num-images 20" * (num_images > 20)
