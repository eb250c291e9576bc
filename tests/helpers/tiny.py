"""A tiny classifier and images for it: enough for the engine to have real work in milliseconds."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.data.batching import Batch
from gaxjax.gax.engine import GaxEngine
from gaxjax.models.classifier import Classifier, as_classifier
from gaxjax.results.solution import Solution

SIZE, CLASSES = 12, 5
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def _convolve(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _network(weights, images):
    x = jax.nn.relu(_convolve(images, weights[0], 2))
    x = jax.nn.relu(_convolve(x, weights[1], 1))
    return x.reshape(len(x), -1) @ weights[2]


def weights():
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(3, 3, 3, 8), (3, 3, 8, 16), (6 * 6 * 16, CLASSES)]
    return [
        jax.random.normal(key, shape) * (20 / np.prod(shape[:-1])) ** 0.5
        for key, shape in zip(keys, shapes, strict=True)
    ]


def network():
    """An `images -> logits` callable whose weights are a pytree."""
    return jax.tree_util.Partial(_network, weights())


def classifier(*, normalized: bool = True) -> Classifier:
    scale = {"mean": MEAN, "std": STD} if normalized else {}
    return as_classifier(network(), num_classes=CLASSES, **scale)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def predictions(pixels: np.ndarray, model: Classifier) -> np.ndarray:
    x = jnp.asarray(pixels, jnp.float32) / 255
    return np.asarray(model.apply(model.weights, model.normalize(x)).argmax(-1)).astype(np.int32)


def batches(pixels, labels, size, order=None):
    order = np.arange(len(pixels)) if order is None else np.asarray(order)
    for start in range(0, len(order), size):
        chosen = order[start : start + size].astype(np.int32)
        yield Batch(chosen, pixels[chosen], labels[chosen], ())


def solve(
    pixels,
    labels,
    gax: GaxConfig,
    *,
    slots: int = 8,
    order=None,
    batch_size: int | None = None,
    model: Classifier | None = None,
    heatmap_dtype=np.float16,
    **engine,
) -> tuple[dict[int, Solution], GaxEngine]:
    """Run the engine; return the solutions by image and the engine with its statistics."""
    worker = GaxEngine(
        model or classifier(),
        gax,
        EngineConfig(slots=slots, **engine),
        image_shape=pixels.shape[1:],
        image_dtype=pixels.dtype,
        heatmap_dtype=heatmap_dtype,
    )
    source = batches(pixels, labels, batch_size or worker.batch_size, order)
    found = [solution for [solution] in worker.run(source)]
    by_image = {solution.index: solution for solution in found}
    assert len(by_image) == len(found), "an image has two solutions"
    return by_image, worker


def run_on_devices(count, script, output):
    """Run Python code in a process with so many CPU devices; return the NumPy file it writes.

    The code finds the tests' modules, and the file's name in ``sys.argv[1]``.
    """
    here = Path(__file__).parent
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "PYTHONPATH": os.pathsep.join(
            map(str, (here.parent / "gax", here.parent / "ax", here, *sys.path))
        ),
    }
    command = [sys.executable, "-c", script, str(output)]
    subprocess.run(command, env=environment, check=True, timeout=300)
    return np.load(output)
