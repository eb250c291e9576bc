"""What the host keeps of an image that is optimised, and the solution that becomes of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gaxjax.gax.lane import NOT_FINITE, REACHED, STEP_LIMIT
from gaxjax.gax.objective import Verified
from gaxjax.results import Outcome, Solution

_OUTCOMES = {
    REACHED: Outcome.REACHED,
    STEP_LIMIT: Outcome.STEP_LIMIT,
    NOT_FINITE: Outcome.NOT_FINITE,
}


class Owed(NamedTuple):
    """An image that the engine owes a solution; kept on the host until it is settled.

    By number: of the image, times how many settings there are, plus the setting's.
    """

    image: np.ndarray
    label: int
    weighted: float
    prediction: int
    probability: float


class Ended(NamedTuple):
    """What the host reads of a `slots.Finished`."""

    image_index: Any
    heatmap: Any
    status: Any
    step: Any
    heatmap_step: Any
    curve: Any


def settled_solution(
    known: Owed, ended: Ended, verified: Verified, names: Mapping[str, Any]
) -> Solution:
    """Return the solution of an image whose end was verified.

    Args:
        known: the image, as it was classified.
        ended: how its optimisation ended, on the host.
        verified: its heatmap's score, in float32.
        names: which optimisation it is: the solution's index, operation and setting.
    """
    curve = ended.curve[: int(ended.step) + 1].copy()
    start: dict[str, Any] = {
        **names,
        "label": known.label,
        "prediction": known.prediction,
        "probability_before": known.probability,
        "co_score_start": float(curve[0]),
        "curve": curve,
    }
    outcome = _OUTCOMES[int(ended.status)]
    if int(ended.heatmap_step) < 0:  # no score was ever finite
        return Solution(outcome=outcome, **start)
    return Solution(
        outcome=outcome,
        **start,
        steps=int(ended.heatmap_step),
        co_score=float(verified.scored.co_score),
        similarity_loss=float(verified.similarity_loss),
        probability_after=float(verified.scored.probability),
        prediction_after=int(verified.scored.prediction),
        heatmap=np.array(ended.heatmap),
    )
