"""Reading torch files, the bijection and its faults, torchvision names, the whole conversion."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import save_file
from unproven import spare_parity_report

import converters
from converters import bijection, family_conversion, torchvision_weights
from converters.random_weights import random_state_dict
from converters.torch_models import torch_model
from gaxjax.common.errors import UserError
from gaxjax.common.files import file_sha256
from gaxjax.models import checkpoint


@pytest.fixture(scope="module")
def weights():
    """A small_resnet with 7 classes."""
    return random_state_dict("small_resnet", size=32)


@pytest.fixture(scope="module")
def squeezenet():
    return random_state_dict("squeezenet1_1", num_classes=1000)


def tensors(state_dict):
    return {key: torch.tensor(value) for key, value in state_dict.items()}


def save(path, content):
    torch.save(content, path)
    return path


def same(given, wanted):
    assert given.keys() == wanted.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(value, wanted[key])
    return True


def refusal(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "net", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "module.model."])
def test_wrapped_and_prefixed_state_dicts_read_as_the_bare_one(tmp_path, weights, wrapper, prefix):
    content = {prefix + key: value for key, value in tensors(weights).items()}
    if wrapper:
        content = {wrapper: content, "epoch": 3}
    assert same(converters.read_state_dict(save(tmp_path / "w.pth", content)), weights)


def test_the_older_torch_format_and_safetensors_read_the_same(tmp_path, weights):
    torch.save(tensors(weights), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(tensors(weights), tmp_path / "w.safetensors")
    assert same(converters.read_state_dict(tmp_path / "old.pt"), weights)
    assert same(converters.read_state_dict(tmp_path / "w.safetensors"), weights)


def test_half_precision_weights_arrive_as_the_float32_of_the_same_value(tmp_path, weights):
    for dtype in (torch.bfloat16, torch.float16):
        halves = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in tensors(weights).items()
        }
        read = converters.read_state_dict(save(tmp_path / "half.pth", halves))
        model = converters.convert_state_dict(read, "small_resnet")
        np.testing.assert_array_equal(model.bn1.var[...], halves["bn1.running_var"].float())


def released(backbone, features):
    """A fine-tuned network as the paper's released code saves it: its own head beside a backbone's.

    Its forward pass leaves out the backbone's last layer.
    """
    network = torch.nn.Module()
    network.iter = torch.nn.Parameter(torch.tensor([2500.0], dtype=torch.float64), False)
    network.backbone = backbone
    network.fc = torch.nn.Linear(features, 2, bias=False)
    return network.eval()


@pytest.mark.parametrize(
    ("architecture", "features", "head"),
    [
        pytest.param("resnet18", 512, "fc", marks=pytest.mark.slow),
        pytest.param("alexnet", 4096, "classifier.6", marks=pytest.mark.slow),
        pytest.param("resnet34", 512, "fc", marks=pytest.mark.slow),
    ],
)
def test_the_papers_fine_tuned_networks_convert(tmp_path, architecture, features, head):
    backbone = torch_model(
        architecture, 1000, state_dict=random_state_dict(architecture, num_classes=1000, size=64)
    )
    network = released(backbone, features)
    path = tmp_path / "tuned.pth"
    torch.save({"net": network.state_dict(), "optimizer": {"state": {}}}, path)
    metadata, parity = converters.convert(str(path), tmp_path / "tuned.ckpt", input_size=64)
    assert (metadata.architecture, metadata.num_classes) == (architecture, 2)
    assert (metadata.head_bias, metadata.mean) == (False, None)
    assert parity["folded"]["logits"]["max_rel"] < 1e-4

    pixels = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    owner, _, name = head.rpartition(".")
    with torch.no_grad():
        setattr(backbone.get_submodule(owner), name, torch.nn.Identity())
        expected = network.fc(backbone(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))).numpy()
    model, _ = checkpoint.load(tmp_path / "tuned.ckpt")
    found = np.asarray(model(jnp.asarray(pixels)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_backbone_with_other_things_beside_it_is_refused_by_their_names(tmp_path, weights):
    content = {f"backbone.{key}": value for key, value in tensors(weights).items()}
    content |= {"fc.weight": torch.zeros(2, 64), "extra.weight": torch.zeros(3)}
    message = refusal(converters.read_state_dict, save(tmp_path / "w.pth", content))
    assert "extra.weight (3,)" in message


def test_a_missing_file_says_so(tmp_path):
    assert "does not exist" in refusal(converters.read_state_dict, tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["w.pth", "old.pt", "w.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.6, 0.99])
def test_a_truncated_file_says_so_in_one_line(tmp_path, weights, name, share):
    path = tmp_path / name
    if name == "w.safetensors":
        save_file(tensors(weights), path)
    else:
        torch.save(tensors(weights), path, _use_new_zipfile_serialization=name == "w.pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    message = refusal(converters.read_state_dict, path)
    assert "truncated" in message
    assert "\n" not in message


def test_a_pickled_module_is_refused_with_the_way_to_save_weights(tmp_path):
    path = save(tmp_path / "whole.pth", torch.nn.Linear(2, 2))
    message = refusal(converters.read_state_dict, path)
    assert "model.state_dict()" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"lr": 0.1}}])
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path, content):
    message = refusal(converters.read_state_dict, save(tmp_path / "w.pth", content))
    assert "not a state dict" in message


def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"\x08")
    assert "no .pth" in refusal(converters.read_state_dict, tmp_path / "net.onnx")


# --- bijection ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_classes", "bias"), [(2, True), (2, False), (1, False)])
def test_the_head_tells_the_class_count_and_its_bias(weights, num_classes, bias):
    replaced = weights | {"fc.weight": np.ones((num_classes, 64), np.float32)}
    replaced |= {"fc.bias": np.ones(num_classes, np.float32)}
    if not bias:
        del replaced["fc.bias"]
    model = converters.convert_state_dict(replaced, "small_resnet")
    assert model.fc.kernel.shape == (64, num_classes)
    assert (model.fc.bias is not None) == bias


def test_squeezenets_head_is_a_convolution(squeezenet):
    replaced = squeezenet | {"classifier.1.weight": np.ones((2, 512, 1, 1), np.float32)}
    del replaced["classifier.1.bias"]
    model = converters.convert_state_dict(replaced, "squeezenet1_1")
    assert model.classifier[1].kernel.shape == (1, 1, 512, 2)
    assert model.classifier[1].bias is None


@pytest.mark.slow
def test_all_faults_are_named_together(weights):
    broken = dict(weights)
    del broken["layer1.0.conv1.weight"]
    broken["layer1.0.extra.weight"] = np.ones(3, np.float32)
    broken["conv1.weight"] = np.ones((16, 1, 3, 3), np.float32)
    broken["bn1.bias"] = np.ones(16)
    broken["bn1.weight"] = np.full(16, np.nan, np.float32)
    broken["layer2.0.bn1.bias"] = np.ones((32, 1), np.float32)
    message = refusal(converters.convert_state_dict, broken, "small_resnet")
    assert "(6 faults)" in message.splitlines()[0]
    assert "nothing fills layer1.0.conv1.kernel (3, 3, 16, 16)" in message
    assert "layer1.0.extra.weight (3,) has no place in small_resnet" in message
    assert "conv1.weight has shape (16, 1, 3, 3); conv1.kernel needs (3, 3, 3, 16)" in message
    assert "bn1.bias is float64" in message
    assert "bn1.weight holds NaN or infinity" in message
    assert "layer2.0.bn1.bias has shape (32, 1); layer2.0.bn1.bias needs (32,)" in message


@pytest.mark.slow
def test_a_state_dict_of_another_architecture_is_called_by_its_name(squeezenet, weights):
    message = refusal(converters.convert_state_dict, squeezenet, "squeezenet1_0")
    assert message.startswith("this is no squeezenet1_0 state dict; it looks like squeezenet1_1")
    message = refusal(converters.convert_state_dict, weights, "resnet34")
    assert message.startswith("this is no resnet34 state dict; it looks like small_resnet")
    assert len(message.splitlines()) == 22
    assert message.endswith(" more")
    message = refusal(converters.convert_state_dict, weights, "alexnet")
    assert message.startswith("this is no alexnet state dict; it looks like small_resnet")


def test_only_num_batches_tracked_may_go_unused(weights):
    bare = {key: value for key, value in weights.items() if "num_batches" not in key}
    assert len(bare) < len(weights)
    converters.convert_state_dict(bare, "small_resnet")
    message = refusal(
        converters.convert_state_dict, bare | {"bn1.momentum": bare["bn1.bias"]}, "small_resnet"
    )
    assert "bn1.momentum (16,) has no place" in message


ONE_OF_EACH_FAMILY = {"alexnet", "resnet50", "small_resnet", "squeezenet1_1", "vgg11_bn"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ONE_OF_EACH_FAMILY else pytest.mark.slow)
        for name in bijection.models.architectures()
    ],
)
def test_an_architecture_is_known_by_its_names_and_shapes_alone(name):
    with torch.device("meta"):
        from converters.torch_models import SmallResNet

        model = (
            SmallResNet(3)
            if name == "small_resnet"
            else torchvision_weights.torchvision.models.get_model(name, num_classes=3)
        )
    # Views of one zero: shapes without the memory.
    zeros = {
        key: np.broadcast_to(np.float32(0), tuple(value.shape))
        for key, value in model.state_dict().items()
    }
    assert converters.guess_architecture(zeros) == name


def test_a_state_dict_of_no_known_architecture_is_refused():
    stranger = {"encoder.weight": np.ones((3, 3), np.float32)}
    message = refusal(converters.guess_architecture, stranger)
    assert "the network is not known by its 1 keys (encoder.weight, …)" in message


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("densenet121", "DenseNet"),
        pytest.param("efficientnet_b0", "EfficientNet", marks=pytest.mark.slow),
        ("mobilenet_v2", "MobileNet"),
        pytest.param("mobilenet_v3_small", "MobileNet", marks=pytest.mark.slow),
        ("vit_b_16", "ViT"),
        pytest.param("swin_t", "Swin Transformer", marks=pytest.mark.slow),
        pytest.param("convnext_tiny", "ConvNeXt", marks=pytest.mark.slow),
        pytest.param("googlenet", "GoogLeNet", marks=pytest.mark.slow),
        pytest.param("inception_v3", "Inception", marks=pytest.mark.slow),
        pytest.param("mnasnet0_5", "MNASNet", marks=pytest.mark.slow),
        pytest.param("shufflenet_v2_x0_5", "ShuffleNet", marks=pytest.mark.slow),
        pytest.param("regnet_y_400mf", "RegNet", marks=pytest.mark.slow),
        pytest.param("maxvit_t", "MaxViT", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_another_network_is_called_by_its_family_and_must_be_named(name, family):
    settings = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNet draws on the way
        model = torchvision_weights.torchvision.models.get_model(name, num_classes=3, **settings)
    zeros = {
        key: np.broadcast_to(np.float32(0), tuple(value.shape))
        for key, value in model.state_dict().items()
    }
    message = refusal(converters.guess_architecture, zeros)
    assert f"its keys are those of a network of the kind {family}: name it, --arch" in message
    message = refusal(functools.partial(bijection.models.abstract, name, num_classes=3))
    assert f"unknown architecture {name!r}: gaxjax does not have it yet" in message


def test_a_faulty_state_dict_of_a_known_network_shows_its_faults_at_once(weights):
    broken = dict(weights)
    del broken["layer1.0.conv1.weight"]
    message = refusal(converters.guess_architecture, broken)
    assert message.startswith("this state dict does not fit small_resnet (1 fault)")
    assert "nothing fills layer1.0.conv1.kernel" in message


# --- torchvision names ---------------------------------------------------------------------------


def test_a_torchvision_name_means_its_first_weights_unless_told():
    assert torchvision_weights.find_weights("resnet50").name == "ResNet50_Weights.IMAGENET1K_V1"
    second = torchvision_weights.find_weights("resnet50:IMAGENET1K_V2")
    assert second.name == "ResNet50_Weights.IMAGENET1K_V2"
    assert second.mean == (0.485, 0.456, 0.406)
    assert second.class_names[207] == "golden retriever"


def test_misspelt_torchvision_names_are_put_right():
    message = refusal(torchvision_weights.find_weights, "resnet43")
    assert "did you mean 'resnet34'" in message
    message = refusal(torchvision_weights.find_weights, "resnet50:IMAGENET1K_V3")
    assert "did you mean 'IMAGENET1K_V2'" in message or "did you mean 'IMAGENET1K_V1'" in message
    assert "no torchvision model 'small_resnet'" in refusal(
        torchvision_weights.find_weights, "small_resnet"
    )


@pytest.fixture
def offline(tmp_path, monkeypatch, squeezenet):
    """torch's cache holds squeezenet1_1 and nothing else; downloads fail."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "gaxjax"))
    url = torchvision_weights.find_weights("squeezenet1_1").url
    file = tmp_path / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    save(file, tensors(squeezenet))

    def no_network(*args, **kwargs):
        raise OSError("<urlopen error no network>")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    # Its weights are random: the start of their hash is not what the file's name promises.
    monkeypatch.setattr(family_conversion, "check_promised_hash", lambda path, sha256: None)
    return file


def test_a_torchvision_name_is_converted_once_and_kept(offline, tmp_path, squeezenet, monkeypatch):
    spare_parity_report(monkeypatch)
    path = converters.pretrained("squeezenet1_1")
    assert path == tmp_path / "gaxjax" / "squeezenet1_1-IMAGENET1K_V1"
    model, metadata = checkpoint.load(path)
    assert metadata.source == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert metadata.source_sha256 == file_sha256(offline)
    assert metadata.mean == (0.485, 0.456, 0.406)
    assert metadata.class_names[0] == "tench"
    np.testing.assert_array_equal(
        model.features[0].kernel[...], squeezenet["features.0.weight"].transpose(2, 3, 1, 0)
    )
    offline.unlink()
    assert converters.pretrained("squeezenet1_1") == path


def test_a_file_with_the_name_of_torchvisions_and_other_bytes_is_refused(tmp_path, squeezenet):
    path = save(tmp_path / "squeezenet1_1-b8a52dc0.pth", tensors(squeezenet))
    message = refusal(converters.convert, str(path), tmp_path / "out")
    assert "is not what its name says" in message
    assert "that of torchvision's file with b8a52dc0" in message
    assert torchvision_weights.published_file(tmp_path / "resnet18-20210907.pth") is None


def test_a_failed_download_is_one_line_that_names_the_file_to_bring(offline):
    message = refusal(converters.pretrained, "resnet34")
    assert "cannot download ResNet34_Weights.IMAGENET1K_V1" in message
    assert "no network" in message
    assert str(offline.parent / "resnet34-b627a593.pth") in message
    assert "\n" not in message


# --- the whole way -------------------------------------------------------------------------------


def test_a_file_becomes_a_checkpoint_with_its_architecture_read_off_the_keys(tmp_path, weights):
    source = save(tmp_path / "pets.pth", {"state_dict": tensors(weights)})
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefg") + "\n")
    metadata, parity = converters.convert(
        str(source), tmp_path / "pets", input_size=32, class_names=names
    )
    model, loaded = checkpoint.load(tmp_path / "pets")
    assert loaded == metadata
    assert checkpoint.read_parity(tmp_path / "pets") == parity
    assert metadata.architecture == "small_resnet"
    assert (metadata.num_classes, metadata.head_bias, metadata.mean) == (7, True, None)
    assert metadata.class_names == tuple("abcdefg")
    assert metadata.source == "pets.pth"
    assert metadata.source_sha256 == file_sha256(source)
    assert metadata.versions.keys() >= {"gaxjax", "jax", "torch"}
    assert parity["size"] == 32
    assert parity["folded"]["logits"]["max_rel"] < 5e-6  # measured 2.7e-7
    direct = converters.convert_state_dict(weights, "small_resnet")
    assert checkpoint.fingerprint(model) == checkpoint.fingerprint(direct)


def test_normalization_can_be_set(tmp_path, weights):
    source = save(tmp_path / "pets.pth", tensors(weights))
    metadata, _ = converters.convert(
        str(source), tmp_path / "pets", normalization="imagenet", input_size=32
    )
    assert metadata.mean == (0.485, 0.456, 0.406)
    assert metadata.std == (0.229, 0.224, 0.225)


def test_class_names_that_do_not_fit_the_head_are_refused(tmp_path, weights):
    source = save(tmp_path / "pets.pth", tensors(weights))
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    with pytest.raises(UserError, match="names 2 classes, the head has 7"):
        converters.convert(str(source), tmp_path / "pets", class_names=names)
    with pytest.raises(UserError, match="cannot read the class names"):
        converters.convert(str(source), tmp_path / "pets", class_names=tmp_path / "none.txt")


def test_an_output_folder_with_other_things_in_it_is_refused_before_any_work(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is no gaxjax checkpoint"):
        converters.convert("no such weights", tmp_path)


def test_an_architecture_that_contradicts_the_torchvision_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="contradicts"):
        converters.convert("resnet34", tmp_path / "out", architecture="resnet18")


def test_a_misspelt_name_is_not_taken_for_a_file(tmp_path):
    with pytest.raises(UserError, match="did you mean 'resnet34'"):
        converters.convert("resnet43", tmp_path / "out")


def test_a_conversion_that_disagrees_with_torch_writes_nothing(tmp_path, weights, monkeypatch):
    def wrong(state_dict, architecture):
        model = converters.convert_state_dict(state_dict, architecture)
        model.fc.bias = nnx.Param(model.fc.bias[...] + 1.0)
        return model

    monkeypatch.setattr(family_conversion, "convert_state_dict", wrong)
    source = save(tmp_path / "pets.pth", tensors(weights))
    with pytest.raises(RuntimeError, match="disagrees with torch"):
        converters.convert(str(source), tmp_path / "out", input_size=32)
    assert not (tmp_path / "out").exists()
