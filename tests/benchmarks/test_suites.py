"""What the suites measure, in which stage, and what a rehearsal keeps of it."""

import itertools

import pytest

from benchmarks.measure.measurement import IMPORTED_MODELS
from benchmarks.measure.suites import rehearsal, suite_stages
from gaxjax.common.errors import UserError

# What the gpu suite measured before it had stages: workload, contender, network, precision.
BEFORE_STAGES = """
fixed_steps ours resnet34 bfloat16
fixed_steps torch-graph resnet34 bfloat16
fixed_steps torch-compile-graph resnet34 bfloat16
fixed_steps bare resnet34 bfloat16
fixed_steps torch-eager resnet34 bfloat16
fixed_steps torch-compile-reduce-overhead resnet34 bfloat16
fixed_steps torch-compile-max-autotune resnet34 bfloat16
fixed_steps released resnet34 tf32
fixed_steps released-input-only resnet34 tf32
fixed_steps ours resnet34 float32
fixed_steps ours resnet34 highest
fixed_steps torch-graph resnet34 tf32
fixed_steps torch-graph resnet34 float32
fixed_steps ours squeezenet1_0 bfloat16
fixed_steps torch-graph squeezenet1_0 bfloat16
fixed_steps ours alexnet bfloat16
fixed_steps torch-graph alexnet bfloat16
fixed_steps ours resnet50 bfloat16
fixed_steps torch-graph resnet50 bfloat16
fixed_steps ours vgg16 bfloat16
fixed_steps torch-graph vgg16 bfloat16
to_target ours squeezenet1_0 bfloat16
to_target torch-graph+refill squeezenet1_0 bfloat16
to_target torch-graph squeezenet1_0 bfloat16
to_target released-input-only squeezenet1_0 tf32
profile ours resnet34 bfloat16
permutation ours resnet34 bfloat16
slots ours resnet34 bfloat16
end_to_end ours squeezenet1_0 bfloat16
first_result cold squeezenet1_0 bfloat16
first_result warm squeezenet1_0 bfloat16
attribution native:all squeezenet1_0 highest
attribution captum:all squeezenet1_0 highest
"""


def suite_measurements(suite):
    return [one for measurements in suite_stages(suite).values() for one in measurements]


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
    families = {"resnet34", "alexnet", "squeezenet1_0", "resnet50", "vgg16"}
    assert fixed == families | set(IMPORTED_MODELS)
    assert {one.slots for one in measurements if one.workload == "slots"} >= {1, 1024}
    assert {one.num_images for one in measurements if one.workload == "images"} >= {100, 100_000}


def test_every_measurement_of_the_gpu_suite_is_in_some_stage():
    stages = suite_stages("gpu")
    assert list(stages) == ["stage 1", "stage 2", "stage 3"]
    suite = suite_measurements("gpu")
    found = {(one.workload, one.contender, one.model, one.precision) for one in suite}
    assert found >= {tuple(line.split()) for line in BEFORE_STAGES.strip().splitlines()}
    assert {one.slots for one in suite if one.workload == "slots"} >= {16, 64, 128, 1024, 2048}
    assert {one.num_images for one in suite if one.workload == "end_to_end"} == {10_000}
    for number in (1, 2, 3):
        assert suite_stages("gpu", number) == {f"stage {number}": stages[f"stage {number}"]}


def test_the_first_stage_checks_the_device_and_has_ours_before_its_peers():
    first = suite_stages("gpu")["stage 1"]
    assert [one.workload for one in first[:2]] == ["device_check"] * 2
    for slots in (256, 512):
        contenders = [one.contender for one in first if one.slots == slots]
        assert contenders[0] == "ours"
        assert {"bare", "torch-graph", "torch-compile-graph"} < set(contenders)
        assert contenders[-1] == "torch-compile-max-autotune"  # which may take all its time


def test_only_the_gpu_suite_has_stages():
    with pytest.raises(UserError, match="the suite cpu has no stages"):
        suite_stages("cpu", 2)


def rehearsed(**settings):
    stages = rehearsal(suite_stages("gpu"), **settings)
    return [one for measurements in stages.values() for one in measurements]


def test_a_rehearsal_keeps_every_workload_and_contender_that_runs_without_a_gpu():
    suite, tiny = suite_measurements("gpu"), rehearsed()
    assert len({one.key for one in tiny}) == len(tiny)
    assert {one.workload for one in tiny} == {one.workload for one in suite}
    contenders = {one.contender for one in tiny}
    assert contenders >= {one.contender for one in suite if "graph" not in one.contender}
    assert not any("graph" in one for one in contenders)
    assert "torch-eager+refill" in contenders  # of torch-graph+refill
    assert all(one.size == 32 and one.slots <= 4 and one.precision != "tf32" for one in tiny)


def test_a_smoke_test_keeps_what_a_gpu_alone_can_do():
    suite, tiny = suite_measurements("gpu"), rehearsed(on_gpu=True)
    assert {one.contender for one in tiny} == {one.contender for one in suite}
    assert {one.precision for one in tiny} == {one.precision for one in suite}
    assert {one.slots for one in tiny} == {1, 16}
    assert all(one.size == 32 and one.num_images <= 32 for one in tiny)


def test_what_the_gpu_suite_compares_has_the_same_work():
    fixed = [one for one in suite_measurements("gpu") if one.workload == "fixed_steps"]
    for model in {one.model for one in fixed}:
        batched = [one for one in fixed if one.model == model and one.slots > 1]
        work = {(one.slots, one.num_images, one.max_steps) for one in batched}
        assert len(work) == len({one.slots for one in batched})
