"""The reference's attributions: Captum's own, complete where asked, and nothing left behind."""

import copy
import functools

import captum.attr
import pytest
import torch
import torchvision
from torch import nn

from converters.random_weights import random_state_dict
from converters.torch_models import torch_model
from gaxjax.common.errors import UserError
from gaxjax.config.base import METHODS
from gaxjax.reference.captum_graph import NONLINEARITIES
from gaxjax.reference.captum_methods import attributions, completeness_delta, divide_by_max_abs
from gaxjax.reference.captum_model import Normalized, layer, separate_nonlinearities

DEEP_LIFT = ("deep_lift", None)
EVERY = [(method, None) for method in METHODS]
CAPTUM = {
    "saliency": lambda network: functools.partial(
        captum.attr.Saliency(network).attribute, abs=False
    ),
    "input_x_gradient": lambda network: captum.attr.InputXGradient(network).attribute,
    "deconvolution": lambda network: captum.attr.Deconvolution(network).attribute,
    "guided_backprop": lambda network: captum.attr.GuidedBackprop(network).attribute,
    "deep_lift": lambda network: captum.attr.DeepLift(network).attribute,
}
hushed = pytest.mark.filterwarnings("ignore:\\s*Setting", "ignore:Input Tensor 0 did not")
"""For tests that call Captum themselves."""


def images(size, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, size, size, generator=generator, dtype=torch.float64)


@functools.cache
def registry_model(architecture):
    return torch_model(architecture, 7, state_dict=random_state_dict(architecture)).double()


@functools.cache
def separated(architecture, size=64):
    return separate_nonlinearities(registry_model(architecture), images(size))


@functools.cache
def googlenet():
    """GoogLeNet in float64; its batch norms hold the statistics of random images."""
    torch.manual_seed(0)
    model = torchvision.models.googlenet(
        weights=None, num_classes=7, init_weights=True, aux_logits=False
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(images(64, batch=8).float())
    return model.eval().double()


def predicted(network, x):
    with torch.no_grad():
        return network(x).argmax(1)


def deep_lift(network, x, **options):
    """Return DeepLift's attributions, and their delta relative to the sum of magnitudes."""
    targets = predicted(network, x)
    found = attributions(network, x, targets, [DEEP_LIFT], **options)[DEEP_LIFT]
    delta = completeness_delta(network, x, found, targets, options.get("baseline", 0.0))
    return found, (delta.abs() / found.abs().sum((1, 2, 3))).max().item()


def without_in_place(model):
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


# --- DeepLift is complete ------------------------------------------------------------------------

# Largest delta over the sum of magnitudes in float64, two images, baseline 0 and random:
#                    complete    captum
#   alexnet           7.8e-16    3.2e-2
#   googlenet         4.2e-17    1.1e-1  (baseline 0)
#   resnet18          7.6e-17    2.4e-2
#   small_resnet      5.1e-17    5.1e-17  (no max pool)
#   squeezenet1_0     1.6e-16    7.3e-2
#   vgg11             1.2e-15    1.2e-15  (no overlapping windows)
ROUNDING = 1e-13


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        pytest.param("alexnet", 67, marks=pytest.mark.slow),
        pytest.param("resnet18", 64, marks=pytest.mark.slow),
        ("small_resnet", 33),
        ("squeezenet1_0", 64),
        pytest.param("vgg11", 32, marks=pytest.mark.slow),
    ],
)
def test_complete_attributions_sum_to_the_rise_of_the_logit(architecture, size):
    network = separated(architecture, size)
    overlapping = architecture not in ("small_resnet", "vgg11")
    for baseline in (0.0, images(size, batch=1, seed=2)):
        _, delta = deep_lift(network, images(size), baseline=baseline, deep_lift_pooling="complete")
        assert delta < ROUNDING
    _, delta = deep_lift(network, images(size), deep_lift_pooling="captum")
    assert (delta > 1e-2) == overlapping


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, stride=1),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.MaxPool2d(2, stride=1, dilation=3),
        nn.MaxPool2d((3, 2), stride=(1, 2), padding=(1, 0)),
    ],
)
def test_complete_attributions_are_complete_for_any_pool(pool):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), pool, nn.ReLU(), pool, nn.Tanh(), nn.Flatten(), nn.LazyLinear(5)
    ).double()
    network(images(17))
    _, delta = deep_lift(
        separate_nonlinearities(network, images(17)),
        images(17),
        baseline=images(17, seed=2),
        deep_lift_pooling="complete",
    )
    assert delta < ROUNDING  # measured 2.6e-16


def test_pools_of_one_dimension_are_complete_too():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 4, 3), nn.MaxPool1d(3, 1), nn.Flatten(), nn.LazyLinear(5)
    ).double()
    network(images(8))
    _, delta = deep_lift(
        separate_nonlinearities(network, images(8)), images(8), deep_lift_pooling="complete"
    )
    assert delta < ROUNDING  # measured 3.7e-17


def test_a_complete_attribution_does_not_depend_on_the_other_images():
    # The kernel sums to zero, so the second image, a constant above its baseline, leaves the
    # pool's input as the baseline's: where Captum passes on the first image's gradient.
    torch.manual_seed(0)
    edges = nn.Conv2d(3, 4, 3, bias=False).double()
    with torch.no_grad():
        edges.weight.copy_(torch.randint(-4, 5, edges.weight.shape))
        edges.weight[:, :, 1, 1] -= edges.weight.sum((2, 3))
    network = nn.Sequential(edges, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 5).double())
    baseline = (16 * images(16)).round() / 16
    x = torch.stack([images(16)[0], baseline[1] + 0.25])
    network = separate_nonlinearities(network, x)
    both, delta = deep_lift(network, x, baseline=baseline, deep_lift_pooling="complete")
    alone, _ = deep_lift(network, x[1:], baseline=baseline[1:], deep_lift_pooling="complete")
    assert delta < ROUNDING
    assert alone.any()
    torch.testing.assert_close(both[1:], alone, rtol=1e-13, atol=1e-15)


# --- Captum's own results ------------------------------------------------------------------------


@hushed
@pytest.mark.parametrize("method", CAPTUM)
def test_a_method_is_captums_bit_for_bit(method):
    network = Normalized(separated("squeezenet1_0"), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    x, targets = images(64), predicted(network, images(64))
    found = attributions(network, x, targets, [(method, None)])[method, None]
    expected = CAPTUM[method](network)(x, target=targets)
    assert found.abs().max() > 1e-3
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=0)


@hushed
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=() if method == "guided_backprop" else pytest.mark.slow)
        for method in CAPTUM
        if method != "deep_lift"
    ],
)
def test_separation_does_not_change_what_needs_none(method):
    model = registry_model("resnet18")
    x, targets = images(64), predicted(model, images(64))
    found = attributions(separated("resnet18"), x, targets, [(method, None)])[method, None]
    expected = CAPTUM[method](model)(x, target=targets)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=0)


@hushed
@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("resnet18", "layer2.0"),
        ("squeezenet1_0", "features.3.expand3x3_activation"),
        *(
            pytest.param("resnet18", name, marks=pytest.mark.slow)
            for name in ("conv1", "bn1", "maxpool", "layer1", "layer4")
        ),
        *(
            pytest.param("squeezenet1_0", name, marks=pytest.mark.slow)
            for name in ("features.3", "features")
        ),
    ],
)
def test_grad_cam_at_a_layer_is_captums_on_the_model(architecture, name):
    model = without_in_place(registry_model(architecture))
    x, targets = images(64), predicted(model, images(64))
    wanted = ("layer_grad_cam", name)
    found = attributions(separated(architecture), x, targets, [wanted])[wanted]
    method = captum.attr.LayerGradCam(model, model.get_submodule(name))
    cam = method.attribute(x, target=targets, relu_attributions=False)
    cam = captum.attr.LayerAttribution.interpolate(cam, (64, 64), "bilinear")
    assert cam.abs().max() > 1e-4
    torch.testing.assert_close(found, cam.detach().expand(-1, 3, -1, -1), rtol=0, atol=0)


def test_grad_cams_layer_is_the_first_convolution_by_default():
    network, x = separated("resnet18"), images(64)
    wanted = [("layer_grad_cam", None), ("layer_grad_cam", "conv1"), ("layer_grad_cam", "layer1")]
    default, conv1, layer1 = attributions(network, x, predicted(network, x), wanted).values()
    torch.testing.assert_close(default, conv1, rtol=0, atol=0)
    assert (default - layer1).abs().max() > 0.1 * default.abs().max()
    assert (default < 0).any()  # not rectified


def test_pixels_attributed_through_normalized_follow_the_chain_rule():
    std = torch.tensor((0.2, 0.3, 0.25), dtype=torch.float64).view(3, 1, 1)
    mean = torch.tensor((0.5, 0.4, 0.3), dtype=torch.float64).view(3, 1, 1)
    network, x = separated("squeezenet1_0"), images(64)
    wrapped = Normalized(network, mean.flatten().tolist(), std.flatten().tolist())
    targets, wanted = predicted(wrapped, x), [("saliency", None), DEEP_LIFT]
    pixels = attributions(wrapped, x, targets, wanted, baseline=0.5)
    z = (x - mean) / std
    normalized = attributions(network, z, targets, wanted, baseline=(0.5 - mean) / std)
    torch.testing.assert_close(pixels["saliency", None] * std, normalized["saliency", None])
    torch.testing.assert_close(pixels[DEEP_LIFT], normalized[DEEP_LIFT])


# --- Why models are separated --------------------------------------------------------------------


@hushed
def test_captum_refuses_a_resnet_that_is_not_separated():
    model, x = without_in_place(registry_model("resnet18")), images(64)
    with pytest.raises(RuntimeError, match="being used more than once"):
        captum.attr.DeepLift(model).attribute(x, target=predicted(model, x))


@pytest.mark.slow
@hushed
@pytest.mark.parametrize("in_place", [True, False])
def test_captum_is_wrong_without_a_word_where_a_pool_follows_a_relu(in_place):
    # VGG's windows do not overlap, so nothing but the order of the hooks is at fault.
    model = registry_model("vgg11") if in_place else without_in_place(registry_model("vgg11"))
    x, targets = images(32), predicted(model, images(32))
    found = captum.attr.DeepLift(model).attribute(x, target=targets).detach()
    delta = completeness_delta(model, x, found, targets)
    assert (delta.abs() / found.abs().sum((1, 2, 3))).max() > 1e-4  # measured 4.3e-3
    expected, delta = deep_lift(separated("vgg11", 32), x)
    assert delta < ROUNDING
    assert (found - expected).abs().max() > 0.1 * expected.abs().max()  # measured 0.44


@pytest.mark.slow
@hushed
def test_captum_is_wrong_without_a_word_where_relus_are_functions_and_inputs_shared():
    model, x = googlenet(), images(64)
    network, targets = separate_nonlinearities(model, x), predicted(model, x)
    for method in ("guided_backprop", "deconvolution", "deep_lift"):
        found = CAPTUM[method](model)(x, target=targets).detach()
        ours = attributions(network, x, targets, [(method, None)])[method, None]
        assert (found - ours).abs().max() > 0.5 * ours.abs().max()  # measured 0.97 to 1.02
    _, delta = deep_lift(network, x, deep_lift_pooling="complete")
    assert delta < ROUNDING


@hushed
def test_a_shared_input_keeps_its_other_gradients():
    class Inception(nn.Module):
        """Two branches of one tensor, a pool and a plain one, then an activation before a sum."""

        def __init__(self):
            super().__init__()
            self.stem, self.pool = nn.Conv2d(3, 6, 3), nn.MaxPool2d(3, 1, 1)
            self.branch, self.relu = nn.Conv2d(6, 6, 1), nn.ReLU()
            self.head = nn.Linear(12, 5)

        def forward(self, x):
            x = self.stem(x)
            x = torch.cat([self.pool(x), self.branch(x)], 1)
            return self.head((self.relu(x) + x).mean((2, 3)))

    torch.manual_seed(0)
    model, x = Inception().double(), images(16)
    targets = predicted(model, x)
    found = captum.attr.DeepLift(model).attribute(x, target=targets).detach()
    delta = completeness_delta(model, x, found, targets)
    assert (delta.abs() / found.abs().sum((1, 2, 3))).max() > 1e-2
    _, delta = deep_lift(separate_nonlinearities(model, x), x, deep_lift_pooling="complete")
    assert delta < ROUNDING  # measured 1.4e-16


# --- Nothing is left behind ----------------------------------------------------------------------


class Unreached(nn.Module):
    """One nonlinearity whose result is not used, and one of constants alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2)
        self.table, self.head = nn.Parameter(torch.ones(1, 4)), nn.Linear(4, 5)

    def forward(self, x):
        x = self.pool(self.relu(self.conv(x)))
        self.relu(x)
        return self.head(x.mean((2, 3)) + self.relu(self.table))


def state(network):
    """Return the attributes and the hooks of every module."""
    return {
        name: (set(vars(module)), [list(v or ()) for k, v in vars(module).items() if "_hooks" in k])
        for name, module in network.named_modules()
    }


@pytest.mark.parametrize("pooling", ["captum", "complete"])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_network_and_the_images_are_left_as_found(pooling, frozen):
    torch.manual_seed(0)
    model, x = Unreached().double(), images(16)
    model.head.bias.requires_grad_(False)
    if frozen:
        model.requires_grad_(False)
    network = Normalized(separate_nonlinearities(model, x), (0.5,) * 3, (0.2,) * 3)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    before, logits, pixels = state(network), network(x), x.clone()
    found = attributions(network, x, predicted(network, x), EVERY, deep_lift_pooling=pooling)
    assert all(value.any() and not value.requires_grad for value in found.values())
    assert state(network) == before
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not x.requires_grad
    torch.testing.assert_close(x, pixels, rtol=0, atol=0)
    torch.testing.assert_close(network(x), logits, rtol=0, atol=0)


def test_an_error_leaves_no_hooks_behind():
    network, x = separated("small_resnet", 33), images(33)
    before = state(network)
    for method in ("deep_lift", "guided_backprop", "layer_grad_cam"):
        with pytest.raises(RuntimeError, match="out of bounds"):
            attributions(network, x, torch.tensor([0, 99]), [(method, None)])
        assert state(network) == before


def test_the_order_of_methods_does_not_matter():
    network, x = separated("small_resnet", 33), images(33)
    targets = predicted(network, x)
    forwards = attributions(network, x, targets, EVERY)
    backwards = attributions(network, x, targets, EVERY[::-1])
    assert list(forwards) == EVERY
    torch.testing.assert_close(
        list(forwards.values()), list(backwards.values())[::-1], rtol=0, atol=0
    )


# --- Mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("saliency", "conv1"), "saliency takes no layer; got 'conv1'"),
        (("layer_grad_cam", "layer9"), "no layer 'layer9' runs in SmallResNet; did you mean"),
        (("layer_grad_cam", "fc"), "layer 'fc' has no feature maps"),
    ],
)
def test_a_mistake_is_named(wanted, message):
    network, x = separated("small_resnet", 33), images(33)
    with pytest.raises(UserError, match=message):
        attributions(network, x, predicted(network, x), [wanted])


def test_a_network_that_is_not_separated_is_refused():
    model, x = registry_model("small_resnet"), images(33)
    for network in (model, Normalized(model, (0.5,) * 3, (0.2,) * 3)):
        with pytest.raises(UserError, match="SmallResNet has not been separated"):
            attributions(network, x, predicted(network, x), [("saliency", None)])


def test_a_network_in_train_mode_is_refused():
    network = separate_nonlinearities(registry_model("small_resnet"), images(33)).train()
    with pytest.raises(UserError, match=r"call network\.eval\(\)"):
        attributions(network, images(33), torch.tensor([0, 1]), [("saliency", None)])


# --- From attributions to heatmaps ---------------------------------------------------------------


def test_heatmaps_reach_one_and_a_zero_attribution_gives_a_zero_heatmap():
    attribution = images(8, batch=4) - 0.5
    attribution[1] = 0
    attribution[2] *= 1e-40
    attribution[3] *= 1e30
    heatmap, scale = divide_by_max_abs(attribution.float())
    assert heatmap.isfinite().all()
    assert heatmap.abs().amax((1, 2, 3)).tolist() == [1, 0, 1, 1]
    assert scale.tolist() == attribution.float().abs().amax((1, 2, 3)).tolist()
    assert scale[1] == 0
    torch.testing.assert_close(heatmap[0] * scale[0], attribution[0].float())


def test_every_hooked_type_is_captums():
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    assert set(NONLINEARITIES) == set(SUPPORTED_NON_LINEAR)
    assert type(layer(separated("small_resnet", 33), "layer1")) is nn.ReLU
