"""`gaxjax view`: how one image's heatmap grew."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gaxjax.cli.command import Command, RunFolder
from gaxjax.cli.console import note, say, wrote
from gaxjax.common import checked_output

__all__ = ["View"]


@dataclass(frozen=True, kw_only=True)
class View(Command):
    """Show how one image's heatmap grew, with a slider; or save it as an animation.

    Attributes:
        run: Folder of a GAX run.
        image: Id of the image, such as digits/0042, or an ending that only one image has.
        save: Write a .gif or .mp4 of all snapshots, or a .png of the final state, and open no
            window.
        data: Where the run's images are now, if they were moved.
        setting: Of a sweep, which setting: "learning-rate=0.1 similarity-factor=100".
    """

    run: tyro.conf.Positional[RunFolder]
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    save: Path | None = None
    data: str | None = None
    setting: str | None = None

    on_devices = False

    def execute(self, given: Sequence[str]) -> int:
        """Open the window, or write the file."""
        from gaxjax.report import FILM_SUFFIXES, read_film, save_film, show_film

        save = self.save and checked_output(self.save, FILM_SUFFIXES, flag="--save")
        film = read_film(self.run, self.image, data=self.data, setting=self.setting)
        for text in film.notes:
            note(text)
        run = shlex.quote(str(self.run))
        if save is None:
            show_film(film)
            setting = f" --setting {shlex.quote(self.setting)}" if self.setting else ""
            say(f"Next: gaxjax view {run} {shlex.quote(film.image_id)}{setting} --save FILE.gif")
            return 0
        count = save_film(film, save)
        what = "the final state" if save.suffix == ".png" else f"{count} frame{'s' * (count != 1)}"
        wrote((save, f"{film.image_id}: {what}"), next_command=f"gaxjax report {run}")
        return 0
