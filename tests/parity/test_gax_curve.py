"""The engine's curves against a plain torch loop, one image at a time, on the same model.

Adam's first update is the sign of the gradient, so a pixel whose gradient is nearly zero may take
the other sign in the other framework; it hardly moves the score. Differences are relative to the
target.
"""

import numpy as np
import pytest
import torch
from torch_weights import random_state_dict

from converters import convert_state_dict, read_state_dict
from gaxjax.classifier import as_classifier
from gaxjax.config import DataConfig, EngineConfig, GaxConfig
from gaxjax.data import Batch, open_images
from gaxjax.engine import Engine
from gaxjax.models import fold_batch_norm
from gaxjax.reference.gax import gax as reference_gax
from gaxjax.reference.torch_models import torch_model
from gaxjax.solution import Outcome

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def both_curves(state_dict, architecture, num_classes, pixels, labels, config, **scale):
    """Yield (engine's solution, torch's result) per image; labels None takes the predictions."""
    network = torch_model(architecture, num_classes, state_dict=state_dict)
    model = fold_batch_norm(convert_state_dict(state_dict, architecture))
    classifier = as_classifier(model, num_classes=num_classes, **scale)
    images = pixels.astype(np.float32) / 255
    if labels is None:
        shown = images
        if scale and config.score_space != "raw":
            shown = (images - np.float32(MEAN)) / np.float32(STD)
        with torch.no_grad():
            labels = network(torch.from_numpy(shown.transpose(0, 3, 1, 2))).argmax(1).numpy()
    engine = Engine(
        classifier, config, EngineConfig(slots=4, drain=False), image_shape=pixels.shape[1:]
    )
    order = np.arange(len(pixels), dtype=np.int32)
    found = engine.run([Batch(order, pixels, labels.astype(np.int32), ())])
    for solution in found:
        i = solution.index
        yield solution, reference_gax(network, images[i], int(labels[i]), config, **scale)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("space", ["normalized", "raw", "released"])
@pytest.mark.parametrize("operation", ["sum", "mult"])
def test_curve_and_steps_equal_the_torch_loop(space, operation, bias):
    state_dict = random_state_dict("small_resnet", num_classes=7, size=32)
    pixels = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    pixels[:, :4] = 0  # black pixels, which only a bias can move
    config = GaxConfig(score_space=space, operation=operation, bias=bias, target=15.0, max_steps=20)
    scale = {"mean": MEAN, "std": STD}
    pairs = list(both_curves(state_dict, "small_resnet", 7, pixels, None, config, **scale))
    assert len(pairs) == 4
    for solution, reference in pairs:
        assert solution.outcome in (Outcome.REACHED, Outcome.STEP_LIMIT)
        assert len(solution.curve) == len(reference.curve)
        # measured: see the closing lines of benchmarks/README.md
        assert np.abs(solution.curve - reference.curve).max() < 2e-3 * config.target
        if solution.outcome is Outcome.REACHED:
            assert reference.reached
            assert solution.steps == reference.steps


@pytest.mark.data
@pytest.mark.parametrize("space", ["normalized", "raw", "released"])
def test_real_weights_on_real_images_follow_the_torch_loop(space, real_data):
    state_dict = read_state_dict(real_data / "weights" / "squeezenet1_0_imagenet.pth")
    images = open_images(
        DataConfig(data=str(real_data / "data" / "imagenet_sample"), num_images=3, seed=4)
    )
    pixels = np.stack([images.load(i) for i in range(3)])
    config = GaxConfig(score_space=space, bias=space == "raw", target=48.0, max_steps=20)
    scale = {"mean": MEAN, "std": STD}
    pairs = list(both_curves(state_dict, "squeezenet1_0", 1000, pixels, None, config, **scale))
    assert len(pairs) == 3
    for solution, reference in pairs:
        assert len(solution.curve) == len(reference.curve)
        assert np.abs(solution.curve - reference.curve).max() < 2e-3 * config.target
        assert (solution.outcome is Outcome.REACHED) == reference.reached
        if reference.reached:
            assert solution.steps == reference.steps
