"""The benchmark suites: what they measure, how rows are made, and that a run survives its failures.

The contestants have tests of their own, test_benchmark_peers.py and test_benchmark_workloads.py.
"""

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.contenders import make_contestant
from benchmarks.measure import machine
from benchmarks.measure.measurement import CHECKED_IMAGES, CHECKED_UPDATES, Measurement
from benchmarks.measure.problem import _correct_first, make_problem, open_problem
from benchmarks.measure.process import Worker, worker_environment
from benchmarks.measure.rows import rates, score_difference
from benchmarks.measure.run import Run, _without_rows, run_suite
from benchmarks.measure.session import SCORE_TOLERANCE, Session
from benchmarks.measure.suites import rehearsal, suite_measurements
from gaxjax.common.errors import UserError

ONE = Measurement("fixed_steps", "bare", "small_resnet", 16, slots=2, num_images=2, turns=1)
H100 = "NVIDIA H100 80GB HBM3"


def suite_of_two():
    return [ONE, replace(ONE, contender="torch-nobody")]


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "small_resnet-16-synthetic"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GAXJAX_TEST_DATA", raising=False)
        make_problem(folder, "small_resnet", 16)
    return open_problem(folder)


# --- Suites --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["quick", "cpu", "gpu"])
def test_every_row_of_a_suite_has_its_own_key_and_the_groups_stand_together(suite):
    measurements = suite_measurements(suite)
    assert len({one.key for one in measurements}) == len(measurements)
    if suite != "gpu":  # where each measurement runs alone
        order = [one.group for one in measurements]
        changes = sum(a != b for a, b in itertools.pairwise(order))
        assert changes == len(set(order)) - 1


def test_the_cpu_suite_has_every_contender_and_workload_that_a_cpu_can_run():
    measurements = suite_measurements("cpu")
    assert {one.workload for one in measurements} == {
        *("fixed_steps", "to_target", "end_to_end", "attribution", "slots", "images", "devices"),
        *("first_result", "permutation", "profile"),
    }
    fixed = {one.model for one in measurements if one.workload == "fixed_steps"}
    assert fixed == {"resnet34", "alexnet", "squeezenet1_0", "resnet50", "vgg16"}
    assert {one.slots for one in measurements if one.workload == "slots"} >= {1, 1024}
    assert {one.num_images for one in measurements if one.workload == "images"} >= {100, 100_000}


def test_a_rehearsal_keeps_every_workload_and_contender_that_runs_without_a_gpu():
    suite = suite_measurements("gpu")
    tiny = rehearsal(suite)
    assert {one.workload for one in tiny} == {one.workload for one in suite}
    contenders = {one.contender for one in tiny}
    assert contenders >= {one.contender for one in suite if "graph" not in one.contender}
    assert not any("graph" in one for one in contenders)
    assert "torch-eager+refill" in contenders  # of torch-graph+refill
    assert all(one.size == 32 and one.slots <= 4 and one.precision != "tf32" for one in tiny)


def test_a_smoke_test_keeps_what_a_gpu_alone_can_do():
    suite = suite_measurements("gpu")
    tiny = rehearsal(suite, on_gpu=True)
    assert {one.contender for one in tiny} == {one.contender for one in suite}
    assert {one.precision for one in tiny} == {one.precision for one in suite}
    assert {one.slots for one in tiny} == {1, 16}
    assert all(one.size == 32 and one.num_images <= 32 for one in tiny)


def test_what_the_gpu_suite_compares_has_the_same_work():
    fixed = [one for one in suite_measurements("gpu") if one.workload == "fixed_steps"]
    for model in {one.model for one in fixed}:
        batched = [one for one in fixed if one.model == model and one.slots > 1]
        assert len({(one.slots, one.num_images, one.max_steps) for one in batched}) == 1


# --- Processes -----------------------------------------------------------------------------------


class FakeWorker:
    """A worker's answers without its process."""

    def __init__(self, measurement, answers, problem=None):
        self.measurement, self.answers, self.problem = measurement, answers, problem
        self.error, self.cut_off, self.fields, self.turns = None, False, {}, []
        self.asked = []

    def ask(self, command, seconds, left):
        if self.error is not None:
            return {}
        self.asked.append(command)
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
    status = Path(f"/proc/{pid_file.read_text().strip()}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()


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


# --- Figures -------------------------------------------------------------------------------------


def test_scores_are_compared_before_and_after_the_first_update_over_the_largest():
    difference = score_difference([[1.0, 5.0], [2.0]], [[1.5, 10.0], [2.0, 7.0]])
    assert difference == {"first": 0.05, "later": 0.5}


def test_a_score_that_is_not_a_number_is_no_agreement():
    difference = score_difference([[1.0, float("nan")]], [[1.0, 2.0]])
    assert not difference["later"] <= SCORE_TOLERANCE["float32"][1]


def test_a_contestant_without_any_score_to_compare_is_refused():
    with pytest.raises(ValueError, match="no score"):
        score_difference([[], []], [[1.0], [2.0]])


def test_rates_are_of_each_turn_with_median_and_extremes():
    turns = [{"seconds": s, "image_steps": 12, "images": 0} for s in (1.0, 2.0, 4.0)]
    found = rates(turns)
    assert found["image_steps_per_s"] == {"median": 6.0, "min": 3.0, "max": 12.0}
    assert found["images_per_s"] is None


@pytest.mark.parametrize(
    ("framework", "precision", "device", "arithmetic"),
    [
        ("jax", "float32", "NVIDIA H100 80GB HBM3", "tf32"),
        ("jax", "highest", "NVIDIA H100 80GB HBM3", "float32"),
        ("torch", "float32", "NVIDIA H100 80GB HBM3", "float32"),
        ("jax", "float32", "cpu", "float32"),
        ("jax", "bfloat16", "cpu", "bfloat16"),
    ],
)
def test_float32_means_tf32_to_jax_on_a_gpu_alone(framework, precision, device, arithmetic):
    assert machine.arithmetic(framework, precision, device) == arithmetic


def test_the_peak_is_known_for_an_sxm_h100_and_neither_for_a_slower_one_nor_for_a_cpu():
    assert machine.peak_flops(H100, "bfloat16") == 989e12
    for device in ("NVIDIA H100 PCIe", "NVIDIA H100 NVL", "cpu"):
        assert machine.peak_flops(device, "bfloat16") is None


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("contender", ["ours", "bare"])
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
    monkeypatch.setattr("benchmarks.measure.run.suite_measurements", lambda _: suite_of_two())


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

    with run.rows_file.open("a") as file:
        file.write('{"key": "torn')
    capsys.readouterr()
    assert run_suite(run) == 0
    assert "2 rows of commit" in capsys.readouterr().out


def test_a_contestant_that_takes_too_long_is_stopped_and_named(problem, tmp_path):
    for left, cut_off in ((float("inf"), False), (0.005, True)):
        worker = Worker(ONE, problem.checkpoint.parent, cache=tmp_path, accelerator="none")
        assert worker.ask("prepare", 0.01, left) == {}
        worker.close()
        assert worker.error == "prepare took more than 0 s"
        assert worker.cut_off is cut_off


def test_a_row_that_the_runs_own_end_cut_off_is_measured_again(tmp_path):
    both, rows_file = suite_of_two(), tmp_path / "rows.jsonl"
    for name, left in (("cut_off", both[:1]), ("other", [])):
        rows = [{"key": one.key, "commit": "abc", "error": "late"} for one in both]
        rows[0][name] = True
        rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert _without_rows(both, rows_file, "abc", by_group=False) == left


def test_on_a_gpu_rows_are_resumed_one_by_one_on_a_cpu_by_groups(tmp_path):
    both, rows_file = suite_of_two(), tmp_path / "rows.jsonl"
    rows_file.write_text(json.dumps({"key": ONE.key, "commit": "abc"}) + "\n")
    assert _without_rows(both, rows_file, "abc", by_group=False) == both[1:]
    assert _without_rows(both, rows_file, "abc", by_group=True) == both
    assert _without_rows(both, rows_file, "other", by_group=False) == both


@pytest.mark.slow
def test_a_problem_that_cannot_be_made_is_its_rows_error_alone(problem, tmp_path, monkeypatch):
    monkeypatch.delenv("GAXJAX_TEST_DATA", raising=False)
    unknown = replace(ONE, model="resnet999")
    monkeypatch.setattr("benchmarks.measure.run.suite_measurements", lambda _: [unknown, ONE])
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
    assert len(rows) == len(rehearsal(suite_measurements("gpu")))
