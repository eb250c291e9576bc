"""Runs a suite: one process per measurement, rows written as they come, resumable.

On a CPU all contestants of a group live at once and take turns, so that a machine's drift meets all
of them alike; on a GPU, whose memory they would share, each runs alone while the next one loads.
"""

import fnmatch
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import describe, rates, rounded, score_difference
from benchmarks.measurement import Fields, Measurement
from benchmarks.problem import Problem, open_problem, problem_folder
from benchmarks.process import Worker
from benchmarks.suites import Suite, rehearsal, suite_measurements
from gaxjax.errors import UserError

BENCHMARKS = Path(__file__).parent

# Largest difference of scores from torch's float64 ones, relative to the largest score: before the
# first update, and after one to four. Adam divides a gradient by its own size, so later scores
# carry rounding amplified; benchmarks/README.md has the values measured.
SCORE_TOLERANCE = {
    "float32": (1e-4, 2e-2),
    "tf32": (5e-3, 5e-2),
    "bfloat16": (5e-2, 1e-1),
}


@dataclass(frozen=True)
class Run:
    """Measure a suite, appending rows; the same command goes on where it was cut off.

    Attributes:
        suite: quick: a minute, to see that all is well; cpu: two cores, 45 minutes; gpu: one
            H100, nine minutes.
        only: Measure only what matches one of these, such as "to_target*" or "*torch*".
        again: Measure also what this commit has rows of.
        minutes: Start nothing new after so many minutes.
        rehearse: The suite's measurements at tiny sizes on the CPU, to see that none fails.
        output: File of rows; benchmarks/results/SUITE.jsonl by default.
        commit: What to write into the rows where this is not a git checkout.
        cache: Folder for weights, images and logs.
    """

    suite: Suite = "quick"
    only: tuple[str, ...] = ()
    again: bool = False
    minutes: float | None = None
    rehearse: bool = False
    output: Path | None = None
    commit: str | None = None
    cache: Path = BENCHMARKS / ".cache"

    @property
    def rows_file(self) -> Path:
        """Where the rows go; a rehearsal's never beside measured ones."""
        if self.output is not None:
            return self.output
        return (
            self.cache / "rehearsal.jsonl"
            if self.rehearse
            else (BENCHMARKS / "results" / f"{self.suite}.jsonl")
        )


def run_suite(run: Run) -> int:
    """Measure what is wanted; return how many rows failed.

    Raises:
        UserError: nothing matches, no GPU for the gpu suite, or a problem could not be made.
    """
    measurements = suite_measurements(run.suite)
    if run.rehearse:
        measurements = rehearsal(measurements)
    if run.only:
        measurements = [
            one
            for one in measurements
            if any(fnmatch.fnmatch(one.key, f"*{pattern}*") for pattern in run.only)
        ]
    if not measurements:
        raise UserError(
            f"--only {' '.join(run.only)} matches no row of the suite {run.suite}; "
            "python -m benchmarks list shows them"
        )
    on_gpu = run.suite == "gpu" and not run.rehearse
    if on_gpu and not _has_gpu():
        raise UserError(
            "the gpu suite needs an Nvidia GPU that nvidia-smi lists; --rehearse tries it here"
        )
    commit = run.commit or machine.commit()
    todo = measurements if run.again else _without_rows(measurements, run.rows_file, commit)
    if len(todo) < len(measurements):
        print(f"{len(measurements) - len(todo)} rows of commit {commit} are there already")
    session = _Session(run, commit, deadline=_deadline(run))
    groups = [list(group) for _, group in groupby(todo, key=lambda one: one.group)]
    if on_gpu:
        groups = [[one] for group in groups for one in group]
    try:
        upcoming: list[Worker] | None = None
        for position, group in enumerate(groups):
            if time.monotonic() > session.deadline:
                left = sum(map(len, groups[position:]))
                print(f"{run.minutes:g} minutes are over; {left} measurements are left")
                break
            workers = upcoming or session.start(group)
            upcoming = None
            if on_gpu and position + 1 < len(groups):
                upcoming = session.start(groups[position + 1])
            session.measure(workers)
    finally:
        session.close()
    print(f"{session.written} rows in {run.rows_file}, {session.failed} of them failed")
    return session.failed


@dataclass
class _Session:
    """A run of the command: rows of one session may be compared turn by turn."""

    run: Run
    commit: str
    deadline: float
    written: int = 0
    failed: int = 0
    _alive: list[Worker] = field(default_factory=list)
    _problems: dict[Path, Problem] = field(default_factory=dict)

    def start(self, group: Sequence[Measurement]) -> list[Worker]:
        """Start the processes of a group, one after another: loading is not timed."""
        workers = []
        for measurement in group:
            folder = problem_folder(self.run.cache, measurement.model, measurement.size)
            self._problem(folder, measurement)
            workers.append(
                Worker(
                    measurement,
                    folder,
                    logs=self.run.cache / "logs",
                    on_cpu=self.run.suite == "cpu" or self.run.rehearse,
                )
            )
        self._alive += workers
        return workers

    def close(self) -> None:
        """End what still runs, after an interruption or past the deadline."""
        for worker in self._alive:
            worker.close()

    def measure(self, workers: list[Worker]) -> None:
        """Prepare all, compare their scores, let them take turns, and write their rows."""
        together = uuid.uuid4().hex[:12]
        for worker in workers:
            worker.ask("", self._limit(120))
            _say(f"{worker.measurement.key}: prepare")
            worker.fields = worker.ask("prepare", self._limit(600))
            self._compare(worker)
        _compare_attributions(workers)
        most = max(worker.measurement.turns for worker in workers)
        for turn in range(most + 1):
            for worker in workers:
                if turn <= worker.measurement.turns:
                    _say(f"{worker.measurement.key}: turn {turn} of {worker.measurement.turns}")
                    took = worker.ask("turn", self._limit(600))
                    if turn and took:  # the first warms up
                        worker.turns.append(took)
        for worker in workers:
            worker.fields |= worker.ask("finish", self._limit(120))
            worker.close()
            self._write(worker, together)

    def _compare(self, worker: Worker) -> None:
        """Hold the contestant's scores against torch's in float64; refuse to time wrong ones."""
        scores = worker.fields.pop("scores", None)
        if worker.error or scores is None:
            return
        measurement = worker.measurement
        problem = self._problems[
            problem_folder(self.run.cache, measurement.model, measurement.size)
        ]
        difference = score_difference(scores, problem.scores[measurement.score_space])
        worker.fields["score_difference"] = difference
        tolerance = SCORE_TOLERANCE[_arithmetic(worker)]
        allowed = dict(zip(("first", "later"), tolerance, strict=True))
        for name, limit in allowed.items():
            if not difference[name] <= limit:
                worker.error = (
                    f"scores differ from torch's in float64 by {difference[name]:.1e} of the "
                    f"largest ({name}); at most {limit:g} is allowed"
                )

    def _problem(self, folder: Path, measurement: Measurement) -> Problem:
        if folder not in self._problems:
            if not (folder / "problem.json").exists():
                _say(f"{measurement.model} at {measurement.size}: making weights and images")
                made = subprocess.run(
                    [
                        *(sys.executable, "-m", "benchmarks.problem", str(self.run.cache)),
                        *(measurement.model, str(measurement.size)),
                    ],
                    cwd=BENCHMARKS.parent,
                    env=os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if made.returncode:
                    reason = made.stderr.strip().splitlines()[-1:]
                    raise UserError(f"could not make {folder}: {' '.join(reason)}")
            self._problems[folder] = open_problem(folder)
        return self._problems[folder]

    def _limit(self, seconds: float) -> float:
        """Return how long to wait: past the deadline a grace, then the row counts as failed."""
        return max(5.0, min(seconds, self.deadline - time.monotonic() + 30))

    def _write(self, worker: Worker, together: str) -> None:
        measurement = worker.measurement
        problem = self._problems[
            problem_folder(self.run.cache, measurement.model, measurement.size)
        ]
        described = worker.fields.pop("machine", {})
        row = {
            "key": measurement.key,
            "suite": self.run.suite,
            "group": measurement.group,
            **measurement.as_fields(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": self.commit,
            "session": together,
            **described,
            "weights": problem.weights,
            "images_are": problem.images_are,
        }
        if described:
            row |= {"arithmetic": _arithmetic(worker, described)}
        if worker.error is not None:
            row["error"] = worker.error
            self.failed += 1
        else:
            row |= worker.fields | rates(worker.turns)
            steps = row["image_steps_per_s"]
            flops = problem.flops_per_image_step
            peak = machine.peak_flops(described["device"], row["arithmetic"])
            row |= {
                "flops_per_image_step": flops,
                "tflops": steps["median"] * flops / 1e12 if steps else None,
                "mfu": steps["median"] * flops / peak if steps and peak else None,
            }
        self.run.rows_file.parent.mkdir(parents=True, exist_ok=True)
        with self.run.rows_file.open("a") as file:
            file.write(json.dumps(rounded(row)) + "\n")
        self.written += 1
        _say(f"{measurement.key}: {describe(row)}", end="\n")


def _compare_attributions(workers: list[Worker]) -> None:
    """Hold Captum's AX scores against the native ones of the same method."""
    native: dict[str, list[float | None]] = {}
    for worker in workers:
        for method, scores in worker.fields.pop("ax_scores", {}).items():
            other = native.setdefault(method, scores)
            pairs = list(zip(scores, other, strict=True))
            if any((a is None) != (b is None) for a, b in pairs):
                worker.error = f"{method}: only one backend's heatmap is zero"
            differences = [abs(a - b) for a, b in pairs if a is not None and b is not None]
            worker.fields["ax_score_difference"] = max(
                [worker.fields.get("ax_score_difference", 0.0), *differences]
            )


def _arithmetic(worker: Worker, described: Fields | None = None) -> str:
    device = (described or worker.fields["machine"])["device"]
    torch = worker.measurement.contender.startswith(("torch", "released", "captum"))
    return machine.arithmetic("torch" if torch else "jax", worker.measurement.precision, device)


def _without_rows(
    measurements: list[Measurement], rows_file: Path, commit: str
) -> list[Measurement]:
    """Leave out groups that this commit has all rows of; a group is measured as a whole."""
    known = set()
    if rows_file.exists():
        for line in rows_file.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # torn by a crash
            if row["commit"] == commit:
                known.add(row["key"])
    whole = {
        name
        for name, group in _grouped(measurements)
        if all(measurement.key in known for measurement in group)
    }
    return [measurement for measurement in measurements if measurement.group not in whole]


def _grouped(measurements: list[Measurement]) -> Iterator[tuple[str, list[Measurement]]]:
    for name, group in groupby(measurements, key=lambda one: one.group):
        yield name, list(group)


def _deadline(run: Run) -> float:
    return time.monotonic() + run.minutes * 60 if run.minutes is not None else float("inf")


def _has_gpu() -> bool:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return "GPU 0" in listed.stdout


def _say(text: str, end: str = "") -> None:
    """Show progress on one line; `end` a newline keeps it."""
    columns = 118
    if sys.stdout.isatty():
        print(f"\r{text[:columns]:<{columns}}", end=end, flush=True)
    elif end:
        print(text, flush=True)
