"""A second call compiles nothing, and follows whatever has changed since the first."""

import dataclasses
import gc
import weakref
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

import gaxjax
from gaxjax.common import programs
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import same_network
from gaxjax.models.registry import build

PIXELS = tiny.images(4)
LABELS = np.zeros(4, np.int32)
GAX = gaxjax.GaxConfig(max_steps=1, include_misclassified=True)
AX = gaxjax.AxConfig(methods=("saliency",), operation="sum")
CALLS = {
    "explain": lambda model: gaxjax.explain(model, PIXELS, LABELS, GAX).co_score,
    "attribute": lambda model: (
        gaxjax.attribute(model, PIXELS, LABELS, AX)["saliency", None, "sum"].co_score
    ),
}


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)
        self.slope = 0.1

    def __call__(self, x):
        return self.head(nnx.leaky_relu(self.conv(x), self.slope).mean((1, 2)))


@pytest.fixture(autouse=True)
def _none_kept():
    programs.forget_programs()
    yield
    programs.forget_programs()


@pytest.fixture(scope="module")
def compiled():
    """How many programs XLA has compiled, or read from its cache on disk."""
    counts = Counter()
    event = "/jax/core/compile/backend_compile_duration"

    def count(name, seconds, **_):
        counts[name] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    yield lambda: counts[event]
    jax.monitoring.unregister_event_duration_listener(count)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_second_call_compiles_nothing_and_follows_new_weights(call, compiled):
    model = Net(nnx.Rngs(0))
    before = call(model)
    first = compiled()
    assert first > 0
    model.head.kernel[...] *= 2
    model.head.bias[...] *= 2
    after = call(model)
    np.testing.assert_array_equal(call(gaxjax.as_classifier(model, num_classes=3)), after)
    assert compiled() - first <= 2, "of the eager arithmetic on weights above"
    np.testing.assert_allclose(after, 2 * before, rtol=1e-4)


def test_other_settings_make_another_program(compiled):
    CALLS["explain"](tiny.classifier())
    first = compiled()
    found = gaxjax.explain(
        tiny.classifier(), PIXELS, LABELS, dataclasses.replace(GAX, operation="mult")
    )
    assert compiled() > first
    assert found[0].operation == "mult"


def test_another_target_makes_no_more_than_the_programs_with_the_network(compiled):
    model = tiny.classifier()
    gaxjax.explain(model, PIXELS, LABELS, GAX)
    names = []
    made = programs._compiled

    def noted(lowered, options):
        names.append(lowered.as_text().count("convolution") > 0)
        return made(lowered, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_compiled", noted)
        gaxjax.explain(model, PIXELS, LABELS, dataclasses.replace(GAX, target=20.0))
        assert names
        assert all(names)
        other = dataclasses.replace(GAX, initial_weight=0.5)
        found = gaxjax.explain(model, PIXELS, LABELS, other)
    assert not all(names)
    assert found[0].co_score != gaxjax.explain(model, PIXELS, LABELS, GAX)[0].co_score


def test_a_checkpoint_opened_anew_finds_its_programs_made(compiled):
    def opened(seed):
        net = build("small_resnet", num_classes=3, rngs=nnx.Rngs(seed))
        return gaxjax.as_classifier(net, num_classes=3)

    first, second, third = opened(0), opened(1), opened(0)
    call = CALLS["attribute"]
    scores = call(first)
    made = compiled()
    other = call(second)
    np.testing.assert_array_equal(call(third), scores)
    assert compiled() == made
    assert np.any(other != scores)


def _network(model):
    objective = Objective(gaxjax.as_classifier(model, num_classes=4), GAX, "float32")
    return same_network(objective, jax.ShapeDtypeStruct(PIXELS.shape[1:], PIXELS.dtype))


FOLLOWED = {"attribute": CALLS["attribute"], "what GAX's programs are known by": _network}


@pytest.mark.parametrize("found", FOLLOWED.values(), ids=FOLLOWED)
def test_a_function_is_followed_in_what_it_closes_over_and_reads(found):
    kernel = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    settings = {"scale": 1.0}

    def net(images):
        return settings["scale"] * (images.mean((1, 2)) @ kernel)

    plain = found(net)
    settings["scale"] = 3.0
    scaled = found(net)
    settings["scale"] = 1.0
    kernel *= 2  # in place: the same object
    doubled = found(net)
    kernel /= 2
    np.testing.assert_array_equal(found(net), plain)
    assert np.any(scaled != plain)
    assert np.any(doubled != plain)
    assert np.any(scaled != doubled)


@pytest.mark.parametrize("found", FOLLOWED.values(), ids=FOLLOWED)
def test_a_module_is_followed_in_its_settings_and_layers(found):
    model = Net(nnx.Rngs(0))
    plain = found(model)
    model.slope = 1.0
    linear = found(model)
    assert np.any(linear != plain)
    model.slope = 0.1
    np.testing.assert_array_equal(found(model), plain)
    model.head = nnx.Linear(4, 3, use_bias=False, rngs=nnx.Rngs(1))
    assert np.any(found(model) != plain)


def test_a_function_that_calls_back_into_python_is_compiled_each_time(compiled):
    def net(scale):
        def logits(images):
            jax.debug.callback(lambda: None)
            return scale * images.mean((1, 2))

        return logits

    programs.compiled_once(jax.jit(net(1.0)), jnp.ones((1, 2, 2, 3)), options={})
    first = compiled()
    programs.compiled_once(jax.jit(net(1.0)), jnp.ones((1, 2, 2, 3)), options={})
    assert compiled() - first == 1


@pytest.mark.slow
def test_no_program_keeps_a_model_alive():
    model = Net(nnx.Rngs(0))
    gaxjax.explain(model, PIXELS, LABELS, GAX)
    CALLS["attribute"](model)
    kernel = weakref.ref(model.conv.kernel[...])
    module = weakref.ref(model)
    del model
    gc.collect()
    assert module() is None
    assert kernel() is None


def test_the_programs_longest_unused_are_let_go(monkeypatch):
    monkeypatch.setattr(programs, "_MOST", 2)
    double = jax.jit(lambda x: 2 * x)
    made = [programs.compiled_once(double, jnp.ones(3), same=name, options={}) for name in "abac"]
    assert made[2] is made[0]
    assert [key[0] for key in programs._kept] == ["a", "c"]
