"""Opening what a user named: flags of a file and of a checkpoint, what is kept, what is said."""

import dataclasses

import numpy as np
import pytest
import torch

import converters
from converters import conversion, family_conversion
from converters.random_weights import random_state_dict
from gaxjax.common import UserError
from gaxjax.config import ModelConfig, from_dict, to_dict
from gaxjax.models import checkpoint
from gaxjax.reference.torch_classifier import flax_fingerprint, open_torch_classifier
from gaxjax.runs.opening import open_classifier

MEAN, STD = (0.4, 0.5, 0.6), (0.25, 0.25, 0.5)


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Keep conversions in a folder of the test, and leave the comparison with torch out."""
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "cache"))
    alike = {"logits": {"max_rel": 0.0}}
    report = {"unfolded": alike, "folded": alike}
    monkeypatch.setattr(family_conversion, "parity_report", lambda *_, **__: report)


@pytest.fixture(scope="module")
def tensors():
    arrays = random_state_dict("small_resnet", num_classes=10, size=32)
    return {key: torch.tensor(value) for key, value in arrays.items()}


@pytest.fixture
def file(tmp_path, tensors):
    torch.save(tensors, tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def refusal(config):
    with pytest.raises(UserError) as caught:
        open_classifier(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_a_given_mean_and_std_hold_for_a_file_and_a_checkpoint_in_jax_and_in_torch(tmp_path, file):
    plain = tmp_path / "plain.ckpt"
    converters.convert(file, plain, input_size=32)
    told = tmp_path / "told.ckpt"
    converters.convert(file, told, mean=MEAN, std=STD, input_size=32)
    fingerprints = set()
    for model, given in ((file, True), (str(plain), True), (str(told), False), (str(told), True)):
        config = ModelConfig(model=model, mean=MEAN if given else None, std=STD if given else None)
        classifier, theirs = open_classifier(config), open_torch_classifier(config)
        assert (classifier.mean, classifier.std) == (MEAN, STD)
        assert (theirs.mean, theirs.std) == (MEAN, STD)
        assert flax_fingerprint(theirs) == classifier.fingerprint
        fingerprints.add(classifier.fingerprint)
        said = classifier.assumptions.get("normalization", "")
        assert ("as given; the checkpoint assumes none" in said) == (model == str(plain))
    assert len(fingerprints) == 1
    assert open_classifier(ModelConfig(model=file)).fingerprint not in fingerprints


def test_what_was_assumed_reaches_the_classifier_from_a_kept_conversion_too(file):
    first = open_classifier(ModelConfig(model=file))
    again = open_classifier(ModelConfig(model=file))
    assert set(first.assumptions) == {"normalization", "network"}
    assert again.assumptions == first.assumptions
    given = open_classifier(ModelConfig(model=file, normalization="none"))
    assert set(given.assumptions) == {"network"}
    assert given.fingerprint == first.fingerprint


def test_a_files_averaged_weights_and_its_one_logit_open_alike_in_jax_and_in_torch(
    tmp_path, tensors
):
    one = {key: value[:1] if key.startswith("fc.") else value for key, value in tensors.items()}
    ema = {key: value + 1 if value.is_floating_point() else value for key, value in one.items()}
    torch.save({"model": one, "model_ema": ema}, tmp_path / "w.pth")
    config = ModelConfig(model=str(tmp_path / "w.pth"), ema=True, binary=True)
    classifier = open_classifier(config)
    assert classifier.num_classes == 2
    plain = open_classifier(dataclasses.replace(config, ema=False))
    assert plain.fingerprint != classifier.fingerprint
    assert "--ema takes those" in plain.assumptions["weights"]
    theirs = open_torch_classifier(config)
    assert flax_fingerprint(theirs) == classifier.fingerprint
    np.testing.assert_array_equal(theirs.network.fc.weight[0], 0)
    # The checkpoint knows what the file had to be told.
    converters.convert(config.model, tmp_path / "c", ema=True, binary=True, input_size=32)
    kept = ModelConfig(model=str(tmp_path / "c"))
    straight = open_torch_classifier(kept, tmp_path / "w.pth")
    assert flax_fingerprint(straight) == open_classifier(kept).fingerprint
    assert "--binary" in refusal(ModelConfig(model=config.model))


def test_flags_of_a_file_are_refused_for_a_checkpoint_and_a_name(tmp_path, file):
    converters.convert(file, tmp_path / "c", input_size=32)
    for model in (str(tmp_path / "c"), "resnet18"):
        for flag in ("ema", "binary"):
            message = refusal(ModelConfig(model=model, **{flag: True}))
            assert f"leave out --{flag}" in message
        assert "leave out --architecture and --normalization" in refusal(
            ModelConfig(model=model, normalization="none")
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mean": MEAN}, "--mean is given without --std"),
        ({"std": STD}, "--std is given without --mean"),
        ({"mean": MEAN, "std": (0.2, 0.0, 0.2)}, "--std must be above 0"),
        ({"mean": MEAN, "std": (0.2, float("nan"), 0.2)}, "--std must be three finite numbers"),
        ({"mean": MEAN, "std": STD, "normalization": "imagenet"}, "say two things"),
        (
            {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
            "divided by 255: --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225",
        ),
    ],
)
def test_a_mean_and_std_that_cannot_be_are_refused(settings, words):
    with pytest.raises(UserError) as caught:
        ModelConfig(model="m", **settings)
    assert words in str(caught.value)


def test_a_runs_settings_from_before_these_flags_still_load():
    config = from_dict(ModelConfig, {"model": "m", "architecture": None, "normalization": "auto"})
    assert config == ModelConfig(model="m")
    config = ModelConfig(model="m", mean=MEAN, std=STD, ema=True)
    assert from_dict(ModelConfig, to_dict(config)) == config


def test_a_missing_path_is_not_taken_for_a_torchvision_name(tmp_path):
    assert "no such file or checkpoint folder" in refusal(ModelConfig(model=str(tmp_path / "none")))


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(24, "Too many open files"), OSError(12, "Cannot allocate")]
)
def test_a_checkpoint_is_not_damaged_nor_removed_because_memory_or_handles_ran_out(
    file, monkeypatch, error
):
    kept = open_classifier(ModelConfig(model=file))

    def fails(*arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "read_arrays", fails)
        message = refusal(ModelConfig(model=file))
    assert "damaged" not in message
    assert "it may be whole" in message
    monkeypatch.setattr(conversion, "convert", fails)  # it is still there
    assert open_classifier(ModelConfig(model=file)).fingerprint == kept.fingerprint
