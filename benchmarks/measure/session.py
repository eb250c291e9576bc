"""One run of the command: problems made, contestants started, checked, timed, rows written."""

import math
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import machine
from benchmarks.measure.measurement import IMPORTED_MODELS, Fields, Measurement
from benchmarks.measure.problem import open_problem, problem_folder
from benchmarks.measure.process import Accelerator, Worker
from benchmarks.measure.rows import append_row, describe, rates, rounded, score_difference
from benchmarks.measure.suites import Suite

# Largest difference of scores from torch's float64 ones, relative to the largest score: before the
# first update, and after one to three. Adam divides a gradient by its own size, so later scores
# carry rounding amplified; benchmarks/README.md has the values measured.
SCORE_TOLERANCE = {
    "float32": (1e-4, 2e-2),
    "tf32": (5e-3, 5e-2),
    "bfloat16": (5e-2, 1e-1),
}

# Seconds a contestant may take to start, to prepare, for a turn, to finish. On a GPU, where one
# that hangs must not cost the others their minutes, preparing and turns share `most_seconds`.
_LIMITS = {"": 240, "prepare": 600, "turn": 600, "finish": 600}
_GPU_FINISH = 60
_GRACE = 30  # seconds past the deadline, for what is under way
_MOST_MAKERS = 4


@dataclass
class Session:
    """A run of the command: rows of one group, measured together, may be compared turn by turn.

    Attributes:
        suite, commit: for the rows.
        rows_file: where rows go.
        cache: folder of problems and logs, and on a GPU of compiled code.
        accelerator: what the contestants may use.
        deadline: in the seconds of `time.monotonic`.
        written, failed: rows so far.
    """

    suite: Suite
    commit: str
    rows_file: Path
    cache: Path
    accelerator: Accelerator = "none"
    deadline: float = float("inf")
    written: int = 0
    failed: int = 0
    _alive: list[Worker] = field(default_factory=list)
    _unmade: dict[Path, str] = field(default_factory=dict)  # problems, and what went wrong
    _ax_scores: dict[tuple[str, str], list[float | None]] = field(default_factory=dict)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU must do the work."""
        return self.accelerator in ("gpu", "shared gpu")

    @property
    def is_over(self) -> bool:
        """Whether nothing new may start."""
        return time.monotonic() > self.deadline

    # --- Before the clock ------------------------------------------------------------------------

    def make_problems(self, measurements: Sequence[Measurement]) -> None:
        """Make the problems that are not there yet, side by side; a failure is its rows' error."""
        wanted = {self._folder(one): (one.model, one.size) for one in measurements}
        missing = {
            folder: what
            for folder, what in wanted.items()
            if not (folder / "problem.json").exists()
        }

        def make(folder: Path) -> None:
            model, size = missing[folder]
            say(f"{model} at {size}: making weights, images and scores")
            made = subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks.measure.problem"),
                    *(str(self.cache.resolve()), model, str(size)),
                ],
                cwd=Path(__file__).parents[2],
                env=os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
                capture_output=True,
                text=True,
                check=False,
            )
            if made.returncode:
                reason = made.stderr.strip().splitlines()[-1:]
                self._unmade[folder] = f"could not make {folder}: {' '.join(reason)}"

        with ThreadPoolExecutor(min(_MOST_MAKERS, len(os.sched_getaffinity(0)))) as pool:
            list(pool.map(make, missing))

    # --- Contestants -----------------------------------------------------------------------------

    def start(self, group: Sequence[Measurement]) -> list[Worker]:
        """Start the processes of a group; loading is not timed."""
        workers = []
        for measurement in group:
            folder = self._folder(measurement)
            worker = Worker(measurement, folder, cache=self.cache, accelerator=self.accelerator)
            self._alive.append(worker)
            worker.error = self._unmade.get(folder)
            if worker.error is None:
                with _error_of(worker):
                    worker.problem = open_problem(folder)
            workers.append(worker)
        return workers

    def measure(self, workers: Sequence[Worker]) -> None:
        """Prepare all, compare their scores, let them take turns, and write their rows."""
        together, started = uuid.uuid4().hex[:12], time.monotonic()
        for worker in workers:
            self._ask(worker, "")
            if self.accelerator == "gpu":  # several at once wait for each other
                worker.due = time.monotonic() + worker.measurement.most_seconds
            say(f"{worker.measurement.key}: prepare")
            worker.fields = self._ask(worker, "prepare")
            if worker.error is None:
                with _error_of(worker):
                    self._require_gpu(worker)
                    self._compare(worker)
                    self._compare_attributions(worker)
        most = max(one.measurement.warm_up_turns + one.measurement.turns for one in workers)
        for turn in range(most):
            for worker in workers:
                warm_up_turns, turns = worker.measurement.warm_up_turns, worker.measurement.turns
                if turn < warm_up_turns + turns and self._has_time(worker):
                    say(f"{worker.measurement.key}: turn {turn + 1} of {warm_up_turns + turns}")
                    took = self._ask(worker, "turn")
                    if turn >= warm_up_turns and took:
                        worker.turns.append(took)
        for worker in workers:
            worker.fields |= self._ask(worker, "finish")
            worker.close()
            self._alive.remove(worker)
            share = (time.monotonic() - started) / len(workers)
            self._write(worker, {"session": together, "took_seconds": share})

    def close(self) -> None:
        """End what still runs, after an interruption or past the deadline."""
        for worker in list(self._alive):
            worker.kill()
            worker.close()

    def _ask(self, worker: Worker, command: str) -> Fields:
        now = time.monotonic()
        seconds = min(_LIMITS[command], max(5.0, worker.due - now))
        if self.on_gpu and command == "finish":
            seconds = max(seconds, _GPU_FINISH)
        return worker.ask(command, seconds, max(5.0, self.deadline + _GRACE - now))

    def _has_time(self, worker: Worker) -> bool:
        """Whether one more turn like the last would end in time; one is tried in any case."""
        ends = min(worker.due, self.deadline + _GRACE)
        return not worker.turns or time.monotonic() + worker.turns[-1]["seconds"] < ends

    def _folder(self, measurement: Measurement) -> Path:
        return problem_folder(self.cache, measurement.model, measurement.size)

    # --- Checks: each raises, or says in `worker.error`, what must not be timed -------------------

    def _require_gpu(self, worker: Worker) -> None:
        """Refuse a contestant that silently went without; `first_result` tells only at its end."""
        pending = worker.measurement.workload == "first_result" and "device" not in worker.fields
        if self.on_gpu and not pending and _device(worker) == "cpu":
            raise RuntimeError("ran on the CPU, not on the GPU")

    def _compare(self, worker: Worker) -> None:
        """Hold the contestant's scores against torch's in float64; refuse to time wrong ones."""
        scores = worker.fields.pop("scores", None)
        if scores is None:
            return
        assert worker.problem is not None
        space = worker.measurement.score_space
        difference = score_difference(scores, worker.problem.scores[space])
        worker.fields["score_difference"] = difference
        tolerance = SCORE_TOLERANCE[_arithmetic(worker)]
        if worker.measurement.model in IMPORTED_MODELS:
            # Random weights magnify a rounding: after an update torch's own float32 scores of
            # EfficientNet-B0 are 35% (eager) and 76% (compiled) off its float64's, ours 24%.
            tolerance = (tolerance[0], math.inf)
        for name, limit in zip(("first", "later"), tolerance, strict=True):
            if not difference[name] <= limit:
                worker.error = (
                    f"scores differ from torch's in float64 by {difference[name]:.1e} of the "
                    f"largest ({name}); at most {limit:g} is allowed"
                )

    def _compare_attributions(self, worker: Worker) -> None:
        """Hold one backend's AX scores against the other's, of the same group and method."""
        differences = []
        for method, scores in worker.fields.pop("ax_scores", {}).items():
            identity = worker.measurement.group, method
            if identity not in self._ax_scores:
                self._ax_scores[identity] = scores
                continue
            for one, other in zip(scores, self._ax_scores[identity], strict=True):
                if (one is None) != (other is None):
                    worker.error = f"{method}: only one backend's heatmap is zero"
                elif one is not None and other is not None:
                    differences.append(abs(one - other))
        if differences:
            worker.fields["ax_score_difference"] = max(differences)

    # --- Rows ------------------------------------------------------------------------------------

    def _write(self, worker: Worker, about: Fields) -> None:
        measurement = worker.measurement
        figures: Fields = {}
        if worker.error is None:
            with _error_of(worker):
                self._require_gpu(worker)
                figures = self._figures(worker)
        row = {
            "key": measurement.key,
            "suite": self.suite,
            "group": measurement.group,
            **measurement.as_fields(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": self.commit,
            **about,
        }
        if described := worker.fields.get("machine"):
            row |= described | {"device": _device(worker), "arithmetic": _arithmetic(worker)}
        if worker.problem is not None:
            row |= {"weights": worker.problem.weights, "images_are": worker.problem.images_are}
        row |= figures if worker.error is None else {"error": worker.error}
        row |= {"cut_off": True} if worker.cut_off else {}
        with self._writing:
            append_row(rounded(row), self.rows_file)
            self.written += 1
            self.failed += worker.error is not None
            say(f"{measurement.key}: {describe(row)}", end="\n")

    def _figures(self, worker: Worker) -> Fields:
        """Return what was measured."""
        assert worker.problem is not None
        figures = worker.fields | rates(worker.turns)
        del figures["machine"]
        if self.on_gpu:  # an earlier row's programs may have been found compiled
            figures["compile_seconds"] = None
        steps = figures["image_steps_per_s"]
        flops = worker.problem.flops_per_image_step
        peak = machine.peak_flops(_device(worker), _arithmetic(worker))
        return figures | {
            "flops_per_image_step": flops,
            "tflops": steps["median"] * flops / 1e12 if steps else None,
            "mfu": steps["median"] * flops / peak if steps and peak else None,
        }


@contextmanager
def _error_of(worker: Worker) -> Iterator[None]:
    """Make what goes wrong inside the error of one row, not the end of all."""
    try:
        yield
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        worker.error = f"{type(error).__name__}: {first_line}"


def say(text: str, end: str = "") -> None:
    """Show progress on one line; `end` a newline keeps it."""
    columns = 118
    if sys.stdout.isatty():
        print(f"\r{text[:columns]:<{columns}}", end=end, flush=True)
    elif end:
        print(text, flush=True)


def _device(worker: Worker) -> str:
    """Return the device that did the work: a child's, where the contestant only started one."""
    device: str = worker.fields.get("device") or worker.fields["machine"]["device"]
    return device


def _arithmetic(worker: Worker) -> str:
    # Captum's backend means by a precision what JAX does: float32 may be TF32.
    torch = worker.measurement.contender.startswith(("torch", "released"))
    framework = "torch" if torch else "jax"
    return machine.arithmetic(framework, worker.measurement.precision, _device(worker))
