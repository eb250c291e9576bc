"""`gaxjax statistics`: how far correct and wrong predictions lie apart."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from gaxjax.cli.command import Command, RunFolder
from gaxjax.cli.console import note, tables, wrote
from gaxjax.common import UserError, checked_output, columns_of, to_csv, write_text

__all__ = ["Statistics"]


@dataclass(frozen=True, kw_only=True)
class Statistics(Command):
    """Tell how far correct and wrong predictions lie apart in a run, per method.

    Of a sweep also what each setting came to, and which to take.

    Attributes:
        run: Folder of a GAX or AX run.
        num_resamples: Bootstrap resamples behind each confidence interval.
        confidence: Of the intervals, in (0, 1).
        seed: Seed of the bootstrap.
        output: JSON or CSV file for all figures; statistics.json in the run when not given.
    """

    run: tyro.conf.Positional[RunFolder]
    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    output: Path | None = None

    on_devices = False

    def execute(self, given: Sequence[str]) -> int:
        """Print the tables and write their figures."""
        from gaxjax.report import statistics_tables, sweep_table
        from gaxjax.results import open_run, run_statistics

        run = open_run(self.run)
        header, scores = run.header, run.scores
        output = checked_output(self.output or self.run / "statistics.json", (".json", ".csv"))
        found, wanted = len(set(scores["image_id"].to_pylist())), header["data"]["num_images"]
        statistics = run_statistics(
            scores,
            num_resamples=self.num_resamples,
            confidence=self.confidence,
            seed=self.seed,
        )
        if not statistics.methods:
            raise UserError(f"{self.run} holds no scores yet: resume the run first")
        if output.suffix == ".json":
            known: dict[str, Any] = {"num_images_found": found, "num_images": wanted}
            if run.sweep is not None:
                known["sweep"] = dataclasses.asdict(run.sweep)
            text = json.dumps(known | statistics.to_dict(), indent=2) + "\n"
        else:
            rows = statistics.rows()
            if run.sweep is not None:
                of_setting = {one.setting: one.row() for one in run.sweep.settings}
                rows = [row | of_setting.get(row["setting"], {}) for row in rows]
            text = to_csv(columns_of(rows))
        write_text(output, text)
        swept = [] if run.sweep is None else [sweep_table(run.sweep)]
        tables.print(*statistics_tables(statistics), *swept)
        if found < wanted:
            note(
                f"these are {found:,} of the run's {wanted:,} images; give the run's command "
                "again to go on"
            )
        wrote(
            (output, "the tables' figures"),
            next_command=f"gaxjax report {shlex.quote(str(self.run))}",
        )
        return 0
