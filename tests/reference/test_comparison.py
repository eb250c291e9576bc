"""What counts as rounding: tolerances follow from the logits, and near-equal logits tie."""

import math

import numpy as np
import pytest

from gaxjax.reference.comparison import Seen, Tally
from gaxjax.reference.consistency import Faults

ROW = {
    "image_id": "cat",
    "method": "gax",
    "layer": None,
    "operation": "sum",
    "setting": None,
    "outcome": "step_limit",
    "prediction": 0,
    "probability_before": 0.5,
    "prediction_after": 0,
    "probability_after": 0.5,
    "co_score": 1.0,
    # As in rows of runs of before they were stored.
    **dict.fromkeys(
        ("co_score_predicted", "max_probability", "entropy", "logit_margin", "logsumexp")
    ),
}


def seen(*logits, weighted=0.0) -> Seen:
    return Seen(np.array(logits, np.float64), weighted, 0.5)


def tallied(row, before, after):
    faults = Faults()
    tally = Tally([row], lambda _: 10.0, faults)
    tally.add(row, before, after)
    return [fault.what for fault in faults.found()], tally.comparisons()[0]


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_the_tolerance_of_a_score_is_a_part_of_the_largest_logit(share):
    difference = share * 2e-5 * 300  # the plain image's logits count, too
    after = seen(7.0, 0.0, weighted=1.0 + difference)
    faults, found = tallied(ROW, seen(300.0, -5.0), after)
    assert faults == ([] if share < 1 else ["co_score that is not torch's"])
    assert found.worst == pytest.approx(difference)
    assert found.worst_relative == pytest.approx(share * 2e-5)


@pytest.mark.parametrize(("gap", "tied"), [(1.9e-3, True), (2.1e-3, False)])
def test_a_prediction_between_logits_closer_than_the_tolerance_is_a_tie(gap, tied):
    before = seen(100.0, 100.0 + gap)
    faults, found = tallied(ROW, before, seen(100.0, 0.0, weighted=1.0))
    assert faults == ([] if tied else ["prediction that is not torch's"])
    assert (found.predictions, found.ties, found.differing) == (2, int(tied), int(not tied))


def test_a_score_that_is_no_number_is_a_fault_unless_it_is_none_in_torch():
    nan = seen(1.0, 0.0, weighted=math.nan)
    faults, found = tallied(ROW, seen(1.0, 0.0), nan)
    assert faults == ["co_score that is not torch's"]
    assert (found.worst, found.median, found.worst_relative) == (None, None, None)
    assert found.worst_image == "cat"
    faults, found = tallied(ROW | {"co_score": math.nan}, seen(1.0, 0.0), nan)
    assert faults == []
    assert found.scores == 0
