"""Runs a suite by stages: one process per measurement, rows written as they come, resumable.

On a CPU all contestants of a group live at once and take turns, so that a machine's drift meets all
of them alike; on a GPU, whose memory they would share, each runs alone while the next one loads.
"""

import fnmatch
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.measure import machine
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.process import Accelerator, Worker
from benchmarks.measure.rows import Row, read_lines
from benchmarks.measure.session import Session
from benchmarks.measure.suites import Stage, Suite, rehearsal, suite_stages
from benchmarks.show.stage_line import stage_line
from gaxjax.common import UserError

BENCHMARKS = Path(__file__).parents[1]

_SIDE_BY_SIDE = 8  # contestants of a smoke test, which times nothing


@dataclass(frozen=True)
class Run:
    """Measure a suite, appending rows; the same command goes on where it was cut off.

    Attributes:
        suite: quick: a minute, to see that all is well; cpu: two cores, an hour; gpu: one H100.
        stage: Only this stage of the gpu suite; all in order by default.
        only: Measure only what matches one of these, such as "to_target*" or "*torch*".
        again: Measure also what this commit has rows of.
        minutes: Start nothing new so many minutes after the command; half a minute later all ends.
        rehearse: The suite's measurements at tiny sizes on the CPU, to see that none fails.
        smoke: The gpu suite's on its GPU, likewise, many at a time: a few minutes.
        output: File of rows; benchmarks/results/SUITE.jsonl by default.
        commit: What to write into the rows where this is not a git checkout.
        cache: Folder for weights, images and logs.
    """

    suite: Suite = "quick"
    stage: Stage | None = None
    only: tuple[str, ...] = ()
    again: bool = False
    minutes: float | None = None
    rehearse: bool = False
    smoke: bool = False
    output: Path | None = None
    commit: str | None = None
    cache: Path = BENCHMARKS / ".cache"

    @property
    def rows_file(self) -> Path:
        """Where the rows go; a rehearsal's never beside measured ones."""
        if self.output is not None:
            return self.output
        if self.rehearse or self.smoke:
            return self.cache / f"{'rehearsal' if self.rehearse else 'smoke'}.jsonl"
        return BENCHMARKS / "results" / f"{self.suite}.jsonl"

    @property
    def accelerator(self) -> Accelerator:
        """What the contestants have."""
        if self.suite == "cpu" or self.rehearse:
            return "none"
        if self.suite == "quick":
            return "any"
        return "shared gpu" if self.smoke else "gpu"


def run_suite(run: Run) -> int:
    """Measure what is wanted, a line for each stage at its end; return how many rows failed.

    Raises:
        UserError: nothing matches, or no GPU for the gpu suite.
    """
    started = time.monotonic()
    stages = _chosen(run)
    on_gpu = run.accelerator in ("gpu", "shared gpu")
    if on_gpu and not _has_gpu():
        raise UserError(
            "the gpu suite needs an Nvidia GPU that nvidia-smi lists; --rehearse tries it here"
        )
    commit = run.commit or machine.commit()
    session = Session(run.suite, commit, run.rows_file, run.cache, run.accelerator)
    if run.minutes is not None:
        session.deadline = started + run.minutes * 60
    left = 0
    try:
        for name, measurements in stages.items():
            left += _run_stage(run, session, name, measurements)
    finally:
        session.close()
    if left:
        print(f"{run.minutes:g} minutes are over; {left} measurements are left")
    print(f"{session.written} rows in {run.rows_file}, {session.failed} of them failed")
    return session.failed


def _run_stage(run: Run, session: Session, name: str, measurements: Sequence[Measurement]) -> int:
    """Measure what a stage has no rows of; return how many measurements the time left out."""
    todo, on_gpu = list(measurements), session.on_gpu
    if not run.again:
        known = _rows_of(run.rows_file, session.commit)
        todo = _without_rows(measurements, known, by_group=not on_gpu)
    if len(todo) < len(measurements):
        there = len(measurements) - len(todo)
        print(f"{name}: {there} rows of commit {session.commit} are there already")
    try:
        if not session.is_over:
            session.make_problems(todo)
        if run.smoke:
            return _side_by_side(session, todo)
        return _one_by_one(session, todo) if on_gpu else _by_groups(session, todo)
    finally:  # also when it is stopped: whoever did so may not leave the time for a command more
        print(stage_line(name, measurements, _rows_of(run.rows_file, session.commit)), flush=True)


def _chosen(run: Run) -> dict[str, list[Measurement]]:
    if run.smoke and (run.suite != "gpu" or run.rehearse):
        raise UserError("--smoke is of --suite gpu, on a GPU; --rehearse is for the CPU")
    stages = suite_stages(run.suite, run.stage)
    if run.rehearse or run.smoke:
        stages = rehearsal(stages, on_gpu=run.smoke)
    if run.only:
        stages = {
            name: [
                one
                for one in measurements
                if any(fnmatch.fnmatch(one.key, f"*{pattern}*") for pattern in run.only)
            ]
            for name, measurements in stages.items()
        }
    stages = {name: measurements for name, measurements in stages.items() if measurements}
    if not stages:
        raise UserError(
            f"--only {' '.join(run.only)} matches no row of the suite {run.suite}; "
            "python -m benchmarks list shows them"
        )
    return stages


def _by_groups(session: Session, todo: Sequence[Measurement]) -> int:
    """Let a group's contestants take turns; return how many measurements the time left out."""
    groups = [list(group) for _, group in groupby(todo, key=lambda one: one.group)]
    for position, group in enumerate(groups):
        if session.is_over:
            return sum(map(len, groups[position:]))
        session.measure(session.start(group))
    return 0


def _one_by_one(session: Session, todo: Sequence[Measurement]) -> int:
    """Measure each alone while the next one loads; return how many the time left out."""
    upcoming: list[Worker] = []
    for position, measurement in enumerate(todo):
        if session.is_over:
            return len(todo) - position
        workers = upcoming or session.start([measurement])
        upcoming = session.start(todo[position + 1 : position + 2])
        session.measure(workers)
    return 0


def _side_by_side(session: Session, todo: Sequence[Measurement]) -> int:
    """Measure many at once, for what fails; return how many the time left out."""

    def measure(measurement: Measurement) -> int:
        if session.is_over:
            return 1
        session.measure(session.start([measurement]))
        return 0

    pool = ThreadPoolExecutor(_SIDE_BY_SIDE)
    try:
        return sum(pool.map(measure, todo))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _rows_of(rows_file: Path, commit: str) -> list[Row]:
    rows = read_lines(rows_file) if rows_file.exists() else []
    return [row for row in rows if row["commit"] == commit]


def _without_rows(
    measurements: Sequence[Measurement], rows: Sequence[Row], *, by_group: bool
) -> list[Measurement]:
    """Leave out what there are rows of; a group that takes turns is measured as a whole."""
    known = {row["key"] for row in rows if not row.get("cut_off")}
    missing = [one for one in measurements if one.key not in known]
    if not by_group:
        return missing
    groups = {one.group for one in missing}
    return [one for one in measurements if one.group in groups]


def _has_gpu() -> bool:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return "GPU 0" in listed.stdout
