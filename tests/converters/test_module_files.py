"""Weights of torch modules in files, in their wrappings, shards and folders: what is read."""

import json
import os
import pickle

import pytest
import timm
import torch
import torchvision
from opened_modules import LITTLE, agree, refusal, save
from safetensors.torch import save_file
from torch import nn

import converters
from converters import rebuild
from converters.torch_module import open_source

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


@pytest.mark.slow
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
