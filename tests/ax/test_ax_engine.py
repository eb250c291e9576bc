"""The AX engine: scores, batches, memory, devices, and what a model cannot have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from pool_net import CLASSES, IMAGES, LABELS, NETWORK, PoolNet, pool_net

import gaxjax
from gaxjax.ax.engine import AxEngine
from gaxjax.common.errors import UserError
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import BatchConfig
from gaxjax.data.batching import Batch
from gaxjax.models.classifier import as_classifier
from gaxjax.models.layers import Relu, flatten, run
from gaxjax.ops import operations as ops
from gaxjax.results.solution import Outcome

CLASSIFIER = as_classifier(pool_net(), num_classes=CLASSES, mean=tiny.MEAN, std=tiny.STD)


def ax(images=IMAGES, labels=LABELS, *, model=CLASSIFIER, batch=None, unreadable=(), **config):
    """Run the engine on one batch; return the solutions by image."""
    worker = AxEngine(
        model,
        AxConfig(**config),
        BatchConfig(**{"batch_size": 3} | (batch or {})),
        image_shape=images.shape[1:],
        image_dtype=images.dtype,
    )
    order = np.arange(len(images), dtype=np.int32)
    found = list(worker.run([Batch(order, images, labels, unreadable)]))
    return {solutions[0].index: solutions for solutions in found}, worker


@pytest.fixture(scope="module")
def scored():
    return ax()[0]


@pytest.mark.parametrize("space", ["normalized", "raw", "released"])
def test_scores_are_those_of_the_formula(space):
    found, _ = ax(score_space=space, methods=("saliency", "guided_backprop"))
    network, scale = pool_net(), (np.float32(tiny.MEAN), np.float32(tiny.STD))
    for index, solutions in found.items():
        x, label = IMAGES[index], LABELS[index]
        if space == "released":
            x = (x - scale[0]) / scale[1]

        def logits(z):
            z = (z - scale[0]) / scale[1] if space == "normalized" else z
            return np.asarray(network(jnp.asarray(z[None]))[0], np.float64)

        before = logits(x)
        assert [(s.method, s.operation) for s in solutions] == [
            ("saliency", "sum"),
            ("saliency", "mult"),
            ("guided_backprop", "sum"),
            ("guided_backprop", "mult"),
        ]
        for solution in solutions:
            h = solution.heatmap
            assert 1 - 1e-6 < np.abs(h).max() <= 1
            after = logits(x + h if solution.operation == "sum" else x * h)
            kappa = np.full(CLASSES, -1 / (CLASSES - 1))
            kappa[label] = 1
            assert abs(solution.co_score - kappa @ (after - before)) < 1e-5  # of scores up to 4
            assert solution.prediction == before.argmax()
            assert solution.prediction_after == after.argmax()
            chance = np.exp(after - after.max())
            assert abs(solution.probability_after - chance[label] / chance.sum()) < 1e-6
            assert solution.outcome is Outcome.SCORED


def test_the_heatmap_is_of_the_predicted_class_not_of_the_label(scored):
    other, _ = ax(labels=(LABELS + 1) % CLASSES)
    for index, solutions in scored.items():
        for solution, same in zip(solutions, other[index], strict=True):
            np.testing.assert_array_equal(solution.heatmap, same.heatmap)
            assert solution.co_score != same.co_score


def test_an_images_result_depends_on_no_neighbour_and_no_batch_size(scored):
    order = np.array([6, 2, 4, 0, 1, 3, 5])
    shuffled, _ = ax(IMAGES[order], LABELS[order], batch={"batch_size": 4})
    for position, index in enumerate(order):
        for solution, same in zip(scored[index], shuffled[position], strict=True):
            np.testing.assert_array_equal(solution.heatmap, same.heatmap)
            assert solution.co_score == same.co_score


@pytest.mark.parametrize(
    "method",
    [
        "deep_lift",
        *(
            pytest.param(method, marks=pytest.mark.slow)
            for method in ("saliency", "layer_grad_cam", "deconvolution")
        ),
    ],
)
def test_methods_alone_give_what_they_give_together(scored, method):
    alone, _ = ax(methods=(method,), operation="sum")
    for index, [solution] in alone.items():
        [same] = [s for s in scored[index] if (s.method, s.operation) == (method, "sum")]
        np.testing.assert_allclose(solution.heatmap, same.heatmap, atol=2e-6)


def test_several_layers_are_several_heatmaps():
    found, worker = ax(methods=("layer_grad_cam",), layers=("features.3", "features"))
    assert worker.wanted == (("layer_grad_cam", "features.3"), ("layer_grad_cam", "features"))
    assert [s.layer for s in found[0]] == ["features.3"] * 2 + ["features"] * 2
    assert not np.array_equal(found[0][0].heatmap, found[0][2].heatmap)


def test_an_attribution_of_zeros_has_an_outcome_and_no_score():
    network = pool_net()
    network.beginning.kernel[...] = jnp.zeros_like(network.beginning.kernel[...])
    found, _ = ax(model=as_classifier(network, num_classes=CLASSES))
    for solution in found[0]:
        assert solution.outcome is Outcome.ZERO_HEATMAP
        assert solution.co_score is None
        assert solution.heatmap is None
        assert solution.prediction is not None


def test_a_network_that_overflows_has_an_outcome_of_its_own():
    network = pool_net()
    network.beginning.kernel[...] = network.beginning.kernel[...] * jnp.inf
    found, _ = ax(model=as_classifier(network, num_classes=CLASSES), methods=("saliency",))
    assert {s.outcome for solutions in found.values() for s in solutions} == {Outcome.NOT_FINITE}


def test_an_unreadable_image_has_a_row_for_every_method_and_operation():
    found, worker = ax(unreadable=((9, "truncated"),))
    assert len(found[9]) == 2 * len(worker.wanted)
    assert {(s.outcome, s.reason) for s in found[9]} == {(Outcome.UNREADABLE, "truncated")}


def test_out_of_memory_halves_the_batch_and_loses_no_image(scored, monkeypatch):
    compile_ = AxEngine._compile

    def small_memory(self):
        if self._per_device > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        compile_(self)

    monkeypatch.setattr(AxEngine, "_compile", small_memory)
    found, worker = ax(batch={"batch_size": 7})
    assert worker.stats.batch_size == 1
    assert worker.stats.halvings == 2
    assert found.keys() == scored.keys()
    # One image a batch: XLA multiplies matrices of one row in another order.
    for index, solutions in found.items():
        for solution, same in zip(solutions, scored[index], strict=True):
            assert abs(solution.co_score - same.co_score) < 1e-4


@pytest.mark.parametrize("where", ["_start", "device_get"])
def test_running_out_of_memory_while_computing_loses_no_image(scored, monkeypatch, where):
    """The batch is halved twice, while further batches wait and one is in flight."""
    images = np.concatenate([IMAGES] * 6)
    labels = np.concatenate([LABELS] * 6)
    worker = AxEngine(
        CLASSIFIER,
        AxConfig(methods=("saliency",)),
        BatchConfig(batch_size=16),
        image_shape=images.shape[1:],
        image_dtype=images.dtype,
    )
    start, get = AxEngine._start, jax.device_get

    def exhausted(size):
        if size > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    def small_start(self, batch):
        exhausted(self._per_device)
        return start(self, batch)

    def small_get(found):
        exhausted(found.explained.reading.prediction.shape[0])
        return get(found)

    if where == "_start":
        monkeypatch.setattr(AxEngine, "_start", small_start)
    else:
        monkeypatch.setattr(jax, "device_get", small_get)
    order = np.arange(len(images), dtype=np.int32)
    batches = [
        Batch(order[i : i + 16], images[i : i + 16], labels[i : i + 16], ()) for i in (0, 16, 32)
    ]
    found = [solutions[0] for solutions in worker.run(batches)]
    assert [solution.index for solution in found] == list(range(42))
    assert worker.stats.halvings == 2
    assert worker.stats.batch_size == 4
    for solution in found:
        assert solution.co_score == pytest.approx(scored[solution.index % 7][0].co_score, abs=1e-5)


def test_without_memory_for_one_image_the_user_is_told(monkeypatch):
    def no_memory(self):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(AxEngine, "_compile", no_memory)
    with pytest.raises(UserError, match="out of device memory with a single image"):
        ax()


@pytest.mark.slow
def test_two_devices_give_the_scores_of_one(scored, tmp_path):
    script = """
import sys, jax, numpy as np, test_ax_engine as t
assert len(jax.devices()) == 2
found, worker = t.ax()
assert worker.stats.devices == 2 and worker.batch_size == 6
np.save(sys.argv[1], [[s.co_score for s in found[i]] for i in sorted(found)])
"""
    found = tiny.run_on_devices(2, script, tmp_path / "two.npy")
    expected = [[s.co_score for s in scored[i]] for i in sorted(scored)]
    np.testing.assert_array_equal(found, np.array(expected))


def test_the_methods_share_their_forward_passes():
    """Six methods are the classification, the baseline image and four backward passes."""
    _, worker = ax()
    convolutions = worker._explain.as_text().count(" convolution(")
    assert convolutions > 0
    # Two convolutions a pass; the input gradient of the first is one more of the same kind.
    assert convolutions <= 2 * (2 + 4), convolutions


def test_heatmaps_that_nobody_keeps_stay_on_the_device():
    worker = AxEngine(
        CLASSIFIER,
        AxConfig(),
        BatchConfig(batch_size=7),
        image_shape=IMAGES.shape[1:],
        image_dtype=IMAGES.dtype,
        keep_heatmaps=False,
    )
    batch = Batch(np.arange(7, dtype=np.int32), IMAGES, LABELS, ())
    for solutions in worker.run([batch]):
        assert {s.heatmap is None for s in solutions} == {True}
        assert {s.outcome for s in solutions} == {Outcome.SCORED}


def test_a_notebook_gets_solutions_by_method_layer_and_operation(scored):
    found = gaxjax.attribute(pool_net(), IMAGES, LABELS, mean=tiny.MEAN, std=tiny.STD)
    assert ("layer_grad_cam", "features.0", "mult") in found
    assert len(found) == 12
    solutions = found["deep_lift", None, "sum"]
    expected = [
        next(s for s in scored[i] if (s.method, s.operation) == ("deep_lift", "sum"))
        for i in range(len(IMAGES))
    ]
    np.testing.assert_allclose(solutions.co_score, [s.co_score for s in expected], atol=1e-5)


def test_the_captum_backend_is_not_answered_by_jax():
    with pytest.raises(UserError, match="this engine is JAX's"):
        gaxjax.attribute(pool_net(), IMAGES, LABELS, AxConfig(backend="captum"))


# --- what a model cannot have --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["deconvolution", "guided_backprop", "deep_lift"])
def test_a_network_with_relus_of_its_own_is_refused_the_methods_that_change_them(method):
    with pytest.raises(UserError, match=f"{method} changes the backward rule of ReLU"):
        ax(tiny.images(2), LABELS[:2], model=tiny.classifier(), methods=(method,))
    found, _ = ax(tiny.images(2), LABELS[:2], model=tiny.classifier(), methods=("saliency",))
    assert found[0][0].outcome is Outcome.SCORED


def half_own(images):
    """One ReLU is of gaxjax.ops, the other is not."""
    x = ops.relu(NETWORK.features[0](images))
    x = jax.nn.relu(run(NETWORK.features[2:4], x))
    return NETWORK.beginning(flatten(x))


def test_one_relu_of_its_own_is_enough_to_be_refused():
    model = as_classifier(half_own, num_classes=CLASSES)
    with pytest.raises(UserError, match=r"gaxjax.ops's \(custom_jvp_call, max\)"):
        ax(model=model, methods=("guided_backprop",))


def test_deep_lift_is_refused_any_other_nonlinearity_and_guided_backprop_is_not():
    def with_tanh(images):
        return jnp.tanh(NETWORK(images))

    model = as_classifier(with_tanh, num_classes=CLASSES)
    with pytest.raises(UserError, match=r"deep_lift .*\(tanh\)"):
        ax(model=model, methods=("deep_lift",))
    found, _ = ax(model=model, methods=("guided_backprop",))
    assert found[0][0].outcome is Outcome.SCORED


@pytest.mark.parametrize("block", [jax.jit, jax.checkpoint])
def test_a_jitted_block_follows_the_rules_too(scored, block):
    def blocked(images):
        return NETWORK.beginning(flatten(block(lambda x: run(NETWORK.features, x))(images)))

    model = as_classifier(blocked, num_classes=CLASSES, mean=tiny.MEAN, std=tiny.STD)
    found, _ = ax(model=model, methods=("deconvolution", "guided_backprop"), operation="sum")
    for index, solutions in found.items():
        for solution in solutions:
            [same] = [
                s for s in scored[index] if (s.method, s.operation) == (solution.method, "sum")
            ]
            np.testing.assert_allclose(solution.heatmap, same.heatmap, atol=1e-5)
    with pytest.raises(UserError, match=r"deep_lift .* cannot see those inside a jitted"):
        ax(model=model, methods=("deep_lift",))


class Odd(PoolNet):
    """A layer that runs twice, and one that never does."""

    def __init__(self):
        super().__init__()
        self.twice = Relu()
        self.never = Relu()

    def __call__(self, images):
        return super().__call__(self.twice(self.twice(images)))


@pytest.mark.parametrize(
    ("layer", "message"), [("twice", "runs several times"), ("never", "does not run")]
)
def test_a_layer_must_run_once(layer, message):
    with pytest.raises(UserError, match=f"layer '{layer}' {message}"):
        ax(
            model=as_classifier(Odd(), num_classes=CLASSES),
            methods=("layer_grad_cam",),
            layers=(layer,),
        )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("features.9",), r"PoolNet has no layer 'features.9'; did you mean 'features"),
        (("beginning",), r"beginning gives \(5,\): give an earlier layer"),
    ],
)
def test_a_layer_that_does_not_do_is_named(layers, message):
    with pytest.raises(UserError, match=message):
        ax(methods=("layer_grad_cam",), layers=layers)


def test_a_function_has_no_layers():
    with pytest.raises(UserError, match="is no Flax NNX module: leave that method out"):
        ax(tiny.images(2), LABELS[:2], model=tiny.classifier(), methods=("layer_grad_cam",))


def test_the_softmax_score_is_the_rise_of_the_probability(scored):
    found, _ = ax(score="softmax", methods=("saliency",))
    scale = CLASSES / (CLASSES - 1)
    right = 0
    for solutions in found.values():
        for solution in solutions:
            rise = scale * (solution.probability_after - solution.probability_before)
            assert solution.co_score == pytest.approx(rise, abs=2e-6)
            if solution.prediction == solution.label:
                right += 1
                assert solution.co_score_predicted == solution.co_score
            else:  # of the predicted class, which is another probability
                assert solution.co_score_predicted != solution.co_score
            assert abs(solution.co_score_predicted) < scale
    assert 0 < right < sum(map(len, found.values()))
    saliency = [one for one in scored[0] if one.method == "saliency"]
    np.testing.assert_array_equal(found[0][0].heatmap, saliency[0].heatmap)
