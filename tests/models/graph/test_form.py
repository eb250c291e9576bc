"""A graph on disk and in memory: what is written is read back, and what is damaged is told."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from gaxjax.common import UserError
from gaxjax.models import checkpoint
from gaxjax.models.checkpoint import CheckpointMetadata, load_classifier
from gaxjax.models.graph.form import Graph, Node, Value, Weight
from gaxjax.models.graph.network import GraphNetwork
from gaxjax.models.graph.rewriting import (
    flatten_channels_last,
    fold_batch_norm,
    use_fast_operations,
)

SIZE = 12


def network(seed: int = 0, channels: int = 48) -> GraphNetwork:
    """Two convolutions with batch norm, a ReLU, a mean and a linear layer."""
    nodes = (
        Node("conv", "conv2d", (Value("image"), Weight("a.weight"), None, (1, 1), (1, 1))),
        Node("norm", "batch_norm", (Value("conv"), *map(Weight, "sbmv"), 1e-5)),
        Node("act", "relu", (Value("norm"),)),
        Node(
            "conv_1", "conv2d", (Value("act"), Weight("b.weight"), Weight("b.bias"), (1, 1), (1, 1))
        ),
        Node("norm_1", "batch_norm", (Value("conv_1"), None, None, *map(Weight, "mv"), 1e-3)),
        Node("clip", "clamp", (Value("norm_1"), float("-inf"), 3.0)),
        Node("pool", "mean", (Value("clip"), (2, 3))),
        Node("fc", "linear", (Value("pool"), Weight("fc.weight"), Weight("fc.bias"))),
    )
    layers = {"a": "conv", "bn": "norm", "relu": "act", "b": "conv_1", "bn_1": "norm_1"}
    graph = Graph((3, SIZE, SIZE), nodes, "fc", layers, {"a": "Conv2d", "b": "Conv2d"})
    draw = np.random.default_rng(seed)
    shapes = {"a.weight": (3, 3, 3, channels), "b.weight": (3, 3, channels, channels)}
    shapes |= {"b.bias": (channels,), "fc.weight": (5, channels), "fc.bias": (5,)}
    shapes |= dict.fromkeys("sbmv", (channels,))
    weights = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    weights["v"] = np.abs(weights["v"]) + 0.5
    weights["b.weight"] /= (9 * channels) ** 0.5
    return GraphNetwork(graph, {name: w.astype(np.float32) for name, w in weights.items()})


def images(count: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(1), (count, SIZE, SIZE, 3))


def arrays(model: GraphNetwork) -> dict[str, np.ndarray]:
    return {name: np.asarray(each[...]) for name, each in model.weights.items()}


def test_json_keeps_everything_of_a_graph():
    graph = network().graph
    back = Graph.from_json(graph.to_json())
    assert back == graph
    assert back.nodes == graph.nodes
    assert back.nodes[5].arguments[1] == float("-inf")
    assert back != Graph.from_json(graph.to_json().replace("0.001", "0.002"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"format":1', '"format":9', "no graph of format 1"),
        ('"conv2d",[{"node":"image"}', '"conv2d",[{"node":"fc"}', "conv takes fc"),
        ('["act",', '["norm",', "two nodes are called norm"),
        ('"output":"fc"', '"output":"gone"', "no node gone"),
        ('"image":[3,12,12]', '"image":[3,12]', "not enough values"),
        ('"layers":{', '"leyers":{', "no whole graph"),
    ],
)
def test_a_graph_that_is_none_is_refused_in_a_line(old, new, told):
    text = network().graph.to_json()
    assert old in text
    with pytest.raises(ValueError, match=told):
        Graph.from_json(text.replace(old, new, 1))


def test_an_operation_that_nobody_wrote_is_named():
    graph = Graph((3, 4, 4), (Node("x", "fft_rfft2", (Value("image"),)),), "x")
    with pytest.raises(UserError, match="fft_rfft2"):
        GraphNetwork(graph, {})


def test_images_of_a_batch_are_classified_each_by_itself():
    model, pixels = network(), images(3)
    together = model(pixels)
    alone = jnp.concatenate([model(pixels[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=2e-6, atol=2e-6)


def test_folding_leaves_the_logits_and_no_batch_norm():
    model, pixels = network(), images(2)
    with jax.enable_x64():
        exact = GraphNetwork(
            model.graph, {k: w.astype(np.float64) for k, w in arrays(model).items()}
        )
        folded = GraphNetwork(*fold_batch_norm(exact.graph, arrays(exact)))
        assert "batch_norm" not in {node.operation for node in folded.graph.nodes}
        assert folded.graph.layers["bn"] == "conv"
        given = pixels.astype(jnp.float64)
        np.testing.assert_allclose(folded(given), exact(given), rtol=1e-12)


def test_a_batch_norm_whose_input_others_read_is_not_folded():
    graph = network().graph
    both = Node("both", "add", (Value("pool"), Value("pool_1")))
    other = Node("pool_1", "mean", (Value("conv_1"), (2, 3)))
    nodes = (
        *graph.nodes[:-1],
        other,
        both,
        Node("fc", "linear", (Value("both"), Weight("fc.weight"))),
    )
    read = Graph(graph.image, nodes, "fc")
    folded, _ = fold_batch_norm(read, arrays(network()))
    assert [n.name for n in folded.nodes if n.operation == "batch_norm"] == ["norm_1"]


def test_fast_operations_leave_logits_and_gradients():
    model, pixels = network(), images(2)
    fast = GraphNetwork(*use_fast_operations(*fold_batch_norm(model.graph, arrays(model))))
    found = [node.operation for node in fast.graph.nodes]
    assert found.count("winograd") == 1  # the other convolution has 3 input channels
    assert found.count("two_way_linear") == 1
    np.testing.assert_allclose(fast(pixels), model(pixels), rtol=1e-4, atol=1e-5)
    ours, theirs = (jax.grad(lambda x, net=net: net(x).sum())(pixels) for net in (fast, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_linear_layers_of_tokens_are_kept_both_ways_round():
    nodes = (
        Node("tokens", "view", (Value("image"), (1, 3 * SIZE, SIZE))),
        Node("fc", "linear", (Value("tokens"), Weight("fc.weight"), Weight("fc.bias"))),
        Node("mean", "mean", (Value("fc"), (1,))),
    )
    draw = np.random.default_rng(2)
    given = {"fc.weight": draw.normal(size=(4, SIZE)), "fc.bias": draw.normal(size=4)}
    graph = Graph((3, SIZE, SIZE), nodes, "mean")
    fast, weights = use_fast_operations(graph, given)
    assert fast.nodes[1].operation == "two_way_linear"
    with jax.enable_x64():
        pixels = images(2).astype(jnp.float64)
        found = GraphNetwork(fast, weights)(pixels)
        np.testing.assert_allclose(found, GraphNetwork(graph, given)(pixels), rtol=1e-12)


def test_features_are_flattened_as_they_lie_in_memory():
    nodes = (
        Node("conv", "conv2d", (Value("image"), Weight("k"))),
        Node("act", "relu", (Value("conv"),)),
        Node("flat", "view", (Value("act"), (1, 7 * 10 * 10))),
        Node("fc", "linear", (Value("flat"), Weight("fc.weight"))),
    )
    draw = np.random.default_rng(2)
    given = {"k": draw.normal(size=(3, 3, 3, 7)), "fc.weight": draw.normal(size=(4, 700))}
    graph = Graph((3, SIZE, SIZE), nodes, "fc", {"flatten": "flat"})
    new, weights = flatten_channels_last(graph, given)
    assert [node.operation for node in new.nodes] == ["conv2d", "relu", "permute", "view", "linear"]
    with jax.enable_x64():
        old = GraphNetwork(graph, given)(images(2).astype(jnp.float64))
        made = GraphNetwork(new, weights)(images(2).astype(jnp.float64))
    np.testing.assert_allclose(made, old, rtol=1e-12)
    row = Node("flat", "view", (Value("act"), (7, 100)))
    rows = dataclasses.replace(graph, nodes=(*nodes[:2], row, nodes[3]))
    assert flatten_channels_last(rows, given)[0] == rows


def metadata(**others) -> CheckpointMetadata:
    return CheckpointMetadata(
        architecture="mine", num_classes=5, input_size=SIZE, imported=True, **others
    )


def test_a_checkpoint_keeps_graph_and_weights(tmp_path):
    model, path = network(), tmp_path / "m.ckpt"
    decoding = {"resize": "crop", "interpolation": "bicubic"}
    checkpoint.save(path, model, metadata(decoding=decoding))
    back, about = checkpoint.load(path)
    assert back.graph == model.graph
    assert about.decoding == decoding
    np.testing.assert_array_equal(back(images(2)), model(images(2)))
    assert checkpoint.fingerprint(back) == checkpoint.fingerprint(model)
    classifier = load_classifier(path)
    assert classifier.structure is not None  # known code: given whole batches
    folded = classifier.apply(classifier.weights, images(2))
    np.testing.assert_allclose(folded, model(images(2)), rtol=1e-4, atol=1e-5)
    assert classifier.fingerprint == load_classifier(path, fold=False).fingerprint


def test_another_graph_of_the_same_weights_has_another_fingerprint(tmp_path):
    model = network()
    text = model.graph.to_json().replace("0.001", "0.002")
    other = GraphNetwork(Graph.from_json(text), arrays(model))
    prints = []
    for name, each in (("a", model), ("b", other)):
        checkpoint.save(tmp_path / name, each, metadata())
        prints.append(load_classifier(tmp_path / name).fingerprint)
    assert prints[0] != prints[1]


@pytest.mark.parametrize("damage", ["altered", "missing", "truncated", "other weights"])
def test_a_damaged_graph_is_told_in_a_line(tmp_path, damage):
    path = tmp_path / "m.ckpt"
    checkpoint.save(path, network(), metadata())
    file = path / "graph.json"
    if damage == "missing":
        file.unlink()
    elif damage == "other weights":
        about = json.loads((path / "gaxjax.json").read_text())
        about["arrays"]["more"] = ["float32", [1]]
        del about["sha256"]  # as an earlier version wrote it
        (path / "gaxjax.json").write_text(json.dumps(about))
    else:
        text = file.read_text()
        file.write_text(text.replace("0.001", "0.002") if damage == "altered" else text[:200])
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "decoding", [{"resize_size": "256 px"}, {"interpolation": "cubic"}, {"crop_pct": 1}]
)
def test_a_decoding_that_is_none_is_refused(decoding, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match=r"interpolation|resize-size|crop_pct"):
        metadata(decoding=decoding)


WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "timm", "captum", "safetensors")))
import numpy as np
import gaxjax
pixels = np.random.default_rng(0).random((2, 12, 12, 3), np.float32)
config = gaxjax.GaxConfig(max_steps=2, include_misclassified=True)
print(len(gaxjax.explain(sys.argv[1], pixels, np.zeros(2, int), config)))
ax = gaxjax.AxConfig(methods=("saliency", "layer_grad_cam"), layers=("b",), operation="sum")
print(len(gaxjax.attribute(sys.argv[1], pixels, np.zeros(2, int), ax)))
"""


def test_an_imported_checkpoint_runs_where_torch_is_missing(tmp_path):
    checkpoint.save(tmp_path / "m.ckpt", network(channels=8), metadata())
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "m.ckpt")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ran.stdout.split() == ["2", "2"], ran.stderr
