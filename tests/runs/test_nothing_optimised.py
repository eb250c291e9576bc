"""When no image was optimised, the line says why most of them were not, and the mend for that."""

from collections import Counter
from pathlib import Path

import pytest

from gaxjax.results import Outcome
from gaxjax.runs import RunSummary, explain_nothing_correct


@pytest.mark.parametrize(
    ("outcomes", "mend"),
    [
        ({Outcome.NOT_FINITE: 9, Outcome.MISCLASSIFIED: 1}, "give a smaller --learning-rate"),
        ({Outcome.NOT_FINITE: 1, Outcome.MISCLASSIFIED: 9}, "labels and model belong together"),
        ({Outcome.UNREADABLE: 3}, "see the column reason"),
    ],
)
def test_the_mend_is_that_of_most_images(outcomes, mend):
    counts = Counter({str(name): count for name, count in outcomes.items()})
    said = explain_nothing_correct(RunSummary(Path("run"), 10, counts, 0, None))
    assert mend in said


def test_nothing_is_said_where_an_image_was_optimised():
    counts = Counter({"reached": 1, "not_finite": 9})
    assert explain_nothing_correct(RunSummary(Path("run"), 10, counts, 0, None)) is None
