"""Workers of one run that are killed: `workers.py` does it longer."""

import random

import pytest
from workers import Job, by_ray, by_slices


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(tmp_path_factory.mktemp("workers"), num_images=48)


@pytest.mark.slow
def test_four_slices_at_once_of_which_two_are_killed_and_restarted(job):
    found = by_slices(job, "slices", 4, 2, random.Random(0))
    assert found.kills == 2
    assert not found.faults, found


@pytest.mark.slow
def test_two_workers_of_ray_of_which_one_is_killed(job):
    found = by_ray(job, "ray", 2, 1, random.Random(0))
    assert found.kills == 1
    assert not found.faults, found
