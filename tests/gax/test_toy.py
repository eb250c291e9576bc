"""The paper's two-dimensional example: closed form, gradient ascent, and its statements one by one.

Statements of §2, §2.1 and appendix A.1 of Tjoa et al. (2022). Where one does not hold as printed,
the test's name ends in `_does_not_hold`, and it asserts what is true instead.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_samples import ALIKE, DISTINCT, MIDDLE, PI, at, pair

from gaxjax.cli.toy import run_toy
from gaxjax.common.errors import UserError
from gaxjax.gax import toy
from gaxjax.gax.toy import (
    FIGURE_1_WINDOWS,
    FIGURE_6_WINDOWS,
    classify,
    closed_form_heatmap,
    delta,
    delta_gradient,
    figure_table,
    gradient_ascent,
    rotation,
    sample,
    score,
    score_of_weights,
    unmix,
)
from gaxjax.report.figures.toy import _as_fraction_of_pi

ANGLES = (-3.0, -PI / 4, 0.0, 0.3, PI / 2)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def table():
    return figure_table(FIGURE_6_WINDOWS)


def samples():
    """Rotations of the figures' samples, then random W and a."""
    for theta in ANGLES:
        for a1 in (DISTINCT, MIDDLE, ALIKE):
            yield rotation(theta), pair(a1, 1 - a1)
    random = np.random.default_rng(0)
    for _ in range(10):
        transform = random.normal(size=(2, 2))
        if abs(np.linalg.det(transform)) > 0.1:
            yield jnp.asarray(transform), jnp.asarray(random.normal(size=2))


# --- closed form and gradient ascent


def test_gradient_ascent_reaches_the_closed_form_for_any_invertible_matrix():
    for transform, amounts in samples():
        weights = gradient_ascent(transform, amounts, rate=0.1, num_steps=12).weights
        trained = weights * sample(transform, amounts)
        expected = closed_form_heatmap(transform, amounts, 1.2)
        assert np.allclose(trained, expected, rtol=1e-12, atol=1e-13)


def test_in_float32_gradient_ascent_reaches_the_closed_form_to_six_digits():
    for transform, amounts in samples():
        with jax.enable_x64(False):
            transform, amounts = transform.astype(jnp.float32), amounts.astype(jnp.float32)
            weights = gradient_ascent(transform, amounts, rate=0.1, num_steps=12).weights
            trained = weights * sample(transform, amounts)
            expected = closed_form_heatmap(transform, amounts, 1.2)
            assert trained.dtype == jnp.float32
            # measured: 5.1e-7 of the larger component
            assert jnp.abs(trained - expected).max() < 1e-6 * jnp.abs(expected).max()


def test_ascending_the_raw_score_is_ascending_delta():
    for transform, amounts in samples():
        label = int(amounts.argmax())
        by_score = gradient_ascent(
            transform, amounts, rate=0.1, num_steps=12, objective=score_of_weights
        )
        sign = 1 if label == 0 else -1  # for c = 2 the paper's (-1, 1)
        expected = closed_form_heatmap(transform, amounts, 1.2 * sign)
        assert np.allclose(by_score.weights * sample(transform, amounts), expected, rtol=1e-11)


def test_the_table_agrees_with_gradient_ascent_and_its_scores_with_their_definition(table):
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    for a1 in (DISTINCT, MIDDLE, ALIKE):
        for theta in (-PI, -PI / 4, PI / 8, 3 * PI / 8):
            row = at(table, a1, theta)
            amounts = pair(a1, 1 - a1)
            ascent = gradient_ascent(rotation(theta), amounts, rate=0.3, num_steps=4)
            x, h = np.array([row["x1"], row["x2"]]), np.array([row["h1"], row["h2"]])
            assert np.allclose(ascent.weights * x, h, rtol=1e-12)
            assert row["delta_before"] == pytest.approx(ascent.objective[0])
            assert row["delta_after"] == pytest.approx(ascent.objective[-1])
            inverse = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
            rise = sigmoid(inverse @ (x + h)) - sigmoid(inverse @ x)
            assert row["sigmoid_after"] == pytest.approx(rise[0] - rise[1])


# --- §2: the classifier and the score


def test_the_classifier_is_perfect():
    for transform, amounts in samples():
        x = sample(transform, amounts)
        assert np.allclose(unmix(transform, x), amounts, atol=1e-13)
        for activation in (toy.raw, jax.nn.leaky_relu, jax.nn.sigmoid):
            outputs = classify(transform, x, activation)
            assert outputs.argmax() == amounts.argmax()
            assert np.allclose(outputs, activation(amounts), atol=1e-13)


def test_for_equal_amounts_the_classifier_has_no_preference():
    for theta in ANGLES:
        outputs = classify(rotation(theta), sample(rotation(theta), pair(0.5, 0.5)), jax.nn.sigmoid)
        assert outputs[0] == pytest.approx(float(outputs[1]), abs=1e-15)


def test_the_score_rises_with_the_label_s_output_and_falls_with_the_other_s():
    transform, amounts = rotation(0.3), pair(0.7, 0.3)
    x = sample(transform, amounts)
    for activation in (toy.raw, jax.nn.leaky_relu, jax.nn.sigmoid):
        up = sample(transform, pair(0.1, 0.0))  # h with A = 0.1, B = 0
        down = sample(transform, pair(0.0, -0.1))
        both = score(transform, x, up + down, 0, activation)
        assert both > score(transform, x, up, 0, activation) > 0
        assert both > score(transform, x, down, 0, activation) > 0


def test_for_the_second_class_the_score_has_the_opposite_sign():
    transform, x, h = rotation(0.3), pair(0.2, 0.9), pair(0.5, -0.4)
    first = score(transform, x, h, 0, jax.nn.sigmoid)
    assert abs(first) > 0.01
    assert score(transform, x, h, 1, jax.nn.sigmoid) == pytest.approx(-first)


def test_under_leaky_relu_the_image_as_heatmap_scores_a1_minus_a2_for_non_negative_amounts():
    for theta in ANGLES:
        for amounts in (pair(0.95, 0.05), pair(0.55, 0.45), pair(3.0, 0.0)):
            x = sample(rotation(theta), amounts)
            reached = score(rotation(theta), x, x, 0, jax.nn.leaky_relu)
            assert reached == pytest.approx(amounts[0] - amounts[1])


def test_under_leaky_relu_the_image_as_heatmap_scoring_a1_minus_a2_for_any_amounts_does_not_hold():
    """§2 derives a_1 - a_2 from a_1 > a_2 alone; with a negative a_2 the score is a_1 - 0.01 a_2.

    It is still positive: the heatmap still helps.
    """
    x = sample(rotation(0.3), pair(0.5, -2.0))
    reached = score(rotation(0.3), x, x, 0, jax.nn.leaky_relu)
    assert reached == pytest.approx(0.52)
    assert abs(reached - 2.5) > 1


def test_under_sigmoid_the_image_as_heatmap_no_longer_helps_far_from_zero():
    scores = []
    for scale in (1, 5, 10, 20):
        x = sample(rotation(0.3), pair(2.0 * scale, 1.0 * scale))
        scores.append(abs(score(rotation(0.3), x, x, 0, jax.nn.sigmoid)))
        x = sample(rotation(0.3), pair(1.0 * scale, -1.0 * scale))
        scores.append(abs(score(rotation(0.3), x, x, 0, jax.nn.sigmoid)))
    assert scores[0] > 0.03  # a = (2, 1): -0.047, see the next test
    assert max(scores[4:]) < 1e-4  # |a_1 - a_2| is 10 to 40


def test_under_sigmoid_the_image_as_heatmap_can_lower_the_score():
    """§2 says "no longer increase the score significantly"; a = (3, 1) loses 0.105."""
    x = sample(rotation(0.3), pair(3.0, 1.0))
    assert score(rotation(0.3), x, x, 0, jax.nn.sigmoid) == pytest.approx(-0.105, abs=0.001)


# --- §2: eqs. 2 to 4


def test_equation_2_writes_the_heatmap_in_the_basis_of_the_samples():
    weights = pair(0.4, -1.7)
    for transform, amounts in samples():
        h = weights * sample(transform, amounts)
        a, b = unmix(transform, h)
        assert np.allclose(a * transform[:, 0] + b * transform[:, 1], h, atol=1e-12)


def test_equation_3_holds_as_printed_for_any_invertible_matrix():
    """Its indices are right; it only puts the second term's sign in front."""
    weights = pair(0.4, -1.7)
    for transform, (a1, a2) in samples():
        w, v = np.asarray(transform), np.linalg.inv(transform)
        printed = weights[0] * (v[0, 0] - v[1, 0]) * (a1 * w[0, 0] + a2 * w[0, 1])
        printed -= weights[1] * (v[1, 1] - v[0, 1]) * (a1 * w[1, 0] + a2 * w[1, 1])
        assert delta(weights, transform, pair(a1, a2)) == pytest.approx(float(printed), rel=1e-10)


def test_the_gradient_in_equation_4_is_that_of_delta():
    for transform, amounts in samples():
        for weights in (pair(1.0, 1.0), pair(-3.0, 0.2)):
            expected = jax.grad(delta)(weights, transform, amounts)
            assert np.allclose(delta_gradient(transform, amounts), expected, atol=1e-12)


def test_the_expansion_before_equation_3_does_not_hold():
    """It has x_2 = a_2 W_21 + a_2 W_22; the first a_2 must be a_1, as eq. 3 itself has it.

    At θ = π/2 the sample has x_2 = 0.95, and the printed expansion 0.05.
    """
    transform, (a1, a2) = rotation(PI / 2), pair(0.95, 0.05)
    x2 = sample(transform, pair(a1, a2))[1]
    assert x2 == pytest.approx(a1 * transform[1, 0] + a2 * transform[1, 1])
    assert x2 == pytest.approx(0.95)
    assert a2 * transform[1, 0] + a2 * transform[1, 1] == pytest.approx(0.05)


def test_the_score_written_after_equation_3_does_not_hold():
    """σ(a_1) - σ(a_2) + σ(A) - σ(B) is not eq. 1: h = 0 scores 0, and the formula a_1 - a_2.

    For the raw σ, eq. 1 is A - B; the formula is too large by a_1 - a_2.
    """
    for transform, amounts in samples():
        x = sample(transform, amounts)
        assert score(transform, x, jnp.zeros(2), 0) == 0
        h = closed_form_heatmap(transform, amounts)
        a, b = unmix(transform, h)
        assert score(transform, x, h, 0) == pytest.approx(float(a - b), rel=1e-9)
        assert abs(amounts[0] - amounts[1]) > 0.05


def test_weights_that_maximise_delta_do_not_exist_so_the_argmax_does_not_hold():
    """§2 seeks w* = argmax (A - B), but Δ is linear in w: it grows without bound along ∇Δ."""
    transform, amounts = rotation(0.3), pair(0.95, 0.05)
    gradient = delta_gradient(transform, amounts)
    reached = [delta(1 + far * gradient, transform, amounts) for far in (0.0, 1.0, 1000.0)]
    assert reached[2] - reached[0] == pytest.approx(1000 * (reached[1] - reached[0]))
    assert reached[2] > 1000


def test_delta_grows_by_the_rate_times_the_squared_gradient_at_every_step():
    for transform, amounts in samples():
        ascent = gradient_ascent(transform, amounts, rate=0.1, num_steps=12)
        rise = 0.1 * (delta_gradient(transform, amounts) ** 2).sum()
        assert ascent.objective.shape == (13,)
        assert np.allclose(np.diff(ascent.objective), rise, rtol=1e-9)
        assert rise > 0


def test_k_steps_move_the_weights_k_times_as_far_as_one():
    for transform, amounts in samples():
        one = gradient_ascent(transform, amounts, rate=0.1, num_steps=1).weights
        seven = gradient_ascent(transform, amounts, rate=0.1, num_steps=7).weights
        assert np.allclose(seven - 1, 7 * (one - 1), atol=1e-12)


def test_in_the_figures_a_larger_delta_is_a_larger_score_under_every_activation(table):
    assert (table["delta_after"] > table["delta_before"]).all()
    assert (table["leaky_relu_after"] > table["leaky_relu_before"]).all()
    assert (table["sigmoid_after"] > table["sigmoid_before"]).all()  # least rise: 0.0006


def test_a_larger_delta_raising_the_score_of_any_increasing_activation_does_not_hold():
    """§2: maximising Δ "will clearly optimize" the score if σ is strictly increasing.

    For a = (8, -0.87) at θ = -π/32, Δ rises from 8.9 to 72.7, but B rises too, from -0.87 to 2.13,
    where A's gain is lost in the sigmoid's flat end: the score falls from 0.146 to -0.484.
    """
    transform, amounts = rotation(-PI / 32), pair(8.0, -0.8684)
    x = sample(transform, amounts)
    h = closed_form_heatmap(transform, amounts, 1.2)
    assert score(transform, x, h, 0) > score(transform, x, x, 0) + 60
    before, after = (score(transform, x, heat, 0, jax.nn.sigmoid) for heat in (x, h))
    assert before == pytest.approx(0.146, abs=0.001)
    assert after == pytest.approx(-0.484, abs=0.001)


def test_ascending_the_sigmoid_score_itself_raises_it_where_ascending_delta_lowers_it():
    transform, amounts = rotation(-PI / 32), pair(8.0, -0.8684)
    objective = partial(score_of_weights, activation=jax.nn.sigmoid)
    scores = gradient_ascent(
        transform, amounts, rate=0.1, num_steps=12, objective=objective
    ).objective
    assert (np.diff(scores) > 0).all()


# --- the files


def test_both_figures_hold_the_whole_turn_and_figure_1_draws_its_windows():
    for windows in (FIGURE_1_WINDOWS, FIGURE_6_WINDOWS):
        table = figure_table(windows)
        assert len(table) == 3 * 257
        for a1, (low, high) in zip((DISTINCT, MIDDLE, ALIKE), windows, strict=True):
            rows = table[np.isclose(table["a1"], a1)]
            assert rows["theta"][[0, -1]] == pytest.approx([-PI, PI])
            drawn = rows["theta"][rows["drawn"]]
            assert drawn[[0, -1]] == pytest.approx([low, high])


def test_figure_1_draws_where_samples_are_all_but_non_negative_and_figure_6_the_whole_turn():
    first, sixth = figure_table(FIGURE_1_WINDOWS), figure_table(FIGURE_6_WINDOWS)
    shown = first[first["drawn"]]
    assert len(shown) == 3 * 65  # a quarter turn each
    assert min(shown["x1"].min(), shown["x2"].min()) > -0.08  # -0.071 at -π/4, a_1 = 0.55
    assert sixth["drawn"].all()


def test_run_toy_writes_tables_and_pictures_into_a_new_folder(tmp_path, table):
    paths = run_toy(tmp_path / "a" / "b")
    assert [path.name for path in paths] == [
        f"{name}.{ending}" for name in ("figure1", "figure6") for ending in ("csv", "png", "svg")
    ]
    assert sorted((tmp_path / "a" / "b").iterdir()) == sorted(paths)
    read = np.genfromtxt(paths[3], delimiter=",", names=True)
    assert read.dtype.names == table.dtype.names
    for name in table.dtype.names:
        assert np.allclose(read[name], table[name], rtol=1e-8)
    for png, svg in (paths[1:3], paths[4:6]):
        assert png.read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in svg.read_bytes()[:1000]


def test_run_toy_refuses_a_file_as_its_folder_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for output in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(UserError, match="cannot write the figures to") as caught:
            run_toy(output)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "taken").read_text() == "mine"


def test_ticks_are_fractions_of_pi_in_lowest_terms():
    names = [_as_fraction_of_pi(quarters) for quarters in (-4, -3, -2, 0, 1, 6)]
    assert names == [r"$-\pi$", r"$-3\pi/4$", r"$-\pi/2$", "$0$", r"$\pi/4$", r"$3\pi/2$"]
