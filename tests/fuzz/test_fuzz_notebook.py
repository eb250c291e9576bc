"""Notebook calls with anything for an argument: solutions for every image, or a UserError."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from fuzzing import ANYTHING, fuzz, user_errors
from hypothesis import strategies as st

import gaxjax
from gaxjax.config import AxConfig, BatchConfig, EngineConfig, GaxConfig

PIXELS = tiny.images(3)
NETWORK = tiny.network()
LABELS = tiny.predictions(PIXELS, tiny.classifier(normalized=False))


class Called:
    def __call__(self, x):
        return x.mean((1, 2))


MODELS = st.sampled_from(
    [
        NETWORK,
        tiny.classifier(),
        lambda x: np.asarray(x).mean((1, 2)),
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.mean((1, 2)) if x.sum() > 0 else x,
        lambda x: (x.mean((1, 2)), x),
        lambda x: {"logits": x.mean((1, 2))},
        lambda x: jax.nn.softmax(NETWORK(x)),
        lambda x: x.reshape(1, -1)[:, :4],
        lambda x: x.astype(jnp.int32).sum((1, 2)),
        lambda x, train: x,
        lambda: None,
        lambda x: None,
        lambda x: 1 / 0,
        lambda x: NETWORK(x) - NETWORK(x).mean(0),
        Called,
        Called(),
        (NETWORK, {}),
        "nowhere.ckpt",
        None,
    ]
)
IMAGES = st.sampled_from(
    [
        PIXELS,
        PIXELS / 255,
        PIXELS.astype(np.float32),
        PIXELS[0],
        PIXELS[:0],
        PIXELS.transpose(0, 3, 1, 2),
        PIXELS[..., :1],
        PIXELS.astype(np.int64),
        PIXELS.astype(np.float16) / 255,
        PIXELS / np.nan,
        -PIXELS / 255,
        PIXELS.tolist(),
        [PIXELS[0], PIXELS[1][:5]],
        PIXELS.astype(object),
        PIXELS.astype(str),
        jnp.asarray(PIXELS),
        [PIXELS[0]] * 3,
        PIXELS > 100,
        PIXELS * 1j,
    ]
)
LABELLINGS = st.sampled_from(
    [
        LABELS,
        LABELS.tolist(),
        LABELS[:2],
        LABELS.astype(float),
        LABELS.astype(np.uint64) + 2**32,
        LABELS - 100,
        LABELS[:, None],
        [str(label) for label in LABELS],
        np.eye(tiny.CLASSES)[LABELS],
        jnp.asarray(LABELS),
        LABELS.astype(np.uint8),
        LABELS.astype(object),
        LABELS > 0,
        0,
    ]
)
CONFIGS = st.sampled_from(
    [
        None,
        GaxConfig(max_steps=1),
        AxConfig(methods=("saliency",)),
        BatchConfig(),
        EngineConfig(slots=3),
    ]
)


@st.composite
def calls(draw):
    """The arguments of a call: good ones, of which at most two are not."""
    given = {"model": NETWORK, "images": PIXELS, "labels": LABELS}
    odd = {
        "model": MODELS | ANYTHING,
        "images": IMAGES | ANYTHING,
        "labels": LABELLINGS | ANYTHING,
        "config": CONFIGS | ANYTHING,
        "mean": ANYTHING | st.sampled_from([(0.5,) * 3, [0.4, 0.5, 0.6], np.full(3, 0.5)]),
        "std": ANYTHING | st.sampled_from([(0.5,) * 3, (0, 1, 1), (1, 1)]),
        "rooms": CONFIGS | ANYTHING,
    }
    for name in draw(st.lists(st.sampled_from(sorted(odd)), min_size=1, max_size=2, unique=True)):
        given[name] = draw(odd[name])
    return given


@fuzz(100, ordinarily=10, given=calls())
def test_explain_explains_every_image_or_says_what_is_wrong(given):
    rooms = {"engine": given.pop("rooms")} if "rooms" in given else {}
    config = given.pop("config", GaxConfig(max_steps=1))
    with user_errors():
        found = gaxjax.explain(**given, config=config, **rooms)
        assert len(found) == len(given["images"])


@fuzz(200, ordinarily=20, given=calls())
def test_attribute_scores_every_image_or_says_what_is_wrong(given):
    rooms = {"batch": given.pop("rooms")} if "rooms" in given else {}
    config = given.pop("config", AxConfig(methods=("saliency",), operation="sum"))
    with user_errors():
        found = gaxjax.attribute(**given, config=config, **rooms)
        assert all(len(solutions) == len(given["images"]) for solutions in found.values())
