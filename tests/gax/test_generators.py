"""Other generators through the whole engine, and one of the user's own."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import tiny

from gaxjax.common.devices import same_bits_at_any_count
from gaxjax.common.errors import UserError
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.gax.engine import GaxEngine
from gaxjax.gax.generator import Generator
from gaxjax.gax.heatmap import total_variation
from gaxjax.gax.objective import Objective
from gaxjax.gax.replay import Replay, Watched
from gaxjax.results.solution import Outcome
from gaxjax.runs.arrays import explain
from gaxjax.score import co_score

PIXELS = tiny.images(20)
CLASSIFIER = tiny.classifier()
LABELS = tiny.predictions(PIXELS, CLASSIFIER)
SAME_BITS = same_bits_at_any_count(jax.devices()[0])

CHOICES = {
    "smooth": {"generator": "smooth", "sigma": 1.0, "bias": True},
    "coarse": {"generator": "coarse", "grid": 5},
}
WATCHED = 3


@pytest.fixture(scope="module", params=CHOICES)
def solved(request):
    gax = GaxConfig(target=20.0, max_steps=40, **CHOICES[request.param])
    return gax, *tiny.solve(PIXELS, LABELS, gax)


def test_images_reach_the_target_and_stored_heatmaps_hold_their_scores(solved):
    _, found, _ = solved
    assert {solution.outcome for solution in found.values()} == {Outcome.REACHED}
    for solution in found.values():
        assert solution.heatmap.shape == (tiny.SIZE, tiny.SIZE, 3)
        x = PIXELS[solution.index].astype(np.float32) / 255
        pixels = jnp.stack([x, x + solution.heatmap.astype(np.float32)])
        before, after = CLASSIFIER.apply(CLASSIFIER.weights, CLASSIFIER.normalize(pixels))
        score = co_score(after, before, solution.label)
        assert float(score) == pytest.approx(solution.co_score, rel=5e-6, abs=5e-5)
    assert max(solution.steps for solution in found.values()) > 3


def test_neighbours_and_slots_change_no_bit(solved):
    gax, found, _ = solved
    again, _ = tiny.solve(PIXELS, LABELS, gax, order=[3, 11, 12, 19, 0, 7], slots=16)
    assert len(again) == 6
    for index, solution in again.items():
        assert solution.steps == found[index].steps
        for name in ("curve", "heatmap", "co_score"):
            ours, theirs = getattr(solution, name), getattr(found[index], name)
            if SAME_BITS:
                np.testing.assert_array_equal(ours, theirs, name)
            else:
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-3, err_msg=name)


def test_a_replay_goes_the_way_of_the_run(solved):
    _, found, worker = solved
    solution = found[WATCHED]
    replay = Replay(worker.objective, worker.devices[0], worker.slots, worker.heatmap_dtype)
    image = Watched(
        PIXELS[WATCHED], int(LABELS[WATCHED]), solution.steps, solution.steps, [0, solution.steps]
    )
    [again] = replay.run([image], lambda: None)
    np.testing.assert_array_equal(again.curve, solution.curve)
    np.testing.assert_array_equal(again.final, solution.heatmap)


def test_a_generator_is_refused_by_the_engine_that_knows_the_size():
    gax = GaxConfig(generator="coarse", grid=tiny.SIZE + 1)
    with pytest.raises(UserError, match="--grid 13 is more than the images have pixels, 12 × 12"):
        GaxEngine(CLASSIFIER, gax, EngineConfig(), image_shape=PIXELS.shape[1:])


# --- Of one's own --------------------------------------------------------------------------------

GAX = GaxConfig(target=40.0, max_steps=20)
ENGINE = EngineConfig(slots=4)
FEW = slice(0, 6)


@pytest.fixture
def unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)  # as outside tests
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def explained(generator, gax=GAX):
    return explain(CLASSIFIER, PIXELS[FEW], LABELS[FEW], gax, engine=ENGINE, generator=generator)


def test_the_papers_own_function_gives_the_papers_bits():
    plain = explained(None)
    own = explained(Generator(lambda w, x: jnp.tanh(w * x), jnp.ones_like))
    for one, other in zip(plain, own, strict=True):
        assert one.steps == other.steps
        np.testing.assert_array_equal(one.curve, other.curve)
        np.testing.assert_array_equal(one.heatmap, other.heatmap)


def test_w_may_be_a_tree_of_any_shapes():
    def function(w, x):
        return jnp.tanh(w["gain"] * x + w["shade"][None, :, None])

    def initial(x):
        return {"gain": jnp.ones((*x.shape[:2], 1)), "shade": jnp.zeros(x.shape[1])}

    found = explained(Generator(function, initial))
    assert max(found.steps) > 0
    shade = np.arctanh(found[0].heatmap) / 1  # one gain for three channels: h lies on a line
    x = PIXELS[0].astype(np.float32) / 255
    slopes = (shade[..., 0] - shade[..., 1]) - (shade[..., 1] - shade[..., 2]) * (
        (x[..., 0] - x[..., 1]) / (x[..., 1] - x[..., 2])
    )
    assert np.abs(slopes[np.isfinite(slopes)]).max() < 1e-3


def test_what_a_function_reads_may_change_between_two_calls():
    gain = [1.0]
    generator = Generator(lambda w, x: jnp.tanh(gain[0] * w * x), jnp.ones_like)
    first = explained(generator)
    gain[0] = 0.5
    assert explained(generator)[0].curve[0] != first[0].curve[0]


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (Generator(lambda w, x: w, lambda x: 1), "the first w is int32 of shape"),
        (Generator(lambda w, x: w, lambda x: ()), "the first w is a tuple; expected an array"),
        (
            Generator(lambda w, x: w[..., 0] * x[..., 0], jnp.ones_like),
            r"h is float32 of shape \(12, 12\); expected floats of the image's shape, \(12, 12",
        ),
        (Generator(lambda w, x: x, lambda x: jnp.log(-x)), "w is not finite"),
        (Generator(lambda w, x: x / (w - 1), jnp.ones_like), "h is not finite"),
        (Generator(lambda w, x: jnp.sqrt(w) * x, jnp.zeros_like), "gradient of h by w is not"),
        (
            Generator(lambda w, x: np.asarray(w) * x, jnp.ones_like),
            r"function fails when JAX traces it \(TracerArrayConversionError: ",
        ),
        (Generator(lambda w: w, jnp.ones_like), r"function fails .*\(TypeError: "),
    ],
)
def test_what_cannot_be_a_generator_is_refused_in_a_line(generator, message):
    with pytest.raises(UserError, match=message) as caught:
        explained(generator)
    assert "\n" not in str(caught.value)


def test_a_generator_takes_the_place_of_the_configs():
    with pytest.raises(UserError, match="leave generator and bias out of config"):
        explained(Generator(lambda w, x: w * x, jnp.ones_like), GaxConfig(bias=True))


def test_what_is_no_generator_is_refused_in_a_line(unchecked):
    with pytest.raises(UserError, match=r"'smooth' \(str\); expected gaxjax.Generator\(function, "):
        explained("smooth")
    with pytest.raises(UserError, match="function is None; expected a function"):
        Generator(None, jnp.ones_like)


def test_the_loss_has_the_heatmaps_total_variation_and_the_score_does_not():
    x = jnp.asarray(PIXELS[:2], jnp.float32) / 255
    given = ({"w": x}, CLASSIFIER.weights, x, jnp.asarray(LABELS[:2]), jnp.zeros(2))
    (plain, scores), (rough, same) = (
        Objective(
            CLASSIFIER, GaxConfig(total_variation_factor=factor), "highest"
        ).losses_and_scores(*given)
        for factor in (0.0, 30.0)
    )
    np.testing.assert_array_equal(scores, same)
    expected = [30 * float(total_variation(jnp.tanh(one * one))) for one in x]
    np.testing.assert_allclose(rough - plain, expected, rtol=1e-4)
