"""Settings side by side in one program: each lane as a run of its own with that setting."""

import jax
import numpy as np
import pytest
import tiny

from gaxjax.common.devices import same_bits_at_any_count
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.config.sweep import SweepConfig, as_text, with_setting
from gaxjax.data.batching import Batch
from gaxjax.gax.engine import GaxEngine
from gaxjax.results.solution import Outcome

PIXELS = tiny.images(14)
CLASSIFIER = tiny.classifier()
LABELS = tiny.predictions(PIXELS, CLASSIFIER)
SAME_BITS = same_bits_at_any_count(jax.devices()[0])  # as with AVX-512; with AVX2 nearly so
NUMBERS = ("co_score", "similarity_loss", "probability_after", "curve", "heatmap")


def engine(gax, settings=(), **config):
    return GaxEngine(
        CLASSIFIER,
        gax,
        EngineConfig(slots=8, **config),
        image_shape=PIXELS.shape[1:],
        heatmap_dtype=np.float16,
        sweep=settings,
    )


def solve(gax, settings=(), order=None, labels=LABELS, **config):
    worker = engine(gax, settings, **config)
    source = tiny.batches(PIXELS, labels, worker.batch_size, order)
    return {found[0].index: found for found in worker.run(source)}, worker


SWEEPS = {
    "numbers": (
        ("learning-rate=0.02,0.1,0.5", "similarity-factor=0,10,1000", "target=20,60.5"),
        {},
    ),
    "starts": (("initial-weight=0.5,-1", "initial-bias=0,0.3", "beta1=0.5,0.9"), {"bias": True}),
    "loss": (("operation=sum,mult", "beta2=0.9,0.999", "similarity-eps=0.0001,0.01"), {}),
    "variation": (("total-variation-factor=0,30,1000",), {"target": 40.0}),
    "lion": (("learning-rate=0.001,0.03",), {"optimizer": "lion", "target": 30.0}),
}


@pytest.mark.parametrize(
    "name",
    [name if name == "numbers" else pytest.param(name, marks=pytest.mark.slow) for name in SWEEPS],
)
def test_a_lane_gives_the_bits_of_the_single_run_with_its_setting(name):
    sweep, changed = SWEEPS[name]
    gax = GaxConfig(**{"target": 60.0, "max_steps": 30} | changed)
    settings = SweepConfig(sweep=sweep).settings
    found, _ = solve(gax, settings)
    assert sorted(found) == list(range(len(PIXELS)))
    ended = set()
    for number in {1, len(settings) // 2, len(settings) - 1}:
        method = with_setting(gax, settings[number])
        single, _ = solve(method)
        for index, [alone] in single.items():
            lane = found[index][number]
            ended.add(lane.outcome)
            assert lane.setting == as_text(settings[number])
            assert lane.operation == method.operation
            assert (lane.outcome, lane.steps) == (alone.outcome, alone.steps)
            for name in NUMBERS:
                ours, theirs = getattr(lane, name), getattr(alone, name)
                if SAME_BITS:
                    np.testing.assert_array_equal(ours, theirs, f"{lane.setting} {index} {name}")
                else:
                    wide = (np.asarray(value, np.float32) for value in (ours, theirs))
                    np.testing.assert_allclose(*wide, rtol=1e-3, atol=2e-3)
    assert Outcome.REACHED in ended


def test_all_settings_run_in_one_program_and_other_values_compile_nothing():
    gax = GaxConfig(target=60.0, max_steps=30)
    sweep = ("learning-rate=0.01,0.1", "similarity-factor=3,4", "target=10,60")
    first = engine(gax, SweepConfig(sweep=sweep).settings).warm_up()
    other = ("learning-rate=0.3", "similarity-factor=5", "target=7,8,9")
    again = engine(gax, SweepConfig(sweep=other).settings).warm_up()
    for size in first.slots:
        assert again.step[size] is first.step[size]
        assert again.refill[size] == first.refill[size]
    assert again.rescore is first.rescore


def test_images_that_are_not_optimised_have_a_row_for_every_setting():
    settings = SweepConfig(sweep=("learning-rate=0.01,0.1,1",)).settings
    wrong = LABELS.copy()
    wrong[3] = (wrong[3] + 1) % tiny.CLASSES
    worker = engine(GaxConfig(target=20.0, max_steps=5), settings)
    everything = np.arange(len(PIXELS), dtype=np.int32)
    batch = Batch(everything, PIXELS, wrong, ((99, "no such file"),))
    found = {each[0].index: each for each in worker.run([batch])}
    texts = [as_text(setting) for setting in settings]
    assert all([one.setting for one in each] == texts for each in found.values())
    assert {one.outcome for one in found[3]} == {Outcome.MISCLASSIFIED}
    assert {one.outcome for one in found[99]} == {Outcome.UNREADABLE}
    assert {one.reason for one in found[99]} == {"no such file"}
    assert len(found) == len(PIXELS) + 1


def test_order_and_neighbours_change_no_setting():
    gax = GaxConfig(target=60.0, max_steps=20)
    settings = SweepConfig(sweep=("learning-rate=0.05,0.2", "operation=sum,mult")).settings
    found, _ = solve(gax, settings)
    some = [9, 1, 13, 4]
    again, _ = solve(gax, settings, order=some)
    assert sorted(again) == sorted(some)
    for index in some:
        for one, other in zip(found[index], again[index], strict=True):
            assert (one.setting, one.steps) == (other.setting, other.steps)
            if SAME_BITS:
                np.testing.assert_array_equal(one.curve, other.curve)


def test_a_sweep_of_one_setting_says_which():
    [setting] = SweepConfig(sweep=("learning-rate=0.2",)).settings
    found, worker = solve(GaxConfig(target=20.0, max_steps=5), (setting,))
    assert {one.setting for [one] in found.values()} == {"learning-rate=0.2"}
    assert worker.heatmaps_per_image == 1
