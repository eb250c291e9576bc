"""`gaxjax toy`: the paper's two-dimensional example."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaxjax.cli.command import Command
from gaxjax.cli.console import wrote
from gaxjax.common import UserError, reason_of, replacing, spelt_out

__all__ = ["Toy", "run_toy"]

_WHAT = {".csv": "its data", ".png": "the figure", ".svg": "the figure"}


@dataclass(frozen=True, kw_only=True)
class Toy(Command):
    """Draw the paper's two-dimensional example: Figs. 1 and 6, and the data behind them.

    Attributes:
        output: Folder for the figures (PNG, SVG) and their data (CSV).
    """

    output: Path = Path("gaxjax-toy")

    def execute(self, given: Sequence[str]) -> int:
        """Write both figures."""
        files = run_toy(self.output)
        wrote(*((file, _WHAT[file.suffix]) for file in files), next_command="gaxjax demo")
        return 0


def run_toy(output: Path) -> tuple[Path, ...]:
    """Write figures 1 and 6 into a folder: of each the table (CSV) and the picture (PNG, SVG).

    Returns:
        figure1.csv, figure1.png, figure1.svg, then the same of figure 6, in `output`.

    Raises:
        UserError: `output` is a file, or cannot be written.
    """
    import numpy as np

    from gaxjax.gax import FIGURE_1_WINDOWS, FIGURE_6_WINDOWS, figure_table
    from gaxjax.report import draw_figure

    written: list[Path] = []
    output = spelt_out(output, "--output")
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, windows in (("figure1", FIGURE_1_WINDOWS), ("figure6", FIGURE_6_WINDOWS)):
            table = figure_table(windows)
            columns = table.dtype.names or ()
            formats = ["%d" if table[column].dtype.kind == "b" else "%.9g" for column in columns]
            header = ",".join(columns)
            csv, *pictures = (output / f"{name}.{ending}" for ending in ("csv", "png", "svg"))
            with replacing(csv) as temporary:
                np.savetxt(temporary, table, formats, delimiter=",", header=header, comments="")
            for picture in pictures:
                with replacing(picture) as temporary:
                    draw_figure(table, temporary, picture.suffix[1:])
            written += [csv, *pictures]
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError) and not output.is_dir()
        reason = "it is a file" if in_the_way else reason_of(error)
        raise UserError(
            f"cannot write the figures to {output} ({reason}): give a folder that can be written"
        ) from None
    return tuple(written)
