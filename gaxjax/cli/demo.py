"""`gaxjax demo`: the whole way on handwritten digits, without a download, in two minutes."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import AxRunConfig, RunConfig, SnapshotConfig
from gaxjax.data.digits import load_digits_arrays
from gaxjax.models import checkpoint
from gaxjax.models import registry as models
from gaxjax.report.page import Written, write_report
from gaxjax.runs.ax import run_ax
from gaxjax.runs.gax import run_gax
from gaxjax.runs.shell import RunSummary

SIZE = 32
_ARCHITECTURE = "small_resnet"
_EPOCHS, _BATCH = 6, 64


def run_demo(output: Path, console: Console) -> tuple[RunSummary, Written]:
    """Train a small residual net on digits, run GAX and AX on the held-out ones, write a report.

    Returns:
        The GAX run's summary and what the report wrote; the AX run lies beside it, in `ax`.
    """
    trained = output / "digits.ckpt"
    if not checkpoint.is_checkpoint(trained):
        console.print("Training a small residual net on 1,348 handwritten digits …")
        started = time.perf_counter()
        accuracy = _train(trained)
        seconds = time.perf_counter() - started
        console.print(f"  {accuracy:.1%} of 449 held-out digits correct, after {seconds:.0f} s")
    console.print("Optimising one heatmap per held-out digit …")
    config = RunConfig(
        model=ModelConfig(model=str(trained)),
        data=DataConfig(data="digits", size=SIZE),
        gax=GaxConfig(bias=True),  # digits are mostly black, and black pixels need the bias
        snapshots=SnapshotConfig(snapshots=8, snapshot_every=1),
    )
    summary = run_gax(config, output / "run")
    console.print("Scoring the heatmaps of six existing methods …")
    run_ax(AxRunConfig(model=config.model, data=config.data), output / "ax")
    console.print("Drawing the report …")
    report = write_report([output / "run", output / "ax"], output / "report.html")
    return summary, report


def _train(path: Path) -> float:
    """Train by Adam on cross-entropy, save the checkpoint, return the held-out accuracy."""
    images, labels, test_images, test_labels = load_digits_arrays(SIZE)
    model = models.build(_ARCHITECTURE, num_classes=10, rngs=nnx.Rngs(0))
    model.train()
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)

    @nnx.jit
    def train_step(model: Any, optimizer: Any, images: Any, labels: Any) -> jax.Array:
        def loss(model: Any) -> jax.Array:
            logits = model(images.astype(jnp.float32) / 255)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    random = np.random.default_rng(0)
    for _ in range(_EPOCHS):
        order = random.permutation(len(images))
        for start in range(0, len(order) - _BATCH + 1, _BATCH):
            rows = order[start : start + _BATCH]
            train_step(model, optimizer, images[rows], labels[rows])
    model.eval()

    @nnx.jit
    def classify(model: Any, images: Any) -> jax.Array:
        return model(images.astype(jnp.float32) / 255).argmax(-1)

    accuracy = float(np.mean(np.asarray(classify(model, test_images)) == test_labels))
    metadata = checkpoint.CheckpointMetadata(
        architecture=_ARCHITECTURE,
        num_classes=10,
        input_size=SIZE,
        class_names=tuple(str(digit) for digit in range(10)),
        source="gaxjax demo",
    )
    checkpoint.save(path, model, metadata)
    return accuracy
