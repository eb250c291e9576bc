"""Attribution on imported networks: curves, methods they can have, layers, and the gap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from attention_net import CLASSES, SIZE, AttentionNet

from converters.exported import import_module
from gaxjax.ax.engine import AxEngine
from gaxjax.ax.feature_maps import feature_map
from gaxjax.ax.graph_layers import first_convolution_of
from gaxjax.ax.graph_rules import left_plain
from gaxjax.ax.rules import Recorder, Rescale
from gaxjax.ax.suitable import suitable_methods, what_to_know
from gaxjax.common.errors import UserError
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import BatchConfig
from gaxjax.data.batching import Batch
from gaxjax.models.classifier import as_classifier
from gaxjax.models.graph.form import Graph, Node, Value
from gaxjax.models.graph.network import GraphNetwork
from gaxjax.ops import operations as ops
from gaxjax.reference.captum_engine import CaptumEngine
from gaxjax.reference.torch_classifier import TorchClassifier
from gaxjax.reference.torch_graph import TorchGraph

torch.manual_seed(0)
IMPORTED = import_module(AttentionNet(), size=SIZE)
GRAPH = IMPORTED.graph
IMAGES = np.random.default_rng(0).uniform(size=(3, SIZE, SIZE, 3)).astype(np.float32)
SMOOTH = import_module(
    torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    ).eval(),
    size=8,
)
WITHOUT_RELU = SMOOTH.graph


def pull_back(rules, name, function, x, gradient):
    with ops.backward_rules(rules):
        _, back = jax.vjp(lambda x: ops.curve(name, function, x), x)
    return back(gradient)[0]


def test_rescale_divides_the_rise_of_a_curve_by_that_of_its_input():
    x, baseline = jnp.array([2.0, -1.0, 0.5]), jnp.array([0.0, 3.0, 0.5])
    gradient = jnp.array([1.0, -2.0, 3.0])
    rules = Rescale([baseline], "captum", frozenset({"tanh"}))
    # The third has no difference: the gradient there.
    slopes = [np.tanh(2) / 2, (np.tanh(-1) - np.tanh(3)) / -4, 1 - np.tanh(0.5) ** 2]
    found = pull_back(rules, "tanh", jnp.tanh, x, gradient)
    np.testing.assert_allclose(found, slopes * np.asarray(gradient), rtol=1e-5)


def test_a_curve_that_is_not_rescaled_keeps_its_gradient_and_its_place():
    recorder = Recorder()
    with ops.backward_rules(recorder):
        ops.relu(ops.curve("gelu", jax.nn.gelu, jnp.array([1.0])))
    x = jnp.array([-0.3])
    found = pull_back(Rescale(recorder.inputs, "captum"), "gelu", jax.nn.gelu, x, jnp.ones(1))
    np.testing.assert_allclose(found, jax.vmap(jax.grad(jax.nn.gelu))(x), rtol=1e-6)
    assert len(recorder.inputs) == 2


def test_captums_set_and_all_leave_what_they_say():
    assert left_plain(GRAPH, "captum") == {"gelu": 1, "relu6": 1}
    assert not left_plain(GRAPH, "all")


def test_deep_lift_is_complete_where_every_curve_is_rescaled():
    network = as_classifier(GraphNetwork(WITHOUT_RELU, SMOOTH.weights), num_classes=3)
    images, order = IMAGES[:, :8, :8].copy(), np.arange(3, dtype=np.int32)
    gaps = {}
    for curves in ("captum", "all"):
        engine = AxEngine(
            network,
            AxConfig(methods=("deep_lift",), operation="sum", deep_lift_curves=curves),
            BatchConfig(batch_size=3),
            image_shape=(8, 8, 3),
            image_dtype=np.float32,
        )
        found = engine.run([Batch(order, images, order, ())])
        gaps[curves] = [solution.completeness_gap for [solution] in found]
    assert min(gaps["captum"]) > 1e-2
    assert max(gaps["all"]) < 1e-4  # float32


def test_methods_of_relu_are_refused_by_name_and_left_out_of_all():
    with pytest.raises(UserError, match=r"guided_backprop .* equals saliency: leave it out"):
        suitable_methods(AxConfig(methods=("saliency", "guided_backprop")), WITHOUT_RELU)
    found = suitable_methods(AxConfig(), WITHOUT_RELU)
    assert found == ("saliency", "input_x_gradient", "layer_grad_cam", "deep_lift")
    [left_out, plain] = what_to_know(AxConfig(), WITHOUT_RELU)
    assert left_out.startswith("left out: deconvolution and guided_backprop")
    assert plain.startswith("deep_lift leaves 1 silu at plain gradients, as Captum does")


def test_methods_of_relu_are_told_where_some_activations_are_others():
    assert suitable_methods(AxConfig(), GRAPH) == AxConfig().chosen_methods
    relus, _ = what_to_know(AxConfig(), GRAPH)
    assert relus == (
        "deconvolution and guided_backprop act on the 1 relu of this network and leave 1 sigmoid, "
        "1 gelu and 1 relu6 at plain gradients, as Captum does"
    )
    assert not list(what_to_know(AxConfig(methods=("saliency",)), GRAPH))


def layered(*nodes, layer, image=(3, 32, 32)):
    made = tuple(Node(name, op, (Value(taken), *rest)) for name, op, taken, *rest in nodes)
    return Graph(image, made, nodes[-1][0], {"it": layer})


CONVOLUTION = ("conv", "conv2d", "image")
FEATURES_LAST = [CONVOLUTION, ("moved", "permute", "conv", (0, 2, 3, 1)), ("roll", "roll", "moved")]
TOKENS = [CONVOLUTION, ("cut", "view", "conv", (1, 6, 16)), ("turned", "transpose", "cut", 1, 2)]
NORM = ("norm", "layer_norm", "turned", (6,))


@pytest.mark.parametrize(
    ("nodes", "layer", "shape", "expected"),
    [
        ([CONVOLUTION, ("act", "gelu", "conv")], "act", (1, 6, 8, 8), ("first", None, 0)),
        (FEATURES_LAST, "roll", (1, 8, 8, 6), ("last", None, 0)),
        ([*TOKENS, NORM], "norm", (1, 16, 6), ("last", (4, 4), 0)),
        ([*TOKENS, NORM], "turned", (1, 17, 6), ("last", (4, 4), 1)),  # read by the norm
        ([*TOKENS, NORM], "norm", (1, 21, 6), ("last", (4, 4), 5)),  # registers, as in DINOv2
        ([*TOKENS, NORM], "norm", (1, 36, 6), ("last", (6, 6), 0)),  # no whole patches
    ],
)
def test_operations_around_a_layer_tell_its_axes(nodes, layer, shape, expected):
    assert feature_map(layered(*nodes, layer=layer), "it", shape) == expected


def test_tokens_of_an_oblong_image_fold_to_its_ratio():
    graph = layered(*TOKENS, NORM, layer="norm", image=(3, 32, 64))
    assert feature_map(graph, "it", (1, 33, 6)) == ("last", (4, 8), 1)


def test_a_layer_without_height_and_width_is_refused():
    graph = layered(*TOKENS, NORM, ("seen", "softmax", "norm", -1), layer="seen")
    with pytest.raises(UserError, match=r"needs a layer with height and width.*it gives \[4, 9, 6"):
        feature_map(graph, "it", (4, 9, 6))
    unknown = layered(("made", "einsum", "image"), layer="made")
    with pytest.raises(UserError, match="cannot tell the channels of it from its rows"):
        feature_map(unknown, "it", (1, 8, 8, 6))


def test_the_first_convolution_goes_by_its_own_module():
    assert first_convolution_of(GRAPH) == "conv"
    nested = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8)), torch.nn.Flatten())
    assert first_convolution_of(import_module(nested.eval(), size=8).graph) == "0.0"
    with pytest.raises(UserError, match=r"no convolution module .* give --layers"):
        first_convolution_of(layered(("flat", "flatten", "image", 1), layer="flat"))


@pytest.fixture(scope="module")
def engines():
    """Return both backends' solutions of three images, all methods, one operation."""
    network = GraphNetwork(GRAPH, IMPORTED.weights)
    classifier = as_classifier(network, num_classes=CLASSES)
    config = AxConfig(operation="sum", layers=("conv", "blend"), deep_lift_baseline=0.3)
    ours = AxEngine(
        classifier, config, BatchConfig(batch_size=3), image_shape=IMAGES.shape[1:],
        image_dtype=np.float32,
    )  # fmt: skip
    torch_network = TorchGraph(GRAPH, IMPORTED.weights)
    theirs = CaptumEngine(
        TorchClassifier(torch_network, CLASSES, None, None, "attention", "a test"),
        config,
        BatchConfig(batch_size=3),
    )
    order = np.arange(3, dtype=np.int32)
    batch = Batch(order, IMAGES, order, ())
    return [list(engine.run([batch])) for engine in (ours, theirs)]


def test_both_backends_find_the_same_heatmaps_and_scores(engines):
    for ours, theirs in zip(*engines, strict=True):
        assert [(s.method, s.layer) for s in ours] == [(s.method, s.layer) for s in theirs]
        for found, expected in zip(ours, theirs, strict=True):
            assert found.outcome == expected.outcome
            # float32: measured 5e-7, and 1.6e-5 of deep_lift, which divides by small differences.
            error = np.abs(found.heatmap - expected.heatmap).max()
            assert error < (2e-4 if found.method == "deep_lift" else 1e-5), (found.method, error)
            assert abs(found.co_score - expected.co_score) < 1e-5  # measured 5.4e-7


def test_each_row_of_deep_lift_tells_its_completeness_gap(engines):
    for ours, theirs in zip(*engines, strict=True):
        for found, expected in zip(ours, theirs, strict=True):
            if found.method != "deep_lift":
                assert found.completeness_gap is None
                continue
            assert found.completeness_gap > 0.01  # GELU, softmax and products are not rescaled
            # Measured 5.4e-7, of gaps around 0.85.
            assert abs(found.completeness_gap - expected.completeness_gap) < 1e-5
