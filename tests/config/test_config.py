"""Settings: validated when made, JSON round trip, presets."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gaxjax.common.errors import UserError
from gaxjax.config.base import from_dict, to_dict
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import GAX_PRESETS, GaxConfig
from gaxjax.config.runs import EngineConfig, GaxRunConfig, StoreConfig


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
        (lambda: DataConfig(data="d", resize_size=300), "together with --resize crop; got 300"),
        (
            lambda: DataConfig(data="d", size=224, resize="crop", resize_size=200),
            r"at least --size \(224\), or the crop would leave the image; got 200",
        ),
        (lambda: EngineConfig(slots=0), "--slots must be at least 1, or auto; got 0"),
        (lambda: StoreConfig(part_seconds=0.0), "--part-seconds must be above 0 seconds; got 0.0"),
    ],
)
def test_an_impossible_value_says_what_is_expected(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_a_word_that_is_no_choice_is_refused_when_a_config_is_made():
    """In a process of its own: under test, the types are checked before the values are."""
    code = """
from gaxjax.config import DataConfig, EngineConfig, GaxConfig, StoreConfig
from gaxjax.common.errors import UserError
for make, values in (
    (GaxConfig, {"operation": "add"}),
    (GaxConfig, {"score_space": "normalised"}),
    (DataConfig, {"data": "d", "resize": "stretch"}),
    (EngineConfig, {"precision": "float64"}),
    (StoreConfig, {"heatmaps": "float8"}),
):
    try:
        make(**values)
    except UserError as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert len(lines) == 5
    assert "--operation" in lines[0]
    assert "one of sum, mult" in lines[0]
    flags = ("operation", "score-space", "resize", "precision", "heatmaps")
    for line, flag in zip(lines, flags, strict=True):
        assert f"--{flag} " in line
        assert "one of " in line
