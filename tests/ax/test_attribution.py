"""The native attribution methods: their rules by hand, completeness, and layers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pool_net import CLASSES, IMAGES, NETWORK, SIZE, pool_net

from gaxjax.ax.layers import first_convolution, tap
from gaxjax.ax.methods import attributions, divide_by_max_abs
from gaxjax.ax.nonlinearities import check_nonlinearities
from gaxjax.ax.rules import Deconvolution, GuidedBackprop, Recorder, Rescale
from gaxjax.config import METHODS
from gaxjax.models import abstract
from gaxjax.models.layers import flatten, run
from gaxjax.ops import operations as ops


def pull_back(rules, x, gradient):
    """The rule's gradient of ReLU at x."""
    with ops.backward_rules(rules):
        _, back = jax.vjp(ops.relu, x)
    return back(gradient)[0]


X = jnp.array([-2.0, -2.0, 3.0, 3.0, 0.0])
GRADIENT = jnp.array([5.0, -5.0, 5.0, -5.0, 5.0])


def test_relu_passes_what_each_rule_says():
    np.testing.assert_array_equal(pull_back(ops.BackwardRules(), X, GRADIENT), [0, 0, 5, -5, 0])
    np.testing.assert_array_equal(pull_back(Deconvolution(), X, GRADIENT), [5, 0, 5, 0, 5])
    np.testing.assert_array_equal(pull_back(GuidedBackprop(), X, GRADIENT), [0, 0, 5, 0, 0])


def test_rescale_divides_the_rise_of_relu_by_that_of_its_input():
    baseline = jnp.array([2.0, -1.0, -1.0, 3.0, 0.0])
    # (0 - 2) / -4, (0 - 0) / -1, 3 / 4; then no difference: the gradient at 3, and at 0.
    slopes = np.array([0.5, 0.0, 0.75, 1.0, 0.0])
    found = pull_back(Rescale([baseline], "captum"), X, GRADIENT)
    np.testing.assert_allclose(found, slopes * GRADIENT, rtol=1e-6)


@pytest.mark.parametrize("rules", [Deconvolution(), GuidedBackprop(), Recorder()])
def test_rules_change_no_value(rules):
    plain = NETWORK(jnp.asarray(IMAGES))
    with ops.backward_rules(rules):
        np.testing.assert_array_equal(NETWORK(jnp.asarray(IMAGES)), plain)


def test_rules_end_with_their_block_even_after_an_error():
    expected = pull_back(ops.BackwardRules(), X, GRADIENT)
    with pytest.raises(ZeroDivisionError), ops.backward_rules(Deconvolution()):
        1 / 0  # noqa: B018
    _, back = jax.vjp(ops.relu, X)
    np.testing.assert_array_equal(back(GRADIENT)[0], expected)


# One cell, 9, wins three overlapping windows (2 wide, stride 1): rises 9 - 1, 9 - 1 and 4 - 1.
ROW = jnp.array([0.0, 9.0, 0.0, 4.0])
BASELINE_ROW = jnp.array([1.0, 0.5, 1.0, 0.5])


@pytest.mark.parametrize(("pooling", "shares"), [("complete", 8 + 8), ("captum", 8)])
def test_a_cell_that_wins_several_windows_gets_all_shares_or_the_last(pooling, shares):
    def image(row):
        return row[None, None, :, None]

    with ops.backward_rules(Rescale([image(BASELINE_ROW)], pooling)):
        _, back = jax.vjp(lambda x: ops.max_pool(x, window=(1, 2), strides=(1, 1)), image(ROW))
    [multipliers] = back(jnp.ones((1, 1, 3, 1)))
    contributions = (multipliers * image(ROW - BASELINE_ROW))[0, 0, :, 0]
    np.testing.assert_allclose(contributions, [0, shares, 0, 3], rtol=1e-6)


def forward_of(network):
    def forward(image, probes):
        graph, state = nnx.split(network)
        copy = nnx.merge(graph, state)
        outputs = tap(copy, probes)
        return copy(image[None])[0], outputs

    return forward


@pytest.mark.parametrize("baseline", ["zero", "one number", "image"])
def test_deep_lift_is_complete(baseline):
    image = jnp.asarray(IMAGES[0])
    given = {"zero": 0.0, "one number": 0.7, "image": jnp.asarray(IMAGES[1])}[baseline]
    wanted = (("deep_lift", None),)
    forward = forward_of(NETWORK)
    target = jnp.int32(2)

    @partial(jax.jit, static_argnames="pooling")
    def deep_lift(image, pooling):
        found = attributions(forward, image, target, wanted, baseline=given, pooling=pooling)
        return found["deep_lift", None]

    found = deep_lift(image, "complete")
    plain = jnp.broadcast_to(jnp.asarray(given), image.shape)
    rise = forward(image, {})[0][2] - forward(plain, {})[0][2]
    assert abs(found.sum() - rise) < 1e-5 * abs(rise)  # measured 1.4e-6, float32
    dropped = deep_lift(image, "captum")
    assert abs(dropped.sum() - rise) > 1e-2 * abs(rise)  # Captum's rule is not


def test_grad_cam_is_the_weighted_sum_of_a_layers_channels():
    image, layer = jnp.asarray(IMAGES[0]), "features.2"
    pooled = run(NETWORK.features[:3], image[None])
    lowest = []
    for target in range(CLASSES):
        [found] = attributions(
            forward_of(NETWORK), image, jnp.int32(target), (("layer_grad_cam", layer),)
        ).values()

        def logit(y, target=target):
            return NETWORK.beginning(flatten(run(NETWORK.features[3:], y)))[0, target]

        cam = (jax.grad(logit)(pooled).mean((1, 2), keepdims=True) * pooled).sum(-1)[0]
        lowest.append(cam.min())
        assert found.shape == image.shape
        np.testing.assert_array_equal(found[..., 0], found[..., 2])
        # Bilinear from 6 to 12: this cell lies three quarters of the way to its neighbours.
        weights = np.array([0.25, 0.75])
        expected = weights @ np.asarray(cam)[:2, :2] @ weights
        np.testing.assert_allclose(found[2, 2, 0], expected, rtol=1e-5)
    assert min(lowest) < 0, "a rectified map would pass too"


def test_dividing_zeros_gives_zeros():
    heatmap, scale = divide_by_max_abs(jnp.zeros((2, 2, 3)))
    assert scale == 0
    np.testing.assert_array_equal(heatmap, 0)


def test_layers_are_named_by_where_they_stand():
    image = jax.ShapeDtypeStruct((SIZE, SIZE, 3), jnp.float32)
    assert first_convolution(pool_net(), image) == "features.0"
    network = pool_net()
    outputs = tap(network, dict.fromkeys(["features", "features.4", "features.0"]))
    network(jnp.asarray(IMAGES))
    # The output of a list is that of its last.
    np.testing.assert_array_equal(outputs["features"], outputs["features.4"])
    assert outputs["features.0"].shape == (7, 12, 12, 6)
    np.testing.assert_array_equal(outputs["features.0"], NETWORK.features[0](jnp.asarray(IMAGES)))


@pytest.mark.parametrize("name", ["resnext50_32x4d", "resnet50"])
def test_convolutions_of_any_form_are_no_strange_nonlinearities(name):
    graph, shapes = nnx.split(abstract(name, num_classes=5))
    network = nnx.merge(graph, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    check_nonlinearities(network, image, METHODS)  # raises where it finds one
