"""From the command to the first stored result, with an empty and with a filled compilation cache.

Imports neither jax nor gaxjax: the command's own process needs the accelerator.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from benchmarks.measure.measurement import Fields, Measurement, Turn
from benchmarks.measure.problem import Problem

_POLL_SECONDS = 0.005
_STOPPED = (0, 130)  # ended by itself, or by Ctrl-C


@dataclass(frozen=True)
class _Start:
    """When what was there, in seconds since the command.

    Attributes:
        opened: run.json: modules imported, model and images opened.
        compiled_for: how long compiling took, as the run says itself.
        stored: the first part of the scores.
        device: as the run says itself.
    """

    opened: float
    compiled_for: float
    stored: float
    device: str


class FirstResult:
    """`gaxjax gax` as a user gives it, stopped when its first result is stored.

    `cold` has an empty folder for JAX's compilation cache each time, `warm` one that another run
    has filled. Wrongly classified images are optimised too: the first result is a heatmap, not an
    image turned away.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        self._folder: tempfile.TemporaryDirectory[str]
        self._images = ""
        self._imports = 0.0
        self._starts: list[_Start] = []

    def prepare(self) -> Fields:
        """Write the images, time the imports alone, and fill the cache for `warm`."""
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._images = str(image_files(self._problem, self._measurement.num_images, folder))
        if self._measurement.contender == "warm":
            self._start(folder / "cache")
        self._imports = _import_seconds()
        return {"compile_seconds": 0.0}  # every turn compiles for itself

    def turn(self) -> Turn:
        """Give the command, and wait for the first stored result."""
        if self._measurement.contender == "warm":
            start = self._start(Path(self._folder.name) / "cache")
        else:
            with tempfile.TemporaryDirectory() as empty:
                start = self._start(Path(empty))
        self._starts.append(start)
        return Turn(start.stored, image_steps=0, images=1)

    def finish(self) -> Fields:
        """Return where the time went: medians of the timed turns.

        `open` is everything until run.json is there: imports, which `imports_seconds` has as
        measured alone, model and images.
        """
        counted = self._starts[self._measurement.warm_up_turns :]
        parts = [
            {
                "open": start.opened,
                "compile": start.compiled_for,
                "first_result": start.stored - start.opened - start.compiled_for,
            }
            for start in counted
        ]
        self._folder.cleanup()
        return {
            "seconds_by_part": {
                name: statistics.median(part[name] for part in parts) for name in parts[0]
            },
            "imports_seconds": self._imports,
            "device": counted[-1].device,
        }

    def _start(self, cache: Path) -> _Start:
        """Run the command until its first result is stored.

        Raises:
            ChildProcessError: it ended without one, or did not stop cleanly.
        """
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryFile("w+") as messages,
        ):
            output = Path(folder) / "run"
            opened = None
            started = time.perf_counter()
            with subprocess.Popen(
                self._command(output), env=environment, stdout=messages, stderr=messages
            ) as process:
                while True:
                    ended = process.poll() is not None  # looked up before the files
                    seconds = time.perf_counter() - started
                    if opened is None and (output / "run.json").exists():
                        opened = seconds
                    if opened is not None and any((output / "scores").glob("part-*.parquet")):
                        break
                    if ended:
                        raise _failed(process.returncode, messages)
                    time.sleep(_POLL_SECONDS)
                if not ended:
                    process.send_signal(signal.SIGINT)
                try:
                    status = process.wait(timeout=120)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
            if status not in _STOPPED:
                raise _failed(status, messages)
            session = json.loads((output / "run.json").read_text())["sessions"][-1]
        device = session["device"].partition(" × ")[2]
        return _Start(opened, session["compile_seconds"], seconds, device)

    def _command(self, output: Path) -> list[str]:
        measurement = self._measurement
        flags = {
            "model": self._problem.checkpoint,
            "data": self._images,
            "num-images": measurement.num_images,
            "size": measurement.size,
            "slots": measurement.slots,
            "precision": measurement.precision,
            "score-space": measurement.score_space,
            "max-steps": measurement.max_steps,
            "part-size": 1,
            "output": output,
        }
        given = [f"--{name}={value}" for name, value in flags.items()]
        return [sys.executable, "-m", "gaxjax", "gax", *given, "--include-misclassified"]


def image_files(problem: Problem, count: int, folder: Path) -> Path:
    """Return a folder of at least `count` image files whose classes the problem's network knows.

    Real images where the weights are real. A random network has its own labels: its images are
    written as JPEG files into `folder`, one subfolder per class, at the size they have. Past the
    last image they begin again, as further names of the same files.
    """
    root = folder / "images"
    if problem.image_folder is not None and problem.weights == "real":
        if count <= len(_files(problem.image_folder)):
            return problem.image_folder
        shutil.copytree(problem.image_folder, root)
    else:
        _write_images(problem, min(count, len(problem.images)), root)
    files = _files(root)
    for number in range(len(files), count):
        again, index = divmod(number, len(files))
        os.link(files[index], files[index].with_stem(f"{files[index].stem}-{again}"))
    return root


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write_images(problem: Problem, count: int, root: Path) -> None:
    from PIL import Image

    digits = len(str(problem.num_classes))
    classes = [root / f"class-{number:0{digits}}" for number in range(problem.num_classes)]
    for path in classes:
        path.mkdir(parents=True)
    for index in range(count):
        images, labels = problem.batch(np.array([index]))
        Image.fromarray(images[0]).save(classes[labels[0]] / f"{index:06}.jpg", quality=95)


def _import_seconds() -> float:
    started = time.perf_counter()
    code = "import gaxjax.cli.main, gaxjax.runs.gax"
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def _failed(status: int, messages: TextIO) -> ChildProcessError:
    messages.seek(0)
    said = " ".join(messages.read().split())[-300:]
    return ChildProcessError(f"gaxjax ended with status {status}: {said}")
