"""A named network, file or module all the way to a checkpoint of a graph, and its proof."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import converters
from converters import conversion, graph_conversion
from converters.random_weights import random_state_dict
from converters.torch_models import torch_model
from gaxjax.common import UserError, file_sha256
from gaxjax.models import checkpoint


class Net(nn.Module):
    """A network that nobody else has: grouped convolution, SiLU, a gate, several outputs."""

    def __init__(self, num_classes=3, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.SiLU()
        self.group = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = self.group(x)
        x = x * self.gate(x)
        return self.head(x.mean((2, 3)))


class Several(Net):
    def forward(self, x):
        z = super().forward(x)
        return {"main": z, "twice": 2 * z}


@pytest.fixture
def net():
    torch.manual_seed(0)
    network = Net()
    network.norm.running_mean.normal_()
    network.norm.running_var.uniform_(0.5, 2)
    return network


def convert(source, folder, **settings):
    return converters.convert(source, folder / "out.ckpt", **({"input_size": 16} | settings))


def refusal(*arguments, **settings):
    with pytest.raises(UserError) as caught:
        convert(*arguments, **settings)
    return str(caught.value)


def agrees(folder, theirs, channels=3, size=16):
    x = torch.rand(2, channels, size, size)
    with torch.no_grad():
        wanted = theirs.eval()(x).numpy()
    model, _ = checkpoint.load(folder / "out.ckpt")
    images = np.broadcast_to(x.numpy().transpose(0, 2, 3, 1), (2, size, size, 3))
    given = np.asarray(model(jnp.asarray(images)))
    return np.abs(given - wanted).max() < 1e-5 * np.abs(wanted).max()  # float32 rounding


def test_a_module_becomes_a_checkpoint_and_stays_as_it_is(tmp_path, net):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    names = ["cat", "dog", "cow"]
    decoding = {"resize": "squash", "interpolation": "bicubic"}
    metadata, parity = converters.convert_module(
        net,
        str(tmp_path / "out.ckpt"),
        size=16,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        class_names=names,
        decoding=decoding,
    )
    assert metadata.imported
    assert (metadata.architecture, metadata.num_classes) == ("Net", 3)
    assert (metadata.input_size, metadata.class_names) == (16, tuple(names))
    assert (metadata.mean, metadata.std) == ((0.5,) * 3, (0.25,) * 3)
    assert metadata.decoding == decoding
    assert metadata.origin == {"kind": "module", "name": "Net"}
    assert not metadata.assumptions
    for form in ("unfolded", "folded"):
        assert parity[form]["logits"]["max_rel"] < 1e-5  # measured 1e-7
        assert parity[form]["input_gradient"]["max_rel"] < 1e-5  # measured 2e-7
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert checkpoint.load(tmp_path / "out.ckpt")[1] == metadata
    assert agrees(tmp_path, net)
    with pytest.raises(UserError, match="class_names names 2 classes, the head has 3"):
        converters.convert_module(net, tmp_path / "x", size=16, class_names=["cat", "dog"])
    with pytest.raises(UserError, match=r"the class Net; expected an instance of nn\.Module: call"):
        converters.convert_module(Net, tmp_path / "x")


def test_of_several_outputs_one_is_asked_for_by_name(tmp_path, net):
    several = Several()
    several.load_state_dict(net.state_dict())
    message = refusal(several, tmp_path)
    assert "--logits main" in message
    metadata, _ = convert(several, tmp_path, logits="twice")
    assert metadata.origin["logits"] == "twice"
    assert agrees(tmp_path, converters.LogitsModule(several, "twice"))


def test_grey_networks_and_one_logit(tmp_path):
    torch.manual_seed(0)
    grey = Net(num_classes=1, channels=1)
    assert "--binary" in refusal(grey, tmp_path)
    metadata, _ = convert(grey, tmp_path, binary=True)
    assert (metadata.num_classes, metadata.binary) == (2, True)
    assert metadata.origin["grey"] == metadata.origin["binary"] == "yes"
    assert agrees(tmp_path, converters.LogitsModule(grey, binary=True), channels=1)


class Normalised(Net):
    def __init__(self, unit=1.0):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5 * unit))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25 * unit))

    def forward(self, x):
        return super().forward((x - self.mean) / self.std)


def test_a_module_that_normalises_by_itself_keeps_its_layer_and_gets_no_other(tmp_path):
    said = []
    metadata, _ = convert(Normalised(), tmp_path, note=said.append)
    assert metadata.mean is None
    assert "normalization" not in metadata.assumptions
    assert any("normalises by itself" in note for note in said)
    convert(Normalised(255.0), tmp_path, note=said.append)
    assert "--std 0.00392157 0.00392157 0.00392157" in said[-1]


def test_what_nobody_says_of_normalisation_is_assumed_and_said(tmp_path, net):
    metadata, _ = convert(net, tmp_path)
    assert "no normalisation is assumed" in metadata.assumptions["normalization"]
    metadata, _ = convert(net, tmp_path, normalization="imagenet")
    assert metadata.mean == (0.485, 0.456, 0.406)
    assert "normalization" not in metadata.assumptions


def test_a_file_for_ones_own_code_and_what_was_run(tmp_path, net):
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(4, 3))\n"
    )
    trained = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    torch.save(trained.state_dict(), tmp_path / "ckpt.pth")
    said = []
    metadata, _ = convert(
        f"{tmp_path}/mynet.py:build", tmp_path, weights=tmp_path / "ckpt.pth", note=said.append
    )
    assert metadata.architecture == "mynet.py:build"
    assert metadata.source == "ckpt.pth"
    assert metadata.source_sha256 == file_sha256(tmp_path / "ckpt.pth")
    assert "was run, which builds the network" in said[0]
    assert agrees(tmp_path, trained)
    again = converters.rebuild(metadata.origin, tmp_path / "ckpt.pth")
    assert agrees(tmp_path, again)


@pytest.mark.slow
def test_the_general_way_agrees_with_the_hand_written_one(tmp_path):
    arrays = random_state_dict("small_resnet", size=32)
    tensors = {key: torch.tensor(value) for key, value in arrays.items()}
    torch.save(tensors, tmp_path / "w.pth")
    source = str(tmp_path / "w.pth")
    metadata, _ = convert(source, tmp_path, input_size=32)
    assert not metadata.imported
    by_hand, _ = checkpoint.load(tmp_path / "out.ckpt")
    metadata, parity = convert(source, tmp_path, input_size=32, as_graph=True)
    assert metadata.imported
    assert parity["against"] == "gaxjax's small_resnet"
    graph, _ = checkpoint.load(tmp_path / "out.ckpt")
    x = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3), np.float32))
    ours, theirs = np.asarray(by_hand(x)), np.asarray(graph(x))
    np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())  # float32 rounding
    assert agrees(tmp_path, torch_model("small_resnet", 7, state_dict=arrays), size=32)


@pytest.mark.slow
def test_a_named_file_gets_its_networks_size_and_says_what_it_rests_on(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_conversion, "check_parity", lambda *_: None)
    monkeypatch.setattr(graph_conversion, "module_parity", lambda *_, **__: {})
    import timm

    torch.manual_seed(0)
    small = timm.create_model("mobilenetv3_small_050", num_classes=4)
    torch.save(small.state_dict(), tmp_path / "w.pth")
    metadata, _ = convert(
        str(tmp_path / "w.pth"),
        tmp_path,
        architecture="timm:mobilenetv3_small_050",
        input_size=None,
    )
    assert metadata.input_size == 224
    assert metadata.mean is None  # the makers' word is of their own weights
    assert set(metadata.assumptions) == {"network", "normalization"}
    assert not metadata.decoding
    many = timm.create_model("mobilenetv3_small_050", num_classes=1000)
    torch.save(many.state_dict(), tmp_path / "w.pth")
    metadata, _ = convert(
        str(tmp_path / "w.pth"), tmp_path, architecture="timm:mobilenetv3_small_050", input_size=32
    )
    assert metadata.mean == (0.485, 0.456, 0.406)
    assert "as its makers train it are assumed" in metadata.assumptions["normalization"]
    assert metadata.class_names[207] == "golden retriever"


def test_a_name_with_weights_is_the_file_under_that_name(tmp_path, monkeypatch):
    calls = []

    def stop(source, _, **settings):
        calls.append((source, settings["architecture"]))
        raise UserError("stop")

    monkeypatch.setattr(conversion, "convert_family", stop)
    refusal("resnet18:IMAGENET1K_V1", tmp_path, weights=tmp_path / "w.pth")
    assert calls == [(str(tmp_path / "w.pth"), "resnet18")]


@pytest.mark.slow
def test_a_folders_own_word_counts(tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    little = timm.create_model("test_resnet", num_classes=3)
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(little.state_dict(), folder / "model.safetensors")
    word = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.8}
    config = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": word}
    (folder / "config.json").write_text(json.dumps(config))
    metadata, _ = convert(str(folder), tmp_path, input_size=None)
    assert (metadata.input_size, metadata.mean) == (32, (0.5,) * 3)
    assert metadata.decoding == {
        "resize": "crop",
        "resize_size": 40,
        "interpolation": "bicubic",
    }
    assert not metadata.assumptions
    assert agrees(tmp_path, little, size=32)


def test_a_graph_that_disagrees_with_torch_is_not_written(tmp_path, net, monkeypatch):
    true = graph_conversion.import_module

    def wrong(module, **settings):
        imported = true(module, **settings)
        imported.weights["head.bias"] = imported.weights["head.bias"] + 1
        return imported

    monkeypatch.setattr(graph_conversion, "import_module", wrong)
    with pytest.raises(RuntimeError, match=r"the converted Net .* disagrees with the torch module"):
        convert(net, tmp_path)
    assert not (tmp_path / "out.ckpt").exists()


@pytest.mark.slow
def test_a_reference_proves_a_graph_too(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "w.pth")
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        logits = net.eval()(x).numpy()
    np.savez(tmp_path / "own.npz", inputs=x.numpy(), logits=logits)
    _, parity = convert(net, tmp_path, reference=tmp_path / "own.npz")
    assert parity["reference"]["logits"]["max_rel"] < 1e-5
    np.savez(tmp_path / "own.npz", inputs=x.numpy(), logits=logits + 1)
    assert "is not the network behind own.npz" in refusal(
        net, tmp_path, reference=tmp_path / "own.npz"
    )


def test_a_size_that_the_network_does_not_take_is_refused_in_one_line(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    convert(network, tmp_path)
    message = refusal(network, tmp_path, input_size=32)
    assert "\n" not in message
