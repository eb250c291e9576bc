"""A run's folder stands alone, and what cannot fit is refused before anything is computed."""

from types import SimpleNamespace

import jax
import numpy as np
import psutil
import pytest

from gaxjax.common import UserError
from gaxjax.config import (
    AxConfig,
    AxRunConfig,
    BatchConfig,
    DataConfig,
    FinetuneConfig,
    GaxRunConfig,
    ModelConfig,
)
from gaxjax.data import open_images
from gaxjax.models import as_classifier
from gaxjax.runs import evaluate_classifier, run_ax, run_gax
from tests.helpers import tiny

DIGITS = DataConfig(data="digits", size=tiny.SIZE, num_images=2)
MODEL = ModelConfig(model="m")
SALIENCY = AxConfig(methods=("saliency",))


def quiet(text):
    """Note nothing."""


@pytest.fixture(scope="module")
def classifier():
    def pooled(weights, pixels):
        return pixels.mean((1, 2)) @ weights

    function = jax.tree_util.Partial(pooled, np.eye(3, 10, dtype=np.float32))
    return as_classifier(function, num_classes=10)


@pytest.fixture
def four_gigabytes(monkeypatch):
    """Have the host say that 4 GB are available: one float image of 20,000 × 20,000 takes 4.8."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 10**9))


@pytest.mark.parametrize("inside", ["", "weights", "a/b"])
def test_a_run_is_not_mixed_into_a_checkpoint(inside, tmp_path, classifier):
    (tmp_path / "m.ckpt").mkdir()
    (tmp_path / "m.ckpt" / "gaxjax.json").write_text("{}")
    with pytest.raises(UserError, match="lies in a checkpoint"):
        run_gax(
            GaxRunConfig(model=MODEL, data=DIGITS),
            tmp_path / "m.ckpt" / inside,
            classifier=classifier,
            note=quiet,
        )


def test_a_run_is_not_mixed_into_its_images(tmp_path, classifier, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = GaxRunConfig(model=MODEL, data=DataConfig(data="."))
    with pytest.raises(UserError, match=r"--output \. is the folder of the images"):
        run_gax(config, ".", classifier=classifier, note=quiet)


@pytest.mark.usefixtures("four_gigabytes")
@pytest.mark.parametrize("size", [20_000, 65_536])
def test_images_that_no_memory_holds_are_refused_by_every_command(size, tmp_path, classifier):
    data = DataConfig(data="digits", size=size, num_images=2)
    said = r"needs about [\d,.e+]+ .*free: .*(--size)"
    with pytest.raises(UserError, match=said):
        evaluate_classifier(classifier, open_images(data, num_classes=10))
    with pytest.raises(UserError, match=said):
        run_gax(
            GaxRunConfig(model=MODEL, data=data), tmp_path / "g", classifier=classifier, note=quiet
        )
    with pytest.raises(UserError, match=said):
        run_ax(
            AxRunConfig(model=MODEL, data=data, ax=SALIENCY),
            tmp_path / "a",
            classifier=classifier,
            note=quiet,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("four_gigabytes")
def test_more_images_side_by_side_than_fit_are_refused(tmp_path, classifier):
    batch = BatchConfig(batch_size=10**20)
    with pytest.raises(
        UserError, match=r"--batch-size 10{20} needs about .*--batch-size \d+ would"
    ):
        run_ax(
            AxRunConfig(model=MODEL, data=DIGITS, ax=SALIENCY, batch=batch),
            tmp_path / "a",
            classifier=classifier,
            note=quiet,
        )


@pytest.mark.parametrize(
    ("flag", "value"), [("size", 10**20), ("seed", 2**63), ("max_iterations", 2**31)]
)
def test_numbers_that_no_integer_of_the_device_holds_are_refused(flag, value):
    with pytest.raises(UserError, match=f"--{flag.replace('_', '-')} must be "):
        FinetuneConfig(**{"data": "d", flag: value})
