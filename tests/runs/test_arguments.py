"""What people give in a notebook by mistake: one line each, with the argument and the mend."""

import functools

import flax.linen as linen
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import tiny
import torch
from flax import nnx
from PIL import Image

import gaxjax
from gaxjax.config import AxRunConfig, GaxRunConfig
from gaxjax.gax.objective import Objective
from gaxjax.models.tracing import check_engine, check_outputs
from gaxjax.runs.arguments import checked_images, checked_labels, opened_model
from gaxjax.runs.opening import chosen_images

PIXELS = tiny.images(2)
LABELS = np.zeros(2, np.int32)
FLOATS = PIXELS.astype(np.float32) / 255
KERNEL = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)


@pytest.fixture(autouse=True)
def _as_outside_tests():
    """Types are not checked before a function runs, as they are under test."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def logits(images):
    return images.mean((1, 2)) @ KERNEL


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(4)(x.mean((1, 2)))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(x.mean((1, 2)))


class NetWithFlag(Net):
    def __call__(self, x, train):
        return self.head(x.mean((1, 2)))


class Keras:
    def predict(self, x):
        return np.zeros((len(x), 4))


class State:
    apply_fn, params = None, None


class Output:
    def __init__(self, logits):
        self.logits = logits


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError


def wordless():
    raise Wordless


DELETED = jnp.ones((3, 4))
DELETED.delete()
LINEN = Linen()
VARIABLES = LINEN.init(jax.random.key(0), PIXELS / np.float32(255))


def only_eight(images):
    return images.reshape(8, -1)[:, :4]


def of_size_32(images):
    return images.reshape(len(images), -1) @ jnp.ones((32 * 32 * 3, 4))


def branching(images):
    return logits(images) if images.mean() > 0.5 else -logits(images)


def batch_norm(images):
    z = logits(images)
    return (z - z.mean(0)) / (z.std(0) + 1e-3)


MODELS = {
    "torch module of features": (torch.nn.Linear(3, 4), "Linear"),
    "torch class": (torch.nn.Linear, "the class Linear itself is no model"),
    "torch tensor": (torch.zeros(3), "PyTorch's"),
    "torch state dict": (torch.nn.Linear(3, 4).state_dict(), "PyTorch's, .*convert_module"),
    "(torch module, weights)": ((torch.nn.Linear(3, 4), {}), "convert_module"),
    "Linen module": (LINEN, "without its variables: give .*module.apply"),
    "Linen class": (Linen, r"the class Linen itself .*Linen\(…\)"),
    "(Linen, variables)": ((LINEN, VARIABLES), "lambda images: module.apply"),
    "[Linen, variables]": ([LINEN, VARIABLES], "lambda images: module.apply"),
    "variables": (VARIABLES, "weights without a function: give jax.tree_util.Partial"),
    "(function, weights)": ((lambda w, x: x, {}), "jax.tree_util.Partial"),
    "nnx.split": (nnx.split(Net(nnx.Rngs(0))), r"nnx.merge\(graphdef, state\)"),
    "nnx graph": (nnx.graphdef(Net(nnx.Rngs(0))), r"nnx.merge\(graphdef, state\)"),
    "nnx state": (nnx.state(Net(nnx.Rngs(0))), "weights without a function"),
    "nnx class": (Net, "the class Net itself"),
    "nnx of shapes": (nnx.eval_shape(lambda: Net(nnx.Rngs(0))), "a shape without values"),
    "nnx that wants train=": (NetWithFlag(nnx.Rngs(0)), "bind its other arguments"),
    "None": (None, "model: None cannot be called"),
    "number": (3, r"model: 3 \(int\) cannot be called"),
    "array": (np.zeros(3), "a numpy ndarray cannot be called"),
    "Keras-like": (Keras(), "has it one in its method 'predict'"),
    "TrainState-like": (State(), "state.apply_fn"),
    "no such path": ("nowhere.ckpt", "nowhere.ckpt"),
    "config": (gaxjax.GaxConfig(), "a GaxConfig cannot be called"),
    "NumPy inside": (lambda x: jnp.asarray(np.asarray(x).mean((1, 2))), "uses NumPy on its im"),
    "NumPy function": (lambda x: np.tanh(np.array(x)), "uses NumPy on its images"),
    "if on values": (branching, "decides by the values of its images"),
    "float()": (lambda x: logits(x) * float(x.mean()), "decides by the values"),
    "boolean index": (lambda x: x[x > 0.5], "decides by the values"),
    "callback": (
        lambda x: jax.pure_callback(
            lambda x: np.zeros((len(x), 4), np.float32),
            jax.ShapeDtypeStruct((len(x), 4), jnp.float32),
            x,
            vmap_method="sequential",
        ),
        "cannot be differentiated",
    ),
    "NumPy result": (lambda x: np.zeros((len(x), 4), np.float32), "a numpy ndarray; .*jax.numpy"),
    "nothing returned": (lambda x: None, r"into None; .*does it lack a `return`\?"),
    "tuple": (lambda x: (logits(x), x), r"into a tuple; .*take one of its 2 items"),
    "dict": (lambda x: {"logits": logits(x)}, r"into a dict; .*items \('logits'\)"),
    "output object": (lambda x: Output(logits(x)), r"Output; .*take its `.logits`"),
    "list of lists": (lambda x: [[1.0, 2.0]], "into a list"),
    "scalar": (lambda x: x.mean(), r"into float32\[\]; expected logits \[1, C\]"),
    "[C]": (lambda x: logits(x)[0], r"into float32\[4\]; .*keep the axis of the batch"),
    "[1, C, 1, 1]": (lambda x: logits(x)[:, :, None, None], r"reshape\(len\(images\), -1\)"),
    "[1, H, W, C]": (lambda x: x, r"into float32\[1, 12, 12, 3\]"),
    "integers": (lambda x: logits(x).argmax(-1), "int32.*floats before any argmax"),
    "one-hot": (lambda x: jax.nn.one_hot(logits(x).argmax(-1), 4, dtype=int), "before any argmax"),
    "complex": (lambda x: logits(x) + 1j, "complex64"),
    "one logit": (lambda x: logits(x)[:, :1], r"1 logit, .*jnp.zeros_like\(z\)"),
    "one batch size": (only_eight, "is a batch of 8 written into it"),
    "the user's batch size": (
        lambda x: x.reshape(2, 12 * 12 * 3) @ jnp.ones((432, 4)),
        "takes batches of 2 alone",
    ),
    "another image size": (of_size_32, "takes images of 32 × 32, .*resize them"),
    "channels first": (
        lambda x: jnp.einsum("bchw,ck->bk", x, KERNEL),
        r"wants channels first .*transpose\(0, 3, 1, 2\)",
    ),
    "one image alone": (lambda x: jnp.einsum("hwc,ck->k", x, KERNEL), "one image, .*jax.vmap"),
    "raises": (lambda x: 1 / 0, "ZeroDivisionError: division by zero"),
    "a deleted array": (lambda x: x.mean((1, 2)) @ DELETED, "Array has been deleted"),
    "no classes": (lambda x: logits(x)[:, :0], "0 logits, and a CO score compares classes"),
    "a loop without end": (
        lambda x: jax.lax.while_loop(lambda y: y.mean() < 1, lambda y: y + 1, logits(x)),
        "cannot be differentiated",
    ),
    "an error without words": (lambda x: wordless(), r"raises for .*\(Wordless\)"),
    "two arguments": (lambda params, x: logits(x), "bind its other arguments"),
    "softmax": (lambda x: jax.nn.softmax(logits(x)), r"returns probabilities .*before its softmax"),
    "per cent": (lambda x: 100 * jax.nn.softmax(logits(x)), "returns probabilities"),
    "sharp softmax": (lambda x: jax.nn.softmax(1e4 * logits(x)), "returns probabilities"),
    "[1 - p, p]": (
        lambda x: jnp.stack(
            [1 - jax.nn.sigmoid(logits(x)[:, 0]), jax.nn.sigmoid(logits(x)[:, 0])], 1
        ),
        "returns probabilities",
    ),
    "softmax over the batch": (lambda x: jax.nn.softmax(logits(x), 0), "beside it in the batch"),
    "batch norm in training": (batch_norm, "beside it in the batch.*training mode"),
    "mean taken off": (lambda x: logits(x - x.mean(0)), "beside it in the batch"),
    "dropout left on": (
        lambda x: logits(x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)),
        "beside it in the batch",
    ),
}


@pytest.mark.parametrize(
    "call", [gaxjax.explain, pytest.param(gaxjax.attribute, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_classifier_is_one_clear_line(call, name):
    model, said = MODELS[name]
    with pytest.raises(gaxjax.UserError, match=said) as caught:
        call(model, PIXELS, LABELS)
    assert str(caught.value).isprintable()


def test_jaxs_own_error_is_the_cause():
    with pytest.raises(gaxjax.UserError) as caught:
        gaxjax.explain(branching, PIXELS, LABELS)
    assert isinstance(caught.value.__cause__, jax.errors.TracerBoolConversionError)


def test_an_interruption_passes_through():
    def interrupted(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gaxjax.explain(interrupted, PIXELS, LABELS)


BOUND = LINEN.bind(VARIABLES)
FINE = {
    "function": logits,
    "partial": functools.partial(lambda w, x: x.mean((1, 2)) @ w, KERNEL),
    "Partial": jax.tree_util.Partial(lambda w, x: x.mean((1, 2)) @ w, KERNEL),
    "jitted": jax.jit(logits),
    "NNX": Net(nnx.Rngs(0)),
    "NNX in a lambda": functools.partial(NetWithFlag(nnx.Rngs(0)), train=False),
    "Linen in a lambda": lambda x: LINEN.apply(VARIABLES, x),
    "bfloat16": lambda x: logits(x).astype(jnp.bfloat16),
    "bfloat16 inside": lambda x: (
        x.astype(jnp.bfloat16).mean((1, 2)) @ KERNEL.astype(jnp.bfloat16)
    ).astype(jnp.float32),
    "one image at a time": lambda x: logits(x.reshape(1, 12, 12, 3)),
    "log-softmax": lambda x: jax.nn.log_softmax(logits(x)),
    "pixel means": lambda x: x.mean((1, 2)),
    "far from zero": lambda x: logits(x) + 1e4,
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_a_classifier_passes_without_a_doubt(name):
    classifier, labels = opened_model(FINE[name], PIXELS, LABELS, None, None, fold=True)
    check_engine(classifier, (12, 12, 3), np.uint8)
    assert check_outputs(classifier, PIXELS) == ()
    assert labels.dtype == np.int32
    assert classifier.num_classes == (3 if name == "pixel means" else 4)


def test_log_softmax_gives_the_scores_and_gradients_of_the_logits():
    plain, logarithms = (
        Objective(gaxjax.as_classifier(FINE[name], num_classes=4), gaxjax.GaxConfig(), "float32")
        for name in ("function", "log-softmax")
    )
    images, labels = jnp.asarray(FLOATS[:1]), jnp.array([2])
    weights = {"w": jnp.full(images.shape, 0.7)}
    zeros = jnp.zeros(1)
    found = []
    for objective in (plain, logarithms):
        baseline = objective.baseline([], images, labels)
        stepped = objective.scores_and_gradients(weights, [], images, labels, zeros)
        found.append((baseline, stepped))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *found)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda x: jax.nn.sigmoid(logits(x)), r"whatever it is shown, as after a sigmoid"),
        (lambda x: 0 * logits(x), "returns the same for every image tried"),
    ],
    ids=["sigmoid", "constant"],
)
def test_what_may_be_no_fault_is_said_and_goes_on(model, said):
    config = gaxjax.AxConfig(methods=("saliency",), operation="sum")
    with pytest.warns(UserWarning, match=said):
        [found] = gaxjax.attribute(model, PIXELS, LABELS, config).values()
    assert len(found) == 2


IMAGES = {
    "None": (None, r"images: None; expected \[N, H, W, 3\]"),
    "path": ("folder/", r"images: 'folder/' \(str\)"),
    "requires grad": (
        torch.from_numpy(FLOATS).requires_grad_(),
        r"a torch Tensor that requires a gradient: give .detach\(\).cpu\(\).numpy\(\)",
    ),
    "list of such": ([torch.zeros(12, 12, 3).requires_grad_()], "requires a gradient"),
    "meta": (torch.zeros(2, 12, 12, 3, device="meta"), r"on meta: give .cpu\(\)"),
    "torch bfloat16": (torch.zeros(2, 12, 12, 3).bfloat16(), r"give .float\(\)"),
    "sparse": (torch.zeros(2, 12, 12, 3).to_sparse(), "that NumPy cannot read"),
    "ragged": ([PIXELS[0], PIXELS[0, :8]], r"\[0\] \(12, 12, 3\) and \[1\] \(8, 12, 3\): make"),
    "ragged objects": (
        np.array([PIXELS[0], PIXELS[0, :8], None], object),
        r"several shapes, \[0\] \(12, 12, 3\)",
    ),
    "with None": ([PIXELS[0], None], "several shapes"),
    "generator": ((image for image in PIXELS), "images: a generator"),
    "dict": ({"image": PIXELS}, "images: a dict"),
    "one picture": (Image.new("RGB", (12, 12)), r"images\[None\]"),
    "grey pictures": ([Image.new("L", (12, 12))] * 2, "makes grey RGB"),
    "RGBA": (np.zeros((2, 12, 12, 4), np.uint8), r"images\[..., :3\]"),
    "grey": (PIXELS[..., 0], r"np.repeat\(images\[..., None\], 3"),
    "grey with axis": (PIXELS[..., :1], r"np.repeat\(images, 3"),
    "channels first": (PIXELS.transpose(0, 3, 1, 2), r"images.transpose\(0, 2, 3, 1\)"),
    "one, channels first": (PIXELS[0].transpose(2, 0, 1), r"transpose\(1, 2, 0\)\[None\]"),
    "one": (PIXELS[0], r"images\[None\]"),
    "none": (PIXELS[:0], "N ≥ 1"),
    "empty list": ([], "N ≥ 1"),
    "no height": (PIXELS[:, :0], r"shape \(2, 0, 12, 3\)"),
    "flat": (PIXELS.reshape(2, -1), r"shape \(2, 432\)"),
    "integers": (PIXELS.astype(int), r"type int64; .*np.asarray\(images, np.uint8\)"),
    "16 bits": (PIXELS.astype(np.uint16) * 257, "type uint16; expected uint8"),
    "bool": (PIXELS > 9, "type bool"),
    "complex": (FLOATS + 0j, "type complex64"),
    "text": (np.full((2, 12, 12, 3), "a"), "type <U1"),
    "0…255 floats": (PIXELS.astype(float), "run from 0 to 255; .*divide by 255"),
    "normalised": (4 * FLOATS - 2, "before normalisation, and the model's mean and std"),
    "NaN": (np.where(np.arange(2)[:, None, None, None] == 1, np.nan, FLOATS), "NaN .*image 1"),
    "infinity": (np.full_like(FLOATS, np.inf), "NaN or infinity, first in image 0"),
    "masked": (np.ma.masked_array(FLOATS, FLOATS < 0.5), "masked in places"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_what_are_no_images_is_one_clear_line(name):
    images, said = IMAGES[name]
    with pytest.raises(gaxjax.UserError, match=said) as caught:
        gaxjax.explain(logits, images, LABELS)
    assert str(caught.value).isprintable()
    assert "images" in str(caught.value)


LABELLED = {
    "None": (None, "labels: None; expected one integer for each of the 2 images"),
    "names": (["cat", "dog"], "labels are texts such as cat"),
    "array of names": (np.array(["cat", "dog"], object), "labels are texts such as cat"),
    "digits as text": (["0", "1"], "labels are texts such as 0"),
    "bytes": (np.array([b"0", b"1"]), "labels are texts"),
    "floats": ([0.0, 1.0], r"labels.astype\(int\), if they are whole numbers"),
    "NaN": ([0, np.nan], "type float64"),
    "bool": ([True, False], "type bool"),
    "one-hot": (np.eye(2, 4, dtype=int), r"labels.argmax\(1\)"),
    "column": (np.zeros((2, 1), int), r"labels\[:, 0\]"),
    "one for all": (3, r"np.full\(len\(images\), label\)"),
    "too few": ([0], r"shape \(1,\)"),
    "too many": ([0, 1, 2], r"shape \(3,\)"),
    "negative": ([0, -1], "labels run from -1 to 0; the model has classes 0 to 3"),
    "past the last": ([0, 4], "labels run from 0 to 4; the model has classes 0 to 3"),
    "past 32 bits": ([0, 2**32 + 3], "labels run from 0 to 4294967299"),
    "uint64": (np.array([0, 2**63], np.uint64), "labels run from 0 to 9223372036854775808"),
    "past 64 bits": ([0, 2**70], "labels are objects such as"),
    "with None": ([0, None], "labels are objects such as"),
    "ragged": ([[0], [1, 2]], "several shapes"),
    "dict": ({0: 1}, "labels: a dict"),
    "set": ({0, 1}, "labels: a set"),
    "requires grad": (torch.zeros(2).requires_grad_(), "requires a gradient"),
    "meta": (torch.zeros(2, device="meta", dtype=int), "on meta"),
}


@pytest.mark.parametrize("name", LABELLED)
def test_what_are_no_labels_is_one_clear_line(name):
    labels, said = LABELLED[name]
    with pytest.raises(gaxjax.UserError, match=said) as caught:
        gaxjax.attribute(logits, PIXELS, labels)
    assert str(caught.value).isprintable()
    assert "labels" in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [[0, 3], (0, 3), np.uint8([0, 3]), np.uint64([0, 3]), torch.tensor([0, 3]), jnp.array([0, 3])],
    ids=["list", "tuple", "uint8", "uint64", "torch", "jax"],
)
def test_integers_of_any_kind_are_labels(labels):
    assert checked_labels(labels, 2).tolist() == [0, 3]


@pytest.mark.parametrize(
    "images",
    [
        list(PIXELS),
        jnp.asarray(PIXELS),
        FLOATS.astype(np.float64),
        (PIXELS // 128).astype(np.float16),
        jnp.asarray(PIXELS // 128, jnp.bfloat16),
        [Image.fromarray(image) for image in PIXELS],
        FLOATS.astype(">f4")[:, ::-1],
        torch.from_numpy(PIXELS),
    ],
    ids=["list", "jax", "float64", "float16", "bfloat16", "pictures", "strange bytes", "torch"],
)
def test_arrays_of_many_kinds_are_images(images):
    pixels = checked_images(images)
    assert pixels.shape == (2, 12, 12, 3)
    assert pixels.dtype in (np.uint8, np.float32)
    np.testing.assert_array_equal(pixels, np.asarray(images).astype(pixels.dtype))


SETTINGS = {
    "dict": (gaxjax.explain, {"config": {"max_steps": 3}}, r"config: a dict; .*\*\*settings"),
    "empty dict": (gaxjax.explain, {"config": {}}, "config: a dict; expected a GaxConfig"),
    "AxConfig": (
        gaxjax.explain,
        {"config": gaxjax.AxConfig()},
        "config: an AxConfig",
    ),
    "GaxConfig": (gaxjax.attribute, {"config": gaxjax.GaxConfig()}, "expected an AxConfig"),
    "class": (gaxjax.explain, {"config": gaxjax.GaxConfig}, "config: the class GaxConfig"),
    "preset": (gaxjax.explain, {"config": "paper"}, r"config: 'paper' \(str\)"),
    "False": (gaxjax.explain, {"config": False}, "config: False"),
    "batch for engine": (
        gaxjax.explain,
        {"engine": gaxjax.BatchConfig()},
        "engine: a BatchConfig; expected an EngineConfig",
    ),
    "number of slots": (gaxjax.explain, {"engine": 8}, r"engine: 8 \(int\)"),
    "engine for batch": (
        gaxjax.attribute,
        {"batch": gaxjax.EngineConfig()},
        "batch: an EngineConfig; expected a BatchConfig",
    ),
    "mean alone": (gaxjax.explain, {"mean": (0.5,) * 3}, "come together"),
    "two means": (gaxjax.explain, {"mean": (0.5, 0.5), "std": (1, 1, 1)}, "mean has 2 numbers"),
    "std of zeros": (gaxjax.explain, {"mean": (0, 0, 0), "std": (1, 0, 1)}, "above 0"),
    "negative std": (gaxjax.explain, {"mean": (0, 0, 0), "std": (1, -1, 1)}, "above 0"),
    "in 0…255": (
        gaxjax.explain,
        {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
        "mean is .*: divide by 255",
    ),
    "texts": (gaxjax.explain, {"mean": "imagenet", "std": "imagenet"}, "mean: 'imagenet'"),
    "list of texts": (gaxjax.explain, {"mean": ["a"] * 3, "std": (1, 1, 1)}, "mean: a list"),
    "NaN mean": (gaxjax.explain, {"mean": (np.nan,) * 3, "std": (1, 1, 1)}, "finite numbers"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_another_kind_are_one_clear_line(name):
    call, settings, said = SETTINGS[name]
    with pytest.raises(gaxjax.UserError, match=said) as caught:
        call(logits, PIXELS, LABELS, **settings)
    assert str(caught.value).isprintable()


def engine(kind, *arguments, **keywords):
    return lambda: kind(*arguments, **{"image_shape": (12, 12, 3)} | keywords)


CLASSIFIER = tiny.classifier()
CALLS = {
    "GaxEngine of a function": (
        engine(gaxjax.GaxEngine, logits, gaxjax.GaxConfig(), gaxjax.EngineConfig()),
        r"classifier: a function; expected a Classifier: .*as_classifier\(model",
    ),
    "GaxEngine of configs swapped": (
        engine(gaxjax.GaxEngine, CLASSIFIER, gaxjax.EngineConfig(), gaxjax.GaxConfig()),
        "gax: an EngineConfig; expected a GaxConfig",
    ),
    "AxEngine of a GaxConfig": (
        engine(gaxjax.AxEngine, CLASSIFIER, gaxjax.GaxConfig(), gaxjax.BatchConfig()),
        "config: a GaxConfig; expected an AxConfig",
    ),
    "GaxEngine of one side": (
        engine(
            gaxjax.GaxEngine, CLASSIFIER, gaxjax.GaxConfig(), gaxjax.EngineConfig(), image_shape=12
        ),
        r"image_shape: 12; expected \(H, W, 3\)",
    ),
    "GaxEngine of channels first": (
        engine(
            gaxjax.GaxEngine,
            CLASSIFIER,
            gaxjax.GaxConfig(),
            gaxjax.EngineConfig(),
            image_shape=(3, 12, 12),
        ),
        r"image_shape: \(3, 12, 12\); expected \(H, W, 3\)",
    ),
    "AxEngine of int64": (
        engine(
            gaxjax.AxEngine,
            CLASSIFIER,
            gaxjax.AxConfig(),
            gaxjax.BatchConfig(),
            image_dtype=np.int64,
        ),
        "image_dtype: .*int64.*; expected uint8",
    ),
    "GaxEngine of another class count": (
        engine(
            gaxjax.GaxEngine,
            gaxjax.as_classifier(logits, num_classes=7),
            gaxjax.GaxConfig(),
            gaxjax.EngineConfig(),
        ),
        "returns 4 logits, and num_classes is 7",
    ),
    "explain of another class count": (
        lambda: gaxjax.explain(gaxjax.as_classifier(logits, num_classes=7), PIXELS, LABELS),
        "returns 4 logits, and num_classes is 7",
    ),
    "as_classifier of one class": (
        lambda: gaxjax.as_classifier(logits, num_classes=1),
        "expected at least 2",
    ),
    "as_classifier of a text": (
        lambda: gaxjax.as_classifier(logits, num_classes="4"),
        r"num_classes: '4' \(str\); expected a whole number",
    ),
    "as_classifier of a path": (
        lambda: gaxjax.as_classifier("model.ckpt", num_classes=4),
        r"load_classifier\(path\) opens a checkpoint",
    ),
    "as_classifier of a float": (
        lambda: gaxjax.as_classifier(logits, num_classes=4.0),
        r"num_classes: 4.0 \(float\)",
    ),
    "load_classifier of None": (lambda: gaxjax.load_classifier(None), "checkpoint: None; expected"),
    "load_classifier of a module": (
        lambda: gaxjax.load_classifier(torch.nn.Linear(1, 1)),
        "the checkpoint: a torch Linear; expected",
    ),
    "open_run of None": (lambda: gaxjax.open_run(None), "run: None; expected"),
    "open_run of a number": (lambda: gaxjax.open_run(3), r"run: 3 \(int\); expected"),
    "run_gax of a GaxConfig": (
        lambda: gaxjax.run_gax(gaxjax.GaxConfig(), "run"),
        "config: a GaxConfig; expected a GaxRunConfig",
    ),
    "run_ax of a dict": (lambda: gaxjax.run_ax({}, "run"), "config: a dict; expected an AxRunC"),
    "run_ax of a GaxRunConfig": (
        lambda: gaxjax.run_ax(_run_config(), "run"),
        "config: a GaxRunConfig; expected an AxRunConfig",
    ),
    "explain of a GaxRunConfig": (
        lambda: gaxjax.explain(logits, PIXELS, LABELS, _run_config()),
        "config: a GaxRunConfig; expected a GaxConfig: give its .gax",
    ),
    "run_gax of a function": (
        lambda: gaxjax.run_gax(_run_config(), "run", classifier=logits),
        "classifier: a function; expected a Classifier",
    ),
    "co_score of lists": (lambda: gaxjax.co_score([1.0, 2.0], None, 0), "baseline_logits: None"),
    "co_score of two lengths": (
        lambda: gaxjax.co_score(jnp.zeros(3), jnp.zeros(4), 0),
        r"augmented_logits of shape \(3,\) and baseline_logits of shape \(4,\)",
    ),
    "co_score of a batch": (
        lambda: gaxjax.co_score(jnp.zeros((2, 3)), jnp.zeros((2, 3)), 0),
        "jax.vmap",
    ),
    "co_score of one class": (
        lambda: gaxjax.co_score(jnp.zeros(1), jnp.zeros(1), 0),
        "at least two classes",
    ),
    "co_score past the last class": (
        lambda: gaxjax.co_score(jnp.zeros(3), jnp.zeros(3), 3),
        "label: 3; expected a class from 0 to 2",
    ),
    "co_score of a negative class": (
        lambda: gaxjax.co_score(jnp.zeros(3), jnp.zeros(3), -1),
        "label: -1; expected a class from 0 to 2",
    ),
    "co_score of a name": (lambda: gaxjax.co_score(jnp.zeros(3), jnp.zeros(3), "cat"), "label: 'c"),
}


def _run_config():
    from gaxjax.config import DataConfig, ModelConfig

    return GaxRunConfig(model=ModelConfig(model="m"), data=DataConfig(data="digits", size=12))


@pytest.mark.parametrize("name", CALLS)
def test_other_calls_refuse_what_they_cannot_take_in_one_line(name):
    call, said = CALLS[name]
    with pytest.raises(gaxjax.UserError, match=said) as caught:
        call()
    assert str(caught.value).isprintable()


def probabilities(images):
    return jax.nn.softmax(images.mean((1, 2)) @ jnp.ones((3, 10)))


def between_0_and_1(images):
    return jax.nn.sigmoid(images.mean((1, 2)) @ jnp.arange(30.0).reshape(3, 10) - 9)


def _evaluate(classifier):
    from gaxjax.data import open_images
    from gaxjax.runs.evaluate import evaluate_classifier

    return evaluate_classifier(classifier, open_images(_run_config().data))


def _engine(classifier):
    worker = gaxjax.AxEngine(
        classifier,
        gaxjax.AxConfig(methods=("saliency",)),
        gaxjax.BatchConfig(),
        image_shape=(12, 12, 3),
    )
    return list(worker.run(tiny.batches(PIXELS, LABELS, 2)))


RUNS = {
    "run_gax": lambda model: gaxjax.run_gax(_run_config(), "run", classifier=model),
    "run_ax": lambda model: gaxjax.run_ax(
        AxRunConfig(model=_run_config().model, data=_run_config().data), "run", classifier=model
    ),
    "evaluate": _evaluate,
    "an engine": _engine,
}


@pytest.mark.parametrize("name", RUNS)
def test_no_command_takes_probabilities_for_logits(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(gaxjax.UserError, match="returns probabilities"):
        RUNS[name](gaxjax.as_classifier(probabilities, num_classes=10))
    assert not list(tmp_path.iterdir())


def test_a_run_says_what_may_be_no_logits():
    classifier = gaxjax.as_classifier(between_0_and_1, num_classes=10)
    said = []
    chosen_images(_run_config(), classifier, said.append)
    assert "as after a sigmoid" in said[-1]
    again = []
    chosen_images(_run_config(), gaxjax.as_classifier(logits_of_ten, num_classes=10), again.append)
    assert len(again) == len(said) - 1


def logits_of_ten(images):
    return images.mean((1, 2)) @ jnp.arange(30.0).reshape(3, 10)


class Torch(torch.nn.Module):
    """A torch network of 12 × 12 images, in training mode."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def test_a_torch_module_is_explained_as_it_is_and_left_as_it_is():
    torch.manual_seed(0)
    net = Torch()
    net.norm.running_mean.normal_()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.25, 0.5)
    pixels = torch.from_numpy(FLOATS.transpose(0, 3, 1, 2).copy())
    given = [torch.tensor(value).view(3, 1, 1) for value in (mean, std)]
    with torch.no_grad():
        wanted = net.eval()((pixels - given[0]) / given[1]).numpy()
    net.train()
    labels = wanted.argmax(1)
    config = gaxjax.GaxConfig(max_steps=2)
    solutions = gaxjax.explain(net, FLOATS, labels, config, mean=mean, std=std)
    probabilities = np.exp(wanted - wanted.max(1, keepdims=True))
    probabilities = (probabilities / probabilities.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose(solutions.probability_before, probabilities, rtol=1e-5)
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    found = gaxjax.attribute(
        net, FLOATS, labels, gaxjax.AxConfig(methods=("saliency",)), mean=mean, std=std
    )
    for scored in found.values():
        assert [one.prediction for one in scored] == labels.tolist()
