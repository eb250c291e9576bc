"""The writing system calls of a process, counted, and a death at one of them.

`python tests/faults/calls.py PLAN COMMAND…` runs a gaxjax command so; PLAN is the JSON of a `Plan`.
Only calls that Python makes are seen: Orbax writes a training's arrays by calls of its own.
"""

import builtins
import contextlib
import functools
import io
import json
import os
import shutil  # before os is patched: it asks what os can do when it is imported
import signal
import sys
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

__all__ = ["Calls", "Death", "Plan", "kind_of"]

_KINDS = {
    "": "folder",
    ".lock": "lock",
    "run.json": "header",
    "finetune.json": "header",
    "scores": "part",
    "heatmaps.zarr": "shard",
    "split.csv": "split",
    "curve.csv": "curve",
    "state": "training state",
    "model.ckpt": "model",
}

_REAL = SimpleNamespace(
    open=io.open,
    **{name: getattr(os, name) for name in ("mkdir", "unlink", "remove", "rmdir", "rename")},
    **{name: getattr(os, name) for name in ("replace", "fsync", "write")},
    os_open=os.open,
)


@dataclass(frozen=True)
class Death:
    """A process ends, as by SIGKILL, at the `number`-th (from 1) call of a name and kind.

    `moment` is before, after, or half: of a write, when only half the bytes are out.
    """

    call: str
    kind: str
    number: int
    moment: str


@dataclass(frozen=True)
class Plan:
    """What a child does: its output folder, where it writes its counts, where it is to die."""

    root: str
    notes: str
    death: Death | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        values = json.loads(text)
        death = values.pop("death")
        return cls(**values, death=death and Death(**death))


def kind_of(path: str, root: str) -> str | None:
    """Say what a file below an output folder is of, such as header; None elsewhere."""
    path = os.path.abspath(path)
    if path != root and not path.startswith(root + os.sep):
        return None
    first, _, _ = path[len(root) + 1 :].partition(os.sep)
    if first.endswith(".tmp"):
        first = first.removesuffix(".tmp").removeprefix(".")
    elif first.startswith(".") and first.endswith((".partial", ".old")):
        first = first[1:].rsplit(".", 2)[0]  # .model.ckpt.1f2e3d4c.partial
    return _KINDS.get(first, "other")


class Calls:
    """Counts by (call, kind), and dies at one; `install` makes Python's calls pass through it."""

    def __init__(self, root: Path, death: Death | None = None, begun: Path | None = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._root = os.path.realpath(root)
        self._death, self._begun = death, begun
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def passing(self, call: str, path: str):
        """Around a call; gives whether it is to be done by half."""
        kind = kind_of(path, self._root)
        if kind is None:
            yield False
            return
        with self._lock:
            if self._begun is not None and not self.counts:
                _REAL.os_open(self._begun, os.O_CREAT | os.O_WRONLY)
            self.counts[call, kind] += 1
            here = call, kind, self.counts[call, kind]
        death = self._death
        due = death is not None and (death.call, death.kind, death.number) == here
        if due and death.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            yield due and death.moment == "half"
        finally:  # a call may fail, as unlink does where there is no file
            if due:
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Let every later open, write, fsync, rename, mkdir, unlink and rmdir pass."""
        for name, call, which in (
            ("mkdir", "mkdir", 0),
            ("unlink", "unlink", 0),
            ("remove", "unlink", 0),
            ("rmdir", "rmdir", 0),
            ("rename", "rename", 1),
            ("replace", "rename", 1),
            ("fsync", "fsync", 0),
        ):
            setattr(os, name, self._counted(getattr(_REAL, name), call, which))
        os.open = self._os_open
        os.write = self._os_write
        builtins.open = io.open = self._open

    def _counted(self, real, call: str, which: int):
        @functools.wraps(real)
        def counted(*args, **kwargs):
            with self.passing(call, _path(args[which], kwargs.get("dir_fd"))):
                return real(*args, **kwargs)

        return counted

    def _os_open(self, path, flags, mode=0o777, *, dir_fd=None):
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return _REAL.os_open(path, flags, mode, dir_fd=dir_fd)
        with self.passing("open", _path(path, dir_fd)):
            return _REAL.os_open(path, flags, mode, dir_fd=dir_fd)

    def _os_write(self, descriptor, data):
        with self.passing("write", _path(descriptor)) as half:
            return _REAL.write(descriptor, memoryview(data)[: len(data) // 2] if half else data)

    def _open(
        self,
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
    ):
        """As `open`, with layers over a raw file that counts its writes."""
        writes = isinstance(file, str | bytes | os.PathLike) and set("wxa+") & set(mode)
        if not writes or kind_of(_path(file), self._root) is None:
            return _REAL.open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        with self.passing("open", _path(file)):
            raw = _CountedFile(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


class _CountedFile(io.FileIO):
    def __init__(self, calls: Calls, file, *args) -> None:
        self._calls = calls
        super().__init__(file, *args)

    def write(self, data):
        data = memoryview(data).cast("B")
        with self._calls.passing("write", os.fsdecode(self.name)) as half:
            return super().write(data[: len(data) // 2] if half else data)


def _path(file, dir_fd: int | None = None) -> str:
    """A path, or that of an open file."""
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}")
    path = os.fsdecode(file)
    return path if dir_fd is None else os.path.join(_path(dir_fd), path)


def main() -> None:
    assert shutil is not None
    plan = Plan.from_json(sys.argv[1])
    notes = Path(plan.notes)
    calls = Calls(Path(plan.root), plan.death, notes.with_suffix(".begun"))
    calls.install()
    sys.argv = ["gaxjax", *sys.argv[2:]]
    from gaxjax.cli.main import entry

    try:
        entry()
    finally:
        notes.write_text(json.dumps([[*pair, count] for pair, count in calls.counts.items()]))


if __name__ == "__main__":
    main()
