"""Choosing the slot count by a sweep, and remembering it."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny

from gaxjax.cli.main import parse
from gaxjax.common.errors import UserError
from gaxjax.config.base import from_dict, to_dict
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.gax import capacity as slots
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import Plan

OBJECTIVE = Objective(tiny.classifier(), GaxConfig(), "float32")
IMAGE = jax.ShapeDtypeStruct((tiny.SIZE, tiny.SIZE, 3), np.uint8)
CPU = jax.devices("cpu")[0]


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """Slot counts whose rate was asked for; rates are made up."""
    counts = []
    rates = {1: 1.0, 2: 2.0, 4: 50.0, 8: 99.0, 16: 100.0, 32: 95.0, 64: 60.0, 128: 200.0}

    def rate(objective, image, slots, device):
        counts.append(slots)
        return rates[slots]

    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(slots, "_rate", rate)
    return counts


def swept(objective=OBJECTIVE, most=128):
    return slots.swept_slots(objective, IMAGE, CPU, most)


def test_the_fewest_slots_that_do_as_well_as_any_are_chosen(tried):
    assert swept() == 8  # 99 is within 2 % of 100
    assert tried == [4, 8, 16, 32, 64], "what comes after a bad count is not tried"


def test_no_more_slots_are_tried_than_fit(tried):
    assert swept(most=2) == 2
    assert tried == [2]
    tried.clear()
    assert swept(replace(OBJECTIVE, precision="highest"), most=8) == 8
    assert tried == [4, 8]


def test_it_is_remembered_for_this_precision_and_never_above_what_fits(tried):
    assert swept() == 8
    tried.clear()
    assert swept() == 8
    assert swept(most=4) == 4
    assert not tried
    swept(replace(OBJECTIVE, precision="highest"))
    assert tried, "another precision has another rate"


def test_a_damaged_memory_is_written_anew(tried, tmp_path):
    file = tmp_path / "cache" / "slots.json"
    file.parent.mkdir()
    file.write_text("{")
    assert swept() == 8
    tried.clear()
    assert swept() == 8
    assert not tried


def test_a_count_that_does_not_fit_ends_the_sweep(monkeypatch, tried):
    made_up = slots._rate

    def rate(objective, image, slots, device):
        if slots == 16:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return made_up(objective, image, slots, device)

    monkeypatch.setattr(slots, "_rate", rate)
    assert swept() == 8


@pytest.mark.slow
def test_the_compilers_line_holds_for_more_slots_than_it_was_drawn_through():
    fixed, each = slots.compiled_bytes(OBJECTIVE, IMAGE, CPU)
    plan = Plan(
        OBJECTIVE,
        devices=[CPU],
        slots=32,
        drain=False,
        image=IMAGE,
        heatmap_dtype=np.float32,
    )
    step = plan.compiled("step").memory_analysis()
    held = step.argument_size_in_bytes + step.temp_size_in_bytes
    # Measured 1.00: each slot has buffers of its own, in multiples of 64 bytes.
    assert held == pytest.approx(fixed + 32 * each, rel=0.1)


@pytest.mark.parametrize(("room", "expected"), [(64.5, 64), (63.5, 32), (1.2, 1)])
def test_as_many_slots_are_chosen_as_the_compiler_says_fit(monkeypatch, room, expected):
    fixed, each = 1 << 20, 1 << 22
    monkeypatch.setattr(slots, "bytes_per_slot", lambda *_: 1 << 40)  # a rough figure is no reason
    monkeypatch.setattr(slots, "compiled_bytes", lambda *_: (fixed, each))
    free = int((fixed + room * each) / slots._SHARE) + 1
    monkeypatch.setattr(slots, "free_bytes", lambda _: free)
    monkeypatch.setattr(slots, "_CPU_SLOTS", 256)
    assert slots.choose_slots(OBJECTIVE, EngineConfig(), IMAGE, [CPU]) == expected


def test_an_image_that_does_not_fit_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(slots, "bytes_per_slot", lambda *_: 1 << 40)
    monkeypatch.setattr(slots, "compiled_bytes", lambda *_: (1 << 30, 1 << 30))
    monkeypatch.setattr(slots, "free_bytes", lambda _: 1 << 30)
    with pytest.raises(UserError, match=r"needs about 2\.0 GiB and 1\.0 GiB are free: give a smal"):
        slots.choose_slots(OBJECTIVE, EngineConfig(), IMAGE, [CPU])


@pytest.mark.slow
def test_the_engine_takes_what_a_real_sweep_finds(monkeypatch, tmp_path):
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path))
    monkeypatch.setattr("gaxjax.gax.capacity._SWEPT_CPU", 8)
    pixels = tiny.images(6)
    labels = tiny.predictions(pixels, tiny.classifier())
    found, engine = tiny.solve(pixels, labels, GaxConfig(max_steps=2), slots="auto")
    assert engine.slots in (4, 8)
    assert len(found) == 6


def test_auto_is_a_setting_like_any_other():
    command = parse(["gax", "--model", "m", "--data", "d", "--output", "o", "--slots", "auto"])
    assert command.run.engine.slots == "auto"
    assert from_dict(EngineConfig, to_dict(EngineConfig(slots="auto"))).slots == "auto"
