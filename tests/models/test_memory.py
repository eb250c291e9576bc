"""What an image needs is known from shapes alone, and no more is asked than XLA really takes."""

import jax
import pytest
from flax import nnx

from gaxjax.models import as_classifier, build, forward_bytes, gradient_bytes


@pytest.fixture(scope="module")
def classifier():
    model = build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
    return as_classifier(model, num_classes=10)


def test_the_estimate_is_below_what_xla_takes_and_within_three_times(classifier):
    def gradient(pixels, weights):
        return jax.grad(lambda pixels: classifier.apply(weights, pixels).sum())(pixels)

    pixels = jax.ShapeDtypeStruct((4, 64, 64, 3), "float32")
    compiled = jax.jit(gradient).lower(pixels, classifier.weights).compile()
    taken = compiled.memory_analysis().temp_size_in_bytes / 4
    assert taken / 3 < gradient_bytes(classifier, (64, 64, 3)) < 1.1 * taken


def test_memory_grows_with_the_area_and_nothing_is_computed(classifier):
    small, large = (gradient_bytes(classifier, (side, side, 3)) for side in (64, 20_000))
    assert 0.9 < large / small / (20_000 / 64) ** 2 < 1.1
    assert forward_bytes(classifier, (20_000, 20_000, 3)) < large
    assert forward_bytes(classifier, (20_000, 20_000, 3)) > 20_000**2 * 3 * 4
