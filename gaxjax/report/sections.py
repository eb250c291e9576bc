"""A report's words and tables: what was run, how to run it again, how it ended and separates."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from gaxjax.common.text import counted
from gaxjax.config.base import to_dict
from gaxjax.report.figures.style import title_of
from gaxjax.report.tables import render, verdict
from gaxjax.results.stored_run import StoredRun, command_line, of_method

__all__ = ["confounding", "facts", "headline", "statistics_tables"]

_MEANINGS = {
    "reached": "the score of the stored heatmap is at least the target",
    "step_limit": "not reached within the allowed updates; the best heatmap is kept",
    "not_finite": "a score stopped being a finite number",
    "misclassified": "the plain image is classified wrongly, so it was not optimised",
    "unreadable": "the file could not be decoded",
    "scored": "the stored heatmap has a score",
    "zero_heatmap": "the attribution is zero at every pixel",
}


def headline(run: StoredRun) -> str:
    """Say in a sentence or two what came out."""
    if run.target is None:
        return verdict(run.statistics)
    optimised = run.scores.filter(pc.is_valid(run.scores["steps"]))
    if not len(optimised):
        return "No image was optimised."
    reached = optimised.filter(pc.equal(optimised["outcome"], "reached"))
    text = (
        f"{len(reached):,} of {counted(len(optimised), 'optimised image')} reached the target of "
        f"{run.target:g}"
    )
    if len(reached):
        steps = reached["steps"].to_numpy()
        text += f", in {np.median(steps):g} updates (median; most {steps.max():,})"
    before, after = (
        pc.mean(optimised[f"probability_{when}"]).as_py() for when in ("before", "after")
    )
    if before is not None and after is not None:
        text += f". Mean probability of their right class: {before:.3f} before, {after:.3f} after"
    left = len(run.scores) - len(optimised)
    if left:
        text += f". {left:,} of all {len(run.scores):,} images were not optimised"
    return f"{text}."


def confounding(run: StoredRun) -> str | None:
    """Say where the best method's errors, or its successes, are all of one class."""
    best = next((m for m in run.statistics.methods if m.name == run.statistics.best), None)
    if run.is_gax or best is None:
        return None
    mine = run.scores.filter(pa.array(of_method(run.scores, best)))
    scores = mine["co_score"].cast(pa.float64()).to_numpy()
    pairs = zip(
        mine["label"].to_pylist(), mine["correct"].to_pylist(), np.isfinite(scores), strict=True
    )
    counts = Counter((label, correct) for label, correct, finite in pairs if finite)
    totals = Counter(correct for _, correct in counts.elements())
    for kind, words, others in ((False, "wrong", "correct"), (True, "correct", "wrong")):
        labels = [label for label, correct in counts if correct is kind]
        if len(labels) == 1 and totals[kind] > 1 and counts[labels[0], not kind] < totals[not kind]:
            return (
                f"All {totals[kind]:,} {words} predictions that {best.name} scored are of class "
                f"{run.class_name(labels[0])}, as are {counts[labels[0], not kind]:,} of the "
                f"{totals[not kind]:,} {others} ones: what separates them may be the class. The "
                "column “in class” compares within one alone."
            )
    return None


# --- What was run --------------------------------------------------------------------------------


def facts(run: StoredRun, notes: Sequence[str]) -> dict[str, Any]:
    """Return what was run, how to run it again, and how its images ended."""
    header = run.header
    session: dict[str, Any] = header["sessions"][-1] if header["sessions"] else {}
    outcomes = Counter(run.scores["outcome"].to_pylist())
    total = sum(outcomes.values())
    notes = list(notes)
    if not run.finished:
        notes.insert(
            0,
            f"This run is not finished: {run.num_found:,} of its {run.num_wanted:,} images are "
            "done, and all below speaks of these alone. Its command, given again, goes on.",
        )
    return {
        "name": run.name,
        "id": f"run-{run.key}",
        "kind": "GAX: heatmaps optimised" if run.is_gax else "AX: heatmaps of existing methods",
        "notes": notes,
        "command": command_line(run),
        "facts": list(_facts(run, session)),
        "outcomes": [
            {
                "name": name.replace("_", " "),
                "meaning": _MEANINGS.get(name, "") + _whose(run, name),
                "count": count,
                "share": count / total,
            }
            for name, count in outcomes.most_common()
        ],
        "settings": [
            ("model's fingerprint", str(header["model"].get("fingerprint", ""))),
            ("images' fingerprint", str(header["data"].get("fingerprint", ""))),
            *_flat(to_dict(run.config)),
        ],
        "versions": sorted(
            {"python": session.get("python"), **session.get("versions", {})}.items()
        ),
        "sessions": [
            {
                "started": str(item.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
                "device": item.get("device", ""),
                "compiling": item.get("compile_seconds"),
                "working": item.get("seconds"),
            }
            for item in header["sessions"]
        ],
    }


def _whose(run: StoredRun, outcome: str) -> str:
    """Name the method that alone has an outcome."""
    methods = run.statistics.methods
    mine = list(dict.fromkeys(m.method for m in methods if m.outcomes.get(outcome)))
    several = len({method.method for method in methods}) > 1
    return f"; all of {title_of(mine[0], None)}" if several and len(mine) == 1 else ""


def _facts(run: StoredRun, session: dict[str, Any]) -> Iterator[tuple[str, str]]:
    model, data = run.header["model"], run.header["data"]
    yield "Model", f"{model.get('name', '')}, {model.get('num_classes', '?')} classes"
    scale = model.get("mean")
    yield (
        "Normalisation",
        f"mean {scale}, std {model.get('std')}" if scale else "none: pixels in [0, 1]",
    )
    yield "Images", f"{data['name']}, {run.config.data.size} × {run.config.data.size}"
    yield "Score space", run.method.score_space
    last = " (last session)" if len(run.header["sessions"]) > 1 else ""
    yield f"Device{last}", f"{session.get('device', '?')}, {session.get('precision', '?')}"
    seconds = sum(item.get("seconds") or 0 for item in run.header["sessions"])
    compiling = sum(item.get("compile_seconds") or 0 for item in run.header["sessions"])
    yield "Time", f"{seconds:,.1f} s of work after {compiling:,.1f} s of compiling"
    if session.get("image_steps_per_second"):
        yield f"Rate{last}", f"{session['image_steps_per_second']:,.1f} image-steps a second"
    elif session.get("images_per_second"):
        yield f"Rate{last}", f"{session['images_per_second']:,.2f} images a second"
    yield "Scores again in torch", _verified(run)


def _verified(run: StoredRun) -> str:
    """Say what `gaxjax verify` found, where it left its file in the run."""
    file, command = run.path / "verification.json", shlex.join(["gaxjax", "verify", str(run.path)])
    if not run.keeps_heatmaps:
        return "cannot be checked: the run keeps no heatmaps (--heatmaps none)"
    if not file.exists():
        return f"not checked yet: {command} does"
    try:
        found = json.loads(file.read_text())
        worst = max((c["worst"] for c in found["comparisons"] if c["worst"] is not None), default=0)
        differing = sum(comparison["differing"] for comparison in found["comparisons"])
        return (
            f"{'passed' if found['passed'] else 'FAILED'}: {found['num_heatmaps']:,} heatmaps of "
            f"{counted(found['num_images'], 'image')}, largest difference of a score {worst:.1e}, "
            f"{counted(differing, 'prediction')} not the same (torch {found['torch_version']}, "
            f"{found['dtype']})"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{file} is damaged: {command} writes it anew"


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{prefix}{name}", text


# --- Statistics ----------------------------------------------------------------------------------


def statistics_tables(run: StoredRun) -> list[dict[str, Any]]:
    """Return the tables of `gaxjax statistics` as plain cells, without the verdict."""
    tables = [_plain(table) for table in render(run.statistics)]
    tables[0]["legend"] = tables[0]["legend"].removesuffix(verdict(run.statistics)).strip()
    return tables


def _plain(table: Table) -> dict[str, Any]:
    def text(cell: Any) -> str:
        return cell.plain if isinstance(cell, Text) else str(cell)

    return {
        "title": text(table.title),
        "legend": text(table.caption).strip(),
        "columns": [text(column.header).replace("\n", " ").strip() for column in table.columns],
        "rows": [
            [
                {"lines": text(cell).split("\n"), "strong": getattr(cell, "style", "") == "bold"}
                for cell in cells
            ]
            for cells in zip(*(column.cells for column in table.columns), strict=True)
        ],
    }
