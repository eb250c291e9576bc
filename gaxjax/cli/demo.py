"""`gaxjax demo`: the whole way on handwritten digits, without a download, in two minutes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaxjax.cli.command import Command
from gaxjax.cli.console import note, print_gap, print_outcomes, say, wrote
from gaxjax.common import checked_output, lock, path_to_write, refuse_strangers
from gaxjax.config import (
    AxRunConfig,
    DataConfig,
    FinetuneConfig,
    GaxConfig,
    GaxRunConfig,
    ModelConfig,
    SnapshotConfig,
)

__all__ = ["Demo"]

SIZE = 32
_ARCHITECTURE = "small_resnet"
_EPOCHS = 6
_TRAINING = FinetuneConfig(data="digits", learning_rate=3e-3, beta1=0.9, batch_size=64)


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Train a small net on handwritten digits and explain it: no download, under two minutes.

    Attributes:
        output: Folder for the checkpoint, the runs and the report.
    """

    output: Path = Path("gaxjax-demo")

    computes = True

    def execute(self, given: Sequence[str]) -> int:
        """Train, run GAX and AX on the held-out digits, write the report."""
        path_to_write(self.output / "run", "--output")
        with lock(self.output):
            return self._shown()

    def _shown(self) -> int:
        from gaxjax.models import checkpoint
        from gaxjax.report import write_report
        from gaxjax.runs import run_ax, run_gax

        trained, run, ax = (self.output / name for name in ("digits.ckpt", "run", "ax"))
        checkpoint.check_destination(trained)  # all before the training, which takes a while
        for folder in (run, ax):
            path_to_write(folder / "run.json", "--output")
            refuse_strangers(folder, "run.json")
        checked_output(self.output / "report.html", (".html",))
        if not checkpoint.is_checkpoint(trained):
            say("Training a small residual net on 1,348 handwritten digits …")
            started = time.perf_counter()
            accuracy = _train(trained)
            seconds = time.perf_counter() - started
            say(f"  {accuracy:.1%} of 449 held-out digits correct, after {seconds:.0f} s")
        say("Optimising one heatmap per held-out digit …")
        model, data = ModelConfig(model=str(trained)), DataConfig(data="digits", size=SIZE)
        gax = GaxConfig(bias=True)  # digits are mostly black, and black pixels need the bias
        snapshots = SnapshotConfig(snapshots=8, snapshot_every=1)
        config = GaxRunConfig(model=model, data=data, gax=gax, snapshots=snapshots)
        summary = run_gax(config, run, note=note)
        say("Scoring the heatmaps of six existing methods …")
        run_ax(AxRunConfig(model=model, data=data), ax, note=lambda _: None)  # the same again
        say("Drawing the report …")
        report = write_report([run, ax], self.output / "report.html")
        print_outcomes(summary.outcomes, "images")
        print_gap(ax)
        wrote(
            (run, "GAX: scores (Parquet) and heatmaps (Zarr)"),
            (ax, "AX: scores and heatmaps of six existing methods"),
            (trained, "the trained classifier"),
            (report.folder, f"{report.num_figures} figures as PNG, SVG and CSV"),
            (report.page, "all of it on one page: open it in a browser"),
            next_command="gaxjax convert WEIGHTS.pth --output MODEL.ckpt",
        )
        return 0


def _train(path: Path) -> float:
    """Train by Adam on cross-entropy, save the checkpoint, return the held-out accuracy."""
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from gaxjax import models
    from gaxjax.data import load_digits_arrays
    from gaxjax.models import Trainer, checkpoint

    *arrays, test_labels = load_digits_arrays(SIZE)
    images, labels, test_images = map(jnp.asarray, arrays)
    model = models.build(_ARCHITECTURE, num_classes=10, rngs=nnx.Rngs(0))
    trainer = Trainer(model, _TRAINING)
    state = trainer.start()
    random = np.random.default_rng(0)
    for _ in range(_EPOCHS):
        order = random.permutation(len(images)).astype(np.int32)
        for rows in np.split(order, range(_TRAINING.batch_size, len(order), _TRAINING.batch_size)):
            if len(rows) == _TRAINING.batch_size:
                state, _ = trainer.step(state, images, labels, rows)
    accuracy = float(np.mean(trainer.predict(state, test_images) == test_labels))
    metadata = checkpoint.CheckpointMetadata(
        architecture=_ARCHITECTURE,
        num_classes=10,
        input_size=SIZE,
        class_names=tuple(str(digit) for digit in range(10)),
        source="gaxjax demo",
    )
    checkpoint.save(path, trainer.model(state), metadata)
    return accuracy
