"""The benchmark suites: what they measure, how rows are made, and that a run survives its failures.

The contestants have tests of their own, test_benchmark_peers.py and test_benchmark_workloads.py.
"""

import itertools
import json
from dataclasses import replace

import pytest

from benchmarks import machine
from benchmarks.__main__ import main
from benchmarks.contestants import make_contestant
from benchmarks.figures import rates, score_difference
from benchmarks.measurement import CHECKED_IMAGES, CHECKED_UPDATES, Measurement
from benchmarks.problem import make_problem, open_problem
from benchmarks.process import Worker
from benchmarks.run import SCORE_TOLERANCE, Run, run_suite
from benchmarks.suites import rehearsal, suite_measurements
from gaxjax.errors import UserError

ONE = Measurement("fixed_steps", "bare", "small_resnet", 16, slots=2, num_images=2, turns=1)


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
    assert {one.contender for one in tiny} >= {
        one.contender for one in suite if "graph" not in one.contender
    }
    assert all(one.size == 32 and one.slots <= 4 for one in tiny)


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


def test_the_peak_is_known_for_an_h100_and_not_for_a_cpu():
    assert machine.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert machine.peak_flops("cpu", "float32") is None


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
    assert sum(found["outcomes"].values()) == turn.images == 9
    assert len(found["steps"]) == found["outcomes"].get("reached", 0)
    assert found["compilations_after_warm_up"] == 0


# --- The command ---------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """A suite of one measurement that works, and one that no one can do."""
    monkeypatch.delenv("GAXJAX_TEST_DATA", raising=False)
    nobody = replace(ONE, contender="torch-nobody")
    monkeypatch.setattr("benchmarks.run.suite_measurements", lambda _: [ONE, nobody])


def test_rows_are_whole_failures_are_rows_and_the_same_command_resumes(small, tmp_path, capsys):
    run = Run(suite="cpu", output=tmp_path / "rows.jsonl", cache=tmp_path / "cache")
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
    worker = Worker(ONE, problem.checkpoint.parent, logs=tmp_path, on_cpu=True)
    assert worker.ask("prepare", 0.01) == {}
    worker.close()
    assert worker.error == "prepare took more than 0 s"


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
