"""GAX over arrays, as in a notebook, with models of the user's own."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

import gaxjax
from gaxjax.models.classifier import renormalized

PIXELS = tiny.images(6)
LABELS = tiny.predictions(PIXELS, tiny.classifier())
CONFIG = gaxjax.GaxConfig(target=60.0, max_steps=40)


@pytest.fixture(scope="module")
def solutions():
    return gaxjax.explain(tiny.network(), PIXELS, LABELS, CONFIG, mean=tiny.MEAN, std=tiny.STD)


def test_solutions_come_in_order_with_stacked_fields(solutions):
    assert len(solutions) == 6
    assert [solution.index for solution in solutions] == list(range(6))
    assert solutions.outcome == [gaxjax.Outcome.REACHED] * 6
    assert solutions.heatmap.shape == (6, tiny.SIZE, tiny.SIZE, 3)
    assert solutions.heatmap.dtype == np.float32
    assert np.all(np.abs(solutions.heatmap) <= 1)
    assert np.all(solutions.co_score >= 60)
    assert [len(curve) for curve in solutions.curve] == (solutions.steps + 1).tolist()
    assert np.all(solutions.probability_after >= solutions.probability_before)
    assert repr(solutions) == "Solutions(6 images: 6 reached)"
    assert repr(solutions[2:4]) == "Solutions(2 images: 2 reached)"


@pytest.mark.slow
def test_float_images_give_the_same_as_uint8(solutions):
    floats = gaxjax.explain(
        tiny.network(),
        PIXELS.astype(np.float32) / 255,
        LABELS,
        CONFIG,
        mean=tiny.MEAN,
        std=tiny.STD,
    )
    assert floats.steps.tolist() == solutions.steps.tolist()
    np.testing.assert_allclose(floats.co_score, solutions.co_score, rtol=1e-4)


def test_a_plain_function_and_a_pytree_give_the_same(solutions):
    weights = tiny.weights()

    def net(images):
        return tiny._network(weights, images)

    closed = gaxjax.explain(net, PIXELS, LABELS, CONFIG, mean=tiny.MEAN, std=tiny.STD)
    np.testing.assert_allclose(closed.co_score, solutions.co_score, rtol=1e-4)


def test_a_flax_module_works(solutions):
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.head = nnx.Linear(8, 4, rngs=rngs)

        def __call__(self, images):
            return 30 * self.head(nnx.relu(self.conv(images)).mean((1, 2)))

    model = Net(nnx.Rngs(0))
    labels = np.asarray(model(jnp.asarray(PIXELS, jnp.float32) / 255).argmax(-1))
    found = gaxjax.explain(model, PIXELS, labels, gaxjax.GaxConfig(target=5.0, max_steps=30))
    assert set(found.outcome) <= {gaxjax.Outcome.REACHED, gaxjax.Outcome.STEP_LIMIT}
    assert np.all(np.isfinite(found.co_score))


def test_a_flax_module_in_training_mode_is_explained_at_rest_and_left_alone():
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(8, 4, rngs=rngs)

        def __call__(self, images):
            x = nnx.relu(self.norm(self.conv(images)))
            return 30 * self.head(self.dropout(x.mean((1, 2))))

    model = Net(nnx.Rngs(0))
    found = gaxjax.explain(
        model,
        PIXELS,
        np.zeros(6, np.int32),
        gaxjax.GaxConfig(max_steps=2, include_misclassified=True),
    )
    assert np.all(np.isfinite(found.co_score))
    assert model.norm.use_running_average is False
    assert model.dropout.deterministic is False


@pytest.mark.slow
def test_running_out_of_memory_loses_no_image(monkeypatch):
    from gaxjax.gax.program import Program

    made = Program.__init__

    def greedy(self, *arguments, slots, **keywords):
        if slots > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        made(self, *arguments, slots=slots, **keywords)

    monkeypatch.setattr(Program, "__init__", greedy)
    pixels = tiny.images(21)
    labels = tiny.predictions(pixels, tiny.classifier())
    engine = gaxjax.EngineConfig(slots=8)
    found = gaxjax.explain(tiny.classifier(), pixels, labels, CONFIG, engine=engine)
    assert len(found) == 21


def test_a_normalisation_given_besides_replaces_the_models_own():
    config = gaxjax.GaxConfig(max_steps=2, include_misclassified=True)
    assumed = dataclasses.replace(
        tiny.classifier(normalized=False), assumptions={"normalization": "none", "weights": "EMA"}
    )
    found = gaxjax.explain(assumed, PIXELS, LABELS, config, mean=tiny.MEAN, std=tiny.STD)
    declared = gaxjax.explain(tiny.classifier(), PIXELS, LABELS, config)
    np.testing.assert_array_equal(found.heatmap, declared.heatmap)
    other = renormalized(assumed, tiny.MEAN, tiny.STD)
    assert other.assumptions == {"weights": "EMA"}
    assert other.fingerprint != assumed.fingerprint
    assert renormalized(other, list(tiny.MEAN), tiny.STD).fingerprint == other.fingerprint


def test_images_without_a_heatmap_are_nan_in_the_stack():
    labels = LABELS.copy()
    labels[2] = (labels[2] + 1) % tiny.CLASSES
    found = gaxjax.explain(tiny.classifier(), PIXELS, labels, CONFIG)
    assert found.outcome[2] is gaxjax.Outcome.MISCLASSIFIED
    assert np.isnan(found.co_score[2])
    assert found.steps[2] == -1
    assert np.all(np.isnan(found.heatmap[2]))
    assert np.all(np.isfinite(found.heatmap[3]))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (PIXELS[0], LABELS, r"images have shape \(12, 12, 3\); expected \[N, H, W, 3\]"),
        (PIXELS[:0], LABELS[:0], r"expected \[N, H, W, 3\] \(channels last, RGB\), N ≥ 1"),
        (PIXELS.transpose(0, 3, 1, 2), LABELS, r"channels last"),
        (PIXELS.astype(np.int32), LABELS, "images have type int32; expected uint8"),
        (PIXELS.astype(np.float32), LABELS, r"run from 0 to 255; expected \[0, 1\]"),
        (np.full((6, 12, 12, 3), np.nan, np.float32), LABELS, r"expected \[0, 1\]"),
        (PIXELS, LABELS[:3], "expected one integer for each of the 6 images"),
        (PIXELS, LABELS.astype(float), "expected one integer for each of the 6 images"),
        (PIXELS, LABELS + 5, "the model has classes 0 to 4"),
    ],
)
def test_arrays_that_do_not_fit_are_one_clear_line(images, labels, said):
    with pytest.raises(gaxjax.UserError, match=said):
        gaxjax.explain(tiny.classifier(), images, labels)


def test_a_model_without_logits_is_one_clear_line():
    with pytest.raises(gaxjax.UserError, match=r"expected logits \[1, C\]"):
        gaxjax.explain(lambda images: images.mean(), PIXELS, LABELS)


def test_weights_are_arguments_and_not_constants():
    model = gaxjax.as_classifier(tiny.network(), num_classes=tiny.CLASSES)
    shape = jax.ShapeDtypeStruct((1, tiny.SIZE, tiny.SIZE, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(model.apply)(model.weights, shape)
    assert jaxpr.consts == []
    assert len(jax.tree.leaves(model.weights)) == 3


def test_a_solution_shows_itself_as_a_picture(solutions):
    from PIL import Image

    png = solutions[0]._repr_png_()
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * picture.height
    scored = dataclasses.replace(solutions[0], method="saliency", curve=None, steps=None)
    with Image.open(io.BytesIO(scored._repr_png_())) as without_curve:
        assert without_curve.width < picture.width
    unread = gaxjax.Solution(0, gaxjax.Outcome.UNREADABLE, label=-1, reason="truncated")
    assert unread._repr_png_() is None


def test_solutions_show_themselves_as_a_table_of_the_first_ten(solutions):
    html = solutions._repr_html_()
    assert html.startswith("<p>6 images: 6 reached</p><table>")
    assert html.count("<tr>") == 1 + 6
    assert f"<td>{solutions[2].co_score:.2f}</td>" in html
    unread = gaxjax.Solution(0, gaxjax.Outcome.UNREADABLE, label=-1, reason="<b>&truncated")
    many = gaxjax.Solutions((unread,) + solutions.items * 2)
    html = many._repr_html_()
    assert html.count("<tr>") == 1 + 10
    assert html.endswith("<p>… and 3 more</p>")
    assert "<p>13 images: 12 reached, 1 unreadable</p>" in html
    assert "<td>&lt;b&gt;&amp;truncated</td>" in html
    assert "<p>0 images: none</p>" in gaxjax.Solutions(())._repr_html_()
