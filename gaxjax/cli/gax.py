"""`gaxjax gax`: one heatmap per image, optimised."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gaxjax.cli.command import Command, RunFolder
from gaxjax.cli.console import check_or_report, note, print_outcomes, say, what_is_stored, wrote
from gaxjax.common import UserError
from gaxjax.config import GaxRunConfig

if TYPE_CHECKING:
    from gaxjax.results import SnapshotSummary

__all__ = ["Gax"]


@dataclass(frozen=True, kw_only=True)
class Gax(Command):
    """Optimise one heatmap per image (GAX); the same command resumes a run that was cut off.

    Attributes:
        output: Folder of the run, or a URL such as s3://bucket/run: scores as Parquet, heatmaps
            as Zarr.
    """

    run: GaxRunConfig
    output: RunFolder

    computes = True
    kept = "; finished images are stored, the same command resumes"

    @property
    def computes_here(self) -> bool:
        """Whether it computes with JAX in this process, and not in Ray's."""
        return self.run.spread.ray is None

    def execute(self, given: Sequence[str]) -> int:
        """Run GAX, and print the outcomes and how fast it was."""
        from gaxjax.gax import EngineStats
        from gaxjax.runs import explain_nothing_correct, run_gax

        summary = run_gax(self.run, self.output, note=note)
        if summary.resumed:
            say(f"{summary.resumed:,} images were done before")
        settings = self.run.sweep.settings
        each = f"optimisations, {len(settings)} settings an image"
        print_outcomes(summary.outcomes, each if settings else "images")
        stats = summary.stats
        if isinstance(stats, EngineStats) and stats.image_steps:
            say(
                f"{stats.image_steps:,} image-steps in {stats.seconds:,.1f} s "
                f"({stats.rate:,.1f} a second; {stats.slots} slots × {stats.devices} "
                f"device{'s' * (stats.devices > 1)}, {stats.occupancy:.0%} busy), "
                f"after {stats.compile_seconds:,.1f} s of compiling"
            )
        elif stats is not None and self.run.spread.ray is not None:
            say(f"{stats.describe()}, in {stats.seconds:,.1f} s")
        nothing = explain_nothing_correct(summary)
        if nothing:
            raise UserError(nothing)
        heatmaps = self.run.store.heatmaps
        files = [(summary.output, what_is_stored(heatmaps))]
        next_command = check_or_report(summary, heatmaps)
        if settings:
            next_command = shlex.join(["gaxjax", "statistics", str(summary.output)])
        if summary.snapshots is not None:
            files += _tell_snapshots(summary.snapshots, summary.output)
            if summary.snapshots.image_ids:
                words = ["gaxjax", "view", str(summary.output), summary.snapshots.image_ids[0]]
                next_command = shlex.join(words)
        wrote(*files, next_command=next_command)
        return 0


def _tell_snapshots(found: "SnapshotSummary", run: Path) -> list[tuple[Path, str]]:
    """Say what is missing or differs; return the files that were written."""
    for image_id, reason in found.left_out.items():
        note(f"no snapshots of {image_id}: {reason}")
    if found.difference:
        note(f"replayed scores differ from the stored ones by up to {found.difference:.2g}")
    if not found.image_ids:
        return []
    count = len(found.image_ids)
    what = f"{found.rows:,} heatmaps along the way of {count:,} image{'s' * (count != 1)}"
    return [(run / "snapshots.parquet", what)]
