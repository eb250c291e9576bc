"""A lane: one image's optimisation, from its first `w` to its end.

Pure functions of one lane; the slots vmap them, so that every image has its own optimiser and its
own step count.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gaxjax.config import GaxConfig
from gaxjax.gax.generator import Generator
from gaxjax.gax.heatmap import Weights, initial_weights
from gaxjax.gax.setting import UNSWEPT, LaneSetting, for_lane
from gaxjax.models import as_unit_range

EMPTY, RUNNING, REACHED, STEP_LIMIT, NOT_FINITE = range(5)
"""States of a lane. A parked lane that is RUNNING waits to return to its slot."""

_T = TypeVar("_T")


class Lane(NamedTuple):
    """One image's optimisation; with a leading axis, one per slot.

    Attributes:
        image: pixels as given, uint8 or float32.
        image_index: which image it is, as the engine counts.
        label, baseline: the groundtruth class, and κ·f(x) or κ·softmax(f(x)).
        setting: its own values of what is swept; empty where nothing is.
        weights: `w` (and `b`) after `step` updates.
        optimizer: optax's state, with its own count.
        step: updates so far.
        earliest: the first step at which the target counts: past one that failed verification.
        status: one of EMPTY ... NOT_FINITE.
        curve: score after t updates, NaN where not measured; max_steps + 1 long.
        best_weights, best_step, best_score: of the highest score so far.
    """

    image: Array
    image_index: Int[Array, "*slots"]
    label: Int[Array, "*slots"]
    baseline: Float[Array, "*slots"]
    setting: LaneSetting
    weights: Weights
    optimizer: PyTree
    step: Int[Array, "*slots"]
    earliest: Int[Array, "*slots"]
    status: Int[Array, "*slots"]
    curve: Float[Array, "*slots T"]
    best_weights: Weights
    best_step: Int[Array, "*slots"]
    best_score: Float[Array, "*slots"]


def optimizer(config: GaxConfig) -> optax.GradientTransformation:
    """Return the optimiser of one image (paper §3: Adam, 0.1, (0.9, 0.999))."""
    make = getattr(optax, config.optimizer)
    made: optax.GradientTransformation = make(config.learning_rate, **config.optimizer_keywords)
    return made


def new_lane(
    config: GaxConfig,
    image: Array,
    image_index: Array,
    label: Array,
    baseline: Array,
    setting: LaneSetting = UNSWEPT,
    *,
    generator: Generator | None = None,
) -> Lane:
    """Start an image: `w` = 1, a fresh optimiser, an unmeasured curve."""
    config = for_lane(config, setting)
    weights = initial_weights(as_unit_range(image), config, generator)
    return Lane(
        image=image,
        image_index=image_index,
        label=label,
        baseline=baseline,
        setting=setting,
        weights=weights,
        optimizer=optimizer(config).init(weights),
        step=jnp.int32(0),
        earliest=jnp.int32(0),
        status=jnp.int32(RUNNING),
        curve=jnp.full((config.max_steps + 1,), jnp.nan, jnp.float32),
        best_weights=weights,
        best_step=jnp.int32(-1),
        best_score=jnp.float32(-jnp.inf),
    )


def advance(config: GaxConfig, lane: Lane, score: Array, gradients: Weights) -> Lane:
    """Book one lane's score, decide whether it ends at these weights, else update them."""
    config = for_lane(config, lane.setting)
    running = lane.status == RUNNING
    finite = jnp.isfinite(score)
    reached = (score >= config.target) & (lane.step >= lane.earliest)
    ended = jnp.where(
        ~finite,
        NOT_FINITE,
        jnp.where(reached, REACHED, jnp.where(lane.step >= config.max_steps, STEP_LIMIT, RUNNING)),
    )
    status = jnp.where(running, ended, lane.status).astype(jnp.int32)

    keep = running & finite & (score > lane.best_score)
    goes_on = status == RUNNING
    updates, optimizer_state = optimizer(config).update(gradients, lane.optimizer, lane.weights)
    weights = optax.apply_updates(lane.weights, updates)
    here = (jnp.arange(lane.curve.shape[0]) == lane.step) & running
    return lane._replace(
        weights=where(goes_on, weights, lane.weights),
        optimizer=where(goes_on, optimizer_state, lane.optimizer),
        step=lane.step + goes_on.astype(jnp.int32),
        status=status,
        curve=jnp.where(here, score, lane.curve),
        best_weights=where(keep, lane.weights, lane.best_weights),
        best_step=jnp.where(keep, lane.step, lane.best_step),
        best_score=jnp.where(keep, score, lane.best_score),
    )


def where(condition: Array, then: _T, otherwise: _T) -> _T:
    """Choose between two trees by one condition."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
