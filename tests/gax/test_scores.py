"""Scores of the softmax, and of log_softmax, through the whole engine."""

import jax
import numpy as np
import pytest
import tiny

from gaxjax.common.errors import UserError
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.config.sweep import SweepConfig
from gaxjax.gax.engine import GaxEngine
from gaxjax.gax.replay import Replay, Watched
from gaxjax.models.classifier import as_classifier
from gaxjax.results.solution import Outcome
from gaxjax.runs.arrays import explain

PIXELS = tiny.images(10)
CLASSIFIER = tiny.classifier()
LABELS = tiny.predictions(PIXELS, CLASSIFIER)
SCALE = tiny.CLASSES / (tiny.CLASSES - 1)


def test_the_softmax_score_is_the_rise_of_the_probability_and_stops_at_its_target():
    gax = GaxConfig(score="softmax", target=0.3, max_steps=30)
    first, second, head = tiny.weights()
    unsure = jax.tree_util.Partial(tiny._network, [first, second, 0.05 * head])
    model = as_classifier(unsure, num_classes=tiny.CLASSES, mean=tiny.MEAN, std=tiny.STD)
    found, worker = tiny.solve(PIXELS, LABELS, gax, model=model)
    outcomes = [solution.outcome for solution in found.values()]
    assert outcomes.count(Outcome.REACHED) > 2
    for solution in found.values():
        rise = SCALE * (solution.probability_after - solution.probability_before)
        assert solution.co_score == pytest.approx(rise, abs=2e-6)
        assert (solution.co_score >= 0.3) == (solution.outcome is Outcome.REACHED)
        assert np.nanmax(solution.curve) < SCALE
    one = max(found.values(), key=lambda solution: solution.steps)
    replay = Replay(worker.objective, worker.devices[0], worker.slots, worker.heatmap_dtype)
    last = len(one.curve) - 1
    watched = Watched(PIXELS[one.index], int(LABELS[one.index]), last, one.steps, [one.steps])
    [again] = replay.run([watched], lambda: None)
    np.testing.assert_allclose(again.curve, one.curve, atol=1e-5)
    # The heatmap is kept in float16 in either.
    seen = replay.see(watched, again)
    assert float(seen.co_score[0]) == pytest.approx(one.co_score, abs=1e-5)


def test_log_softmax_gives_the_bits_of_logits():
    logits, logs = (
        explain(
            CLASSIFIER,
            PIXELS[:4],
            LABELS[:4],
            GaxConfig(score=name, target=60.0, max_steps=20),
            engine=EngineConfig(slots=4),
        )
        for name in ("logits", "log_softmax")
    )
    assert max(logits.steps) > 0
    for one, other in zip(logits, logs, strict=True):
        np.testing.assert_array_equal(one.curve, other.curve)
        np.testing.assert_array_equal(one.heatmap, other.heatmap)


@pytest.mark.parametrize(
    ("gax", "sweep"),
    [
        (GaxConfig(score="softmax"), ()),
        (GaxConfig(score="softmax", target=0.5), ("target=0.5,1.25",)),
    ],
)
def test_a_target_that_softmax_cannot_reach_is_refused_before_the_work(gax, sweep):
    settings = SweepConfig(sweep=sweep).settings
    with pytest.raises(UserError, match=r"cannot be reached with --score softmax"):
        GaxEngine(CLASSIFIER, gax, EngineConfig(), image_shape=PIXELS.shape[1:], sweep=settings)


def test_a_sweeps_own_targets_may_be_reachable_where_the_configs_is_not():
    settings = SweepConfig(sweep=("target=0.1,0.2",)).settings
    gax = GaxConfig(score="softmax")
    GaxEngine(CLASSIFIER, gax, EngineConfig(), image_shape=PIXELS.shape[1:], sweep=settings)
