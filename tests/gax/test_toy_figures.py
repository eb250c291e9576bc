"""The paper's statements about the rotated samples of its example and their figures.

Of §2, §2.1 and appendix A.1, as in `test_toy.py`: a name that ends in `_does_not_hold` is of a
statement that does not hold as printed.
"""

import jax
import numpy as np
import pytest
from toy_samples import ALIKE, DISTINCT, MIDDLE, PI, at, between, pair

from gaxjax.gax.toy import (
    FIGURE_6_WINDOWS,
    classify,
    figure_table,
    rotation,
    sample,
    score,
    unmix,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def table():
    return figure_table(FIGURE_6_WINDOWS)


# --- §2: the rotated samples


def test_without_rotation_the_sample_is_its_amounts():
    assert np.allclose(sample(rotation(0.0), pair(0.7, 0.3)), [0.7, 0.3], atol=0)


def test_after_a_small_rotation_the_first_component_and_its_heatmap_stay_the_larger(table):
    """For a_1 = 0.95, while tan θ < a_1 - a_2 = 0.9, which is θ < 0.233 π."""
    rows = between(table, DISTINCT, -PI / 8, PI / 8)
    assert len(rows) == 33
    assert (rows["x1"] > rows["x2"]).all()
    assert (rows["h1"] > rows["h2"]).all()


def test_high_h1_causes_high_y1(table):
    """h_1 alone, given to the sample, raises y_1 by W^-1_11 h_1, near θ = 0 by nearly h_1."""
    for theta in (-PI / 16, 0.0, PI / 16):
        row = at(table, DISTINCT, theta)
        raised = unmix(rotation(theta), pair(row["h1"], 0.0))
        assert raised[0] == pytest.approx(row["h1"], rel=0.02)
        assert raised[0] > 1.7


def test_at_a_quarter_of_pi_the_components_of_distinct_amounts_look_alike(table):
    row = at(table, DISTINCT, PI / 4)
    assert row["x1"] == pytest.approx(0.636, abs=0.001)
    assert row["x2"] == pytest.approx(0.707, abs=0.001)


def test_at_a_quarter_of_pi_the_components_look_alike_for_less_distinct_amounts_does_not_hold(
    table,
):
    """§2 and A.1 call every (2k+1)π/4 homogenous, "naturally" for a_1 = 0.7 too.

    But there x = ((a_1 - a_2), (a_1 + a_2))/√2: alike only if a_2 is near 0. They are equal at
    tan θ = a_1 - a_2, which is π/4 for a = (1, 0), 0.121 π for a_1 = 0.7, 0.032 π for 0.55.
    """
    for a1, first in ((MIDDLE, 0.283), (ALIKE, 0.071)):
        row = at(table, a1, PI / 4)
        assert row["x1"] == pytest.approx(first, abs=0.001)
        assert row["x2"] == pytest.approx(0.707, abs=0.001)
        equal = sample(rotation(float(np.arctan(2 * a1 - 1))), pair(a1, 1 - a1))
        assert equal[0] == pytest.approx(equal[1])


def test_at_a_quarter_of_pi_the_heatmap_is_less_prominent_than_without_rotation(table):
    for a1 in (DISTINCT, MIDDLE, ALIKE):
        turned, straight = at(table, a1, PI / 4), at(table, a1, 0.0)
        assert turned["h1"] < straight["h1"]  # 1.32 < 2.03, 0.42 < 1.29, 0.08 < 0.91
        assert max(turned["h1"], turned["h2"]) < max(straight["h1"], straight["h2"])


# --- §2.1: figure 1


def test_near_zero_a_high_x1_gets_a_high_h1_and_a_low_x2_a_suppressed_h2(table):
    for theta in (0.0, PI / 32, PI / 16):
        row = at(table, DISTINCT, theta)
        assert row["h1"] > 2 * row["x1"]  # 2.03 to 2.12 from 0.95 to 0.92
        assert 0 < row["h2"] < row["x2"]


def test_from_zero_to_a_quarter_of_pi_the_distinct_components_converge(table):
    rows = between(table, DISTINCT, 0.0, PI / 4)
    gap = np.abs(rows["x1"] - rows["x2"])
    assert gap[0] == pytest.approx(0.9)
    assert gap[-1] == pytest.approx(0.071, abs=0.001)
    assert gap[-1] < 0.1 * gap[0]


def test_at_a_quarter_of_pi_h1_is_still_high(table):
    row = at(table, DISTINCT, PI / 4)
    assert row["h1"] == pytest.approx(1.324, abs=0.001)
    assert row["h1"] > 1.8 * row["h2"]
    assert row["x1"] < row["x2"]  # so it is a_1 that h_1 picks up, not x_1
    assert row["h2"] == pytest.approx(row["x2"], abs=1e-12)


def test_at_a_quarter_of_pi_h1_is_still_high_for_less_distinct_amounts_does_not_hold(table):
    """§2.1 says it of a_1 = 0.95 only; for 0.7 and 0.55, h_2 is the larger from 0.213 and 0.148 π.

    At π/4, h_1 = (1 + kη (a_1 - a_2)) (a_1 - a_2)/√2, and h_2 = 1/√2 whatever the amounts.
    """
    for a1, h1 in ((MIDDLE, 0.419), (ALIKE, 0.079)):
        row = at(table, a1, PI / 4)
        assert row["h1"] == pytest.approx(h1, abs=0.001)
        assert row["h2"] == pytest.approx(0.707, abs=0.001)


def test_between_a_quarter_and_half_of_pi_h2_becomes_prominent(table):
    rows = between(table, DISTINCT, PI / 4, PI / 2)
    assert (np.diff(rows["h2"]) > 0).all()
    assert rows["h2"][-1] == pytest.approx(2.033, abs=0.001)
    late = rows[rows["theta"] > 0.31 * PI]  # h_1 = h_2 at 0.300 π
    assert len(late) > 20
    assert (late["h2"] > late["h1"]).all()
    assert (late["h2"] > late["x2"]).all()


def test_at_half_of_pi_the_sample_0_1_is_of_the_first_class():
    assert classify(rotation(PI / 2), pair(0.0, 1.0)).argmax() == 0


def test_at_half_of_pi_the_sample_1_0_being_of_the_second_class_does_not_hold():
    """§2.1: "x = [1, 0] as c = 2". W^-1 (1, 0) is (0, -1), which argmax gives to class 1.

    The second class is (-1, 0): W x^(2) at θ = π/2.
    """
    outputs = classify(rotation(PI / 2), pair(1.0, 0.0))
    assert np.allclose(outputs, [0, -1])
    assert outputs.argmax() == 0
    assert np.allclose(sample(rotation(PI / 2), pair(0.0, 1.0)), [-1, 0])
    assert classify(rotation(PI / 2), pair(-1.0, 0.0)).argmax() == 1


def test_less_distinct_amounts_get_less_prominent_heatmaps(table):
    for column in ("h1", "h2"):
        peaks = [
            np.abs(table[column][np.isclose(table["a1"], a1)]).max()
            for a1 in (DISTINCT, MIDDLE, ALIKE)
        ]
        assert np.allclose(peaks, [2.12, 1.30, 1.00], atol=0.01)
    for first, second in ((DISTINCT, MIDDLE), (MIDDLE, ALIKE)):
        assert at(table, first, 0.0)["h1"] > at(table, second, 0.0)["h1"]
        assert at(table, first, PI / 2)["h2"] > at(table, second, PI / 2)["h2"]


def test_less_distinct_amounts_getting_a_smaller_h2_at_every_angle_does_not_hold(table):
    """§2.1: "decreased/increased a_1, a_2 are assigned less prominent h_1, h_2 respectively".

    True of the peaks, but at θ = 0, h_2 = (1 - kη a_2) a_2 is 0.19 in the middle and 0.05 left.
    """
    assert at(table, MIDDLE, 0.0)["h2"] == pytest.approx(0.192)
    assert at(table, DISTINCT, 0.0)["h2"] == pytest.approx(0.047)


def test_amounts_almost_equal_get_heatmaps_almost_equal_to_the_sample_at_a_quarter_of_pi(table):
    for theta in (-PI / 4, PI / 4):
        change = {}
        for a1 in (DISTINCT, ALIKE):
            row = at(table, a1, theta)
            change[a1] = max(abs(row["h1"] - row["x1"]), abs(row["h2"] - row["x2"]))
        assert change[ALIKE] == pytest.approx(0.0085, abs=0.0001)
        assert change[DISTINCT] == pytest.approx(0.687, abs=0.001)
    straight = at(table, ALIKE, 0.0)
    assert abs(straight["h1"] - straight["x1"]) > 0.36


def test_heatmaps_leave_the_sample_most_where_the_amounts_differ_most(table):
    """The caption of both figures, point 1."""
    change = np.hypot(table["h1"] - table["x1"], table["h2"] - table["x2"])
    largest = [change[np.isclose(table["a1"], a1)].max() for a1 in (DISTINCT, MIDDLE, ALIKE)]
    assert np.allclose(largest, [1.206, 0.603, 0.437], atol=0.001)


def test_for_amounts_almost_equal_heatmaps_leave_the_sample_least_at_a_quarter_of_pi(table):
    """The caption's point 2: large values where θ is not near (2k+1)π/4."""
    rows = between(table, ALIKE, 0.0, PI / 2)
    change = np.hypot(rows["h1"] - rows["x1"], rows["h2"] - rows["x2"])
    assert rows["theta"][change.argmin()] == pytest.approx(PI / 4, abs=0.01)


def test_heatmaps_leaving_the_sample_least_at_a_quarter_of_pi_does_not_hold_for_distinct_amounts(
    table,
):
    """The caption's point 2 again: for a_1 = 0.95 |h - x| is least at 0.33 π, not 0.25 π.

    Δ gains least, |∇Δ|² = (a_1 - a_2)²/2, still later, at 0.367 π; at π/4 it is (a_1 - a_2)².
    """
    rows = between(table, DISTINCT, 0.0, PI / 2)
    change = np.hypot(rows["h1"] - rows["x1"], rows["h2"] - rows["x2"])
    assert rows["theta"][change.argmin()] / PI == pytest.approx(0.328, abs=0.008)
    assert change[np.isclose(rows["theta"], PI / 4)] > 1.5 * change.min()  # 0.687 and 0.438
    gain = rows["delta_after"] - rows["delta_before"]
    assert rows["theta"][gain.argmin()] / PI == pytest.approx(0.367, abs=0.008)
    assert gain.min() == pytest.approx(1.2 * 0.81 / 2, rel=0.001)
    assert gain[np.isclose(rows["theta"], PI / 4)] == pytest.approx(1.2 * 0.81)


# --- A.1: figure 6


def test_samples_are_non_negative_in_a_quarter_turn_around_the_range_named(table):
    """Exactly for θ in [-φ, π/2 - φ] with tan φ = a_2 / a_1; the text's ranges are rounded.

    Named: [0, π/2] for a_1 = 0.95, [-π/4, π/4] for 0.55. At their ends one x is -0.05 and -0.07.
    """
    for a1, (low, high) in ((DISTINCT, (0, PI / 2)), (ALIKE, (-PI / 4, PI / 4))):
        rows = table[np.isclose(table["a1"], a1) & (table["x1"] >= 0) & (table["x2"] >= 0)]
        phi = np.arctan((1 - a1) / a1)
        step = 2 * PI / 256
        assert rows["theta"].min() == pytest.approx(-phi, abs=step)
        assert rows["theta"].max() == pytest.approx(PI / 2 - phi, abs=step)
        assert abs(low + phi) < 0.04 * PI
        assert abs(high - (PI / 2 - phi)) < 0.04 * PI


def test_the_non_negative_range_of_the_middle_sample_starting_at_plus_pi_over_8_does_not_hold(
    table,
):
    """A.1 prints [π/8, 3π/8]; it starts at -0.129 π, so the sign of -π/8 was lost."""
    rows = table[np.isclose(table["a1"], MIDDLE) & (table["x1"] >= 0) & (table["x2"] >= 0)]
    assert rows["theta"].min() == pytest.approx(-PI / 8, abs=0.01 * PI)
    assert rows["theta"].max() == pytest.approx(3 * PI / 8, abs=0.01 * PI)


def test_near_zero_the_middle_sample_is_attributed_likewise_but_with_lower_magnitude(table):
    middle, distinct = at(table, MIDDLE, 0.0), at(table, DISTINCT, 0.0)
    assert middle["h1"] > 1.8 * middle["x1"]
    assert 0 < middle["h2"] < 0.7 * middle["x2"]
    assert middle["h1"] < 0.7 * distinct["h1"]  # 1.29 and 2.03


def test_turning_the_middle_sample_on_to_three_eighths_of_pi_gives_a_higher_h2(table):
    h2 = [at(table, MIDDLE, theta)["h2"] for theta in (0.0, PI / 4, 3 * PI / 8)]
    assert np.allclose(h2, [0.192, 0.707, 1.138], atol=0.001)


def test_amounts_almost_equal_are_barely_of_the_first_class_and_still_get_a_higher_h1(table):
    """Near θ = 0: h_1 > h_2 up to 0.148 π, though x_1 > x_2 only up to 0.032 π."""
    rows = between(table, ALIKE, -PI / 4, PI / 8)
    assert (rows["h1"] > rows["h2"]).all()
    row = at(table, ALIKE, 0.0)
    assert row["delta_before"] == pytest.approx(0.1)
    assert row["h1"] == pytest.approx(0.913)
    assert row["h1"] < at(table, MIDDLE, 0.0)["h1"] < at(table, DISTINCT, 0.0)["h1"]


def test_near_pi_a_very_negative_component_gets_a_very_negative_heatmap(table):
    for theta in (-PI, PI):
        row = at(table, DISTINCT, theta)
        assert row["x1"] == pytest.approx(-0.95)
        assert row["h1"] == pytest.approx(-2.033)
        assert row["h1"] / row["x1"] > 2  # w_1 grew from 1 to 2.14


def test_near_pi_the_negative_heatmap_raises_the_score_through_both_components(table):
    """h_1's share of Δ is 2.033, above x_1's 0.95; h_2 takes 0.047 away, less than x_2's 0.05."""
    row = at(table, DISTINCT, PI)
    transform = rotation(PI)
    x = pair(row["x1"], row["x2"])
    assert score(transform, x, pair(row["h1"], 0.0), 0) == pytest.approx(2.033)
    assert score(transform, x, pair(0.0, row["h2"]), 0) == pytest.approx(-0.047)
    assert score(transform, x, pair(0.0, row["x2"]), 0) == pytest.approx(-0.05)
    assert row["delta_after"] == pytest.approx(1.986)
    assert row["delta_after"] > row["delta_before"] > 0


def test_heatmaps_keep_the_sign_of_the_sample_in_the_figures(table):
    """w starts at 1 and never falls below 0 at kη = 1.2."""
    for number in ("1", "2"):
        away = np.abs(table["x" + number]) > 1e-9
        assert (np.sign(table["h" + number]) == np.sign(table["x" + number]))[away].all()


def test_every_negative_component_getting_a_highly_negative_heatmap_does_not_hold(table):
    """A.1 says it of "negative components x_i < 0"; 37% of them, over the figure, are dampened.

    At θ = -7π/8 with a_1 = 0.95, x_2 = -0.41 gets h_2 = -0.30.
    """
    row = at(table, DISTINCT, -7 * PI / 8)
    assert row["x2"] == pytest.approx(-0.410, abs=0.001)
    assert row["h2"] == pytest.approx(-0.301, abs=0.001)
    x = np.concatenate([table["x1"], table["x2"]])
    h = np.concatenate([table["h1"], table["h2"]])
    assert (np.abs(h) < np.abs(x))[x < -1e-9].mean() == pytest.approx(0.37, abs=0.01)
