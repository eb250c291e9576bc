"""A sweep as it is given: which settings it means, and what is refused in one line."""

import json

import pytest

from gaxjax.cli.main import parse
from gaxjax.common.errors import UserError
from gaxjax.config.base import from_dict, to_dict
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import GaxRunConfig, SnapshotConfig
from gaxjax.config.sweep import SWEPT, SweepConfig, as_text, from_text, with_setting


def test_a_sweep_is_all_combinations_in_their_order():
    sweep = SweepConfig(sweep=("learning-rate=0.01,0.1", "operation=sum,mult"))
    assert [as_text(one) for one in sweep.settings] == [
        "learning-rate=0.01 operation=sum",
        "learning-rate=0.01 operation=mult",
        "learning-rate=0.1 operation=sum",
        "learning-rate=0.1 operation=mult",
    ]
    assert SweepConfig().settings == ()


@pytest.mark.parametrize("value", [0.001, 1e-08, 3.0, 1 / 3, 12345678.9, -0.5])
def test_a_setting_survives_its_text(value):
    setting = {"target": value, "operation": "mult"}
    assert from_text(as_text(setting)) == setting


def test_every_swept_field_is_one_of_the_method():
    assert set(SWEPT) <= set(GaxConfig.__dataclass_fields__)


def test_a_setting_is_the_methods_own_config():
    gax = GaxConfig(bias=True, max_steps=7)
    made = with_setting(gax, {"learning_rate": 0.3, "operation": "mult"})
    assert made == GaxConfig(bias=True, max_steps=7, learning_rate=0.3, operation="mult")


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        (("learning-rate",), "--sweep must be name=value,value, such as .*; got learning-rate"),
        (("learning-rate=",), "learning-rate=: '' is no number"),
        (("learning-rate=0.1,",), "learning-rate=0.1,: '' is no number"),
        (("learning-rate=0.1,fast",), "'fast' is no number"),
        (("learning-rate=0.1,0.10",), "without repetition, as of 0.1; got learning-rate=0.1,0.10"),
        (("learning-rate=0.1", "learning-rate=0.2"), "must be given learning-rate once"),
        (("max-steps=10,20",), "'max-steps' is nothing that a lane can have for itself"),
        (("learning-rat=1,2",), "did you mean 'learning-rate'"),
        (("operation=sum,add",), "--sweep must be operation=sum,mult; got operation=sum,add"),
        ((f"target={','.join(map(str, range(1001)))}",), "at most 1,000 combinations; got 1001"),
    ],
)
def test_what_is_no_sweep_is_refused_in_one_line(sweep, said):
    with pytest.raises(UserError, match=said) as refused:
        SweepConfig(sweep=sweep)
    assert "\n" not in str(refused.value)


def run_config(*sweep, images=None, num_images=None, snapshots=0, **gax):
    return GaxRunConfig(
        model=ModelConfig(model="m"),
        data=DataConfig(data="d", num_images=num_images),
        gax=GaxConfig(**gax),
        sweep=SweepConfig(sweep=sweep, sweep_images=images),
        snapshots=SnapshotConfig(snapshots=snapshots),
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: run_config("learning-rate=0.1,-1"), "--learning-rate must be .*; got -1.0"),
        (lambda: run_config("learning-rate=inf"), "--learning-rate must be .*; got inf"),
        (lambda: run_config("target=nan"), "--target must be a finite number; got nan"),
        (lambda: run_config("beta1=0.9,1"), r"--beta1 must be in \[0, 1\); got 1.0"),
        (lambda: run_config("beta1=0,0.9", optimizer="sgd"), "--beta1 must be left out with"),
        (lambda: run_config("initial-bias=0,1"), "--sweep initial-bias goes with --bias"),
        (lambda: run_config("target=1,2", snapshots=1), "leave out either them or --sweep"),
        (lambda: run_config(images=3), "--sweep-images 3 goes with --sweep"),
        (lambda: run_config("target=1,2", images=0), "--sweep-images must be at least 1"),
        (lambda: run_config("target=1,2", images=3, num_images=4), "--num-images 4 and --sweep"),
    ],
)
def test_a_sweep_that_does_not_go_with_the_rest_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_images_of_a_sweep_are_drawn_as_those_of_a_run():
    config = run_config("target=1,2", images=3)
    assert config.data.num_images == 3
    assert from_dict(GaxRunConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_the_command_line_gives_a_sweep():
    words = "gax --model m --data d --output o --bias --sweep learning-rate=0.01,0.1 initial-bias=0"
    command = parse([*words.split(), "--sweep-images", "5"])
    assert len(command.run.sweep.settings) == 2
    assert command.run.data.num_images == 5
