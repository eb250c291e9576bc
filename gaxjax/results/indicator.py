"""An indicator of right predictions that wants no label: fitted once, kept in a file, applied.

Whatever it is made of (method, direction, the weights of the two together, thresholds) comes from
the images it was fitted on, whose names it keeps: it judges none of them.
"""

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float

from gaxjax.common import (
    AnyPath,
    UserError,
    damaged,
    one_line,
    path_to_read,
    stored_json,
    with_checksum,
    write_text,
)
from gaxjax.results.label_free import BASELINES, Key, LabelFree, name_of, ranked

__all__ = ["SCORERS", "TITLES", "Candidate", "Fit", "Indicator", "Together", "read_indicator"]

SCORERS = ("indicator", "together", *BASELINES)
"""What may tell right from wrong, ours first."""

TITLES = {
    "indicator": "indicator",
    "together": "indicator and maximum softmax",
    "max_probability": "maximum softmax",
    "entropy": "entropy",
    "logit_margin": "margin of logits",
    "logsumexp": "energy",
}

_FORMAT = 1


@dataclass(frozen=True)
class Together:
    """Logistic regression on two standardised numbers: the indicator's, the maximum softmax.

    `intercept + Σ weight (number - mean) / scale`, higher where right is likelier; an image without
    a CO score counts as the lowest that was fitted on.
    """

    means: tuple[float, float]
    scales: tuple[float, float]
    weights: tuple[float, float]
    intercept: float
    lowest: float

    def of(
        self, indicator: Float[np.ndarray, " N"], max_probability: Float[np.ndarray, " N"]
    ) -> Float[np.ndarray, " N"]:
        """Return the log odds; -inf where there is no softmax."""
        numbers = np.stack([np.maximum(indicator, self.lowest), max_probability])
        means, scales, weights = (
            np.array(each)[:, None] for each in (self.means, self.scales, self.weights)
        )
        with np.errstate(invalid="ignore"):
            odds = self.intercept + (weights * (numbers - means) / scales).sum(0)
        found: np.ndarray = np.where(np.isfinite(max_probability), odds, -np.inf)
        return found


@dataclass(frozen=True)
class Candidate:
    """A method, layer and operation, by how well it told right from wrong where it was fitted.

    `auroc` is counted in its direction, so at least 0.5; `num_scored` of the images had a score.
    """

    method: str
    layer: str | None
    operation: str
    direction: int
    auroc: float
    num_scored: int

    @property
    def key(self) -> Key:
        """Method, layer and operation."""
        return self.method, self.layer, self.operation

    @property
    def name(self) -> str:
        """As in `layer_grad_cam conv1 [sum]`."""
        return name_of(self.key)


@dataclass(frozen=True)
class Fit:
    """How one of `SCORERS` did where it was fitted.

    Attributes:
        auroc, aurc: see `gaxjax.results.selective.MEASURES`.
        threshold: of what is accepted; None where nothing keeps to the wanted error.
        coverage, error: at that threshold.
    """

    auroc: float
    aurc: float
    threshold: float | None
    coverage: float
    error: float | None


@dataclass(frozen=True)
class Indicator:
    """What `gaxjax indicator fit` found.

    Attributes:
        chosen: the candidate that told right from wrong best.
        candidates: all, the best first.
        together: with the maximum softmax.
        fits: by name, of `SCORERS`.
        best_baseline: the baseline with the largest AUROC.
        wanted: coverage or error, as it was asked for.
        made_by: what a run that it is applied to must be made by.
        run, data, data_fingerprint, model: what it was fitted on.
        split: the share that was fitted on and the seed of the draw; None for all images.
        images: id and bytes of each image that was fitted on, sorted.
        num_wrong: of these.
        versions: of gaxjax and scikit-learn.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    together: Together
    fits: dict[str, Fit]
    best_baseline: str
    wanted: dict[str, float]
    made_by: dict[str, Any]
    run: str
    data: str
    data_fingerprint: str
    model: str
    split: dict[str, float] | None
    images: tuple[tuple[str, int | None], ...]
    num_wrong: int
    versions: dict[str, str]

    def scores(self, images: LabelFree) -> dict[str, Float[np.ndarray, " N"]]:
        """Return how sure each of `SCORERS` is of each image; no label is used."""
        indicator = ranked(images.scores[self.chosen.key], self.chosen.direction)
        return {
            "indicator": indicator,
            "together": self.together.of(indicator, images.baselines["max_probability"]),
            **{name: ranked(images.baselines[name], sign) for name, sign in BASELINES.items()},
        }

    def write(self, file: AnyPath) -> None:
        """Write it as JSON with a checksum.

        Raises:
            UserError: it cannot be written.
        """
        values = {"format": _FORMAT, **dataclasses.asdict(self)}
        plain = json.loads(json.dumps(values, allow_nan=False))  # as the checksum will read it
        write_text(file, json.dumps(with_checksum(plain), indent=2) + "\n")


def read_indicator(file: AnyPath) -> Indicator:
    """Read an indicator that was written.

    Raises:
        UserError: there is none, or it is damaged or of a newer format.
    """
    path = path_to_read(file, "indicator", urls=True)
    try:
        values = stored_json(path, dict[str, Any])
        if values.get("format", _FORMAT) != _FORMAT:
            raise UserError(f"{path} has format {values['format']}; this gaxjax reads {_FORMAT}")
        if "sha256" not in values:
            raise ValueError("it has no checksum")
        return msgspec.convert(values, Indicator)
    except IsADirectoryError:
        raise UserError(
            f"{path} is a folder; expected the file that gaxjax indicator fit wrote"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; gaxjax indicator fit RUN writes one") from None
    except ValueError as error:  # msgspec's too
        raise damaged(path, one_line(error), "fit it again") from None


def versions() -> dict[str, str]:
    """Return what the figures rest on."""
    return {name: importlib.metadata.version(name) for name in ("gaxjax", "scikit-learn")}
