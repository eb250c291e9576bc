"""`gaxjax inspect`: what a run's folder holds, whether it is whole, and its repair."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from gaxjax.cli.command import Command, RunFolder
from gaxjax.cli.console import counting, note, say

__all__ = ["Inspect"]

DAMAGED = 1


@dataclass(frozen=True, kw_only=True)
class Inspect(Command):
    """Tell what a run's folder holds and check every byte of it; exit 1 if some is damaged.

    Attributes:
        run: Folder of a GAX or AX run.
        repair: Drop the parts that are damaged, so that the run's command, given again, computes
            their images anew and nothing else.
    """

    run: tyro.conf.Positional[RunFolder]
    repair: bool = False

    on_devices = False

    def execute(self, given: Sequence[str]) -> int:
        """Print what is there, what is damaged, and what was done."""
        from gaxjax.results import inspect_run, read_header

        read_header(self.run)  # refused before a bar is drawn
        with counting("Checking", "parts") as progress:
            found = inspect_run(
                self.run,
                repair=self.repair,
                progress=progress,
            )
        for name, fact in found.facts.items():
            say(f"{name:10}{fact}")
        for line in found.notes:
            note(line)
        for line in found.damages:
            say(f"  Damaged: {line}")
        for line in found.repaired:
            say(f"  Repaired: {line}")
        if found.damages and not self.repair:
            say(f"Next: gaxjax inspect {shlex.quote(str(self.run))} --repair")
            return DAMAGED
        if not found.damages:
            say("Nothing is damaged")
        if found.missing:
            say(f"{found.missing:,} images have no rows: give the run's command again to go on")
        return 0
