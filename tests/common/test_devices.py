"""What a device and its host have, and rows in the shape that a program wants."""

import os
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import numpy as np
import psutil
import pytest

from gaxjax.common import devices
from gaxjax.common.devices import free_bytes, half_as_many, num_cores, pad_rows
from gaxjax.common.errors import UserError

CPU = jax.devices("cpu")
OUT_OF_MEMORY = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


# --- Rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fill", "expected"), [(0, 0), (7, 7), ("last", 5)])
def test_rows_are_padded_with_a_number_or_with_the_last_row(fill, expected):
    rows = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    padded = pad_rows(rows, 4, fill)
    assert (padded.shape, padded.dtype) == ((4, 3, 1), np.uint8)
    np.testing.assert_array_equal(padded[:2], rows)
    last = rows[-1] if fill == "last" else np.full((3, 1), expected)
    np.testing.assert_array_equal(padded[2:], [last, last])


def test_rows_that_are_enough_stay_as_they_are():
    labels = np.array([4, 2], np.int32)
    for fill in (0, "last"):
        np.testing.assert_array_equal(pad_rows(labels, 2, fill), labels)


def test_no_rows_become_rows_of_the_fill():
    np.testing.assert_array_equal(pad_rows(np.zeros((0, 2)), 3, 1), np.ones((3, 2)))


# --- Memory and cores ----------------------------------------------------------------------------


def test_what_the_host_could_free_at_once_is_free(monkeypatch):
    memory = SimpleNamespace(free=1 << 30, available=12 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert free_bytes(CPU[:1]) == 12 << 30
    assert free_bytes(CPU[:1] * 4) == 3 << 30


def test_an_accelerators_memory_is_its_own():
    card = Mock(spec=jax.Device, platform="gpu")
    card.memory_stats.return_value = {"bytes_limit": 100, "bytes_in_use": 30}
    assert free_bytes([card]) == 70


def test_the_cores_are_those_that_this_process_may_use():
    if hasattr(os, "sched_getaffinity"):
        assert num_cores() == len(os.sched_getaffinity(0))
    assert 1 <= num_cores() <= (psutil.cpu_count() or 1)


def test_where_no_process_is_bound_to_cores_all_of_them_count(monkeypatch):
    monkeypatch.setattr(devices.psutil, "Process", SimpleNamespace)  # macOS: no cpu_affinity
    monkeypatch.setattr(devices.psutil, "cpu_count", lambda: 10)
    assert num_cores() == 10


def test_half_as_many_are_tried_where_memory_ran_out():
    assert half_as_many(5, OUT_OF_MEMORY, "one") == 2


def test_one_that_does_not_fit_is_the_end():
    with pytest.raises(UserError, match=r"^out of device memory with one: use a smaller model$"):
        half_as_many(1, OUT_OF_MEMORY, "one: use a smaller model")


def test_another_error_of_a_device_is_raised_as_it_is():
    error = jax.errors.JaxRuntimeError("INTERNAL: broken")
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        half_as_many(8, error, "one")
