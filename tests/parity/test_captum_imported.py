"""Attribution on imported networks equals Captum's, in float64, on the same graph in torch.

What Captum sees is the original module where torch.fx can take it apart, and `TorchGraph` for all.
The baseline image has texture, as in `test_captum.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from attention_net import SIZE, AttentionNet
from flax import nnx

from converters.exported import import_module
from gaxjax.ax.graph_layers import first_convolution_of
from gaxjax.ax.graph_rules import activations, needs_pairs, with_softmax_modules
from gaxjax.ax.layers import graph_features
from gaxjax.ax.methods import attributions
from gaxjax.models.graph.network import GraphNetwork
from gaxjax.reference import captum_methods as captum
from gaxjax.reference.captum_model import separate_nonlinearities
from gaxjax.reference.torch_graph import TorchGraph

UNOPTIMISED = {"xla_backend_optimization_level": 0}
"""The values are the same and compiling takes a quarter of the time."""

POOLINGS = ("captum", "complete")


def as_if_trained(module, seed=1):
    """Give every norm statistics of its own, and no layer zeros, which would hide the others."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(like):
        return torch.rand(like.shape, generator=generator, dtype=like.dtype)

    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.copy_(0.2 * drawn(part.running_mean) - 0.1)
            part.running_var.copy_(0.5 + drawn(part.running_var))
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * drawn(parameter) - 0.05)
    return module.eval().double()


def drawn_images(size):
    return np.random.default_rng(0).normal(size=(2, size, size, 3))


def to_torch(image):
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None]


def wanted_of(graph, layers=()):
    methods = ["saliency", "input_x_gradient", "deep_lift"]
    methods += ["guided_backprop", "deconvolution"] if activations(graph)["relu"] else []
    layers = layers or (first_convolution_of(graph),)
    return [(m, None) for m in methods] + [("layer_grad_cam", layer) for layer in layers]


def native(imported, image, baseline, target, wanted, *, paired=None):
    """Return our attributions by pooling rule; `paired` None as the graph needs it."""
    graph = imported.graph
    with jax.enable_x64(True):
        network = GraphNetwork(with_softmax_modules(graph), imported.weights)
        structure, weights = nnx.split(network)

        def ours(weights, image, baseline):
            def forward(z, probes):
                logits, outputs = nnx.merge(structure, weights).run(z[None], probes)
                return logits[0], outputs

            return {
                pooling: attributions(
                    forward,
                    image,
                    jnp.int32(target),
                    wanted if pooling == "captum" else [("deep_lift", None)],
                    baseline=baseline,
                    pooling=pooling,
                    paired=needs_pairs(graph, "captum", pooling) if paired is None else paired,
                    features=lambda layer, output: graph_features(graph, layer, output),
                )
                for pooling in POOLINGS
            }

        arguments = weights, jnp.asarray(image), jnp.asarray(baseline)
        program = jax.jit(ours).lower(*arguments).compile(compiler_options=UNOPTIMISED)
        return jax.device_get(program(*arguments))


def reference(network, image, baseline, target, wanted):
    """Return Captum's attributions by pooling rule."""
    # Twice the same image: of one alone torch 2.14's batch norm can hand back a wrong gradient
    # (see `torch_graph`), which the original module shows here.
    two = to_torch(image).repeat(2, 1, 1, 1)
    found = {}
    for pooling in POOLINGS:
        theirs = captum.attributions(
            network,
            two,
            torch.tensor([target, target]),
            wanted if pooling == "captum" else [("deep_lift", None)],
            baseline=to_torch(baseline),
            deep_lift_pooling=pooling,
        )
        found[pooling] = {key: h[0].numpy().transpose(1, 2, 0) for key, h in theirs.items()}
    return found


def errors(ours, theirs):
    return {
        (pooling, *key): np.abs(ours[pooling][key] - expected).max() / np.abs(expected).max()
        for pooling, found in theirs.items()
        for key, expected in found.items()
    }


def compared(module, size, layers=()):
    """Return the largest relative error by pooling, method and layer."""
    image, baseline = drawn_images(size)
    imported = import_module(module, size=size)
    network = TorchGraph(imported.graph, imported.weights)
    target = int(network(to_torch(image)).argmax())
    wanted = wanted_of(imported.graph, layers)
    theirs = reference(network, image, baseline, target, wanted)
    return errors(native(imported, image, baseline, target, wanted), theirs)


@pytest.mark.parametrize("softmax", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gates_curves_pools_and_softmax_equal_captums(softmax):
    module = as_if_trained(AttentionNet(softmax=softmax))
    found = compared(module, SIZE, ("conv", "blend"))
    # Measured 1.3e-12 with the softmax, whose rule divides by small differences; else 2e-15.
    assert max(found.values()) < 1e-11, found


def test_a_max_pool_before_a_gate_takes_the_baselines_own_gradient():
    """Captum gives a baseline's winner its share of the gradient that the baseline has.

    The two gradients differ behind a product, such as a squeeze-and-excitation gate: that is all
    by which one pass for the image alone differs on timm's SE-ResNet50 (by 8.5e-2, and by 7e-14
    with both side by side, at random weights and 64 × 64).
    """
    imported = import_module(as_if_trained(AttentionNet(softmax=False)), size=SIZE)
    assert needs_pairs(imported.graph, "captum", "captum")
    assert not needs_pairs(imported.graph, "captum", "complete")
    image, baseline = drawn_images(SIZE)
    network, wanted = TorchGraph(imported.graph, imported.weights), [("deep_lift", None)]
    theirs = reference(network, image, baseline, 0, wanted)
    alone = errors(native(imported, image, baseline, 0, wanted, paired=False), theirs)
    assert alone["captum", "deep_lift", None] > 1e-3
    assert alone["complete", "deep_lift", None] < 1e-11


def test_a_graph_of_convolutions_relus_and_pools_needs_no_pairs():
    net = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2)),
        *(torch.nn.Conv2d(4, 5, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)),
        torch.nn.Flatten(),
    )
    graph = import_module(net.eval(), size=16).graph
    assert not needs_pairs(graph, "captum", "captum")


def test_captum_sees_in_the_graph_what_it_sees_in_the_module():
    module = as_if_trained(AttentionNet())
    imported = import_module(module, size=SIZE)
    image, baseline = drawn_images(SIZE)
    wanted = wanted_of(imported.graph)
    separated = separate_nonlinearities(module, to_torch(image))
    expected = reference(separated, image, baseline, 2, wanted)
    found = reference(TorchGraph(imported.graph, imported.weights), image, baseline, 2, wanted)
    assert max(errors(found, expected).values()) < 1e-11  # measured 1.9e-13


def transformer(image_size=32):
    return torchvision.models.VisionTransformer(
        image_size, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5,
    )  # fmt: skip


def test_tokens_are_folded_to_their_grid_without_the_class_token():
    module = as_if_trained(transformer())
    layers = ("conv_proj", "encoder.layers.encoder_layer_1.ln_1")
    found = compared(module, 32, layers)
    assert max(found.values()) < 1e-12, found  # measured 2e-15


def check_errors(found):
    """Measured 6e-15 at most; DeepLift's 7e-14, but on EfficientNet-B0 1.2e-9.

    There gates at random weights rise by little over the baseline's: (f(x) - f(x0)) / (x - x0) has
    a rounding of 1e-16 / |x - x0|, in either framework, down to differences of 1e-10.
    """
    for (_, method, _), error in found.items():
        assert error < (1e-7 if method == "deep_lift" else 1e-12), found


TORCHVISION = ("mobilenet_v2", "efficientnet_b0", "resnet18", "squeezenet1_0", "convnext_tiny")
TIMM = ("seresnet50", "vit_small_patch16_224", "densenet121", "tf_efficientnet_lite0")


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_equal_captum(name):
    found = compared(as_if_trained(torchvision.models.get_model(name)), 64)
    check_errors(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timms_networks_equal_captum(name):
    timm = pytest.importorskip("timm")
    options = {"img_size": 64} if "vit" in name else {}
    found = compared(as_if_trained(timm.create_model(name, **options)), 64)
    check_errors(found)
