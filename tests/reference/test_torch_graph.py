"""An imported graph in torch: the original's logits, its layers, and what Captum can hook."""

import pytest
import torch
import torchvision
from attention_net import SIZE, AttentionNet
from torch import nn

from converters.exported import import_module
from gaxjax.common.errors import UserError
from gaxjax.models.graph.form import Graph, Node, Value
from gaxjax.reference.captum_model import (
    Normalized,
    first_convolution,
    layer,
    separate_nonlinearities,
)
from gaxjax.reference.torch_graph import TorchGraph


def in_torch(module, size):
    imported = import_module(module, size=size)
    return TorchGraph(imported.graph, imported.weights)


def transformer():
    return torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=[2, 2],
        num_classes=5,
    ).eval()  # fmt: skip


@pytest.mark.parametrize(
    ("module", "size"),
    [
        (AttentionNet(), SIZE),
        (torchvision.models.squeezenet1_1().eval(), 32),
        pytest.param(transformer(), 32, marks=pytest.mark.slow),
    ],
    ids=["attention", "squeezenet", "swin"],
)
@torch.no_grad()
def test_logits_of_each_image_are_the_originals_to_the_last_bit(module, size):
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([module(image[None]) for image in images])
    assert torch.equal(in_torch(module, size)(images), expected)


def test_every_nonlinearity_that_captum_knows_is_a_module_of_its_own():
    network = in_torch(AttentionNet(), SIZE)
    kinds = [type(module) for module in network.nonlinearities.values()]
    assert kinds == [nn.ReLU, nn.MaxPool2d, nn.Sigmoid, nn.Softmax]
    without = in_torch(AttentionNet(softmax=False), SIZE)
    assert nn.Softmax not in map(type, without.nonlinearities.values())


def test_a_scaled_elu_is_not_captums():
    nodes = [
        Node(f"elu{i}", "elu", (Value("image"), 1.0, *rest)) for i, rest in enumerate([(), (1.1,)])
    ]
    network = TorchGraph(Graph((3, 2, 2), tuple(nodes), "elu1"), {})
    assert len(network.nonlinearities) == 1


def test_a_layer_puts_out_what_the_originals_module_does():
    module, image = transformer(), torch.randn(1, 3, 32, 32)
    network = Normalized(in_torch(module, 32), (0.0,) * 3, (1.0,) * 3)
    seen = {}
    for name in ("features.1.1", "features.0.0"):
        module.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen.__setitem__(name, [out])
        )
        layer(network, name).register_forward_hook(
            lambda _, __, out, name=name: seen[name].append(out)
        )
    module(image)
    network(image)
    rows_first, channels_first = seen["features.1.1"]
    assert torch.equal(rows_first.movedim(-1, 1), channels_first)
    assert torch.equal(*seen["features.0.0"])
    assert first_convolution(network) == "features.0.0"
    assert separate_nonlinearities(network.network) is network.network


def test_a_layer_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="no layer 'cnov' runs in TorchGraph; did you mean 'conv'"):
        in_torch(AttentionNet(), SIZE).layer("cnov")


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match="imported for images of 16 × 16, and got 8 × 8"):
        in_torch(AttentionNet(), SIZE)(torch.zeros(1, 3, 8, 8))


def test_gradients_are_right_where_torchs_batch_norm_answers_tokens_wrongly():
    """Torch 2.14's batch norm of one image on a CPU, see `torch_graph`; float64."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(2)).double().eval()
    module[1].running_var.uniform_(0.5, 1.5)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = module, nn.Linear(4, 5).double()

        def forward(self, x):
            return (self.head(self.body(x).transpose(1, 2)) ** 2).mean(1)

    tokens = Tokens().eval()
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(in_torch(tokens, 8)(image)[0, 0], image)
    # Of two images together torch is right.
    (expected,) = torch.autograd.grad(tokens(image.expand(2, -1, -1, -1))[0, 0], image)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
