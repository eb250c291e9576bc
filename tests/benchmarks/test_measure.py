"""The benchmark suites: how rows are made, and that a run survives its failures."""

import contextlib
import json
import signal
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from benchmarks.__main__ import main
from benchmarks.contenders import make_contestant
from benchmarks.measure import machine
from benchmarks.measure.measurement import CHECKED_IMAGES, CHECKED_UPDATES, Measurement
from benchmarks.measure.problem import _correct_first, make_problem, open_problem
from benchmarks.measure.process import Worker, worker_environment
from benchmarks.measure.rows import score_difference
from benchmarks.measure.run import Run, _rows_of, _without_rows, run_suite
from benchmarks.measure.session import SCORE_TOLERANCE, Session
from benchmarks.measure.suites import rehearsal, suite_stages
from gaxjax.common.errors import UserError

ONE = Measurement("fixed_steps", "bare", "small_resnet", 16, slots=2, num_images=2, turns=1)
H100 = "NVIDIA H100 80GB HBM3"


def suite_of_two():
    return {"suite cpu": [ONE, replace(ONE, contender="torch-nobody")]}


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "small_resnet-16-synthetic"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GAXJAX_TEST_DATA", raising=False)
        make_problem(folder, "small_resnet", 16)
    return open_problem(folder)


# --- Processes -----------------------------------------------------------------------------------


class FakeWorker:
    """A worker's answers without its process."""

    def __init__(self, measurement, answers, problem=None):
        self.measurement, self.answers, self.problem = measurement, answers, problem
        self.error, self.cut_off, self.fields, self.turns = None, False, {}, []
        self.asked, self.seconds, self.due = [], [], float("inf")

    def ask(self, command, seconds, left):
        if self.error is not None:
            return {}
        self.asked.append(command)
        self.seconds.append(seconds)
        return dict(self.answers[command])

    def close(self):
        pass


def test_on_a_gpu_only_the_framework_that_is_measured_may_take_it(tmp_path):
    def environment(contender, workload="fixed_steps", accelerator="gpu"):
        return worker_environment(Measurement(workload, contender), tmp_path, accelerator)

    for contender in ("torch-graph", "released", "captum:all"):
        assert environment(contender)["JAX_PLATFORMS"] == "cpu"
        assert "CUDA_VISIBLE_DEVICES" not in environment(contender)
    for contender in ("ours", "bare", "native:all", "cold"):
        added = environment(contender)
        assert added["JAX_PLATFORMS"] == "cuda,cpu"
        assert added["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "jax")
        assert "XLA_FLAGS" not in added
    assert "command_buffer=" in environment("ours", "profile")["XLA_FLAGS"]
    for contender in ("ours", "torch-eager"):
        alone = environment(contender, accelerator="none")
        assert (alone["JAX_PLATFORMS"], alone["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")
        assert "JAX_COMPILATION_CACHE_DIR" not in alone


def test_what_a_contestant_started_ends_with_it(problem, tmp_path, monkeypatch):
    pid_file = tmp_path / "pid"
    script = tmp_path / "python"  # in place of a worker that has started a compiler
    script.write_text(
        f"#!/bin/sh\nsleep 100 &\necho $! > {pid_file}.new\nmv {pid_file}.new {pid_file}\nwait\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    worker = Worker(ONE, problem.checkpoint.parent, cache=tmp_path, accelerator="none")
    while not pid_file.exists():
        time.sleep(0.01)
    worker.kill()
    worker.close()
    started = int(pid_file.read_text())
    end = time.monotonic() + 20  # of its 100 seconds: a killed process needs a moment to end
    while _runs(started):
        assert time.monotonic() < end
        time.sleep(0.01)


def _runs(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_contestant_on_the_cpu_is_no_row_of_a_gpu(problem, tmp_path):
    session = Session("gpu", "abc", tmp_path / "rows.jsonl", problem.checkpoint.parents[1], "gpu")
    answers = {
        "": {"ready": True},
        "prepare": {"machine": {"device": "cpu"}, "scores": problem.scores["normalized"]},
    }
    worker = FakeWorker(ONE, answers)
    session._alive.append(worker)
    session.measure([worker])
    (row,) = map(json.loads, session.rows_file.read_text().splitlines())
    assert row["error"] == "RuntimeError: ran on the CPU, not on the GPU"
    assert worker.asked == ["", "prepare"]


def test_a_gpus_row_has_no_compile_seconds_and_a_childs_device(problem, tmp_path):
    session = Session("gpu", "abc", tmp_path / "rows.jsonl", problem.checkpoint.parents[1], "gpu")
    first = replace(ONE, workload="first_result", contender="cold")
    answers = {
        "": {"ready": True},
        "prepare": {"machine": {"device": "cpu"}, "compile_seconds": 3.0},
        "turn": {"seconds": 2.0, "image_steps": 0, "images": 1},
        "finish": {"device": H100},
    }
    for measurement, given in ((first, answers), (first, answers | {"finish": {"device": "cpu"}})):
        worker = FakeWorker(measurement, given, problem)
        session._alive.append(worker)
        session.measure([worker])
    good, bad = map(json.loads, session.rows_file.read_text().splitlines())
    assert "error" not in good
    assert (good["device"], good["compile_seconds"]) == (H100, None)
    assert good["turn_seconds"] == [2.0]
    assert "ran on the CPU" in bad["error"]
    assert session.failed == 1


@pytest.mark.parametrize(("turn_seconds", "turns"), [(2.0, 3), (70.0, 1)])
def test_on_a_gpu_a_contestant_has_its_own_time_and_keeps_the_turns_it_had(
    problem, tmp_path, turn_seconds, turns
):
    session = Session("gpu", "abc", tmp_path / "rows.jsonl", problem.checkpoint.parents[1], "gpu")
    answers = {
        "": {"ready": True},
        "prepare": {"machine": {"device": H100}, "compile_seconds": 3.0},
        "turn": {"seconds": turn_seconds, "image_steps": 8, "images": 1},
        "finish": {},
    }
    worker = FakeWorker(replace(ONE, turns=3, most_seconds=60), answers, problem)
    session._alive.append(worker)
    session.measure([worker])
    (row,) = map(json.loads, session.rows_file.read_text().splitlines())
    assert row["turn_seconds"] == [turn_seconds] * turns
    assert 0 <= row["took_seconds"] < 5
    loading, *working, finishing = worker.seconds
    assert loading == 240
    assert all(50 < seconds <= 60 for seconds in [*working, finishing])


def test_the_two_backends_of_ax_are_compared_though_each_is_measured_alone(problem, tmp_path):
    session = Session("gpu", "abc", tmp_path / "rows.jsonl", problem.checkpoint.parents[1], "gpu")
    for contender, scores in (
        ("captum:all", {"saliency": [1.0, None], "deep_lift": [3.0, 4.0]}),
        ("native:all", {"saliency": [1.5, None], "deep_lift": [3.0, 4.25]}),
        ("native:all", {"saliency": [1.0, 1.0], "deep_lift": [3.0, 4.0]}),
    ):
        answers = {
            "": {"ready": True},
            "prepare": {"machine": {"device": H100}, "ax_scores": scores},
            "turn": {"seconds": 2.0, "image_steps": 0, "images": 4},
            "finish": {},
        }
        ax = replace(ONE, workload="attribution", contender=contender, precision="highest")
        worker = FakeWorker(ax, answers, problem)
        session._alive.append(worker)
        session.measure([worker])
    first, second, third = map(json.loads, session.rows_file.read_text().splitlines())
    assert "ax_score_difference" not in first  # nothing to hold it against
    assert second["ax_score_difference"] == 0.5
    assert third["error"] == "saliency: only one backend's heatmap is zero"


# --- Problems ------------------------------------------------------------------------------------


def test_images_that_are_correct_in_both_score_spaces_come_first(monkeypatch):
    normalized = np.array([1, 0, 1, 0, 1, 1, 0, 0, 1, 1])  # 1: as labelled
    raw = np.array([0, 1, 1, 0, 0, 0, 0, 0, 1, 1])

    def predictions(_, images, mean, std):
        return (raw if mean == (0.0,) * 3 and std == (1.0,) * 3 else normalized)[images]

    monkeypatch.setattr("benchmarks.measure.problem._predictions", predictions)
    mean_and_std = ((0.5,) * 3, (0.2,) * 3)
    order = _correct_first(None, np.arange(10), np.ones(10, int), *mean_and_std)
    assert order.tolist() == [2, 8, 0, 1, 3, 4, 5, 6, 7, 9]
    none = _correct_first(None, np.arange(10), np.full(10, 7), *mean_and_std)
    assert none.tolist() == list(range(10))


def test_batches_hold_all_numbers_in_order_and_images_begin_again(problem):
    count = len(problem.images)
    order = np.arange(count + 3)[::-1]
    batches = list(problem.batches(order, 7))
    assert np.concatenate([batch.indices for batch in batches]).tolist() == order.tolist()
    assert {len(batch.indices) for batch in batches[:-1]} == {7}
    assert np.array_equal(batches[0].images[0], problem.images[2])


# --- Contestants of ours -------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("contender", [pytest.param("ours", marks=pytest.mark.slow), "bare"])
def test_ours_and_the_bare_step_reach_torchs_scores_before_they_are_timed(
    problem, contender, precision
):
    measurement = replace(ONE, contender=contender, precision=precision, num_images=3, slots=4)
    contestant = make_contestant(measurement, problem)
    scores = contestant.prepare()["scores"]
    assert len(scores) == CHECKED_IMAGES
    assert all(len(curve) == CHECKED_UPDATES + 1 for curve in scores)
    difference = score_difference(scores, problem.scores["normalized"])
    first, later = SCORE_TOLERANCE[precision]
    assert difference["first"] <= first
    assert difference["later"] <= later
    turn = contestant.turn()
    images = 3 if contender == "ours" else 4  # the bare step has no empty slots
    assert turn.image_steps == images * (measurement.max_steps + 1)
    assert turn.images == 3


@pytest.mark.slow
def test_the_engines_turn_counts_outcomes_and_compiles_nothing(problem):
    measurement = replace(ONE, contender="ours", workload="to_target", num_images=9, max_steps=6)
    contestant = make_contestant(measurement, problem)
    contestant.prepare()
    turn = contestant.turn()
    found = contestant.finish()
    outcomes = found["outcomes"]
    assert sum(outcomes.values()) == 9
    assert turn.images == 9 - outcomes.get("misclassified", 0)
    assert len(found["steps"]) == found["outcomes"].get("reached", 0)
    assert found["compilations_after_warm_up"] == 0


# --- The command ---------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """A suite of one measurement that works, and one that no one can do."""
    monkeypatch.delenv("GAXJAX_TEST_DATA", raising=False)
    monkeypatch.setattr("benchmarks.measure.run.suite_stages", lambda *_: suite_of_two())


@pytest.mark.slow
def test_rows_are_whole_failures_are_rows_and_the_same_command_resumes(
    small, problem, tmp_path, capsys
):
    cache = problem.checkpoint.parents[1]
    run = Run(suite="cpu", output=tmp_path / "rows.jsonl", cache=cache)
    assert run_suite(run) == 1
    good, bad = map(json.loads, run.rows_file.read_text().splitlines())
    for name in ("device", "processor", "versions", "precision", "slots", "model", "max_steps"):
        assert good[name] not in (None, "")
    assert good["key"] == ONE.key
    assert good["commit"] == machine.commit()
    assert good["score_difference"]["first"] < 1e-4
    assert len(good["turn_seconds"]) == 1
    rate = good["turn_image_steps"][0] / good["turn_seconds"][0]
    assert good["image_steps_per_s"]["median"] == pytest.approx(rate, rel=1e-4)
    assert good["tflops"] == pytest.approx(rate * good["flops_per_image_step"] / 1e12, rel=1e-4)
    assert good["peak_host_bytes"] > 50e6
    assert good["compile_seconds"] > 0
    assert "torch-nobody" in bad["error"]
    assert bad["session"] == good["session"]
    assert "\nsuite cpu: 2 rows, 1 failed; " in capsys.readouterr().out

    with run.rows_file.open("a") as file:
        file.write('{"key": "torn')
    capsys.readouterr()
    assert run_suite(run) == 0
    out = capsys.readouterr().out
    assert "suite cpu: 2 rows of commit" in out
    assert "\nsuite cpu: 2 rows, 1 failed; " in out


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt])
def test_a_run_that_is_cut_off_keeps_its_rows_and_tells_of_them(
    problem, tmp_path, monkeypatch, capsys, stop
):
    both = suite_of_two()["suite cpu"]
    stages = {"stage 1": both[:1], "stage 2": both[1:]}
    monkeypatch.setattr("benchmarks.measure.run.suite_stages", lambda *_: stages)
    monkeypatch.setattr(Session, "make_problems", lambda *_: None)

    def measure(session, workers):
        for worker in workers:
            session._write(worker, {"session": "one", "took_seconds": 7.0})
        if stop:
            raise stop
        session.deadline = 0.0

    monkeypatch.setattr(Session, "measure", measure)
    run = Run(suite="cpu", minutes=9, output=tmp_path / "rows.jsonl", cache=tmp_path)
    with pytest.raises(stop) if stop else contextlib.nullcontext():
        run_suite(run)
    (row,) = map(json.loads, run.rows_file.read_text().splitlines())
    assert row["key"] == ONE.key
    lines = capsys.readouterr().out.splitlines()
    assert "stage 1: 1 row, 1 failed; 7 s" in lines
    assert ("stage 2: 0 rows, 1 left; 0 s" in lines) is (stop is None)
    assert ("9 minutes are over; 1 measurements are left" in lines) is (stop is None)


def test_a_stage_is_listed_and_ended_by_sigterm_as_by_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "list", "--suite", "gpu", "--stage", "2"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    keys = capsys.readouterr().out.splitlines()
    assert keys == [one.key for one in suite_stages("gpu", 2)["stage 2"]]

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sys.argv", ["benchmarks", "run"])
    monkeypatch.setattr(
        "benchmarks.__main__.run_suite", lambda _: signal.raise_signal(signal.SIGTERM)
    )
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "stopped; the same command goes on\n"


def test_a_contestant_that_takes_too_long_is_stopped_and_named(problem, tmp_path):
    for left, cut_off in ((float("inf"), False), (0.005, True)):
        worker = Worker(ONE, problem.checkpoint.parent, cache=tmp_path, accelerator="none")
        assert worker.ask("prepare", 0.01, left) == {}
        worker.close()
        assert worker.error == "prepare took more than 0 s"
        assert worker.cut_off is cut_off


def test_a_row_that_the_runs_own_end_cut_off_is_measured_again():
    both = suite_of_two()["suite cpu"]
    for name, left in (("cut_off", both[:1]), ("other", [])):
        rows = [{"key": one.key, "commit": "abc", "error": "late"} for one in both]
        rows[0][name] = True
        assert _without_rows(both, rows, by_group=False) == left


def test_on_a_gpu_rows_are_resumed_one_by_one_on_a_cpu_by_groups(tmp_path):
    both, rows_file = suite_of_two()["suite cpu"], tmp_path / "rows.jsonl"
    rows_file.write_text(json.dumps({"key": ONE.key, "commit": "abc"}) + "\n")
    rows = _rows_of(rows_file, "abc")
    assert _without_rows(both, rows, by_group=False) == both[1:]
    assert _without_rows(both, rows, by_group=True) == both
    assert _rows_of(rows_file, "other") == []


@pytest.mark.slow
def test_a_problem_that_cannot_be_made_is_its_rows_error_alone(problem, tmp_path, monkeypatch):
    monkeypatch.delenv("GAXJAX_TEST_DATA", raising=False)
    unknown = replace(ONE, model="resnet999")
    stages = {"suite cpu": [unknown, ONE]}
    monkeypatch.setattr("benchmarks.measure.run.suite_stages", lambda *_: stages)
    cache = problem.checkpoint.parents[1]
    run = Run(suite="cpu", output=tmp_path / "rows.jsonl", cache=cache)
    assert run_suite(run) == 1
    bad, good = map(json.loads, run.rows_file.read_text().splitlines())
    assert "could not make" in bad["error"]
    assert "resnet999" in bad["error"]
    assert "error" not in good


def test_a_pattern_that_matches_nothing_and_a_missing_gpu_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="matches no row"):
        run_suite(Run(only=("resnet999",), cache=tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no nvidia-smi
    with pytest.raises(UserError, match="needs an Nvidia GPU"):
        run_suite(Run(suite="gpu", cache=tmp_path))


def test_a_users_mistake_ends_with_status_2_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "run", "--only", "resnet999"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
def test_the_gpu_suite_is_rehearsed_without_a_failure(tmp_path, monkeypatch):
    monkeypatch.delenv("GAXJAX_TEST_DATA", raising=False)
    run = Run(suite="gpu", rehearse=True, cache=tmp_path)
    assert run_suite(run) == 0
    rows = [json.loads(line) for line in run.rows_file.read_text().splitlines()]
    tiny = rehearsal(suite_stages("gpu")).values()
    assert len(rows) == sum(map(len, tiny))
