"""`gaxjax verify`: a run's scores, computed again in torch."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gaxjax.cli.command import Command, RunFolder
from gaxjax.cli.console import counting, say, wrote
from gaxjax.common import (
    UserError,
    checked_output,
    path_to_read,
    refuse_foreign_converters,
    write_text,
)

__all__ = ["Verify"]

DIFFERS = 1


@dataclass(frozen=True, kw_only=True)
class Verify(Command):
    """Recompute a run's stored scores in torch from its stored heatmaps; exit 1 if they differ.

    Attributes:
        run: Folder of a GAX or AX run.
        num_images: Check this many images, drawn at random; all when not given.
        weights: The torch weights that the model was converted from, read by torch alone. Without
            them the checkpoint's are converted back.
        model: Where the run's model is now, if it was moved.
        data: Where the run's images are now, if they were moved.
        seed: Seed of the draw.
        output: JSON file for the full result; verification.json in the run when not given.
    """

    run: tyro.conf.Positional[RunFolder]
    num_images: int | None = None
    weights: Path | None = None
    model: str | None = None
    data: str | None = None
    seed: int = 0
    output: Path | None = None

    def execute(self, given: Sequence[str]) -> int:
        """Verify, print the figures and write them."""
        refuse_foreign_converters()
        try:
            from gaxjax.reference import verify_run
        except ImportError as error:
            raise UserError(
                f"verifying needs torch and torchvision, which do not import here ({error}): "
                "install gaxjax with its torch extra"
            ) from None
        path_to_read(self.run, "run", urls=True)
        output = checked_output(self.output or self.run / "verification.json", (".json",))
        with counting("Verifying", "images") as progress:
            result = verify_run(
                self.run,
                num_images=self.num_images,
                weights=self.weights,
                seed=self.seed,
                model=self.model,
                data=self.data,
                progress=progress,
            )
        write_text(output, json.dumps(result.to_dict(), indent=2) + "\n")
        for line in result.lines():
            say(line)
        wrote(
            (output, "every figure of this verification"),
            next_command=f"gaxjax report {shlex.quote(str(self.run))}",
        )
        return 0 if result.passed else DIFFERS
