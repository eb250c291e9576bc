"""`gaxjax ax`: the heatmaps of existing methods, scored."""

from collections.abc import Sequence
from dataclasses import dataclass

from gaxjax.cli.command import Command, RunFolder
from gaxjax.cli.console import (
    check_or_report,
    note,
    print_gap,
    print_outcomes,
    say,
    what_is_stored,
    wrote,
)
from gaxjax.common import UserError
from gaxjax.config import AxRunConfig

__all__ = ["Ax"]


@dataclass(frozen=True, kw_only=True)
class Ax(Command):
    """Score the heatmaps of existing methods (AX); the same command resumes a cut-off run.

    Attributes:
        output: Folder of the run, or a URL such as s3://bucket/run: scores as Parquet, heatmaps
            as Zarr.
    """

    run: AxRunConfig
    output: RunFolder

    computes = True
    kept = "; finished images are stored, the same command resumes"

    @property
    def computes_here(self) -> bool:
        """Whether it computes with JAX in this process, and not in Ray's."""
        return self.run.spread.ray is None

    def execute(self, given: Sequence[str]) -> int:
        """Run AX, and print the outcomes and how far right and wrong predictions lie apart."""
        from gaxjax.ax import BatchStats
        from gaxjax.runs import explain_nothing_scored, run_ax

        summary = run_ax(self.run, self.output, note=note)
        if summary.resumed:
            say(f"{summary.resumed:,} images were done before")
        print_outcomes(summary.outcomes, "scores of heatmaps")
        stats = summary.stats
        if isinstance(stats, BatchStats) and stats.images:
            say(
                f"{stats.images:,} images and {stats.heatmaps:,} heatmaps in "
                f"{stats.seconds:,.1f} s ({stats.rate:,.2f} images a second), "
                f"after {stats.compile_seconds:,.1f} s of compiling"
            )
        elif stats is not None and self.run.spread.ray is not None:
            say(f"{stats.describe()}, in {stats.seconds:,.1f} s")
        nothing = explain_nothing_scored(summary)
        if nothing:
            raise UserError(nothing)
        print_gap(summary.output)
        heatmaps = self.run.store.heatmaps
        wrote(
            (summary.output, what_is_stored(heatmaps)),
            next_command=check_or_report(summary, heatmaps),
        )
        return 0
