"""A report's words: what was run, how to run it again, how it ended and separates."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gaxjax.common import counted, stored_json
from gaxjax.config import AX_PRESETS, GAX_PRESETS, to_dict
from gaxjax.report.figures.style import title_of
from gaxjax.report.tables import verdict
from gaxjax.results import Outcome, Run, of_method

__all__ = ["command_line", "confounding", "facts", "headline"]


def headline(run: Run) -> str:
    """Say in a sentence or two what came out."""
    if run.target is None:
        return verdict(run.statistics)
    if run.sweep is not None:
        count = counted(len(run.sweep.settings), "setting")
        return f"{count}, each tried on {counted(run.num_found, 'image')}. {run.sweep.why}"
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


def confounding(run: Run) -> str | None:
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


def facts(run: Run, notes: Sequence[str]) -> dict[str, Any]:
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
                "meaning": _meaning(name) + _whose(run, name),
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


def _meaning(outcome: str) -> str:
    return next((known.meaning for known in Outcome if known == outcome), "")


def _whose(run: Run, outcome: str) -> str:
    """Name the method that alone has an outcome."""
    methods = run.statistics.methods
    mine = list(dict.fromkeys(m.method for m in methods if m.outcomes.get(outcome)))
    several = len({method.method for method in methods}) > 1
    return f"; all of {title_of(mine[0], None)}" if several and len(mine) == 1 else ""


def _facts(run: Run, session: dict[str, Any]) -> Iterator[tuple[str, str]]:
    model, data = run.header["model"], run.header["data"]
    yield "Model", f"{model.get('name', '')}, {model.get('num_classes', '?')} classes"
    scale = model.get("mean")
    yield (
        "Normalisation",
        f"mean {scale}, std {model.get('std')}" if scale else "none: pixels in [0, 1]",
    )
    size = run.config.data.decoding.size
    yield "Images", f"{data['name']}, {size} × {size}"
    for text in model.get("assumptions", {}).values():
        yield "Assumed", text
    if data.get("labels_from"):
        yield "Labels", data["labels_from"]
    for text in data.get("notes", ()):
        yield "Of the images", text
    yield "Score space", run.method.score_space
    if run.method.score != "logits":
        yield "Score of", run.method.score
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


class _Compared(TypedDict):
    worst: float | None
    differing: int


class _Verification(TypedDict):
    """What of verification.json is told."""

    passed: bool
    comparisons: list[_Compared]
    num_heatmaps: int
    num_images: int
    torch_version: str
    dtype: str


def _verified(run: Run) -> str:
    """Say what `gaxjax verify` found, where it left its file in the run."""
    file, command = run.path / "verification.json", shlex.join(["gaxjax", "verify", str(run.path)])
    if not run.keeps_heatmaps:
        return "cannot be checked: the run keeps no heatmaps (--heatmaps none)"
    if not file.exists():
        return f"not checked yet: {command} does"
    try:
        found = stored_json(file, _Verification)
        worst = max((c["worst"] for c in found["comparisons"] if c["worst"] is not None), default=0)
        differing = sum(comparison["differing"] for comparison in found["comparisons"])
        return (
            f"{'passed' if found['passed'] else 'FAILED'}: {found['num_heatmaps']:,} heatmaps of "
            f"{counted(found['num_images'], 'image')}, largest difference of a score {worst:.1e}, "
            f"{counted(differing, 'prediction')} not the same (torch {found['torch_version']}, "
            f"{found['dtype']})"
        )
    except (OSError, ValueError):
        return f"{file} is damaged: {command} writes it anew"


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{prefix}{name}", text


# --- The command that makes the run again --------------------------------------------------------


def command_line(run: Run) -> str:
    """Rebuild the command from the stored settings; flags at their defaults are left out.

    Example:
        >>> command_line(gaxjax.open_run("run"))  # doctest: +SKIP
        'gaxjax gax --model resnet34.ckpt --data val --bias --output run'
    """
    config = run.config
    presets: dict[Any, Any] = GAX_PRESETS if run.is_gax else AX_PRESETS
    words = ["gaxjax", run.header["command"]]
    for section in fields(config):
        value = getattr(config, section.name)
        if not is_dataclass(value):
            words += _flag(section.name, value, section.default)
            continue
        default = presets[config.preset] if section.name in ("gax", "ax") else type(value)
        for setting in fields(value):
            usual = getattr(default, setting.name, setting.default)
            words += _flag(setting.name, getattr(value, setting.name), usual)
    return shlex.join([*words, "--output", str(run.path)])


def _flag(name: str, value: Any, default: Any) -> list[str]:
    if value == default or value is None:
        return []
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, tuple):
        return [f"--{flag}", *map(str, value)]
    text = str(value)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]
