"""`gaxjax finetune`: a backbone with a new head, trained on images in splits."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaxjax.cli.command import Command
from gaxjax.cli.console import note, print_evaluation, say, wrote
from gaxjax.common import replacing, write_text
from gaxjax.config import FinetuneConfig

__all__ = ["Finetune"]


@dataclass(frozen=True, kw_only=True)
class Finetune(Command):
    """Train a backbone with a new head on images in splits; the same command resumes.

    Attributes:
        output: Folder for the trained checkpoint, the split, the curve and the figures.
    """

    config: FinetuneConfig
    output: Path

    computes = True
    kept = "; the same command resumes from the last validation"

    def execute(self, given: Sequence[str]) -> int:
        """Train, evaluate on the test split, and draw the learning curve."""
        from gaxjax.report import TABLE_1_FORMATS, draw_learning_curve, table_1, table_1_text
        from gaxjax.runs import run_finetune

        config, output = self.config, self.output
        summary = run_finetune(config, output, note=note)
        reached = "reached" if summary.target_met else "did NOT reach"
        say(
            f"{summary.iterations:,} iterations {reached} the validation accuracy of "
            f"{config.validation_accuracy:g}: {summary.validation_accuracy:.4f}"
        )
        split, table = "val", []
        if summary.test is not None:
            split = "test"
            print_evaluation(summary.test, summary.class_names, summary.validation_accuracy)
            if summary.test.num_classes == 2:
                table = [(output / f"table1{ending}", "Table 1") for ending in TABLE_1_FORMATS]
                figures = table_1(summary.test, summary.validation_accuracy)
                for file, _ in table:
                    write_text(file, table_1_text(figures, output.name, file.suffix))
        for file_format in ("png", "svg"):
            with replacing(output / f"curve.{file_format}") as temporary:
                wanted = config.validation_accuracy
                draw_learning_curve(summary.curve, wanted, temporary, file_format)
        flags = ["--model", str(summary.model), "--data", summary.data, "--split", split]
        flags += ["--size", str(config.size)]
        flags += ["--resize", config.resize] * (config.resize != "squash")
        flags += ["--pixel-max", str(config.pixel_max)] * (config.pixel_max is not None)
        wrote(
            (summary.model, "the trained classifier"),
            (
                output / "curve.csv",
                "loss and validation accuracy; drawn in curve.png and curve.svg",
            ),
            *table,
            (output / "finetune.json", "settings and all figures"),
            next_command=f"gaxjax gax {shlex.join(flags)} --bias --output RUN",
        )
        return 0
