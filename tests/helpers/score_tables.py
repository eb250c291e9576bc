"""Tables of scores without a run: of so many correct and wrong images."""

import numpy as np
import pyarrow as pa

from gaxjax.results.parts import SCHEMA

COLUMNS = [field for field in SCHEMA if field.name not in ("curve", "heatmap_sha256")]


def table(
    correct, scores, *, method="saliency", layer=None, operation="sum", **columns
) -> pa.Table:
    """Rows of one method: one image for each entry of `correct`, None for an unreadable one."""
    number = len(correct)
    values = {
        "image_id": [f"{image:05d}.png" for image in range(number)],
        "label": [1] * number,
        "method": [method] * number,
        "layer": [layer] * number,
        "operation": [operation] * number,
        "backend": ["jax"] * number,
        "prediction": [None if right is None else int(right) for right in correct],
        "correct": correct,
        "outcome": ["scored"] * number,
        "co_score": scores,
        "probability_before": [None if right is None else 0.5 for right in correct],
        "probability_after": [0.5] * number,
        "prediction_after": [None if right is None else int(right) for right in correct],
        "correct_after": correct,
    } | columns
    return pa.table(
        {
            field.name: pa.array(values.get(field.name, [None] * number), field.type)
            for field in COLUMNS
        }
    )


def kinds(num_correct: int, num_wrong: int) -> list[bool]:
    return [True] * num_correct + [False] * num_wrong


def normal_scores(generator, num_correct, num_wrong, shift) -> np.ndarray:
    return generator.normal(size=num_correct + num_wrong) + shift * np.array(
        kinds(num_correct, num_wrong)
    )


def with_auroc(wins: int) -> list[float]:
    """Scores of 4 correct and 1 wrong image, of which `wins` correct ones score higher."""
    return [2.0] * wins + [0.0] * (4 - wins) + [1.0]


def only(statistics):
    [method] = statistics.methods
    return method
