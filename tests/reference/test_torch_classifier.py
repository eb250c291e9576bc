"""Weights back to torch, bit by bit; a model opened in torch as in JAX; logits in each space."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from unproven import spare_parity_report

import converters
from converters import torchvision_weights
from converters.random_weights import random_state_dict
from converters.rules import IGNORED, rules
from converters.torch_models import SmallResNet
from gaxjax import models
from gaxjax.common import UserError, file_sha256
from gaxjax.config.inputs import ModelConfig
from gaxjax.config.methods import GaxConfig
from gaxjax.gax.objective import Objective
from gaxjax.models import checkpoint
from gaxjax.reference.torch_classifier import (
    TorchClassifier,
    augment,
    ax_logits,
    flax_fingerprint,
    gax_logits,
    open_torch_classifier,
    to_space,
    to_torch,
    weighted_logits,
)
from gaxjax.runs.opening import open_classifier
from gaxjax.score import weighted_logits as jax_weighted_logits

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def refusal(function, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


def save(path, state_dict):
    torch.save({name: torch.tensor(array) for name, array in state_dict.items()}, path)
    return path


def torch_shapes(architecture) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        if architecture == "small_resnet":
            return SmallResNet(3).state_dict()
        return torchvision.models.get_model(architecture, num_classes=3).state_dict()


# --- Flax to torch -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "head_bias"),
    [
        ("alexnet", True),
        pytest.param("resnet18", True, marks=pytest.mark.slow),
        ("resnet18", False),
        pytest.param("resnext50_32x4d", True, marks=pytest.mark.slow),
        ("small_resnet", True),
        pytest.param("small_resnet", False, marks=pytest.mark.slow),
        ("squeezenet1_0", True),
        pytest.param("squeezenet1_0", False, marks=pytest.mark.slow),
        pytest.param("vgg11_bn", False, marks=pytest.mark.slow),
    ],
)
def test_to_flax_and_back_to_torch_changes_no_bit(architecture, head_bias):
    rng = np.random.default_rng(0)
    given = {
        # In [0, 1), and quickly drawn: VGG's largest layer has a hundred million weights.
        key: np.zeros((), np.int64)
        if "num_batches_tracked" in key
        else rng.random(tuple(value.shape), np.float32)
        for key, value in torch_shapes(architecture).items()
    }
    if not head_bias:
        del given[f"{models.head_name(architecture)}.bias"]
    model = converters.convert_state_dict(given, architecture)
    back = converters.torch_state_dict(model, architecture)
    assert back.keys() == given.keys()
    for key, array in given.items():
        assert (back[key].dtype, back[key].shape) == (array.dtype, array.shape)
        assert np.array_equal(back[key], array), key


@pytest.mark.parametrize("architecture", models.architectures())
def test_every_torch_key_becomes_one_leaf_that_becomes_that_key(architecture):
    table = rules(architecture)
    for key, value in torch_shapes(architecture).items():
        if any(re.fullmatch(pattern, key) for pattern in IGNORED):
            continue
        fitting = [rule for rule in table if rule.transform.ndim == value.ndim]
        (leaf,) = {rule.target_of(key) for rule in fitting} - {None}
        assert {rule.key_of(leaf) for rule in table} - {None} == {key}


def test_a_model_with_folded_batch_norm_is_not_taken_for_a_torch_model(weights):
    model = models.fold_batch_norm(converters.convert_state_dict(weights, "small_resnet"))
    with pytest.raises(AssertionError, match="not the leaves of small_resnet"):
        converters.torch_state_dict(model, "small_resnet")
    with pytest.raises(AssertionError, match="has no place in a torch squeezenet1_0"):
        converters.torch_state_dict(model, "squeezenet1_0")


# --- opening -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    return random_state_dict("small_resnet", num_classes=10, size=32)


@pytest.fixture(scope="module")
def source(weights, tmp_path_factory):
    return save(tmp_path_factory.mktemp("weights") / "digits.pth", weights)


@pytest.fixture(scope="module")
def converted(source):
    path = source.with_name("digits.ckpt")
    with pytest.MonkeyPatch.context() as monkeypatch:
        spare_parity_report(monkeypatch)
        converters.convert(str(source), path, normalization="imagenet", input_size=16)
    return path


def test_a_checkpoint_opens_as_the_file_it_was_converted_from(converted, source, weights):
    config = ModelConfig(model=str(converted))
    back, straight = open_torch_classifier(config), open_torch_classifier(config, source)
    assert back.provenance == f"weights of {converted}, converted back"
    sha256 = file_sha256(source)
    assert straight.provenance == f"{source}, sha256 {sha256[:12]}…"
    for classifier in (back, straight):
        assert (classifier.name, classifier.num_classes) == ("small_resnet", 10)
        assert (classifier.mean, classifier.std) == (MEAN, STD)
        assert not classifier.network.training
        assert not any(parameter.requires_grad for parameter in classifier.network.parameters())
        assert flax_fingerprint(classifier) == open_classifier(config).fingerprint
        for key, value in classifier.network.state_dict().items():
            if "num_batches_tracked" not in key:
                np.testing.assert_array_equal(value, weights[key])


@pytest.mark.parametrize(
    ("num_classes", "normalization", "expected"),
    [(10, "auto", None), (10, "imagenet", MEAN), (1000, "auto", MEAN), (1000, "none", None)],
)
def test_a_file_opens_with_the_normalisation_that_jax_gives_it(
    tmp_path, monkeypatch, num_classes, normalization, expected
):
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path))
    spare_parity_report(monkeypatch)
    state_dict = random_state_dict("small_resnet", num_classes=num_classes, size=32)
    del state_dict["fc.bias"]
    path = save(tmp_path / "w.pth", state_dict)
    config = ModelConfig(model=str(path), normalization=normalization)
    classifier = open_torch_classifier(config)
    assert classifier.mean == expected
    assert classifier.network.fc.bias is None
    assert flax_fingerprint(classifier) == open_classifier(config).fingerprint
    assert flax_fingerprint(open_torch_classifier(config, path)) == flax_fingerprint(classifier)


def test_a_torchvision_name_opens_its_published_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision_weights.find_weights("squeezenet1_1").url
    file = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    save(file, random_state_dict("squeezenet1_1", num_classes=1000))
    config = ModelConfig(model="squeezenet1_1")
    classifier = open_torch_classifier(config)
    assert (classifier.name, classifier.num_classes) == ("squeezenet1_1", 1000)
    assert (classifier.mean, classifier.std) == (MEAN, STD)
    # The file's name promises another hash than that of random weights.
    assert "is not the file that SqueezeNet1_1_Weights" in refusal(
        open_torch_classifier, config, file
    )
    assert "did you mean 'squeezenet1_1'" in refusal(
        open_torch_classifier, ModelConfig(model="squeezenet1_2")
    )


def test_weights_of_another_file_are_refused(converted, source, weights, tmp_path):
    other = save(tmp_path / "other.pth", weights | {"fc.bias": weights["fc.bias"] + 1})
    sha256 = file_sha256(source)
    for model in (converted, source):
        message = refusal(open_torch_classifier, ModelConfig(model=str(model)), other)
        assert f"is not the file that {model} was made from (sha256 {sha256[:12]}…)" in message
        assert file_sha256(other)[:12] in message
    config = ModelConfig(model=str(converted))
    assert "does not exist" in refusal(open_torch_classifier, config, tmp_path / "none.pth")


def test_weights_for_a_checkpoint_that_came_from_no_file_are_refused(converted, source, tmp_path):
    model, metadata = checkpoint.load(converted)
    trained = tmp_path / "trained.ckpt"
    checkpoint.save(trained, model, dataclasses.replace(metadata, source="", source_sha256=""))
    config = ModelConfig(model=str(trained))
    message = refusal(open_torch_classifier, config, source)
    assert "does not record which file its weights came from" in message
    assert open_torch_classifier(config).num_classes == 10


def test_a_checkpoint_takes_no_architecture_and_no_normalisation(converted):
    config = ModelConfig(model=str(converted), normalization="none")
    assert "knows its architecture" in refusal(open_torch_classifier, config)


def test_a_file_that_does_not_fit_names_what_does_not(weights, tmp_path):
    broken = {key: value for key, value in weights.items() if key != "layer1.0.conv1.weight"}
    path = save(tmp_path / "broken.pth", broken)
    config = ModelConfig(model=str(path), architecture="small_resnet")
    with pytest.raises(UserError, match=r"nothing fills layer1\.0\.conv1\.kernel"):
        open_torch_classifier(config)


# --- logits and scores ---------------------------------------------------------------------------


class Mean(torch.nn.Module):
    """Logits are each channel's mean, so they tell what the network was shown."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x):
        return x.mean((2, 3)) * self.scale


SEEN = {
    # command, score space: what the network sees of the plain image, and of x + h
    ("ax", "normalized"): (lambda x, h: (x - MEAN) / STD, lambda x, h: (x + h - MEAN) / STD),
    ("ax", "raw"): (lambda x, h: x, lambda x, h: x + h),
    ("ax", "released"): (lambda x, h: (x - MEAN) / STD, lambda x, h: (x - MEAN) / STD + h),
    ("gax", "normalized"): (lambda x, h: (x - MEAN) / STD, lambda x, h: (x + h - MEAN) / STD),
    ("gax", "raw"): (lambda x, h: x, lambda x, h: x + h),
    ("gax", "released"): (lambda x, h: (x - MEAN) / STD, lambda x, h: x + h),
}


@pytest.mark.parametrize(("command", "space"), SEEN)
@pytest.mark.parametrize("declared", [True, False])
def test_the_network_sees_what_the_score_space_says(command, space, declared):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    heatmaps = rng.uniform(-1, 1, images.shape).astype(np.float16)
    scale = (MEAN, STD) if declared else (None, None)
    classifier = TorchClassifier(Mean().double(), 3, *scale, "mean", "")
    h = to_torch(heatmaps, torch.float64)
    if command == "ax":
        z = to_space(classifier, images, space)
        plain = ax_logits(classifier, z, space)
        augmented = ax_logits(classifier, augment(z, h, "sum"), space)
    else:
        x = to_torch(images, torch.float64)
        plain = gax_logits(classifier, x, space, augmented=False)
        augmented = gax_logits(classifier, augment(x, h, "sum"), space, augmented=True)
    wanted = SEEN[command, space] if declared else SEEN[command, "raw"]
    pixels = images.astype(np.float32) / np.float32(255)
    for given, see in zip((plain, augmented), wanted, strict=True):
        expected = see(pixels.astype(np.float64), heatmaps.astype(np.float64)).mean((1, 2))
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("operation", "space"),
    [
        ("sum", "normalized"),
        ("mult", "released"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (("sum", "raw"), ("sum", "released"), ("mult", "normalized"))
        ),
        ("mult", "raw"),
    ],
)
def test_gax_scores_equal_those_of_the_jax_objective(converted, space, operation):
    config = ModelConfig(model=str(converted))
    ours, theirs = open_classifier(config), open_torch_classifier(config)
    objective = Objective(ours, GaxConfig(score_space=space, operation=operation), "float32")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    heatmaps = rng.uniform(-1, 1, images.shape).astype(np.float32)
    labels = np.array([0, 4, 9])
    x, h = to_torch(images), to_torch(heatmaps)
    before = gax_logits(theirs, x, space, augmented=False)
    after = gax_logits(theirs, augment(x, h, operation), space, augmented=True)
    at = torch.from_numpy(labels)
    scores = weighted_logits(after, at) - weighted_logits(before, at)
    pixels = jnp.asarray(images, jnp.float32) / 255
    baseline = objective.baseline(ours.weights, pixels, jnp.asarray(labels))
    verified = objective.verify(
        *(ours.weights, pixels, jnp.asarray(heatmaps), jnp.asarray(labels)),
        baseline.weighted,
    )
    assert baseline.prediction.tolist() == before.argmax(1).tolist()
    assert verified.scored.prediction.tolist() == after.argmax(1).tolist()
    # Measured 2.2e-6, at scores of up to 5.2.
    assert verified.scored.co_score.tolist() == pytest.approx(scores.tolist(), abs=1e-5)


def test_weighted_logits_are_those_of_the_score():
    logits = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    labels = np.array([0, 5, 2, 2])
    given = weighted_logits(torch.from_numpy(logits), torch.from_numpy(labels))
    expected = [
        jax_weighted_logits(jnp.asarray(row), int(label))
        for row, label in zip(logits, labels, strict=True)
    ]
    np.testing.assert_allclose(given, expected, atol=1e-6)
