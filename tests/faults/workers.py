"""Kills workers of one run, by SIGKILL: `python tests/faults/workers.py --rounds 10 --ray 2`.

Each round does the same run anew: by slices side by side, so many as chance says, of which some
are killed at random instants and started again; or over two workers of Ray, of which one is killed.
What the store holds in the end must be what one undisturbed process left, image by image.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from killer import make_model
from looking import Look, look
from PIL import Image

from gaxjax.common import path_to_read
from gaxjax.results import inspect_run

__all__ = ["Job", "Round", "by_ray", "by_slices"]

_SECONDS = 600  # no process takes so long
_MOST_SLICES = 5


@dataclass(frozen=True)
class Round:
    """What was done to a run, and what was found: `doubled` to `differing` must be 0.

    Attributes:
        how: slices or ray.
        workers: how many.
        kills: of them.
        doubled, missing, differing, damaged: images, and parts.
        seconds: it took.
    """

    how: str
    workers: int
    kills: int
    doubled: int
    missing: int
    differing: int
    damaged: int
    seconds: float

    @property
    def faults(self) -> int:
        return self.doubled + self.missing + self.differing + self.damaged


class Job:
    """A run of random images over a small network.

    Args:
        folder: an empty one to work in.
        num_images: of the run.
        max_steps: of each.
        output: where the runs go; in the folder when not given.
    """

    def __init__(
        self, folder: Path, *, num_images: int = 96, max_steps: int = 200, output: str = ""
    ) -> None:
        self.folder, self.output = folder, output or str(folder)
        make_model(folder / "small.ckpt")
        pixels = np.random.default_rng(0)
        for number in range(num_images):
            place = folder / "images" / str(number % 3)
            place.mkdir(parents=True, exist_ok=True)
            image = pixels.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(place / f"{number:03d}.png")
        self.words = [
            *(sys.executable, "-m", "gaxjax", "gax", "--include-misclassified"),
            *("--model", str(folder / "small.ckpt"), "--data", str(folder / "images")),
            *["--size", "16", "--target", "1e9", "--slots", "4", "--part-size", "4"],
            *("--max-steps", str(max_steps)),
        ]
        whole = self.start("whole")
        assert whole.wait(_SECONDS) == 0, self.log("whole")
        self.whole = look(self.place("whole"))

    def start(self, run: str, *more: str, log: str = "") -> "subprocess.Popen[bytes]":
        """Start the command; its process has a group of its own."""
        with open(self.folder / f"{log or run}.log", "ab") as file:
            words = [*self.words, "--output", f"{self.output}/{run}", *more]
            return subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)

    def log(self, run: str) -> str:
        return (self.folder / f"{run}.log").read_text()[-2000:]

    def place(self, run: str) -> Path:
        return path_to_read(f"{self.output}/{run}", "run", urls=True)

    def found(self, how: str, run: str, workers: int, kills: int, begun: float) -> Round:
        """Hold a run against the undisturbed one."""
        now: Look = look(self.place(run))
        same = now.rows.keys() & self.whole.rows.keys()
        inspected = inspect_run(self.place(run))
        return Round(
            how,
            workers,
            kills,
            doubled=now.doubled,
            missing=len(self.whole.rows.keys() ^ now.rows.keys()) + inspected.missing,
            differing=sum(now.rows[key] != self.whole.rows[key] for key in same) + now.unreadable,
            damaged=len(inspected.damages),
            seconds=round(time.monotonic() - begun, 1),
        )


def by_slices(job: Job, run: str, slices: int, kills: int, chosen: random.Random) -> Round:
    """Do a run by slices at once; kill so many of their processes, and start those again."""
    begun, left = time.monotonic(), kills
    logs = [f"{run}-{index}" for index in range(slices)]

    def start(index: int) -> "subprocess.Popen[bytes]":
        return job.start(run, "--shard", f"{index}/{slices}", log=logs[index])

    at_work = {index: start(index) for index in range(slices)}
    while at_work:
        assert time.monotonic() - begun < _SECONDS, [job.log(log) for log in logs]
        time.sleep(chosen.uniform(0.2, 3.0) if left else 0.1)
        for index, process in list(at_work.items()):
            if process.poll() is not None:
                assert process.returncode == 0, job.log(logs[index])
                del at_work[index]
        begun_to_write = (job.folder / run / "run.json").exists() or job.output != str(job.folder)
        if left and at_work and begun_to_write:
            index = chosen.choice(sorted(at_work))
            os.killpg(at_work[index].pid, signal.SIGKILL)
            at_work[index].wait()
            at_work[index] = start(index)
            left -= 1
    return job.found("slices", run, slices, kills - left, begun)


def by_ray(job: Job, run: str, workers: int, kills: int, chosen: random.Random) -> Round:
    """Do a run over Ray's workers; kill so many of them when some results are there."""
    begun, left = time.monotonic(), kills
    driver = job.start(run, "--ray", "auto", "--workers", str(workers))
    seen: set[int] = set()
    with _ended(driver):
        while driver.poll() is None:
            assert time.monotonic() - begun < _SECONDS, job.log(run)
            time.sleep(0.2)
            parts = len(list((job.folder / run / "scores").glob("part-*")))
            at_work = {process.pid for process in _workers(driver)}
            fresh = at_work - seen
            if left and parts > 2 * (kills - left) and len(at_work) == workers and fresh:
                killed = chosen.choice(sorted(fresh))
                seen.add(killed)
                os.kill(killed, signal.SIGKILL)
                left -= 1
        assert driver.returncode == 0, job.log(run)
    return job.found("ray", run, workers, kills - left, begun)


def _workers(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return the processes of the driver's Ray that hold an engine."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(driver.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ray::Worker" in " ".join(process.cmdline()):
                    found.append(process)
    return found


@contextlib.contextmanager
def _ended(driver: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="by slices")
    parser.add_argument("--ray", type=int, default=2, help="rounds over Ray's workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", default="", help="where runs go, such as s3://bucket/runs")
    parser.add_argument("--output", type=Path, help="file of rows as JSON")
    arguments = parser.parse_args()
    chosen, rounds = random.Random(arguments.seed), []
    with tempfile.TemporaryDirectory(prefix="gaxjax-workers-") as folder:
        job = Job(Path(folder), output=arguments.url)
        for number in range(arguments.rounds + arguments.ray):
            if number < arguments.rounds:
                slices = 4 if number == 0 else chosen.randint(1, _MOST_SLICES)
                done = by_slices(job, f"run-{number}", slices, chosen.randint(2, 4), chosen)
            else:
                done = by_ray(job, f"run-{number}", 2, 1, chosen)
            print(done, file=sys.stderr, flush=True)
            rounds.append(done)
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(each) for each in rounds], indent=1) + "\n")
    faults = sum(each.faults for each in rounds)
    print(f"{len(rounds)} runs, {sum(each.kills for each in rounds)} kills, {faults} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
