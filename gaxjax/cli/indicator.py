"""`gaxjax indicator`: right predictions told from wrong ones without labels, and judged."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from gaxjax.cli.command import Command, RunFolder, spell_paths_out
from gaxjax.cli.console import note, say, tables, wrote
from gaxjax.common import checked_output, path_to_write, to_csv, write_text

__all__ = ["Indicator"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Pick method, layer, operation, direction and threshold on an AX run of labelled images.

    Attributes:
        run: Folder of the AX run.
        output: File for the indicator, .json.
        coverage: Share of the images to accept; 0.8 when --error is not given either.
        error: Accept as many as keep the share of errors among them at most this.
        split: Fit on this share of the images, drawn at random; the others are left to be judged.
        seed: Seed of the draw.
    """

    run: tyro.conf.Positional[RunFolder]
    output: Path = Path("indicator.json")
    coverage: float | None = None
    error: float | None = None
    split: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Spell every path out."""
        spell_paths_out(self)

    def execute(self) -> None:
        """Fit, print what was found and write it."""
        from gaxjax.report import fit_tables
        from gaxjax.results import fit_indicator, open_run

        output = checked_output(self.output, (".json",))
        indicator = fit_indicator(
            open_run(self.run),
            coverage=self.coverage,
            error=self.error,
            split=self.split,
            seed=self.seed,
        )
        indicator.write(output)
        tables.print(*fit_tables(indicator))
        rest = shlex.quote(str(self.run)) if self.split is not None else "TEST-RUN"
        wrote(
            (output, "the indicator, with the images it was fitted on"),
            next_command=f"gaxjax indicator apply {shlex.quote(str(output))} {rest}",
        )


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Accept or reject each image of an AX run; by its labels, judge the indicator and baselines.

    Attributes:
        indicator: File of `gaxjax indicator fit`.
        run: Folder of an AX run of other images, or of the run that it was fitted on by --split.
        output: Folder for verdicts, figures and a page; indicator in the run when not given.
        by: Whose verdict: the indicator's, its and the maximum softmax's together, or a baseline's.
        labels: Judge by the run's labels; --no-labels where they only fill a place.
        num_resamples: Bootstrap resamples behind each interval.
        confidence: Of the intervals, in (0, 1).
        seed: Seed of the bootstrap.
    """

    indicator: tyro.conf.Positional[Path]
    run: tyro.conf.Positional[RunFolder]
    output: Path | None = None
    by: Literal[
        "indicator", "together", "max_probability", "entropy", "logit_margin", "logsumexp"
    ] = "indicator"
    labels: bool = True
    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Spell every path out."""
        spell_paths_out(self)

    def execute(self) -> None:
        """Judge, print the table and the verdict, and write everything."""
        from gaxjax.report import judgement_tables, judgement_words, write_judgement
        from gaxjax.results import apply_indicator, open_run, read_indicator

        run = open_run(self.run)
        folder = path_to_write(self.output or self.run / "indicator", "--output", urls=True)
        judgement = apply_indicator(
            read_indicator(self.indicator),
            run,
            labelled=self.labels,
            num_resamples=self.num_resamples,
            confidence=self.confidence,
            seed=self.seed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        verdicts, figures = folder / "verdicts.csv", folder / "judgement.json"
        write_text(verdicts, to_csv(judgement.verdicts(self.by)))
        words = judgement_words(judgement)
        found = judgement.to_dict() | {"by": self.by, "words": words}
        write_text(figures, json.dumps(found, indent=2, allow_nan=False) + "\n")
        page = write_judgement(judgement, folder / "indicator.html")
        tables.print(*judgement_tables(judgement))
        for line in words:
            say(line)
        if not run.finished:
            note(f"these are {run.num_found:,} of the run's {run.num_wanted:,} images")
        wrote(
            (verdicts, "each image, accepted or rejected"),
            (figures, "every figure"),
            (page, "a page of it: open it in a browser"),
            next_command=f"gaxjax report {shlex.quote(str(self.run))}",
        )


@dataclass(frozen=True, kw_only=True)
class Indicator(Command):
    """Tell right from wrong predictions without labels by the CO score for the prediction.

    Attributes:
        action: fit on labelled images, then apply to others.
    """

    action: tyro.conf.OmitSubcommandPrefixes[Fit | Apply]

    on_devices = False

    def execute(self, given: Sequence[str]) -> int:
        """Fit or apply."""
        self.action.execute()
        return 0
