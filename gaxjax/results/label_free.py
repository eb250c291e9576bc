"""What an AX run tells of each image without its label: CO scores for the prediction, confidence.

The labels are read beside them, to fit and to judge; nothing here mixes the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from gaxjax.common import UserError
from gaxjax.config import AxRunConfig, to_dict
from gaxjax.results.columns import numbers, texts
from gaxjax.results.image_list import listed_sizes
from gaxjax.results.stored_run import Run

__all__ = [
    "BASELINES",
    "Key",
    "LabelFree",
    "label_free",
    "name_of",
    "ranked",
    "what_it_was_made_by",
]

Key = tuple[str, str | None, str]
"""Method, layer and operation."""

_KEYS = "method", "layer", "operation"

BASELINES = {"max_probability": 1, "entropy": -1, "logit_margin": 1, "logsumexp": 1}
"""What anyone would use in place of a CO score, by its column: 1 where higher is surer."""


@dataclass(frozen=True)
class LabelFree:
    """Images of an AX run that the model classified; arrays lead with the image, sorted by id.

    Attributes:
        image_ids: of the images.
        sizes: bytes of each image's file; None where the run keeps no list of its images.
        prediction, label: classes.
        scores: CO scores for the prediction, by method, layer and operation; NaN where there is
            none, as of a zero heatmap.
        baselines: by column; NaN where the logits are not finite.
        unreadable: ids of the images that could not be decoded.
    """

    image_ids: tuple[str, ...]
    sizes: tuple[int | None, ...]
    prediction: Float[np.ndarray, " N"]
    label: Float[np.ndarray, " N"]
    scores: Mapping[Key, Float[np.ndarray, " N"]]
    baselines: Mapping[str, Float[np.ndarray, " N"]]
    unreadable: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def right(self) -> Bool[np.ndarray, " N"]:
        """Whether the prediction is the label."""
        found: np.ndarray = self.prediction == self.label
        return found

    def only(self, kept: Bool[np.ndarray, " N"]) -> "LabelFree":
        """Return some of the images."""

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(value for value, keep in zip(values, kept, strict=True) if keep)

        return LabelFree(
            some(self.image_ids),
            some(self.sizes),
            self.prediction[kept],
            self.label[kept],
            {key: values[kept] for key, values in self.scores.items()},
            {name: values[kept] for name, values in self.baselines.items()},
            self.unreadable,
        )


def label_free(run: Run) -> LabelFree:
    """Read an AX run.

    Raises:
        UserError: it is a GAX run, has no scores, or was made before they were stored.
    """
    if run.is_gax:
        raise UserError(
            f"{run.path} is a GAX run, whose heatmaps are optimised for the label: an indicator "
            "wants a run of gaxjax ax"
        )
    run.require_scores()
    table = run.scores.sort_by([(name, "ascending") for name in ("image_id", *_KEYS)])
    prediction, outcome = numbers(table, "prediction"), texts(table, "outcome")
    known = np.isfinite(prediction)
    scored = np.isin(outcome, ["scored", "zero_heatmap"])
    older = int((scored & np.isnan(numbers(table, "max_probability"))).sum())
    if older:
        raise UserError(
            f"{run.path} is of before the score for the prediction was stored ({older:,} of its "
            f"{len(table):,} rows lack it): give its gaxjax ax command again with another --output"
        )
    ids = texts(table, "image_id")
    unreadable = tuple(sorted(set(ids[~known])))
    table = table.filter(pa.array(known))
    image_ids, first, image = np.unique(ids[known], return_index=True, return_inverse=True)
    scores: dict[Key, np.ndarray] = {}
    keys = list(zip(*(table[name].to_pylist() for name in _KEYS), strict=True))
    values = numbers(table, "co_score_predicted")
    for key, place, value in zip(keys, image, values, strict=True):
        scores.setdefault(key, np.full(len(image_ids), np.nan))[place] = value
    if not len(image_ids):
        raise UserError(f"none of the images of {run.path} could be read")
    sizes = listed_sizes(run.path)
    return LabelFree(
        tuple(image_ids),
        tuple(sizes.get(each) for each in image_ids),
        prediction[known][first],
        numbers(table, "label")[first],
        scores,
        {name: numbers(table, name)[first] for name in BASELINES},
        unreadable,
    )


def ranked(values: Float[np.ndarray, " N"], direction: int) -> Float[np.ndarray, " N"]:
    """Return how sure each is: -inf, the least, where there is no number."""
    found: np.ndarray = np.where(np.isfinite(values), direction * values, -np.inf)
    return found


def name_of(key: Key) -> str:
    """Name a method as the statistics do: `layer_grad_cam conv1 [sum]`."""
    method, layer, operation = key
    return " ".join(filter(None, (method, layer, f"[{operation}]")))


def what_it_was_made_by(run: Run) -> dict[str, Any]:
    """Return what must be the same of two runs for their scores to mean the same."""
    config, model = run.config, run.header["model"]
    assert isinstance(config, AxRunConfig)
    method, kept = to_dict(config.ax), config.store.heatmaps
    for chosen in ("methods", "operation", "layers"):
        del method[chosen]
    if method["score"] == "logits":  # older indicators have no word of it
        del method["score"]
    return {
        "model": model["fingerprint"],
        "mean": model.get("mean"),
        "std": model.get("std"),
        **to_dict(config.data.decoding),
        **method,
        "heatmaps": "float32" if kept == "none" else kept,  # to which they were rounded, or not
    }
