"""Settings: validated when made, JSON round trip, presets."""

import dataclasses
import json
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from gaxjax.common.errors import UserError
from gaxjax.config.base import from_dict, to_dict
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import GAX_PRESETS, AxConfig, GaxConfig
from gaxjax.config.runs import (
    BatchConfig,
    EngineConfig,
    GaxRunConfig,
    StoreConfig,
)


def full_config() -> GaxRunConfig:
    return GaxRunConfig(
        model=ModelConfig(model="resnet34"),
        data=DataConfig(data="images", labels=Path("labels.csv"), num_images=7),
        gax=GaxConfig(score_space="raw", bias=True, target=15.0),
        engine=EngineConfig(slots=4),
        store=StoreConfig(heatmaps="none"),
        preset="paper",
    )


def test_a_config_survives_json():
    config = full_config()
    assert from_dict(GaxRunConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GaxConfig().target = 3.0


def test_defaults_are_the_papers():
    config = GaxConfig()
    assert (config.target, config.learning_rate, config.beta1, config.beta2) == (
        48.0,
        0.1,
        0.9,
        0.999,
    )
    assert (config.similarity_factor, config.similarity_eps, config.adam_eps) == (100, 1e-4, 1e-8)
    assert (config.initial_weight, config.initial_bias) == (1.0, 0.01)


def test_presets_differ_in_score_space():
    spaces = {name: preset.score_space for name, preset in GAX_PRESETS.items()}
    assert spaces == {"default": "normalized", "paper": "raw", "released": "released"}


def test_an_unknown_setting_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown setting 'targt' .*did you mean 'target'\?"):
        from_dict(GaxConfig, {"targt": 3})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GaxConfig(target=float("nan")), "--target must be a finite number; got nan"),
        (lambda: GaxConfig(max_steps=-1), "--max-steps must be from 0 to 1,000,000; got -1"),
        (
            lambda: GaxConfig(learning_rate=0.0),
            "--learning-rate must be a finite number above 0; got 0.0",
        ),
        (lambda: GaxConfig(initial_weight=float("nan")), "--initial-weight must be a finite"),
        (lambda: GaxConfig(beta1=1.0), r"--beta1 must be in \[0, 1\); got 1.0"),
        (lambda: GaxConfig(beta2=-0.1), r"--beta2 must be in \[0, 1\); got -0.1"),
        (lambda: GaxConfig(similarity_eps=0.0), "--similarity-eps must be above 0; got 0.0"),
        (lambda: DataConfig(data="d", size=0), "--size must be from 1 to 65,536 pixels; got 0"),
        (lambda: DataConfig(data="d", num_images=0), "--num-images must be at least 1; got 0"),
        (lambda: DataConfig(data="d", resize_size=0), r"--resize-size must be at least .*; got 0"),
        (
            lambda: DataConfig(data="d", size=224, resize="crop", resize_size=200),
            r"at least --size \(224\), or the crop would leave the image; got 200",
        ),
        (
            lambda: GaxConfig(optimizer="sgd", beta1=0.5),
            "--beta1 must be left out with --optimizer sgd, whose arguments .*; got 0.5",
        ),
        (
            lambda: GaxConfig(optimizer_arguments=("b1=0.5",)),
            "--optimizer-arguments b1=0.5: give it as --beta1 0.5",
        ),
        (
            lambda: GaxConfig(optimizer="lion", optimizer_arguments=("momentm=0.9",)),
            "lion has no argument 'momentm'.* \\(it has: b1, b2, weight_decay\\)",
        ),
        (
            lambda: GaxConfig(optimizer="sgd", optimizer_arguments=("momentum",)),
            "--optimizer-arguments must be name=value, such as momentum=0.9; got momentum",
        ),
        (
            lambda: GaxConfig(optimizer="sgd", optimizer_arguments=("momentum=1.5",)),
            r"--optimizer-arguments momentum must be a number in \[0, 1\); got 1.5",
        ),
        (
            lambda: GaxConfig(optimizer="sgd", optimizer_arguments=("momentum=nan",)),
            r"--optimizer-arguments momentum must be a number in \[0, 1\); got nan",
        ),
        (
            lambda: GaxConfig(optimizer="sgd", optimizer_arguments=("nesterov=maybe",)),
            "--optimizer-arguments nesterov must be true or false; got maybe",
        ),
        (
            lambda: GaxConfig(optimizer="sgd", optimizer_arguments=("nesterov=true",)),
            "nesterov=true: sgd needs momentum",
        ),
        (
            lambda: GaxConfig(
                optimizer="sgd", optimizer_arguments=("momentum=0.9", "momentum=0.8")
            ),
            "without repetition; got momentum=0.9 momentum=0.8",
        ),
        (lambda: EngineConfig(slots=0), "--slots must be at least 1, or auto; got 0"),
        (lambda: StoreConfig(part_seconds=0.0), "--part-seconds must be above 0 seconds; got 0.0"),
    ],
)
def test_an_impossible_value_says_what_is_expected(make, said):
    with pytest.raises(UserError, match=said):
        make()


@pytest.fixture
def as_outside_tests():
    """Types are not checked before a function runs, as they are under test."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_numbers_of_other_libraries_become_pythons(as_outside_tests):
    config = GaxConfig(
        target=np.float32(48), max_steps=np.int64(5), bias=np.bool_(True), learning_rate=1
    )
    assert config == GaxConfig(target=48.0, max_steps=5, bias=True, learning_rate=1.0)
    kinds = [type(value) for value in (config.target, config.max_steps, config.bias)]
    assert kinds == [float, int, bool]
    assert type(config.learning_rate) is float
    assert AxConfig(methods=["saliency"]).methods == ("saliency",)
    assert ModelConfig(model=Path("a.pth")).model == "a.pth"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GaxConfig(max_steps=3.5), "--max-steps must be a whole number; got 3.5"),
        (lambda: GaxConfig(max_steps=True), "--max-steps must be a whole number; got True"),
        (lambda: GaxConfig(max_steps="10"), r"--max-steps must be a whole number; got '10' \(str"),
        (lambda: GaxConfig(target=None), "--target must be a number; got None"),
        (lambda: GaxConfig(target=10**400), "a number; got a number of more than 40 digits"),
        (lambda: GaxConfig(bias="yes"), r"--bias must be True or False; got 'yes' \(str\)"),
        (lambda: GaxConfig(optimizer="adm"), "--optimizer must be one of adam, adamw, sgd"),
        (lambda: GaxConfig(operation="add"), "--operation must be one of sum, mult; got add"),
        (lambda: AxConfig(methods="saliency"), r"got 'saliency' \(str\): write \('saliency',\)"),
        (lambda: AxConfig(methods=("lime",)), r"each is one of saliency, .*got \('lime',\)"),
        (lambda: EngineConfig(slots="many"), "--slots must be a whole number or one of auto or"),
        (lambda: EngineConfig(precision="float64"), "--precision must be one of auto, float32"),
        (lambda: DataConfig(data=None), "--data must be a text; got None"),
        (lambda: DataConfig(data="d", resize="stretch"), "--resize must be one of squash, crop"),
        (
            lambda: DataConfig(data="d", interpolation="cubic"),
            "must be one of bilinear, bicubic, nearest, lanczos, box, hamming",
        ),
        (
            lambda: GaxRunConfig(model="m", data=DataConfig(data="d")),
            r"--model must be a ModelConfig; got 'm' \(str\)",
        ),
        (
            lambda: dataclasses.replace(full_config(), engine=BatchConfig()),
            "--engine must be an EngineConfig; got BatchConfig object",
        ),
        (
            lambda: dataclasses.replace(full_config(), gax=GaxConfig),
            "--gax must be a GaxConfig; got the class GaxConfig",
        ),
        (lambda: from_dict(GaxConfig, "x"), "settings of GaxConfig are no JSON object"),
        (lambda: from_dict(DataConfig, {}), "DataConfig lacks the setting 'data'"),
    ],
)
def test_a_value_of_the_wrong_type_is_one_clear_line(make, said, as_outside_tests):
    with pytest.raises(UserError, match=said):
        make()
