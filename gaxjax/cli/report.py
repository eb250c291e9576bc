"""`gaxjax report`: stored runs on one page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gaxjax.cli.command import Command, RunFolder
from gaxjax.cli.console import note, verify_command, wrote
from gaxjax.common import AnyPath

__all__ = ["Report"]


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Draw an HTML page of stored runs: figures, tables, a gallery, and the heatmaps' evolution.

    Attributes:
        runs: Folders of GAX and AX runs.
        output: The page, one file; its figures go to a folder beside it (PNG, SVG, CSV).
        num_pictures: Show the pictures of about so many heatmaps in the gallery; every one makes
            the page some 10 KB larger.
        data: Where the runs' images are now, if they were moved.
    """

    runs: tyro.conf.Positional[tuple[RunFolder, ...]]
    output: Path = Path("report.html")
    num_pictures: int = 200
    data: str | None = None

    on_devices = False

    def execute(self, given: Sequence[str]) -> int:
        """Write the page and its figures."""
        from gaxjax.report import write_report

        written = write_report(
            self.runs, self.output, num_pictures=self.num_pictures, data=self.data
        )
        for text in written.notes:
            note(text)
        size = f"{written.num_bytes / 1e6:.1f} MB"
        wrote(
            (written.page, f"the report, {size}, nothing else needed: open it in a browser"),
            (written.folder, f"its {written.num_figures} figures as PNG, SVG and CSV"),
            next_command=_after_report(self.runs[0]),
        )
        return 0


def _after_report(run: AnyPath) -> str:
    from gaxjax.results import read_header

    if (run / "verification.json").exists() or not (run / "heatmaps.zarr").exists():
        return f"gaxjax statistics {shlex.quote(str(run))}"
    return verify_command(run, read_header(run)["data"]["num_images"])
