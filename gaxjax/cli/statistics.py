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
from gaxjax.cli.console import counting, note, tables, wrote
from gaxjax.common import Table, UserError, checked_output, columns_of, to_csv, write_text

__all__ = ["Statistics"]


@dataclass(frozen=True, kw_only=True)
class Statistics(Command):
    """Tell how far correct and wrong predictions lie apart in a run, per method.

    Of a sweep also what each setting came to, and which to take.

    Attributes:
        run: Folder of a GAX or AX run.
        robustness: Also take the stored heatmaps' scores again, with the run's model: under a shift
            by a pixel, rounding to 8 bits, JPEG compression and noise. The rows are kept in the
            run, and shown from then on.
        robustness_images: Of this many images with heatmaps, drawn at random; all when not given.
        class_patterns: Also tell whether the stored heatmaps tell the classes of their images: by a
            linear classifier, cross-validated, beside the same from the images. Kept and shown
            likewise, with mean heatmaps of the classes in the report.
        model: Where the run's model is now, if it was moved.
        data: Where the run's images are now, if they were moved.
        num_resamples: Bootstrap resamples behind each confidence interval.
        confidence: Of the intervals, in (0, 1).
        seed: Seed of the bootstrap, and of what is drawn.
        output: File for all figures, .json or .csv, or for the tables, .md; statistics.json in the
            run when not given.
    """

    run: tyro.conf.Positional[RunFolder]
    robustness: bool = False
    robustness_images: int | None = None
    class_patterns: bool = False
    model: str | None = None
    data: str | None = None
    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    output: Path | None = None

    @property
    def computes_here(self) -> bool:
        """Whether scores are taken again."""
        return self.robustness

    def execute(self, given: Sequence[str]) -> int:
        """Print the tables and write their figures."""
        from gaxjax.report import (
            class_patterns_table,
            robustness_tables,
            statistics_tables,
            sweep_table,
        )
        from gaxjax.results import (
            KEYS,
            open_run,
            read_class_patterns,
            read_robustness,
            run_statistics,
            summarise_class_patterns,
            summarise_robustness,
        )

        run = open_run(self.run)
        header, scores = run.header, run.scores
        endings = (".json", ".csv", ".md")
        output = checked_output(self.output or self.run / "statistics.json", endings)
        found, wanted = len(set(scores["image_id"].to_pylist())), header["data"]["num_images"]
        resampling: dict[str, Any] = {
            name: getattr(self, name) for name in ("num_resamples", "confidence", "seed")
        }
        statistics = run_statistics(scores, **resampling)
        if not statistics.methods:
            raise UserError(f"{self.run} holds no scores yet: resume the run first")
        self._compute()
        printed = statistics_tables(statistics)
        known: dict[str, Any] = {"num_images_found": found, "num_images": wanted}
        more: list[dict[str, Any]] = []
        if run.sweep is not None:
            known["sweep"] = dataclasses.asdict(run.sweep)
            printed.append(sweep_table(run.sweep))
            more += [one.row() for one in run.sweep.settings]
        kept = read_robustness(run.path)
        if kept is not None:
            robust = summarise_robustness(kept[0], run.target_of, **resampling)
            known["robustness"] = kept[1] | {"methods": [dataclasses.asdict(m) for m in robust]}
            printed += robustness_tables(robust, kept[1], self.confidence)
            more += [_prefixed(one.row(), "robustness", KEYS) for one in robust]
        told = read_class_patterns(run.path)
        if told is not None:
            patterns = summarise_class_patterns(told[0], **resampling)
            known["class_patterns"] = told[1] | {"heatmaps": [one.row() for one in patterns]}
            printed.append(class_patterns_table(patterns, told[1], self.confidence))
            more += [_prefixed(one.row(), "classes", KEYS) for one in patterns]
        if output.suffix == ".json":
            text = json.dumps(known | statistics.to_dict(), indent=2) + "\n"
        elif output.suffix == ".csv":
            text = to_csv(columns_of(_joined(statistics.rows(), more)))
        else:
            text = "\n".join(map(_as_markdown, printed))
        write_text(output, text)
        tables.print(*printed)
        if found < wanted:
            note(
                f"these are {found:,} of the run's {wanted:,} images; give the run's command "
                "again to go on"
            )
        wrote(
            (output, "the tables" if output.suffix == ".md" else "the tables' figures"),
            next_command=f"gaxjax report {shlex.quote(str(self.run))}",
        )
        return 0

    def _compute(self) -> None:
        if self.robustness:
            from gaxjax.runs import measure_robustness

            measure_robustness(
                self.run,
                num_images=self.robustness_images,
                seed=self.seed,
                model=self.model,
                data=self.data,
                note=note,
            )
        elif self.robustness_images is not None:
            raise UserError("--robustness-images is for --robustness: give that too")
        if self.class_patterns:
            from gaxjax.results import find_class_patterns

            with counting("Class patterns", "heatmaps") as progress:
                find_class_patterns(self.run, seed=self.seed, data=self.data, progress=progress)


def _prefixed(row: dict[str, Any], prefix: str, keys: Sequence[str]) -> dict[str, Any]:
    return {name if name in keys else f"{prefix}_{name}": value for name, value in row.items()}


def _joined(rows: Sequence[dict[str, Any]], more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each row the columns of those of `more` that agree with it in all keys they have."""
    from gaxjax.results import KEYS

    joined = []
    for row in rows:
        for other in more:
            if all(row[key] == other[key] for key in KEYS if key in other):
                row = row | other
        joined.append(row)
    return joined


def _as_markdown(table: Table) -> str:
    return "\n".join([f"## {table.title}\n", table.to_markdown(), *table.notes]) + "\n"
