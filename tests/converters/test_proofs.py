"""What a conversion rests on: the network by its own logits, mean and std, one logit or two."""

import copy

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import converters
from converters import family_conversion
from converters.random_weights import random_state_dict
from converters.torch_models import torch_model
from converters.variants import variants, what_shares_keys
from gaxjax.common import UserError
from gaxjax.models import architectures, checkpoint


@pytest.fixture(scope="module")
def arrays():
    return random_state_dict("small_resnet", size=32)


@pytest.fixture
def network(arrays):
    """A small_resnet with 7 classes, in torch."""
    return torch_model("small_resnet", 7, state_dict=arrays)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Leave the comparison with torchvision's network out: it has its own tests."""
    alike = {"logits": {"max_rel": 0.0}}
    report = {"unfolded": alike, "folded": alike}
    monkeypatch.setattr(family_conversion, "parity_report", lambda *_, **__: dict(report))


def saved(path, network):
    torch.save(network.state_dict(), path)
    return str(path)


def reference(path, network, change=lambda logits: logits, inputs=None):
    x = torch.randn(3, 3, 32, 32) if inputs is None else inputs
    with torch.no_grad():
        np.savez(path, inputs=x.numpy(), logits=change(network(x)).numpy())
    return path


def convert(source, folder, **settings):
    return converters.convert(source, folder / "out.ckpt", input_size=32, **settings)


def refusal(*arguments, **settings):
    with pytest.raises(UserError) as caught:
        convert(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- which network -----------------------------------------------------------------------------


def test_a_file_alone_is_noted_as_known_by_its_keys_and_a_reference_ends_that(tmp_path, network):
    source = saved(tmp_path / "w.pth", network)
    metadata, parity = convert(source, tmp_path)
    assert "gaxjax's small_resnet, by its keys and shapes alone" in metadata.assumptions["network"]
    assert "reference" not in parity
    path = reference(tmp_path / "own.npz", network)
    metadata, parity = convert(source, tmp_path, reference=path)
    assert "network" not in metadata.assumptions
    assert parity["reference"]["against"] == "own.npz"
    assert parity["reference"]["images"] == 3
    assert parity["reference"]["logits"]["max_rel"] < 1e-5  # measured 5e-7
    assert checkpoint.read_parity(tmp_path / "out.ckpt") == parity


def test_inputs_may_have_their_channels_last(tmp_path, network):
    path = reference(tmp_path / "own.npz", network)
    with np.load(path) as own:
        np.savez(path, inputs=own["inputs"].transpose(0, 2, 3, 1), logits=own["logits"])
    convert(saved(tmp_path / "w.pth", network), tmp_path, reference=path)


def leaky(network):
    for owner in list(network.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, nn.ReLU):
                setattr(owner, name, nn.LeakyReLU(0.1))
    return network


def other_eps(network):
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
    return network


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (leaky, "a small_resnet with LeakyReLU(negative_slope=0.1) in place of ReLU"),
        (other_eps, "a small_resnet with a batch norm eps of 0.001"),
        (lambda net: net.train(), "in training mode: call model.eval() first"),
        (lambda net: nn.Sequential(net, nn.Softmax(1)), "the softmax of this network's"),
        (lambda net: nn.Sequential(net, nn.LogSoftmax(1)), "the log-softmax of this network's"),
        (lambda net: nn.Sequential(net, nn.Sigmoid()), "the sigmoid of this network's"),
        (lambda net: lambda x: net(x.flip(1)), "their channels in the order BGR"),
        (lambda net: lambda x: net((x - 0.5) / 0.5), "normalised by mean 0.5 and std 0.5"),
        (lambda net: lambda x: net(x) + 1, "no variant that gaxjax knows gives them"),
    ],
)
def test_logits_of_another_network_are_refused_with_what_explains_them(
    tmp_path, network, change, words
):
    source = saved(tmp_path / "w.pth", network)
    path = reference(tmp_path / "own.npz", change(copy.deepcopy(network)))
    message = refusal(source, tmp_path, reference=path)
    assert "is not the network behind own.npz: its logits differ by" in message
    assert words in message
    assert not (tmp_path / "out.ckpt").exists()


def caffe(net):
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return net


def dilated(**settings):
    return lambda net: torchvision.models.resnet50(num_classes=3, **settings)


def no_pool(net):
    net.maxpool = nn.Identity()
    return net


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (caffe, "its stride in the 1×1 convolution (Caffe's, v1)"),
        (no_pool, "no max pool (as for CIFAR)"),
        (
            dilated(replace_stride_with_dilation=[False, False, True]),
            "dilation in its last stage",
        ),
        (
            dilated(replace_stride_with_dilation=[True, True, True]),
            "dilation in its last three stages",
        ),
    ],
)
def test_the_variants_of_resnet50_are_those_that_people_train(change, words):
    torch.manual_seed(0)
    plain = torchvision.models.resnet50(num_classes=3)
    theirs = change(copy.deepcopy(plain))
    theirs.load_state_dict(plain.state_dict())
    ours = copy.deepcopy(plain)
    (variant,) = (variant for variant in variants("resnet50") if variant.words == words)
    variant.change(ours)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), theirs.eval()(x))
        assert not torch.equal(ours(x), plain.eval()(x))


@pytest.mark.parametrize("architecture", ["alexnet", "squeezenet1_1", "vgg11", "resnet18"])
def test_variants_keep_every_key_and_shape(architecture):
    with torch.device("meta"):
        plain = torchvision.models.get_model(architecture, num_classes=3)
    shapes = {key: value.shape for key, value in plain.state_dict().items()}
    for variant in variants(architecture):
        net = copy.deepcopy(plain)
        variant.change(net)
        assert {key: value.shape for key, value in net.state_dict().items()} == shapes


def test_every_architecture_names_what_shares_its_keys():
    assert "Caffe" in what_shares_keys("resnet50")
    assert "Caffe" not in what_shares_keys("resnet18")
    assert all("activation" in what_shares_keys(name) for name in architectures())


# --- a bad reference ---------------------------------------------------------------------------

ZEROS = np.zeros((2, 3, 32, 32), np.float32)
LOGITS = np.zeros((2, 7), np.float32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"x": ZEROS}, "has no inputs and no logits (it has: x)"),
        ({"inputs": ZEROS}, "has no logits (it has: inputs)"),
        ({"inputs": np.array([None]), "logits": LOGITS}, "no .npz of plain arrays"),
        ({"inputs": ZEROS[0], "logits": LOGITS}, "inputs have the shape [3, 32, 32]"),
        ({"inputs": ZEROS, "logits": LOGITS[:1]}, "logits have the shape [1, 7] for 2 inputs"),
        ({"inputs": ZEROS.astype(np.uint8), "logits": LOGITS}, "inputs are uint8"),
        ({"inputs": ZEROS + np.nan, "logits": LOGITS}, "inputs hold NaN or infinity"),
        ({"inputs": ZEROS, "logits": LOGITS[:, :5]}, "has 5 logits, the network's head 7"),
    ],
)
def test_a_bad_reference_is_one_line(tmp_path, network, content, words):
    np.savez(tmp_path / "own.npz", **content)
    source = saved(tmp_path / "w.pth", network)
    assert words in refusal(source, tmp_path, reference=tmp_path / "own.npz")


def test_a_reference_that_is_no_archive_is_refused_with_the_way_to_make_one(tmp_path, network):
    source = saved(tmp_path / "w.pth", network)
    np.save(tmp_path / "one.npy", ZEROS)
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("one.npy", "text.npz", "missing.npz"):
        message = refusal(source, tmp_path, reference=tmp_path / name)
        assert "numpy.savez(FILE, inputs=x.numpy(), logits=model(x).numpy())" in message


# --- a module as the source --------------------------------------------------------------------


def test_a_module_is_source_and_proof_and_stays_as_it_is(tmp_path, network):
    network.train().half()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    metadata, parity = convert(network, tmp_path, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert metadata.source == "torch module SmallResNet"
    assert not metadata.assumptions
    assert parity["reference"]["logits"]["max_rel"] < 1e-5  # measured 7e-7
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Normalised(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((3, 1, 1), 0.25))

    def forward(self, x):
        return self.network((x - self.mean) / self.std)


def test_a_module_that_normalises_first_declares_its_mean_and_std(tmp_path, network):
    metadata, parity = convert(Normalised(network), tmp_path)
    assert (metadata.mean, metadata.std) == ((0.5,) * 3, (0.25,) * 3)
    assert "normalization" not in metadata.assumptions
    assert parity["reference"]["logits"]["max_rel"] < 1e-5


class InADictionary(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return {"logits": self.network(x)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(InADictionary, "returns a dict", marks=pytest.mark.slow),
        (leaky, "torch module SmallResNet has the keys of small_resnet and computes something el"),
    ],
)
def test_a_module_with_the_keys_of_ours_that_is_another_network_becomes_a_graph(
    tmp_path, network, change, why
):
    theirs, said = change(network), []
    metadata, parity = convert(theirs, tmp_path, note=said.append)
    assert metadata.imported
    assert any(why in note and "imported as a graph" in note for note in said)
    assert parity["folded"]["logits"]["max_rel"] < 1e-5  # float32 rounding
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted = theirs(x)
    wanted = wanted["logits"] if isinstance(wanted, dict) else wanted
    model, _ = checkpoint.load(tmp_path / "out.ckpt")
    given = model(jnp.asarray(x.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(given, wanted, atol=1e-5 * float(wanted.abs().max()))


# --- normalisation -----------------------------------------------------------------------------


def test_a_guessed_normalisation_is_kept_as_assumed_and_a_given_one_is_not(tmp_path, network):
    source = saved(tmp_path / "w.pth", network)
    metadata, _ = convert(source, tmp_path)
    text = metadata.assumptions["normalization"]
    assert "no normalisation is assumed" in text
    assert "the head has 7 classes" in text
    assert "--mean R G B --std R G B" in text
    assert checkpoint.load(tmp_path / "out.ckpt")[1].assumptions == metadata.assumptions
    for given in ({"mean": (0.5,) * 3, "std": (0.25,) * 3}, {"normalization": "none"}):
        metadata, _ = convert(source, tmp_path, **given)
        assert "normalization" not in metadata.assumptions
    assert metadata.mean is None
    metadata, _ = convert(source, tmp_path, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert (metadata.mean, metadata.std) == ((0.5,) * 3, (0.25,) * 3)


def test_a_given_normalisation_that_the_files_own_layer_contradicts_counts_and_is_said(
    tmp_path, network
):
    source = saved(tmp_path / "w.pth", Normalised(network))
    metadata, _ = convert(source, tmp_path)
    assert metadata.mean == (0.5,) * 3
    metadata, _ = convert(source, tmp_path, normalization="none")
    assert metadata.mean is None
    assert "the file's own layer has mean (0.5" in metadata.assumptions["normalization"]


# --- one logit ---------------------------------------------------------------------------------


def test_one_logit_is_refused_with_the_way_out_and_becomes_zero_and_itself(tmp_path, arrays):
    one = arrays | {"fc.weight": arrays["fc.weight"][:1], "fc.bias": arrays["fc.bias"][:1]}
    network = torch_model("small_resnet", 1, state_dict=one)
    source = saved(tmp_path / "w.pth", network)
    assert "give --binary, which makes two logits of it, [0, z]" in refusal(source, tmp_path)
    path = reference(tmp_path / "own.npz", network)
    metadata, parity = convert(source, tmp_path, binary=True, reference=path)
    assert (metadata.num_classes, metadata.binary) == (2, True)
    assert parity["reference"]["logits"]["max_rel"] < 1e-5
    model, _ = checkpoint.load(tmp_path / "out.ckpt")
    x = torch.rand(2, 3, 32, 32)
    logits = np.asarray(model(jnp.asarray(x.numpy().transpose(0, 2, 3, 1))))
    assert not logits[:, 0].any()
    with torch.no_grad():
        np.testing.assert_allclose(logits[:, 1:], network(x), rtol=1e-5, atol=1e-5)


def test_binary_on_another_head_is_refused(tmp_path, network):
    message = refusal(saved(tmp_path / "w.pth", network), tmp_path, binary=True)
    assert "--binary is for a head with one logit; this one has 7 logits" in message
