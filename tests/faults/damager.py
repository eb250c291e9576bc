"""Damage to what a run has stored, and what each command says of it.

`python tests/faults/damager.py --cases 1000` draws so many kinds of damage, reads each damaged run
with every command, and prints how often each said so, and how often it failed to.
"""

import argparse
import contextlib
import io
import json
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from looking import look

import gaxjax
from gaxjax.cli.main import main as gaxjax_main
from gaxjax.common import UserError
from gaxjax.results import read_heatmaps, read_scores

__all__ = ["COMMANDS", "FAULTS", "KINDS", "StoredRun", "damage", "make_run"]

FAULTS = ("wrong", "traceback", "lines")
"""What must not happen. Wrong: another answer than the undamaged run's, without a word. Lines: a
refusal of no line, or of more than one."""

_IMAGES = 12


# --- Damage ---------------------------------------------------------------------------------------


def _flip(file: Path, chosen: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    file.write_bytes(data)


def _overwrite(file: Path, chosen: random.Random) -> None:
    data = bytearray(file.read_bytes())
    start = chosen.randrange(len(data))
    length = len(data[start : start + chosen.choice((1, 8, 64, 512))])
    data[start : start + length] = chosen.choice((bytes(length), chosen.randbytes(length)))
    file.write_bytes(data)


def _truncate(file: Path, chosen: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: chosen.randrange(len(data))])


def _append(file: Path, chosen: random.Random) -> None:
    with file.open("ab") as opened:
        opened.write(chosen.randbytes(chosen.choice((1, 100))))


def _empty(file: Path, chosen: random.Random) -> None:
    file.write_bytes(b"")


def _delete(file: Path, chosen: random.Random) -> None:
    file.unlink()


def _folder(file: Path, chosen: random.Random) -> None:
    file.unlink()
    file.mkdir()


def _swap(file: Path, chosen: random.Random) -> None:
    """Exchange a file with another of its folder; the only one of its folder is emptied."""
    others = [path for path in _files(file.parent) if path.parent == file.parent and path != file]
    if not others:
        return _empty(file, chosen)
    other = chosen.choice(others)
    data = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(data)


def _copy(file: Path, chosen: random.Random) -> None:
    """Leave a copy beside, as programs do that synchronise folders."""
    stem, suffix = file.stem, file.suffix
    name = chosen.choice(
        (f"{stem} (1){suffix}", f"{stem} - Copy{suffix}", f"{file.name}.tmp", f".{file.name}.swp")
    )
    shutil.copy(file, file.with_name(name))


def _copy_numbered(file: Path, chosen: random.Random) -> None:
    """Leave a copy beside under another number."""
    shutil.copy(file, file.with_name(_renumbered(file.name, chosen)))


def _rename(file: Path, chosen: random.Random) -> None:
    file.rename(file.with_name(_renumbered(file.name, chosen)))


def _renumbered(name: str, chosen: random.Random) -> str:
    number = str(chosen.choice((0, 1, 2, 7, 99999)))
    new = re.sub(r"\d+", lambda found: number.zfill(len(found[0])), name, count=1)
    return new if new != name else f"old-{name}"


def _json_value(file: Path, chosen: random.Random) -> None:
    """Drop a field of a JSON file, or put something else in its place; other files are cut."""
    if file.suffix != ".json":
        return _truncate(file, chosen)
    values = json.loads(file.read_text())
    *path, last = chosen.choice(list(_places(values)))
    inner = values
    for key in path:
        inner = inner[key]
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    others = [None, True, 0, -1, 10**30, 0.5, "", "x", "\0", [], [None], {}, {"x": 1}, deep]
    if chosen.random() < 0.25:
        del inner[last]
    else:
        inner[last] = chosen.choice(others)
    file.write_text(json.dumps(values, indent=2) + "\n")


def _nested(file: Path, chosen: random.Random) -> None:
    """Put JSON in the file's place that no parser follows to its end."""
    file.write_text(chosen.choice(("[", '{"a":')) * 100_000)


def _places(values: Any, path: tuple = ()):
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in list(items):
        yield (*path, key)
        if isinstance(value, dict | list) and value:
            yield from _places(value, (*path, key))


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "bit flipped": _flip,
    "bytes overwritten": _overwrite,
    "truncated": _truncate,
    "bytes appended": _append,
    "emptied": _empty,
    "deleted": _delete,
    "a folder in its place": _folder,
    "two swapped": _swap,
    "a copy beside": _copy,
    "a copy under another number": _copy_numbered,
    "renamed": _rename,
    "a JSON field altered": _json_value,
    "JSON without an end": _nested,
}


def damage(run: Path, kind: str, chosen: random.Random) -> str:
    """Do damage to one file of a run; return which, and how, in words."""
    files = _files(run)
    if kind == "a JSON field altered" and chosen.random() < 0.9:
        files = [file for file in files if file.suffix == ".json"]
    file = chosen.choice(files)
    KINDS[kind](file, chosen)
    return f"{kind}: {file.relative_to(run)}"


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]


# --- What is asked of a run -----------------------------------------------------------------------


class _RefusedError(Exception):
    """A command said no, or that images are missing; its text."""


def _gaxjax(*words: object) -> str:
    """Run a command in this process; return what it printed.

    Raises:
        _RefusedError: it ended with a status of 1 or 2, and said why.
    """
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = gaxjax_main([str(word) for word in words])
    if status:
        assert status in (1, 2), f"exit status {status}"
        if status == 1:
            raise _RefusedError(said.getvalue().splitlines()[0])
        raise _RefusedError(re.split("^gaxjax: ", complained.getvalue(), flags=re.M)[-1].strip())
    return said.getvalue()


def _scores(run: "StoredRun") -> Any:
    return sorted(map(repr, read_scores(run.path).to_pylist()))


def _heatmaps(run: "StoredRun") -> Any:
    return read_heatmaps(run.path, run.heatmap_rows).tobytes()


def _opened(run: "StoredRun") -> Any:
    opened = gaxjax.open_run(run.path)
    if opened.num_found < opened.num_wanted:
        raise _RefusedError(f"{opened.num_found} of {opened.num_wanted} images")
    names = ("config", "classes", "method", "target", "num_found", "num_wanted", "keeps_heatmaps")
    told = [repr(getattr(opened, name)) for name in names]
    image = run.image_id
    return told, repr(opened), repr(opened.statistics), opened.heatmap(image).tobytes()


def _statistics(run: "StoredRun") -> Any:
    file = run.scratch / "statistics.json"
    printed = _gaxjax("statistics", run.path, "--num-resamples", 40, "--output", file)
    if f"of the run's {_IMAGES} images" in printed:
        raise _RefusedError(printed.splitlines()[-3])
    return file.read_text()


def _report(run: "StoredRun") -> Any:
    file = run.scratch / "report.html"
    _gaxjax("report", run.path, "--output", file, "--num-pictures", 4)
    page = file.read_text()
    if "This run is not finished" in page:
        raise _RefusedError("This run is not finished")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", page)


def _view(run: "StoredRun") -> Any:
    file = run.scratch / "view.png"
    _gaxjax("view", run.path, run.image_id, "--save", file)
    return file.read_bytes()


def _verify(run: "StoredRun") -> Any:
    file = run.scratch / "verification.json"
    _gaxjax("verify", run.path, "--output", file)
    return file.read_text()


def _inspect(run: "StoredRun") -> Any:
    """Where it says nothing, every score and every heatmap is as it was."""
    printed = _gaxjax("inspect", run.path)
    if "images have no rows" in printed:
        raise _RefusedError("images have no rows")
    return _scores(run), _heatmaps(run)


def _resume(run: "StoredRun") -> Any:
    """Where it goes on, it ends with the same rows and heatmaps."""
    _gaxjax(*run.words)
    return _content(run)


def _repair(run: "StoredRun") -> Any:
    with contextlib.suppress(_RefusedError):
        _gaxjax("inspect", run.path, "--repair")
    return _resume(run)


def _content(run: "StoredRun") -> Any:
    seen = look(run.path)
    return sorted(seen.rows.items()), seen.doubled, seen.unreadable


COMMANDS: dict[str, Callable[["StoredRun"], Any]] = {
    "read_scores": _scores,
    "read_heatmaps": _heatmaps,
    "open_run": _opened,
    "statistics": _statistics,
    "report": _report,
    "view": _view,
    "verify": _verify,
    "inspect": _inspect,
    "resume": _resume,
    "repair and resume": _repair,
}


# --- Asking ---------------------------------------------------------------------------------------


@dataclass
class StoredRun:
    """A run that can be damaged, asked, and put back.

    Attributes:
        path: the folder.
        words: the command that made it.
        scratch: a folder for what commands write.
        answers: of each command, while the run was whole.
    """

    path: Path
    words: list[str]
    scratch: Path
    answers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scratch.mkdir()
        rows = read_scores(self.path).to_pylist()
        self.heatmap_rows = [r["heatmap_row"] for r in rows if r["heatmap_row"] is not None]
        self.image_id = rows[0]["image_id"]
        self._whole, self._damaged = self.scratch / "whole", self.scratch / "damaged"
        shutil.copytree(self.path, self._whole)
        for name, ask in COMMANDS.items():
            self.answers[name] = ask(self)

    def damage(self, kind: str, chosen: random.Random) -> str:
        """Damage a file; return which, and how, in words."""
        _replace(self._damaged, self._whole)
        return damage(self._damaged, kind, chosen)

    def ask(self, command: str) -> tuple[str, str]:
        """Give a command the run as it was damaged last.

        Returns:
            What came of it, and what was said: "clean", the answer is the undamaged run's;
            "said"; "fewer", scores of some images, and no others; or one of `FAULTS`.
        """
        _replace(self.path, self._damaged)
        try:
            answer = COMMANDS[command](self)
        except (UserError, _RefusedError) as error:
            return ("said" if len(str(error).splitlines()) == 1 else "lines"), str(error)
        except KeyboardInterrupt:
            raise
        except BaseException:
            return "traceback", traceback.format_exc()
        if answer == self.answers[command]:
            return "clean", ""
        if command == "read_scores" and set(answer) < set(self.answers[command]):
            return "fewer", ""
        return "wrong", ""


def _replace(folder: Path, other: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(other, folder)


def make_run(folder: Path) -> StoredRun:
    """Make a real run of a tiny network, of several parts; some images are misclassified."""
    from killer import make_model

    model, run = folder / "small.ckpt", folder / "run"
    make_model(model)
    words = f"gax --model {model} --data digits --size 16 --num-images {_IMAGES} --part-size 4"
    words += (
        " --include-misclassified --target 1e9 --max-steps 3 --slots 4 --no-drain --snapshots 2"
    )
    words += f" --output {run}"
    _gaxjax(*words.split())
    return StoredRun(run, words.split(), folder / "scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for the counts as JSON")
    arguments = parser.parse_args()
    counts: Counter[tuple[str, str, str]] = Counter()
    failed = []
    with tempfile.TemporaryDirectory(prefix="gaxjax-damage-") as folder:
        run = make_run(Path(folder))
        for case in range(arguments.cases):
            kind = list(KINDS)[case % len(KINDS)]
            what = run.damage(kind, random.Random(arguments.seed + case))
            for command in arguments.commands:
                outcome, words = run.ask(command)
                counts[kind, command, outcome] += 1
                if outcome in FAULTS:
                    failed.append(f"{what}: {command}: {outcome} {words}")
    print(*failed, sep="\n", file=sys.stderr)
    print(_table(counts, arguments.commands))
    if arguments.output:
        rows = [
            {"kind": kind, "command": command, "outcome": outcome, "cases": number}
            for (kind, command, outcome), number in sorted(counts.items())
        ]
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(bool(failed))


def _table(counts: Counter[tuple[str, str, str]], commands: list[str]) -> str:
    """Kinds by commands, each cell such as `77 said` or `70 said, 7 clean`."""
    lines = [["damage", *commands], ["---"] * (1 + len(commands))]
    outcomes = ("said", "clean", "fewer", *FAULTS)
    for kind in KINDS:
        cells = [
            ", ".join(
                f"{counts[kind, command, outcome]} {outcome}"
                for outcome in outcomes
                if counts[kind, command, outcome]
            )
            for command in commands
        ]
        lines.append([kind, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
