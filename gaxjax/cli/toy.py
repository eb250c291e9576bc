"""`gaxjax toy`: the paper's two-dimensional example."""

from pathlib import Path

import numpy as np

from gaxjax.common.errors import UserError
from gaxjax.common.files import replacing
from gaxjax.gax.toy import _COLUMNS, _NUMBERS, FIGURE_1_WINDOWS, FIGURE_6_WINDOWS, figure_table


def run_toy(output: Path) -> tuple[Path, ...]:
    """Write figures 1 and 6 into a folder: of each the table (CSV) and the picture (PNG, SVG).

    Returns:
        figure1.csv, figure1.png, figure1.svg, then the same of figure 6, in `output`.

    Raises:
        UserError: `output` is a file, or cannot be written.
    """
    from gaxjax.report.figures.toy import draw_figure

    formats = ["%.9g"] * len(_NUMBERS) + ["%d"]
    header = ",".join(name for name, _ in _COLUMNS)
    written: list[Path] = []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, windows in (("figure1", FIGURE_1_WINDOWS), ("figure6", FIGURE_6_WINDOWS)):
            table = figure_table(windows)
            csv, *pictures = (output / f"{name}.{ending}" for ending in ("csv", "png", "svg"))
            with replacing(csv) as temporary:
                np.savetxt(temporary, table, formats, delimiter=",", header=header, comments="")
            for picture in pictures:
                with replacing(picture) as temporary:
                    draw_figure(table, temporary, picture.suffix[1:])
            written += [csv, *pictures]
    except OSError as error:
        reason = "it is a file" if output.is_file() else error.strerror or error
        raise UserError(
            f"cannot write the figures to {output} ({reason}): give a folder that can be written"
        ) from None
    return tuple(written)
