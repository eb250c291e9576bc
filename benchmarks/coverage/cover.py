"""python -m benchmarks coverage: import many networks and hold each to torch, with limits."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.coverage.zoo import SETS, ZooModel, zoo_model
from benchmarks.measure.machine import commit, version
from benchmarks.measure.rows import Row, append_row, read_lines, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.common import UserError, nearest

_TOGETHER = 8
"""Networks in one process: a new one takes seconds to start, an old one holds much memory."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Coverage:
    """Import networks of torchvision and timm and compare each with torch; needs gaxjax[timm].

    Attributes:
        models: Names such as torchvision:resnet18 or timm:convnext_atto; before set.
        set: dozen, torchvision (all its classifiers), timm (one of each family) or all.
        output: File of rows; benchmarks/results/coverage.jsonl by default.
        seconds: For one network, then it is given up.
        gigabytes: Of memory for one network, likewise.
        again: Compare also what the file has rows of.
    """

    models: tuple[str, ...] = ()
    set: Literal["dozen", "torchvision", "timm", "all"] = "dozen"
    output: Path = BENCHMARKS / "results" / "coverage.jsonl"
    seconds: float = 900.0
    gigabytes: float = 8.0
    again: bool = False


def cover(command: Coverage) -> list[Row]:
    """Compare networks one after another, print a line for each, and append their rows.

    Raises:
        UserError: a name that no library has.
    """
    models = [_known(key) for key in command.models or SETS[command.set]()]
    done = set()
    if command.output.exists() and not command.again:
        done = {row["model"] for row in read_lines(command.output) if "error" not in row}
    made: list[Row] = []
    worker: _Worker | None = None
    try:
        for model in models:
            if model.key in done:
                continue
            if worker is None or worker.ended or worker.answered >= _TOGETHER:
                if worker is not None:
                    worker.stop()
                worker = _Worker()
            answer = worker.ask(model.key, command.seconds, command.gigabytes)
            made.append(_row(model, answer))
            append_row(rounded(made[-1]), command.output)
            print(_line(made[-1]), flush=True)
    finally:
        if worker is not None:
            worker.stop()
    return made


class _Worker:
    """A process of `benchmarks.coverage.worker`."""

    def __init__(self) -> None:
        self.answered = 0
        self.ended = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.coverage.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=BENCHMARKS.parent,
            text=True,
        )

    def ask(self, key: str, seconds: float, gigabytes: float) -> dict[str, Any]:
        """Return the answer about a network, or why there is none; then the process is over."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        end = time.monotonic() + seconds
        print(key, file=asked, flush=True)
        self.answered += 1
        while time.monotonic() < end:
            if select.select([answers], [], [], 0.5)[0]:
                line = answers.readline()
                if line:
                    return dict(json.loads(line))
                self.stop()
                return {"error": f"the process ended with status {self._process.returncode}"}
            if self._resident() > gigabytes * 1e9:
                self.stop()
                return {"error": f"it needs more than {gigabytes:g} GB of memory"}
        self.stop()
        return {"error": f"it takes more than {seconds:g} s"}

    def _resident(self) -> int:
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * _PAGE
        return 0

    def stop(self) -> None:
        """End the process."""
        self.ended = True
        self._process.kill()
        self._process.communicate()


def _known(key: str) -> ZooModel:
    model = zoo_model(key)
    if model.library == "timm":
        import timm

        names = timm.list_models()
    elif model.library == "torchvision":
        names = [each.removeprefix("torchvision:") for each in SETS["torchvision"]()]
    else:
        raise UserError(f"no library {model.library!r}; expected torchvision:NAME or timm:NAME")
    if model.name not in names:
        raise UserError(f"{model.library} has no {model.name!r}{nearest(model.name, names)}")
    return model


def _row(model: ZooModel, answer: dict[str, Any]) -> Row:
    libraries = ("jax", "torch", "torchvision", "timm")
    return {
        "workload": "coverage",
        "suite": "coverage",
        "key": f"coverage/{model.key}",
        "device": "cpu",
        "model": model.key,
        "size": model.size,
        **answer,
        "versions": {name: version(name) for name in libraries if version(name)},
        "commit": commit(),
    }


def _line(row: Row) -> str:
    if "error" in row:
        return f"{row['model']}: {row['error']}"
    exact, single, half = row["float64"], row["float32"], row["bfloat16"]
    return (
        f"{row['model']}, {row['size']} × {row['size']}: {row['nodes']} nodes; float64 logits "
        f"{exact['logits']:.1e}, gradient {exact['gradient']:.1e}; float32 {single['logits']:.1e}, "
        f"{single['gradient']:.1e}; bfloat16 {half['logits']:.1e}"
    )
