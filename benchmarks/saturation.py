"""The softmax score beside the logits' over the steps of one optimisation, and their gradients.

    python -m benchmarks saturation --model squeezenet.ckpt --data IMAGES

Heatmaps are optimised for the logits' score, as by default; at each step both scores are taken of
the same heatmap, and the gradient of each by `w`, without the similarity loss. The paper takes
logits because the softmax saturates: its gradient vanishes while the logits' score still rises.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measure.machine import commit, machine
from benchmarks.measure.rows import Row, append_row, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.common import UserError
from gaxjax.config import DataConfig, GaxConfig, ScoreName
from gaxjax.data import open_images
from gaxjax.gax import Objective, initial_weights, optimizer
from gaxjax.models import as_unit_range, load_classifier

_SCORES: tuple[ScoreName, ...] = ("logits", "softmax")


@dataclass(frozen=True)
class Saturation:
    """Watch both scores over one optimisation: a row and a figure.

    Attributes:
        model: A checkpoint.
        data: As of `gaxjax gax`.
        images: The first so many that are classified correctly, of `candidates`.
        candidates: Drawn at random.
        size: Height and width of the images.
        steps: Updates.
        output: File of rows to append to.
        figure: Where to draw the row; left out when empty.
    """

    model: Path
    data: str
    images: int = 6
    candidates: int = 16
    size: int = 128
    steps: int = 12
    output: Path = BENCHMARKS / "results" / "saturation.jsonl"
    figure: Path | None = BENCHMARKS.parent / "docs" / "saturation.png"


def saturation(settings: Saturation) -> Row:
    """Watch, append the row and draw it.

    Raises:
        UserError: none of the candidates is classified correctly.
    """
    classifier = load_classifier(settings.model)
    data = DataConfig(data=settings.data, num_images=settings.candidates, size=settings.size)
    found = open_images(
        data, num_classes=classifier.num_classes, class_names=classifier.class_names
    )
    pixels = jnp.asarray(np.stack([found.load(i) for i in range(len(found.records))]))
    labels = jnp.asarray([record.label for record in found.records], jnp.int32)
    objective = Objective(classifier, GaxConfig(), "float32")
    plain = objective.baseline(classifier.weights, as_unit_range(pixels), labels)
    right = np.flatnonzero(np.asarray(plain.prediction) == np.asarray(labels))[: settings.images]
    if not len(right):
        raise UserError(f"none of {len(labels)} images is classified correctly")
    scores, gradients = _watched(objective, pixels[right], labels[right], settings.steps)
    row: Row = {
        "workload": "saturation",
        **machine(),
        "commit": commit(),
        "model": settings.model.name,
        "size": settings.size,
        "num_classes": classifier.num_classes,
        "images": [found.records[i].image_id for i in right],
        "probability_before": np.asarray(plain.probability)[right].tolist(),
        "scores": scores,
        "gradient_norms": gradients,
    }
    append_row(rounded(row), settings.output)
    if settings.figure is not None:
        _draw(row, settings.figure)
    return row


def _watched(
    objective: Objective, pixels: jax.Array, labels: jax.Array, steps: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return each score and the norm of its gradient by `w`, by image and step."""
    config, network, images = objective.config, objective.fast_weights(), as_unit_range(pixels)
    alone = {
        name: replace(objective, config=replace(config, score=name, similarity_factor=0.0))
        for name in _SCORES
    }
    baselines = {
        name: one.baseline(network, images, labels).weighted for name, one in alone.items()
    }
    step = jax.jit(objective.scores_and_gradients)
    look = {name: jax.jit(one.scores_and_gradients) for name, one in alone.items()}
    weights = jax.vmap(partial(initial_weights, config=config))(images)
    method = optimizer(config)
    state = jax.vmap(method.init)(weights)
    scores: dict[str, list[Any]] = {name: [] for name in _SCORES}
    norms: dict[str, list[Any]] = {name: [] for name in _SCORES}
    for _ in range(steps + 1):
        for name in _SCORES:
            score, gradient = look[name](weights, network, images, labels, baselines[name])
            scores[name].append(np.asarray(score))
            norms[name].append(np.sqrt(np.sum(np.asarray(gradient["w"]) ** 2, axis=(1, 2, 3))))
        _, gradients = step(weights, network, images, labels, baselines["logits"])
        updates, state = jax.vmap(method.update)(gradients, state, weights)
        weights = optax.apply_updates(weights, updates)
    return tuple(  # type: ignore[return-value]
        {name: np.stack(rows, axis=1).tolist() for name, rows in found.items()}
        for found in (scores, norms)
    )


def _draw(row: Row, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    bound = row["num_classes"] / (row["num_classes"] - 1)
    colours = {"logits": "#0b6e99", "softmax": "#b5541c"}
    for axis, name in zip(axes, _SCORES, strict=False):
        for curve in row["scores"][name]:
            axis.plot(curve, color=colours[name], linewidth=1.2)
        axis.set(title=f"CO score of the {name}", xlabel="updates")
    axes[0].axhline(48, color="0.4", linewidth=0.8)
    axes[1].axhline(bound, color="0.4", linewidth=0.8)
    for name in _SCORES:
        for number, norms in enumerate(row["gradient_norms"][name]):
            label = name if number == 0 else None
            axes[2].semilogy(norms, color=colours[name], linewidth=1.2, label=label)
    axes[2].set(title="norm of the score's gradient by w", xlabel="updates")
    axes[2].legend(frameon=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
