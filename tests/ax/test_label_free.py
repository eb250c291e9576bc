"""The score for the prediction, and how sure the classifier is: no label reaches them."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import tiny
from pool_net import CLASSES, IMAGES, LABELS, pool_net

from gaxjax.ax.engine import AxEngine
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import BatchConfig
from gaxjax.data.batching import Batch
from gaxjax.models.classifier import as_classifier
from gaxjax.score import Confidence, confidence

CLASSIFIER = as_classifier(pool_net(), num_classes=CLASSES, mean=tiny.MEAN, std=tiny.STD)
METHODS = ("saliency", "layer_grad_cam", "guided_backprop")
OF_PREDICTION = ("co_score_predicted", *Confidence._fields)


def engine(space="normalized"):
    return AxEngine(
        CLASSIFIER,
        AxConfig(methods=METHODS, score_space=space),
        BatchConfig(batch_size=4),
        image_shape=IMAGES.shape[1:],
        image_dtype=IMAGES.dtype,
    )


def found(worker, labels):
    """All solutions, in the order of the images."""
    batch = Batch(np.arange(len(IMAGES), dtype=np.int32), IMAGES, labels.astype(np.int32), ())
    return [solution for solutions in worker.run([batch]) for solution in solutions]


@pytest.fixture(scope="module")
def worker():
    return engine()


@pytest.fixture(scope="module")
def solutions(worker):
    return found(worker, LABELS)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_other_labels_leave_the_label_free_numbers_the_same_to_the_bit(worker, solutions, seed):
    labels = np.random.default_rng(seed).permutation(LABELS)
    others = found(worker, labels)
    assert any(a.co_score != b.co_score for a, b in zip(solutions, others, strict=True))
    for one, other in zip(solutions, others, strict=True):
        for name in OF_PREDICTION:
            assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("space", ["normalized", "released"])
def test_of_a_right_prediction_both_scores_are_the_same_to_the_bit(space):
    worker = engine(space)
    predicted = np.array([s.prediction for s in found(worker, LABELS)][:: 2 * len(METHODS)])
    right = found(worker, predicted)
    assert all(s.co_score_predicted == s.co_score for s in right)
    wrong = found(worker, (predicted + 1) % CLASSES)
    assert all(s.co_score_predicted != s.co_score for s in wrong)
    assert [s.co_score_predicted for s in wrong] == [s.co_score_predicted for s in right]


def test_the_label_free_score_is_the_formula_at_the_prediction(solutions):
    network = pool_net()

    def logits(x):
        x = (x - np.float32(tiny.MEAN)) / np.float32(tiny.STD)
        return np.asarray(network(jnp.asarray(x[None]))[0], np.float64)

    for solution in solutions:
        x, h = IMAGES[solution.index], solution.heatmap
        before, after = logits(x), logits(x + h if solution.operation == "sum" else x * h)
        kappa = np.full(CLASSES, -1 / (CLASSES - 1))
        kappa[before.argmax()] = 1
        assert abs(solution.co_score_predicted - kappa @ (after - before)) < 1e-5
        likely = scipy.special.softmax(before)
        second, largest = np.sort(before)[-2:]
        assert abs(solution.max_probability - likely.max()) < 1e-6
        assert abs(solution.entropy - scipy.special.entr(likely).sum()) < 1e-5
        assert abs(solution.logit_margin - (largest - second)) < 1e-5
        assert abs(solution.logsumexp - scipy.special.logsumexp(before)) < 1e-5


def test_a_sure_classifier_has_no_entropy_and_a_doubtful_one_has_all_of_it():
    sure, doubtful = confidence(jnp.array([99.0, 0, 0, 0])), confidence(jnp.zeros(4))
    assert sure.max_probability == 1
    assert sure.entropy == 0
    assert doubtful.max_probability == 0.25
    assert abs(doubtful.entropy - np.log(4)) < 1e-6
    assert doubtful.logit_margin == 0
