"""From what a user names to a torch module: which way, which weights, what is known, what runs."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from opened_modules import LITTLE, agree, refusal, save
from torch import nn

import converters
from converters import rebuild, torch_module, torchvision_weights, way_of
from converters.blueprint import Preset, scaled_decoding
from converters.timm_modules import timm_blueprint
from converters.torch_module import open_source
from converters.torchvision_modules import torchvision_blueprint
from gaxjax.common import file_sha256

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
        assert opened.sha256 == file_sha256(path)
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
