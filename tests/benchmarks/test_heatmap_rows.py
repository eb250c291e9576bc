"""The rows on other heatmaps and scores: what is watched is what the engine does."""

import jax.numpy as jnp
import numpy as np
import tiny

from benchmarks.generators import KINDS
from benchmarks.saturation import _watched
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.gax.objective import Objective
from gaxjax.runs.arrays import explain

PIXELS = tiny.images(4)
CLASSIFIER = tiny.classifier()
LABELS = tiny.predictions(PIXELS, CLASSIFIER)


def test_the_watched_optimisation_is_the_engines():
    objective = Objective(CLASSIFIER, GaxConfig(), "float32")
    scores, norms = _watched(objective, jnp.asarray(PIXELS), jnp.asarray(LABELS), 3)
    gax = GaxConfig(target=1e6, max_steps=3)
    solutions = explain(CLASSIFIER, PIXELS, LABELS, gax, engine=EngineConfig(slots=4))
    for number, solution in enumerate(solutions):
        np.testing.assert_allclose(scores["logits"][number], solution.curve, rtol=1e-3)
        room = 1.25 * (1 - solution.probability_before)
        assert max(scores["softmax"][number]) <= room + 1e-5
        assert norms["softmax"][number][-1] < norms["logits"][number][-1]


def test_every_kind_of_heatmap_is_a_setting():
    kinds = [GaxConfig(**values) for values in KINDS.values()]
    assert kinds[0] == GaxConfig()
    assert len(set(kinds)) == len(KINDS) == 9
