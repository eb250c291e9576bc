"""The native attribution methods equal Captum's, every architecture, from the same weights.

In float64 nothing hides: heatmaps agree to rounding. DeepLift is compared with a baseline image
that has texture. With a constant one, such as zero, the baseline's features are constant over
wide areas, and a max pool's winner there is an exact tie that the last bit of a convolution
decides: torch's own features differ in it from place to place, and so do its winners.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from converters.bijection import convert_state_dict, head_of
from converters.random_weights import random_state_dict
from converters.state_dict import read_state_dict
from converters.torch_models import torch_model
from gaxjax.ax.engine import AxEngine
from gaxjax.ax.methods import attributions
from gaxjax.ax.objective import AxObjective, wanted_of
from gaxjax.common.devices import same_bits_at_any_count
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import BatchConfig
from gaxjax.data.batching import Batch
from gaxjax.data.sources import open_images
from gaxjax.models.classifier import as_classifier
from gaxjax.models.registry import architectures
from gaxjax.reference import captum_methods as captum
from gaxjax.reference.captum_engine import CaptumEngine
from gaxjax.reference.captum_model import separate_nonlinearities
from gaxjax.reference.torch_classifier import open_torch_classifier

MEAN, STD = (np.array(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

FAST = {"small_resnet"}
"""SqueezeNet has a test with real weights below; the rest take up to minutes."""

UNOPTIMISED = {"xla_backend_optimization_level": 0}
"""The values are the same and compiling takes a quarter of the time."""

LAYERS = {"resnet": ("conv1", "bn1", "layer2"), "small_resnet": ("layer1", "layer3.0.conv1")}
"""More layers for Grad-CAM than the first convolution."""


def sizes(architecture):
    # 33 pixels leave odd sizes at every stride, where paddings go wrong; AlexNet needs 63.
    return 67 if architecture == "alexnet" else 33


def heatmaps_in_float64(architecture, state_dict, image, baseline, layers=()):
    """Return native and Captum's attributions by pooling rule, and the logit's rise."""
    num_classes, head_bias = head_of(state_dict, architecture)
    network = torch_model(architecture, num_classes, head_bias, state_dict=state_dict).double()
    z, z0 = (torch.from_numpy(x.transpose(2, 0, 1).copy())[None] for x in (image, baseline))
    network = separate_nonlinearities(network, z)
    with jax.enable_x64(True):
        classifier = as_classifier(
            convert_state_dict(state_dict, architecture), num_classes=num_classes
        )
        config = AxConfig(layers=layers)
        shape = jax.ShapeDtypeStruct(image.shape, jnp.float32)
        wanted = wanted_of(config, classifier, shape)
        objective = AxObjective(classifier, config, wanted)
        weights = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), classifier.weights)
        at_image, at_baseline = (
            objective.logits(weights, jnp.asarray(x), {})[0] for x in (image, baseline)
        )
        target = jnp.argmax(at_image)
        rise = float(at_image[target] - at_baseline[target])

        def native(weights, image, baseline, target):
            def forward(z, probes):
                return objective.logits(weights, z, probes)

            return {
                pooling: attributions(
                    forward, image, target, wanted, baseline=baseline, pooling=pooling
                )
                for pooling in ("captum", "complete")
            }

        arguments = (weights, jnp.asarray(image), jnp.asarray(baseline), target)
        program = jax.jit(native).lower(*arguments).compile(compiler_options=UNOPTIMISED)
        ours = jax.device_get(program(*arguments))

    theirs = {}
    for pooling in ours:
        found = captum.attributions(
            network,
            z,
            torch.tensor([int(target)]),
            wanted,
            baseline=z0,
            deep_lift_pooling=pooling,
        )
        theirs[pooling] = {key: h[0].numpy().transpose(1, 2, 0) for key, h in found.items()}
    return ours, theirs, rise


def largest_error(ours, theirs):
    return np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1)  # Deconvolution can be zero


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in architectures()
    ],
)
def test_heatmaps_equal_captums_in_float64(architecture):
    size = sizes(architecture)
    image, baseline = np.random.default_rng(0).uniform(size=(2, size, size, 3))
    state_dict = random_state_dict(architecture, size=size)
    layers = next((found for name, found in LAYERS.items() if architecture.startswith(name)), ())
    ours, theirs, rise = heatmaps_in_float64(architecture, state_dict, image, baseline, layers)
    for pooling, found in theirs.items():
        for key, expected in found.items():
            # Measured 1.1e-13 at most (resnet50's DeepLift), 4e-15 for the other methods.
            error = largest_error(ours[pooling][key], expected)
            assert error < 1e-11, (pooling, key, error)
    # Completeness, for the rule that promises it: measured 9.4e-14 at most, of -1.2 (resnext50).
    for found in (ours, theirs):
        delta = found["complete"]["deep_lift", None].sum() - rise
        assert abs(delta) < 1e-10 * max(1, abs(rise))


@pytest.mark.data
@pytest.mark.slow
def test_real_weights_give_captums_heatmaps_in_float64(real_data):
    state_dict, [image] = real_case(real_data, num_images=1, size=128)
    image = (image / 255 - MEAN) / STD
    zero = np.zeros_like(image)
    ours, theirs, rise = heatmaps_in_float64("squeezenet1_0", state_dict, image, zero)
    for key, expected in theirs["captum"].items():
        if key[0] != "deep_lift":  # measured 1.2e-15
            assert largest_error(ours["captum"][key], expected) < 1e-11, key
    # Zero, the usual baseline, leaves ties (see above), but no method is less complete for it.
    for found in (ours, theirs):
        delta = found["complete"]["deep_lift", None].sum() - rise
        assert abs(delta) < 1e-10 * abs(rise)  # measured 3.8e-16
    assert abs(theirs["captum"]["deep_lift", None].sum() - rise) > 0.1 * abs(rise)


@pytest.mark.slow
@pytest.mark.data
def test_real_scores_in_float32_are_captums(real_data, tmp_path):
    """Every stored score is that of its own heatmap; heatmaps differ where a ReLU's or a max
    pool's input rounds to the other side of a tie, in any two programs.
    """
    state_dict, images = real_case(real_data, num_images=2, size=256)
    weights = real_data / "weights" / "squeezenet1_0_imagenet.pth"
    classifier = as_classifier(
        convert_state_dict(state_dict, "squeezenet1_0"),
        num_classes=1000,
        mean=tuple(MEAN),
        std=tuple(STD),
    )
    order = np.arange(len(images), dtype=np.int32)
    batch = Batch(order, images, order, ())
    config, batches = AxConfig(operation="sum"), BatchConfig(batch_size=2)
    ours = AxEngine(classifier, config, batches, image_shape=(256, 256, 3))
    theirs = CaptumEngine(open_torch_classifier(ModelConfig(model=str(weights))), config, batches)
    assert ours.wanted == theirs.wanted
    for found, expected in zip(ours.run([batch]), theirs.run([batch]), strict=True):
        for solution, reference in zip(found, expected, strict=True):
            assert solution.outcome == reference.outcome
            assert solution.prediction == reference.prediction
            if reference.heatmap is None:
                continue
            # Measured 8.5e-3 (input × gradient) on one image, 5e-6 on the other; with AVX2 alone,
            # where XLA rounds otherwise and so decides other ties, 2.3e-2 on one of them.
            error = np.linalg.norm(solution.heatmap - reference.heatmap)
            bound = 2e-2 if same_bits_at_any_count(jax.devices()[0]) else 3e-2
            assert error < bound * np.linalg.norm(reference.heatmap)
            # Measured 0.023 (saliency) on one image and 1e-5 on the other, of scores to 30.
            assert abs(solution.co_score - reference.co_score) < 0.1


def real_case(real_data, *, num_images, size):
    """Return SqueezeNet's weights, and real images [N, size, size, 3], uint8."""
    state_dict = read_state_dict(real_data / "weights" / "squeezenet1_0_imagenet.pth")
    folder = str(real_data / "data" / "imagenet_sample")
    images = open_images(DataConfig(data=folder, size=size, num_images=num_images))
    return state_dict, np.stack([images.load(i) for i in range(num_images)])
