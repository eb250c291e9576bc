"""From what a user names to a torch module: which way, which weights, what is known, what runs."""

import json
import os
import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import converters
from converters import rebuild, torch_module, torchvision_weights, way_of
from converters.blueprint import Preset, scaled_decoding
from converters.timm_modules import timm_blueprint
from converters.torch_module import open_source
from converters.torchvision_modules import torchvision_blueprint
from gaxjax.common import UserError

LITTLE = "mobilenetv3_small_050"  # timm's, 1.6 million weights


@pytest.fixture(scope="module")
def mobile():
    """torchvision's mobilenet_v3_small with 7 classes, in eval mode."""
    torch.manual_seed(0)
    return torchvision.models.mobilenet_v3_small(num_classes=7).eval()


@pytest.fixture(scope="module")
def little():
    """timm's, with 5 classes."""
    torch.manual_seed(0)
    return timm.create_model(LITTLE, num_classes=5).eval()


def save(path, content):
    torch.save(content, path)
    return path


def agree(module, wanted, size=64, channels=3):
    x = torch.rand(2, channels, size, size)
    with torch.no_grad():
        return torch.equal(module(x), wanted(x))


def refusal(call, *arguments, **settings):
    with pytest.raises(UserError) as caught:
        call(*arguments, **settings)
    return str(caught.value)


# --- which way ---------------------------------------------------------------------------------


def test_hand_written_networks_keep_their_way_and_others_become_graphs(tmp_path, mobile):
    file = save(tmp_path / "w.pth", mobile.state_dict())
    for source, architecture, way in (
        ("resnet50:IMAGENET1K_V2", None, "family"),
        ("vgg16_bn", None, "family"),
        ("efficientnet_b0", None, "graph"),
        ("timm:resnet18", None, "graph"),
        ("mynet.py:build", None, "graph"),
        (str(file), None, "family"),  # by its keys, which are told where they are of another
        (str(file), "resnet18", "family"),
        (str(file), "mobilenet_v3_small", "graph"),
        (str(file), "timm:resnet18", "graph"),
        (str(tmp_path), None, "graph"),
        (mobile, None, "graph"),
        (torchvision.models.squeezenet1_1(num_classes=2), None, "family"),
    ):
        assert way_of(source, architecture) == way, (source, architecture)
        assert way_of(source, architecture, as_graph=True) == "graph"


# --- published weights -------------------------------------------------------------------------


def test_torchvisions_presets_say_size_decoding_normalisation_and_names():
    preset = torchvision_blueprint("efficientnet_b3").preset
    assert (preset.size, preset.num_classes) == (300, 1000)
    assert preset.decoding == {
        "resize": "crop",
        "resize_size": 320,
        "interpolation": "bicubic",
    }
    assert preset.mean == (0.485, 0.456, 0.406)
    assert preset.class_names[207] == "golden retriever"
    assert torchvision_blueprint("efficientnet_v2_l").preset.mean == (0.5, 0.5, 0.5)


def test_every_classifier_of_torchvision_has_a_preset():
    from converters.torchvision_weights import classifiers

    assert len(classifiers()) >= 80
    assert all(torchvision_blueprint(name).preset.size >= 224 for name in classifiers())


def test_timms_presets_say_size_decoding_normalisation_and_names():
    blueprint = timm_blueprint("convnext_tiny.fb_in1k")
    preset = blueprint.preset
    assert (preset.size, preset.num_classes) == (224, 1000)
    # floor(224 / 0.875)
    assert preset.decoding == {
        "resize": "crop",
        "resize_size": 256,
        "interpolation": "bicubic",
    }
    assert preset.mean == (0.485, 0.456, 0.406)
    assert preset.class_names[207] == "golden retriever"
    assert timm_blueprint("convnext_tiny").name == "convnext_tiny.in12k_ft_in1k"
    assert timm_blueprint("vit_tiny_patch16_224").preset.fixed_size
    many = timm_blueprint("convnext_tiny.fb_in22k").preset
    assert many.num_classes == len(many.class_names) == 21841


def test_a_decoding_is_scaled_with_the_size():
    decoding = {"resize": "crop", "resize_size": 256, "interpolation": "bicubic"}
    preset = Preset(size=224, num_classes=2, decoding=decoding)
    assert scaled_decoding(preset, 224) == decoding
    assert scaled_decoding(preset, 112)["resize_size"] == 128


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file of torchvision's own in torch's cache, with random weights of 1000 classes."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_small().eval()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision_weights.find_weights("mobilenet_v3_small").url
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    path = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    # Its weights are random: the start of their hash is not what the file's name promises.
    monkeypatch.setattr(torch_module, "check_promised_hash", lambda path, sha256: None)
    return save(path, network.state_dict()), network


def test_a_torchvision_name_and_its_file_by_its_name_are_the_same(published):
    path, network = published
    assert way_of(str(path)) == "graph"
    by_name, by_file = open_source("mobilenet_v3_small"), open_source(str(path))
    for opened in (by_name, by_file):
        assert agree(opened.module, network)
        assert opened.preset.mean == (0.485, 0.456, 0.406)
        assert opened.sha256 == converters.file_sha256(path)
        assert not opened.assumptions
        assert agree(rebuild(opened.origin, path), network)
    assert by_name.source == "MobileNet_V3_Small_Weights.IMAGENET1K_V1"
    assert agree(rebuild(by_name.origin), network)


def test_a_file_that_is_not_what_its_name_promises_is_refused(published, monkeypatch):
    monkeypatch.undo()
    path, _ = published
    assert "is not what its name says" in refusal(open_source, str(path))


def test_inception_keeps_the_branches_that_train_it_out_of_the_logits(tmp_path):
    torch.manual_seed(0)
    settings = {"init_weights": False, "num_classes": 3, "transform_input": True}
    for helpers in (True, False):
        network = torchvision.models.inception_v3(aux_logits=helpers, **settings).eval()
        path = save(tmp_path / "w.pth", network.state_dict())
        opened = open_source(str(path), architecture="inception_v3")
        assert agree(opened.module, network, size=80)
        assert "transform_input=True" in opened.assumptions["transform_input"]


def test_a_failed_download_of_timms_is_one_line_that_says_how_to_give_a_file(monkeypatch):
    def no_network(*arguments, **settings):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", no_network)
    message = refusal(open_source, f"timm:{LITTLE}")
    assert f"cannot fetch timm's weights of {LITTLE}" in message
    assert f"gaxjax convert model.safetensors --architecture timm:{LITTLE}" in message
    assert "\n" not in message


def test_misspelt_and_unknown_names_are_put_right():
    assert "did you mean 'efficientnet_b0'" in refusal(open_source, "eficientnet_b0")
    assert "did you mean 'timm:convnext_atto'" in refusal(open_source, "convnext_ato")
    assert "timm has it: timm:convnext_atto" in refusal(open_source, "convnext_atto")
    assert "did you mean 'convnext_tiny'" in refusal(open_source, "timm:convnext_tinny")
    assert "did you mean 'fb_in1k'" in refusal(open_source, "timm:convnext_tiny.fb_in1")
    assert "no torchvision model 'zzzzzz'" in refusal(open_source, "zzzzzz")


# --- files -------------------------------------------------------------------------------------


def wrappings(tensors):
    averaged = {
        key: value + 1 if value.is_floating_point() else value for key, value in tensors.items()
    }
    return {
        "bare": tensors,
        "compiled": {f"_orig_mod.{key}": value for key, value in tensors.items()},
        "parallel, in a training": {
            "state_dict": {f"module.{key}": value for key, value in tensors.items()},
            "epoch": 3,
        },
        "beside averaged ones": {"model": tensors, "model_ema": averaged},
        "beside a loss": tensors | {"criterion.weight": torch.ones(7)},
        "half": {
            key: v.half().float() if v.is_floating_point() else v for key, v in tensors.items()
        },
    }


@pytest.mark.parametrize("name", list(wrappings({})))
def test_weights_are_found_in_their_wrappings(tmp_path, mobile, name):
    content = wrappings(mobile.state_dict())[name]
    path = save(tmp_path / "w.pth", content)
    opened = open_source(str(path), architecture="mobilenet_v3_small")
    assert opened.name == "mobilenet_v3_small"
    assert opened.source == "w.pth"
    assert agree(opened.module, mobile) or name == "half"
    assert ("--ema takes those" in opened.assumptions.get("weights", "")) == ("averaged" in name)
    assert "as named" in opened.assumptions["network"]


def test_half_precision_becomes_float32_of_the_same_values(tmp_path, mobile):
    halves = {k: v.half() if v.is_floating_point() else v for k, v in mobile.state_dict().items()}
    path = save(tmp_path / "w.pth", halves)
    module = open_source(str(path), architecture="mobilenet_v3_small").module
    for key, value in module.state_dict().items():
        assert torch.equal(value, halves[key].to(value.dtype))


@pytest.mark.parametrize("place", ["classifier.3.1", "classifier.3.0", "classifier.3.fc"])
def test_a_head_as_people_build_it_is_read_as_its_linear_layer(tmp_path, mobile, place):
    tensors = {
        key.replace("classifier.3", place): value for key, value in mobile.state_dict().items()
    }
    path = save(tmp_path / "w.pth", tensors)
    assert agree(open_source(str(path), architecture="mobilenet_v3_small").module, mobile)


@pytest.mark.parametrize("place", ["classifier", "classifier.1.1", "classifier.0"])
def test_a_head_may_stand_in_place_of_a_whole_sequential(tmp_path, place):
    torch.manual_seed(0)
    network = torchvision.models.mnasnet0_5(num_classes=3).eval()  # classifier: Dropout, Linear
    tensors = {
        key.replace("classifier.1", place): value for key, value in network.state_dict().items()
    }
    path = save(tmp_path / "w.pth", tensors)
    assert agree(open_source(str(path), architecture="mnasnet0_5").module, network)


def test_timms_head_may_be_replaced_and_lack_its_bias(tmp_path, little):
    tensors = {
        key.replace("classifier.", "classifier.1."): value
        for key, value in little.state_dict().items()
        if key != "classifier.bias"
    }
    module = open_source(
        str(save(tmp_path / "w.pth", tensors)), architecture=f"timm:{LITTLE}"
    ).module
    assert module.classifier.bias is None
    assert module.classifier.out_features == 5


def test_a_deeper_head_is_refused_with_the_way_to_give_the_module(tmp_path, mobile):
    tensors = dict(mobile.state_dict())
    tensors["classifier.3.0.weight"] = tensors.pop("classifier.3.weight")
    tensors["classifier.3.2.weight"] = torch.ones(7, 7)
    path = save(tmp_path / "w.pth", tensors)
    message = refusal(open_source, str(path), architecture="mobilenet_v3_small")
    assert "classifier.3, the head, is no single linear layer" in message
    assert "mynet.py:build --weights FILE" in message


def test_grey_networks_have_one_channel_in_both_libraries(tmp_path):
    torch.manual_seed(0)
    ours = torchvision.models.mobilenet_v3_small(num_classes=2)
    ours.features[0][0] = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
    theirs = timm.create_model(LITTLE, num_classes=2, in_chans=1)
    for name, network in (("mobilenet_v3_small", ours), (f"timm:{LITTLE}", theirs)):
        path = save(tmp_path / "w.pth", network.state_dict())
        assert agree(open_source(str(path), architecture=name).module, network.eval(), channels=1)


def test_all_faults_are_told_in_one_message(tmp_path, mobile):
    tensors = dict(mobile.state_dict())
    del tensors["features.1.block.0.0.weight"]
    tensors["features.0.0.weight"] = torch.ones(16, 3, 5, 5)
    tensors["features.0.0.extra"] = torch.ones(2)
    tensors["features.0.1.bias"] = torch.full((16,), torch.nan)
    message = refusal(
        open_source, str(save(tmp_path / "w.pth", tensors)), architecture="mobilenet_v3_small"
    )
    assert "does not fit torchvision's mobilenet_v3_small (4 faults)" in message
    assert "nothing fills features.1.block.0.0.weight (16, 1, 3, 3)" in message
    assert "features.0.0.weight has shape (16, 3, 5, 5)" in message
    assert "features.0.0.extra (2,) has no place" in message
    assert "features.0.1.bias holds NaN" in message


def test_weights_of_another_network_say_so(tmp_path, mobile, little):
    path = save(tmp_path / "w.pth", little.state_dict())
    message = refusal(open_source, str(path), architecture="mobilenet_v3_small")
    assert "this is no state dict of torchvision's mobilenet_v3_small" in message


def test_a_normalise_layer_in_front_is_read_and_layers_beside_are_refused(tmp_path, mobile):
    tensors = {f"1.{key}": value for key, value in mobile.state_dict().items()}
    layer = {"0.mean": torch.tensor([0.5, 0.4, 0.3]), "0.std": torch.tensor([0.2, 0.2, 0.2])}
    path = save(tmp_path / "w.pth", tensors | layer)
    opened = open_source(str(path), architecture="mobilenet_v3_small")
    assert opened.weights.mean == (0.5, 0.4, 0.3)
    path = save(tmp_path / "w.pth", tensors | {"2.weight": torch.ones(3, 7)})
    message = refusal(open_source, str(path), architecture="mobilenet_v3_small")
    assert "2.weight (3, 7)" in message


def test_a_vit_for_another_size_is_built_for_the_size_of_its_positions(tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.vit_b_32(num_classes=2, image_size=64).eval()
    path = save(tmp_path / "w.pth", network.state_dict())
    assert agree(open_source(str(path), architecture="vit_b_32").module, network, size=64)


# --- shards and folders ------------------------------------------------------------------------


def sharded(folder, tensors, kind):
    names = list(tensors)
    half = len(names) // 2
    whole = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    stem, _, ending = whole.rpartition(".")
    index = {}
    for number, keys in enumerate((names[:half], names[half:]), 1):
        name = f"{stem}-{number:05}-of-00002.{ending}"
        part = {key: tensors[key].contiguous() for key in keys}
        (save_file if kind == "safetensors" else torch.save)(part, folder / name)
        index |= dict.fromkeys(keys, name)
    path = folder / f"{whole}.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_sharded_weights_read_as_one(tmp_path, little, kind):
    index = sharded(tmp_path, little.state_dict(), kind)
    for source in (index, tmp_path):
        opened = open_source(str(source), architecture=f"timm:{LITTLE}")
        assert agree(opened.module, little)
        assert opened.sha256 == converters.weights_sha256(index)
    before = converters.weights_sha256(index)
    (tmp_path / next(iter(set(json.loads(index.read_text())["weight_map"].values())))).write_bytes(
        b"other"
    )
    assert converters.weights_sha256(index) != before


def test_a_bad_index_is_refused_in_one_line(tmp_path, little):
    index = sharded(tmp_path, little.state_dict(), "safetensors")
    content = json.loads(index.read_text())
    first = sorted(set(content["weight_map"].values()))[0]
    for change, words in (
        ({"x": "../../etc/passwd"}, "names files elsewhere"),
        ({"x": "missing.safetensors"}, "are missing: missing.safetensors"),
        ({"x": first}, "lacks 1 of the"),
    ):
        changed = {"weight_map": content["weight_map"] | change}
        index.write_text(json.dumps(changed))
        message = refusal(converters.read_weights, index)
        assert words in message
        assert "\n" not in message
    for text in ("", "[]", '{"weight_map": 3}', '{"weight_map": {}}'):
        index.write_text(text)
        assert "is no index of sharded weights" in refusal(converters.read_weights, index)


class Attack:
    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_no_code_of_a_shard_a_program_or_a_config_ever_runs(tmp_path, little):
    made = tmp_path / "made"
    index = sharded(tmp_path, little.state_dict(), "bin")
    shard = tmp_path / json.loads(index.read_text())["weight_map"]["conv_stem.weight"]
    tensors = torch.load(shard, weights_only=True)
    torch.save(tensors | {"x": Attack(made)}, shard)
    assert "as an attack does" in refusal(open_source, str(index), architecture=f"timm:{LITTLE}")
    shard.write_bytes(pickle.dumps(Attack(made)))
    assert "a plain pickle" in refusal(converters.read_weights, index)
    index.write_bytes(pickle.dumps(Attack(made)))
    assert "is no index" in refusal(converters.read_weights, index)
    (tmp_path / "config.json").write_bytes(pickle.dumps(Attack(made)))
    assert "cannot read" in refusal(open_source, str(tmp_path))
    assert not made.exists()
    torch.load(save(tmp_path / "w.pth", Attack(made)), weights_only=False)  # which runs it
    assert made.exists()


def test_an_exported_program_is_refused_with_the_reason_and_the_way(tmp_path):
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    message = refusal(converters.read_weights, path)
    assert "a program of torch.export, which runs code on loading" in message
    assert "mynet.py:build" in message
    assert "\n" not in message


def test_a_folder_that_timm_saved_names_its_network_and_all_it_knows(tmp_path, little):
    save_file(little.state_dict(), tmp_path / "model.safetensors")
    config = {
        "architecture": LITTLE,
        "num_classes": 5,
        "label_names": ["a", "b", "c", "d", "e"],
        "pretrained_cfg": {
            "input_size": [3, 96, 96],
            "crop_pct": 1.0,
            "crop_mode": "center",
            "interpolation": "bilinear",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    opened = open_source(str(tmp_path))
    assert agree(opened.module, little)
    preset = opened.preset
    assert (preset.size, preset.mean, preset.std) == (96, (0.5,) * 3, (0.25,) * 3)
    assert preset.class_names == ("a", "b", "c", "d", "e")
    assert preset.decoding["resize_size"] == 96
    assert "network" not in opened.assumptions
    assert agree(rebuild(opened.origin, tmp_path), little)
    transformers = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(transformers))
    message = refusal(open_source, str(tmp_path))
    assert "transformers (ResNetForImageClassification)" in message
    assert "from_pretrained" in message
    (tmp_path / "config.json").unlink()
    assert "has no config.json" in refusal(open_source, str(tmp_path))


# --- a user's own file -------------------------------------------------------------------------

OWN = """
from torch import nn
import layers_of_mine

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), layers_of_mine.Last())

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(*build())

ready = build()

def broken():
    raise ValueError("no such thing")

def number():
    return 3

def leaves():
    raise SystemExit(3)
"""
LAYERS = """
from torch import nn

class Last(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "layers_of_mine", raising=False)
    (tmp_path / "mynet.py").write_text(OWN)
    (tmp_path / "layers_of_mine.py").write_text(LAYERS)
    return tmp_path / "mynet.py"


@pytest.mark.parametrize("name", ["build", "Net", "ready"])
def test_a_file_of_ones_own_is_run_and_that_is_said(own, name):
    torch.manual_seed(0)
    opened = open_source(f"{own}:{name}")
    assert f"{own} was run, which builds the network" in opened.notes
    assert opened.name == f"mynet.py:{name}"
    trained = nn.Sequential(*opened.module)
    for parameter in trained.parameters():
        parameter.data += 1
    path = save(own.parent / "ckpt.pth", {"model": trained.state_dict()})
    opened = open_source(f"{own}:{name}", weights=path)
    assert opened.source == "ckpt.pth"
    assert agree(opened.module, trained, size=8)
    assert agree(rebuild(opened.origin, path), trained, size=8)
    assert "ckpt.pth" in refusal(rebuild, opened.origin)
    own.write_text(OWN + "\n")
    assert "has changed since" in refusal(rebuild, opened.origin, path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "fails at mynet.py:15: ValueError: no such thing"),
        ("leaves", "SystemExit"),
        ("number", "gives 3 (int); expected a torch module"),
        ("bild", "has no 'bild'; did you mean 'build'?"),
    ],
)
def test_errors_of_a_file_of_ones_own_are_one_line_with_its_place(own, name, words):
    message = refusal(open_source, f"{own}:{name}")
    assert words in message
    assert "\n" not in message


def test_a_file_that_cannot_be_run_or_is_not_there_says_so(own):
    own.write_text("x = 1\nimport nowhere_at_all\n")
    assert "mynet.py:2: ModuleNotFoundError" in refusal(open_source, f"{own}:build")
    own.write_text("def build(:\n")
    assert "mynet.py:1: SyntaxError" in refusal(open_source, f"{own}:build")
    assert "does not exist" in refusal(open_source, f"{own.parent}/none.py:build")
    assert "names no function" in refusal(open_source, str(own))


def test_weights_that_do_not_fit_ones_own_network_are_told_by_key(own):
    path = save(own.parent / "ckpt.pth", {"0.weight": torch.ones(4, 3, 3, 3)})
    message = refusal(open_source, f"{own}:build", weights=path)
    assert "nothing fills 0.bias (4,)" in message


# --- building again ----------------------------------------------------------------------------


def test_a_checkpoints_origin_builds_its_network_again(tmp_path, mobile, little):
    for name, network in (("mobilenet_v3_small", mobile), (f"timm:{LITTLE}", little)):
        path = save(tmp_path / "w.pth", network.state_dict())
        origin = open_source(str(path), architecture=name).origin
        assert agree(rebuild(origin, path), network)
        assert "give that file, --weights FILE" in refusal(rebuild, origin)
        other = save(tmp_path / "other.pth", network.state_dict() | {"x": torch.ones(1)})
        assert "is not the file that the checkpoint was made from" in refusal(
            rebuild, origin, other
        )
    origin = open_source(mobile).origin
    assert origin == {"kind": "module", "name": "MobileNetV3"}
    assert "a module in Python (MobileNetV3), which no file keeps" in refusal(rebuild, origin)


def test_grey_and_binary_and_named_outputs_are_built_again_too(tmp_path):
    class Two(nn.Module):
        def forward(self, x):
            return {"z": x.mean((1, 2, 3))[:, None], "other": x}

    module = converters.LogitsModule(Two(), "z", grey=True, binary=True)
    x = torch.rand(2, 3, 4, 4)
    wanted = torch.stack([torch.zeros(2), x.mean((1, 2, 3))], 1)
    np.testing.assert_allclose(module(x), wanted, rtol=1e-6)


def test_a_module_is_copied_and_its_wrapping_goes(mobile):
    mobile.train()
    try:
        opened = open_source(nn.DataParallel(mobile))
        assert not opened.module.training
        assert opened.name == "MobileNetV3"
        assert mobile.training
    finally:
        mobile.eval()
