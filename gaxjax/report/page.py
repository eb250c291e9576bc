"""Self-contained pages, of runs and of an indicator; beside each its figures as PNG, SVG, CSV.

The page makes no request: scripts, styles and pictures are inside it, and its content security
policy lets nothing else run, whatever the names in the data look like.
"""

import base64
import gzip
import hashlib
import importlib.metadata
import importlib.resources
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gaxjax.common import (
    AnyPath,
    UserError,
    columns_of,
    path_to_write,
    replacing,
    stored_json,
    to_csv,
)
from gaxjax.report.class_patterns import run_class_patterns
from gaxjax.report.figures.catalogue import course_figures, run_figures
from gaxjax.report.figures.class_means import class_mean_figures
from gaxjax.report.figures.figure import Figure
from gaxjax.report.figures.indicator import indicator_figures
from gaxjax.report.film import MOST_IMAGES, evolutions, left_out
from gaxjax.report.gallery import gallery
from gaxjax.report.judgement import judgement_tables, judgement_words
from gaxjax.report.pictures import color_table
from gaxjax.report.robustness import run_robustness
from gaxjax.report.sections import confounding, facts, headline
from gaxjax.report.tables import statistics_tables, sweep_table
from gaxjax.results import Judgement, Run, images_of, open_runs

__all__ = ["Written", "write_judgement", "write_report"]

_SCRIPTS = ("pictures.js", "gallery.js", "viewer.js")
_MANIFEST = "figures.json"


@dataclass(frozen=True)
class Written:
    """What a report wrote: the page, the folder of figures, their number, the page's bytes."""

    page: Path
    folder: Path
    num_figures: int
    num_bytes: int
    notes: tuple[str, ...]


def write_report(
    runs: Sequence[AnyPath], output: Path, *, num_pictures: int = 200, data: str | None = None
) -> Written:
    """Draw a report of stored runs; nothing but small pictures of the images is computed.

    Args:
        runs: folders of GAX and AX runs.
        output: the page, an .html file; the figures go to `<name>_figures` beside it, with their
            captions in `figures.json`. Figures that an earlier report left there are replaced.
        num_pictures: about so many heatmaps get pictures in the gallery.
        data: where the runs' images are now, if they were moved.

    Raises:
        UserError: a run is missing, damaged or empty, or the output cannot be written.

    Example:
        >>> runs = [Path("gax-run"), Path("ax-run")]
        >>> write_report(runs, Path("report.html")).num_figures  # doctest: +SKIP
        9
    """
    output = path_to_write(output, "--output")
    if output.suffix not in (".html", ".htm"):
        raise UserError(f"--output {output} must end in .html")
    if num_pictures < 0:
        raise UserError(f"--num-pictures must be at least 0; got {num_pictures}")
    if output.is_dir() or not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise UserError(f"cannot write {output}: its folder is missing or not writable")
    stored = open_runs(runs, data=data)
    figures, context = _contents(stored, num_pictures)
    folder = output.with_name(f"{output.stem}_figures")
    page = _render_report(context | {"folder": folder.name}).encode()
    _write_page(output, page, folder, figures)
    notes = tuple(f"{run['name']}: {note}" for run in context["runs"] for note in run["notes"])
    return Written(output, folder, len(figures), len(page), notes)


def write_judgement(judgement: Judgement, output: AnyPath) -> AnyPath:
    """Draw a page of what `gaxjax.results.apply_indicator` found.

    Args:
        judgement: what it found.
        output: the page; its figures go to `<name>_figures` beside it.

    Raises:
        UserError: the output cannot be written.
    """
    figures = indicator_figures(judgement)
    folder = output.with_name(f"{output.stem}_figures")
    indicator = judgement.indicator
    facts = [
        ("Judged", f"{judgement.run} ({judgement.data})"),
        ("Fitted on", f"{len(indicator.images):,} images of {indicator.run} ({indicator.data})"),
        ("Model", indicator.model),
        ("Score space", str(indicator.made_by["score_space"])),
        ("Wanted", ", ".join(f"{name} {value:g}" for name, value in indicator.wanted.items())),
    ]
    page = _rendered(
        "indicator.html",
        {
            "run": judgement.run,
            "words": judgement_words(judgement),
            "facts": facts,
            "tables": judgement_tables(judgement),
            "figures": figures,
            "folder": folder.name,
            **_made(),
        },
    )
    _write_page(output, page.encode(), folder, figures)
    return output


def _write_page(output: AnyPath, page: bytes, folder: AnyPath, figures: list[Figure]) -> None:
    try:
        _write_figures(folder, figures)
        _write(output, page)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or output}: {error.strerror}") from None


def _write_figures(folder: AnyPath, figures: list[Figure]) -> None:
    """Write each figure three times and the captions; remove those of an earlier report."""
    folder.mkdir(exist_ok=True)
    try:
        earlier = {
            caption["name"] for caption in stored_json(folder / _MANIFEST, list[dict[str, str]])
        }
    except (OSError, ValueError, KeyError):
        earlier = set()
    for figure in figures:
        _write(folder / f"{figure.name}.png", figure.drawing.png)
        _write(folder / f"{figure.name}.svg", figure.drawing.svg_file.encode())
        _write(folder / f"{figure.name}.csv", to_csv(columns_of(figure.rows)).encode())
    captions = [
        {"name": figure.name, "title": figure.title, "caption": figure.caption}
        for figure in figures
    ]
    _write(folder / _MANIFEST, (json.dumps(captions, indent=2) + "\n").encode())
    for name in earlier - {figure.name for figure in figures}:
        for ending in ("png", "svg", "csv"):
            if Path(name).name == name and "\0" not in name:
                (folder / f"{name}.{ending}").unlink(missing_ok=True)


def _contents(runs: list[Run], num_pictures: int) -> tuple[list[Figure], dict[str, Any]]:
    """Draw all figures, and gather what the page's template wants."""
    opened = [images_of(run) for run in runs]
    # What reads most comes first: damage shows before anything is drawn.
    data = gallery(runs, [load for load, _ in opened], num_pictures)
    num_evolving = min(MOST_IMAGES, sum(run.snapshots is not None for run in runs)) or 1
    evolving = [
        found
        for number, (run, (load, _)) in enumerate(zip(runs, opened, strict=True))
        for found in evolutions(run, load, number, MOST_IMAGES // num_evolving)
    ]
    data |= {"evolutions": evolving, "colors": color_table()}
    course = course_figures(runs)
    drawn, sections = list(course), []
    for run, (load, note) in zip(runs, opened, strict=True):
        figures = run_figures(run, load)
        patterned = class_mean_figures(run)
        drawn += [*figures, *patterned]
        gap, *more = statistics_tables(run.statistics)
        sections.append(
            facts(run, [*filter(None, [note, confounding(run)]), *left_out(run)])
            | {
                "gax": run.is_gax,
                "figures": figures,
                "tables": [replace(gap, notes=gap.notes[:1]), *more],  # headline has the verdict
                "sweep": run.sweep
                and replace(swept := sweep_table(run.sweep), notes=swept.notes[:1]),
                "robustness": run_robustness(run),
                "class_patterns": run_class_patterns(run),
                "class_means": patterned,
                "headline": headline(run),
            }
        )
    return drawn, {
        "title": ", ".join(run.name for run in runs),
        "runs": sections,
        "course": course,
        "data": _packed(data),
        "spaces": sorted({_space(run) for run in runs}),
        "any_gax": any(run.is_gax for run in runs),
        "evolving": bool(evolving),
        "num_rows": len(data["columns"]["run"]),
        "num_stored": sum(len(run.scores) for run in runs),
        "num_pictures": len(data["pictures"]["rows"]),
        **_made(),
    }


def _made() -> dict[str, str]:
    return {
        "version": importlib.metadata.version("gaxjax"),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _space(run: Run) -> str:
    """Name what must be the same for scores to be compared."""
    method = run.method
    score = "" if method.score == "logits" else f" of {method.score}"
    return method.score_space + score


def _packed(data: dict[str, Any]) -> str:
    """Return what the scripts read as base64 of gzipped JSON: a tenth of the size."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _template(name: str) -> str:
    place = importlib.resources.files("gaxjax.report") / "templates" / name
    return place.read_text(encoding="utf-8")


def _render_report(context: dict[str, Any]) -> str:
    script = "\n".join(map(_template, _SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    policy = f"default-src 'none'; {allowed}"
    return _rendered("report.html", {**context, "script": Markup(script), "policy": policy})


def _rendered(name: str, context: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_template),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(
        **context,
        style=Markup(_template("report.css")),
        markup=lambda figure: Markup(figure.markup),
    )


def _write(path: AnyPath, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
