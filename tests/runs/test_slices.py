"""Slices: every image in one of them, whatever says which."""

import pytest

from gaxjax.common import UserError
from gaxjax.config import SpreadConfig
from gaxjax.runs.ray_run import slices_of
from gaxjax.runs.slices import Slice, chosen_slice

SLURM = {"TASK_ID": 6, "TASK_MIN": 2, "TASK_MAX": 8, "TASK_STEP": 2, "TASK_COUNT": 4}


def slurm(**changes) -> dict[str, str]:
    values = {**SLURM, **changes}
    return {
        f"SLURM_ARRAY_{name}": str(value) for name, value in values.items() if value is not None
    }


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("images", [0, 1, 5, 64, 1000])
def test_slices_are_the_whole_list_once(count, images):
    bounds = [Slice(index, count).bounds(images) for index in range(count)]
    found = [i for begins, ends in bounds for i in range(begins, ends)]
    assert found == list(range(images))
    sizes = [ends - begins for begins, ends in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("shard", "environment", "found"),
    [
        (None, {}, None),
        ("0/1", {}, Slice(0, 1)),
        ("3/8", slurm(), Slice(3, 8)),
        ("auto", slurm(), Slice(2, 4)),
        ("auto/4", slurm(), Slice(2, 4)),
        ("auto", slurm(TASK_MIN=0, TASK_MAX=7, TASK_STEP=1, TASK_COUNT=8), Slice(6, 8)),
        ("auto", slurm(TASK_STEP=None, TASK_COUNT=None, TASK_MIN=4), Slice(2, 5)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, Slice(7, 8)),
    ],
)
def test_a_slice_is_chosen_by_the_flag_or_the_queue(shard, environment, found):
    assert chosen_slice(shard, environment) == found


@pytest.mark.parametrize(
    ("shard", "environment", "said"),
    [
        ("auto", {}, "neither is set"),
        ("auto/8", {}, "neither is set"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "give --shard auto/8"),
        ("auto/8", {"JOB_COMPLETION_INDEX": "8"}, "the numbers 0 to 7"),
        ("auto/8", {"JOB_COMPLETION_INDEX": "x"}, "no whole number"),
        ("auto/8", slurm(), "the Slurm array has 4 tasks"),
        ("auto", slurm(TASK_ID=5), "none of evenly spaced"),
        ("auto", slurm(TASK_ID=10), "none of evenly spaced"),
        ("auto", slurm(TASK_COUNT=3), "none of evenly spaced"),
        ("auto", slurm(TASK_ID=""), "no whole number"),
    ],
)
def test_a_queue_that_says_something_else_is_refused(shard, environment, said):
    with pytest.raises(UserError, match=said):
        chosen_slice(shard, environment)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shard": "8/8"}, r"--shard must be from 0/8 to 7/8; got 8/8"),
        ({"shard": "0/0"}, r"--shard must be at least one slice; got 0/0"),
        ({"shard": "auto/0"}, r"at least one slice"),
        ({"shard": "-1/8"}, r"--shard must be i/n with i from 0"),
        ({"shard": "1"}, r"--shard must be i/n"),
        ({"shard": "1/8/2"}, r"--shard must be i/n"),
        ({"shard": "0/2", "ray": "auto"}, r"both divide the images"),
        ({"workers": 2}, r"--workers goes with --ray"),
        ({"devices_per_worker": 2}, r"--devices-per-worker goes with --ray"),
        ({"ray": "auto", "workers": 0}, r"--workers must be at least 1"),
        ({"ray": "auto", "devices_per_worker": 0}, r"--devices-per-worker must be at least 1"),
    ],
)
def test_impossible_divisions_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        SpreadConfig(**settings)


@pytest.mark.parametrize("workers", [1, 3, 16, 64])
@pytest.mark.parametrize("images", [1, 5, 1000, 50_000])
def test_a_driver_s_slices_are_as_many_for_each_worker(images, workers):
    found = slices_of(list(range(images)), workers, 4)
    assert [i for slice_ in found for i in slice_] == list(range(images))
    each = -(-len(found) // workers)
    assert each <= 8
    assert each * max(map(len, found)) < images / workers + 8  # rounding up, once a slice
