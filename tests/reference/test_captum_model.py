"""Separated networks: the same logits, one module per use, the model left alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from converters.torch_models import torch_model
from gaxjax.common.errors import UserError
from gaxjax.reference.captum_graph import NONLINEARITIES
from gaxjax.reference.captum_model import (
    Normalized,
    first_convolution,
    layer,
    separate_nonlinearities,
)

ALL = torchvision.models.list_models(module=torchvision.models)
VARIED = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "small_resnet",
    "squeezenet1_1",
    "swin_v2_t",
    "vgg11",
]
"""Of each family one, where it takes small images."""
QUICK = {"mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "small_resnet"}


def classifier(name):
    """A classifier with the random weights it is made with, and no heads of zeros."""
    torch.manual_seed(0)
    if name == "small_resnet":
        return torch_model(name, 7)
    own = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **own)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model


def images(size, batch=2, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def logits(model, x):
    with torch.no_grad():
        return model.eval()(x)


def assert_same_logits(network, model, x):
    torch.testing.assert_close(logits(network, x), logits(model, x), rtol=0, atol=0)


def assert_separate(network):
    """Every nonlinearity is called once, not in place, on a clone that nothing else uses."""
    calls = [node.target for node in network.graph.nodes if node.op == "call_module"]
    assert len(calls) == len(set(calls))
    for node in network.graph.nodes:
        if node.op == "call_module":
            module = network.get_submodule(node.target)
            assert not getattr(module, "inplace", False), node
            if type(module) in NONLINEARITIES:
                (source,) = node.args
                assert source.target == "clone", node
                assert list(source.users) == [node]
            continue
        assert node.target not in (F.relu, torch.relu, F.max_pool2d, "relu", "relu_", "mul_")


# --- Logits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in VARIED],
)
def test_logits_keep_every_bit(name):
    model = classifier(name)
    x = images(80)
    network = separate_nonlinearities(model, x)
    assert_separate(network)
    assert_same_logits(network, model, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_logits_of_every_torchvision_classifier_keep_every_bit(name):
    model = classifier(name)
    x = images(224, batch=1)
    network = separate_nonlinearities(model, x)
    assert_separate(network)
    assert_same_logits(network, model, x)


# --- The model is left alone ---------------------------------------------------------------------


def test_the_model_keeps_its_modes_hooks_and_weights():
    model = classifier("resnet18")
    model.train()
    model.bn1.eval()
    calls = []
    model.layer1.register_forward_hook(lambda *_: calls.append("layer1"))
    model.conv1.register_forward_pre_hook(lambda *_: calls.append("conv1"))
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    network = separate_nonlinearities(model, images(64))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.relu.inplace
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert calls == ["conv1", "layer1"]  # the proof ran the model once; tracing ran no hook
    logits(network, images(64))
    assert calls == ["conv1", "layer1"]
    assert not any(module.training for module in network.modules())


def test_weights_are_shared_and_not_copied():
    model = classifier("squeezenet1_1")
    network = separate_nonlinearities(model, images(64))
    own = dict(model.named_parameters())
    assert dict(network.named_parameters()).keys() == own.keys()
    assert all(parameter is own[name] for name, parameter in network.named_parameters())


def test_hooks_set_on_the_network_do_not_reach_the_model():
    model = classifier("resnet18")
    network = separate_nonlinearities(model, images(64))
    for module in network.modules():
        module.register_forward_hook(lambda *_: pytest.fail("called"))
    logits(model, images(64))
    assert not any(module._forward_hooks for module in model.modules())


def test_an_error_leaves_the_model_in_train_mode():
    model = classifier("resnet18").train()
    with pytest.raises(UserError, match="fails on images"):
        separate_nonlinearities(model, torch.zeros(1, 4, 64, 64))
    assert all(module.training for module in model.modules())


# --- Every form of a nonlinearity ----------------------------------------------------------------


class Forms(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(9))
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.elu = nn.ELU(inplace=True)
        self.drop = nn.Dropout(inplace=True)

    def forward(self, x, unused=None):
        if unused is not None:
            x = x * unused
        a, b, c, d, e, f, g, h, i = self.convs
        x = self.relu(a(x)) + self.relu(b(x))
        x = F.relu(c(x)) + F.relu(d(x), inplace=True) + torch.relu(e(x)) + torch.relu_(f(x))
        x = g(x).relu() + h(x).relu_() + self.elu(i(x)) + self.elu(i(-x))
        x = self.pool(x) + self.pool(-x) + F.max_pool2d(x, 3, 1, padding=1)
        x = torch.sigmoid(x) + x.tanh() + F.leaky_relu(x, 0.2, True) + F.softplus(x, beta=2)
        shared = self.drop(x)  # in eval mode the very tensor x
        x += torch.relu(shared)
        x.mul_(2).add_(F.silu(x, inplace=True))
        return x.mean((2, 3))


def test_every_form_of_a_nonlinearity_becomes_a_module_of_its_own():
    model = Forms().double()
    x = images(16).double()
    network = separate_nonlinearities(model, x)
    assert_separate(network)
    count = {kind: 0 for kind in NONLINEARITIES}
    for module in network.modules():
        if type(module) in count:
            count[type(module)] += 1
    assert count == {
        nn.ReLU: 9,
        nn.ELU: 2,
        nn.LeakyReLU: 1,
        nn.Sigmoid: 1,
        nn.Tanh: 1,
        nn.Softplus: 1,
        nn.Softmax: 0,
        nn.MaxPool1d: 0,
        nn.MaxPool2d: 3,
        nn.MaxPool3d: 0,
    }
    functional = layer(network, "max_pool2d")
    assert (functional.kernel_size, functional.stride, functional.padding) == (3, 1, 1)
    assert layer(network, "leaky_relu").negative_slope == 0.2
    assert layer(network, "softplus").beta == 2
    assert_same_logits(network, model, x)


def test_what_an_in_place_operation_changed_stays_changed_under_every_name():
    class Changed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True)
            self.pool = nn.MaxPool2d(2)

        def forward(self, x):
            y = self.conv(x)
            z = self.relu(y)  # z and y are one tensor
            y.mul_(3)
            return (self.pool(y) + self.pool(z.add_(1)) + self.pool(y)).mean((2, 3))

    model = Changed()
    network = separate_nonlinearities(model, images(16))
    assert_separate(network)
    assert_same_logits(network, model, images(16))


def test_a_nonlinearity_of_constants_is_kept_from_captum():
    class Bias(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.relu = nn.Parameter(torch.randn(1, 3)), nn.ReLU()

        def forward(self, x):
            return x.mean((2, 3)) + self.relu(self.table)

    model = Bias()
    network = separate_nonlinearities(model, images(8))
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    with torch.no_grad():
        model.table.add_(1)  # weights are still shared
    assert_same_logits(network, model, images(8))


def test_other_arguments_keep_their_defaults():
    class Optional(nn.Module):
        def forward(self, x, scale=None, *, double=True):
            x = x if scale is None else x * scale
            return F.relu(2 * x if double else x).mean((2, 3))

    network = separate_nonlinearities(Optional(), images(8))
    assert_same_logits(network, Optional(), images(8))


def test_a_parametrized_model_keeps_its_logits():
    model = classifier("squeezenet1_1")
    nn.utils.parametrizations.weight_norm(model.features[0])
    assert_same_logits(separate_nonlinearities(model, images(64)), model, images(64))


# --- Layers by name ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "resnet18", "squeezenet1_1"])
def test_a_layers_output_is_that_of_the_models_module(name):
    model = classifier(name).double()
    x = images(64).double()
    network = separate_nonlinearities(model, x)
    expected, found = {}, {}

    def keep(store, module_name):
        store[module_name] = []
        return lambda module, args, out: store[module_name].append(out.clone())

    for module_name, module in model.named_modules():
        if module_name:
            module.register_forward_hook(keep(expected, module_name))
    logits(model, x)
    for module_name, outputs in expected.items():
        if len(outputs) == 1:
            layer(network, module_name).register_forward_hook(keep(found, module_name))
        elif len(outputs) > 1:
            with pytest.raises(UserError, match="runs 2 times; name one use of it; did you mean"):
                layer(network, module_name)
        else:  # googlenet's auxiliary heads
            with pytest.raises(UserError, match="no layer"):
                layer(network, module_name)
    logits(network, x)
    assert len(found) > 40
    expected = {module_name: expected[module_name] for module_name in found}
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.fixture(scope="module")
def resnet():
    return separate_nonlinearities(classifier("resnet18"), images(64))


def test_each_use_of_a_reused_module_has_a_name(resnet):
    uses = [layer(resnet, name) for name in ("layer1.0.relu_1", "layer1.0.relu_2")]
    assert all(type(use) is nn.ReLU for use in uses)
    assert uses[1] is layer(resnet, "layer1.0")
    assert layer(resnet, "layer1") is layer(resnet, "layer1.1.relu_2")


def test_an_unknown_layer_is_answered_with_the_nearest(resnet):
    with pytest.raises(UserError, match="no layer 'layer5' runs in ResNet; did you mean 'layer"):
        layer(resnet, "layer5")


def test_a_module_with_two_names_is_found_by_both():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
            self.stem = self.body[0]

        def forward(self, x):
            return self.body(x)

    network = separate_nonlinearities(Named(), images(8))
    assert layer(network, "stem") is layer(network, "body.0")


def test_layers_are_found_through_normalized_and_in_copies(resnet):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    wrapped = Normalized(resnet, mean, std)
    assert layer(wrapped, "layer2") is layer(resnet, "layer2")
    assert first_convolution(wrapped) == "conv1"
    assert type(layer(copy.deepcopy(resnet), "layer1.0.relu_1")) is nn.ReLU
    with pytest.raises(UserError, match="has not been separated"):
        layer(Normalized(classifier("resnet18"), mean, std), "layer2")


def test_normalized_applies_mean_and_std_per_channel():
    x = images(8).double()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = torchvision.transforms.functional.normalize(x, mean, std)
    flat = nn.Flatten()
    torch.testing.assert_close(
        Normalized(flat, mean, std)(x), expected.flatten(1), rtol=1e-15, atol=1e-15
    )


def test_a_separated_network_is_returned_as_it_is(resnet):
    assert separate_nonlinearities(resnet) is resnet


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet", "features.0"),
        ("densenet121", "features.conv0"),
        ("googlenet", "conv1.conv"),
        ("resnet18", "conv1"),
        ("vit_b_32", "conv_proj"),
    ],
)
def test_the_first_convolution_is_named(name, expected):
    with torch.device("meta"):
        own = {"init_weights": False} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, weights=None, **own)
    assert first_convolution(model) == expected


def test_the_first_convolution_is_the_first_to_run():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Conv2d(4, 5, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.last(self.first(self.first(x)[:, :3])).mean((2, 3))

    model = Backwards()
    network = separate_nonlinearities(model, images(16))
    assert first_convolution(model) == first_convolution(network) == "first_1"
    assert layer(network, "first_1").weight is model.first.weight


def test_a_model_without_convolutions_has_no_first():
    with pytest.raises(UserError, match=r"has no nn\.Conv2d"):
        first_convolution(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))


# --- Mistakes ------------------------------------------------------------------------------------


class Branching(nn.Module):
    def forward(self, x):
        return (x if x.mean() > 0 else -x).mean((2, 3))


class Aliased(nn.Module):
    def forward(self, x):
        y = x + 0
        flat = y.flatten(1)  # a view: changed along with y
        y.sub_(0.5)
        return flat


class Sized(nn.Module):
    def forward(self, x):
        return F.max_pool2d(x, x.shape[2:]).flatten(1)


class Zeroing(nn.Module):
    def forward(self, x):
        return (x + 1).zero_().mean((2, 3))


class Doubling(nn.Linear):
    """A layer whose hook changes its output."""

    def __init__(self):
        super().__init__(12, 2)
        self.register_forward_hook(lambda module, args, out: 2 * out)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Branching(), "torch.fx cannot trace Branching .*decide nothing by a tensor's values"),
        (Aliased(), "gives other logits .*in place"),
        (nn.Sequential(nn.Flatten(), Doubling()), "gives other logits .*hooks"),
        (Sized(), "max_pool2d takes its kernel_size.* from the input's size"),
        (Zeroing(), "zero_ writes in place and has no other form"),
        (
            nn.Sequential(
                nn.Flatten(), nn.Linear(12, 4), nn.TransformerEncoderLayer(4, 1, batch_first=True)
            ),
            "2 is one module of torch .TransformerEncoderLayer. with nonlinearities inside",
        ),
        (
            nn.DataParallel(nn.Sequential(nn.ReLU(), nn.Flatten())),
            "DataParallel. with nonlinearities inside",
        ),
        (nn.Conv2d(3, 2, 1), r"returned \[2, 2, 2, 2\] .* expected logits \[2, classes\]"),
        (nn.Conv2d(4, 2, 1), "fails on images .*pass an example that it takes"),
        (nn.Sequential(nn.Flatten(), nn.Threshold(9, torch.inf)), "not all finite"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_mistake_is_named(model, message):
    with pytest.raises(UserError, match=message) as error:
        separate_nonlinearities(model, images(2))
    assert "\n" not in str(error.value)
