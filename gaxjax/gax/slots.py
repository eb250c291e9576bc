"""The device side of the engine: slots, the queue behind them, and one jitted step.

A slot has a *lane*, where an image is optimised, and a *parked* place beside it. A lane that ends
moves to its parked place and takes up the next image at once, inside the step, so that no slot
waits for the host. The host empties parked places later: it re-evaluates each score in float32,
and an image that misses the target goes back to its slot with its Adam state untouched.

All functions here are about one device; arrays of a `State` lead with its slots.
"""

from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from gaxjax.config.methods import GaxConfig
from gaxjax.gax.heatmap import Weights, heatmap, initial_weights
from gaxjax.gax.objective import Objective
from gaxjax.models.classifier import as_unit_range
from gaxjax.score import Verified

EMPTY, RUNNING, REACHED, STEP_LIMIT, NOT_FINITE = range(5)
"""States of a lane. A parked lane that is RUNNING waits to return to its slot."""

_REFILL_CHUNK = 8  # slots whose new images are prepared together

_T = TypeVar("_T")


class Lane(NamedTuple):
    """One image's optimisation; with a leading axis, one per slot.

    Attributes:
        image: pixels as given, uint8 or float32.
        number: the image's, as the engine counts.
        label, baseline: the groundtruth class and κ·f(x).
        weights, adam: `w` (and `b`) after `step` updates, and optax's state with its own count.
        step: updates so far.
        earliest: the first step at which the target counts: past one that failed verification.
        status: one of EMPTY ... NOT_FINITE.
        curve: score after t updates, NaN where not measured; max_steps + 1 long.
        best_weights, best_step, best_score: of the highest score so far.
    """

    image: Array
    number: Int[Array, "*slots"]
    label: Int[Array, "*slots"]
    baseline: Float[Array, "*slots"]
    weights: Weights
    adam: PyTree
    step: Int[Array, "*slots"]
    earliest: Int[Array, "*slots"]
    status: Int[Array, "*slots"]
    curve: Float[Array, "*slots T"]
    best_weights: Weights
    best_step: Int[Array, "*slots"]
    best_score: Float[Array, "*slots"]


class Queue(NamedTuple):
    """Images waiting on the device, a ring: entries `head` up to `tail`, modulo the capacity."""

    image: Array
    number: Int[Array, " Q"]
    label: Int[Array, " Q"]
    baseline: Float[Array, " Q"]
    head: Int[Array, ""]
    tail: Int[Array, ""]


class State(NamedTuple):
    """Everything that lives on one device between steps."""

    lanes: Lane
    parked: Lane
    queue: Queue


class Report(NamedTuple):
    """What the host reads of a step, some steps late: int32 scalars.

    Attributes:
        running: lanes that this step worked for.
        pending: parked images that wait for verification.
        stalled: lanes that ended and cannot move on, because their parked place is taken.
        occupied: slots whose lane or parked place holds an image.
        admitted: images taken from the queue so far.
    """

    running: Any
    pending: Any
    stalled: Any
    occupied: Any
    admitted: Any


class Finished(NamedTuple):
    """Up to V ended images, copied out for verification.

    The heatmap is the one at `heatmap_step`, -1 where no score was ever finite. Where unused,
    `number` is -1 and `slot` is out of range.
    """

    slot: Int[Array, " V"]
    image: Array
    heatmap: Array
    number: Int[Array, " V"]
    label: Int[Array, " V"]
    baseline: Float[Array, " V"]
    status: Int[Array, " V"]
    step: Int[Array, " V"]
    heatmap_step: Int[Array, " V"]
    curve: Float[Array, "V T"]


def adam(config: GaxConfig) -> optax.GradientTransformation:
    """Return the optimiser of one image (paper §3: Adam, 0.1, (0.9, 0.999))."""
    return optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2, eps=config.adam_eps)


def new_lane(config: GaxConfig, image: Array, number: Array, label: Array, baseline: Array) -> Lane:
    """Start an image: `w` = 1, a fresh Adam state, an unmeasured curve."""
    weights = initial_weights(as_unit_range(image), config)
    return Lane(
        image=image,
        number=number,
        label=label,
        baseline=baseline,
        weights=weights,
        adam=adam(config).init(weights),
        step=jnp.int32(0),
        earliest=jnp.int32(0),
        status=jnp.int32(RUNNING),
        curve=jnp.full((config.max_steps + 1,), jnp.nan, jnp.float32),
        best_weights=weights,
        best_step=jnp.int32(-1),
        best_score=jnp.float32(-jnp.inf),
    )


def empty_state(
    config: GaxConfig, *, slots: int, capacity: int, image: jax.ShapeDtypeStruct
) -> State:
    """Return a state without images: `slots` lanes and a queue of `capacity`."""
    zero = jnp.int32(0)
    lane = new_lane(
        config, jnp.zeros(image.shape, image.dtype), jnp.int32(-1), zero, jnp.float32(0)
    )._replace(status=jnp.int32(EMPTY))
    lanes = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], slots, axis=0), lane)
    queue = Queue(
        image=jnp.zeros((capacity, *image.shape), image.dtype),
        number=jnp.full((capacity,), -1, jnp.int32),
        label=jnp.zeros((capacity,), jnp.int32),
        baseline=jnp.zeros((capacity,), jnp.float32),
        head=zero,
        tail=zero,
    )
    return State(lanes=lanes, parked=jax.tree.map(jnp.copy, lanes), queue=queue)


def enqueue(
    state: State, image: Array, number: Array, label: Array, baseline: Array, count: Array
) -> State:
    """Append a block of images of which the first `count` are real.

    Blocks have one size, which divides the capacity; only the last may be partly filled.
    The caller sees to it that there is room.
    """
    queue = state.queue
    start = queue.tail % queue.number.shape[0]

    def write(ring: Array, block: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(ring, block, start, axis=0)

    return state._replace(
        queue=Queue(
            image=write(queue.image, image),
            number=write(queue.number, number),
            label=write(queue.label, label),
            baseline=write(queue.baseline, baseline),
            head=queue.head,
            tail=queue.tail + count,
        )
    )


def step(objective: Objective, network: PyTree, state: State) -> tuple[State, Report]:
    """Refill the slots, then do one image-step in every running lane: the engine's hot path.

    Args:
        objective: what is optimised.
        network: the classifier's weights, in the objective's precision.
        state: donated by the engine.
    """
    state = refill(objective.config, state)
    running = jnp.sum(state.lanes.status == RUNNING)
    lanes = image_steps(objective, network, state.lanes)
    state = state._replace(lanes=lanes)
    pending = state.parked.status > RUNNING
    taken = (lanes.status != EMPTY) | (state.parked.status != EMPTY)
    report = Report(
        running=running,
        pending=jnp.sum(pending),
        stalled=jnp.sum((lanes.status > RUNNING) & pending),
        occupied=jnp.sum(taken),
        admitted=state.queue.head,
    )
    return state, report


def image_steps(objective: Objective, network: PyTree, lanes: Lane) -> Lane:
    """Do one image-step in every running lane; arguments as for `step`."""
    images = as_unit_range(lanes.image)
    score, gradients = jax.vmap(objective.score_and_gradients, in_axes=(0, None, 0, 0, 0))(
        lanes.weights, network, images, lanes.label, lanes.baseline
    )
    return jax.vmap(partial(advance, objective.config))(lanes, score, gradients)


def advance(config: GaxConfig, lane: Lane, score: Array, gradients: Weights) -> Lane:
    """Book one lane's score, decide whether it ends at these weights, else update them by Adam."""
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
    updates, adam_state = adam(config).update(gradients, lane.adam)
    weights = optax.apply_updates(lane.weights, updates)
    here = (jnp.arange(lane.curve.shape[0]) == lane.step) & running
    return lane._replace(
        weights=_where(goes_on, weights, lane.weights),
        adam=_where(goes_on, adam_state, lane.adam),
        step=lane.step + goes_on.astype(jnp.int32),
        status=status,
        curve=jnp.where(here, score, lane.curve),
        best_weights=_where(keep, lane.weights, lane.best_weights),
        best_step=jnp.where(keep, lane.step, lane.best_step),
        best_score=jnp.where(keep, score, lane.best_score),
    )


def refill(config: GaxConfig, state: State) -> State:
    """Move ended lanes to their parked places and give every free lane its next image.

    Touches only the slots that need it, row by row: at forty steps an image, one in forty.
    """
    ended = state.lanes.status > RUNNING
    free = state.lanes.status == EMPTY
    pending = state.parked.status > RUNNING
    returned = state.parked.status == RUNNING
    waiting = state.queue.head < state.queue.tail
    needed: Bool[Array, " slots"] = (ended & ~pending) | (free & (returned | waiting))
    order = jnp.argsort(~needed)  # stable: needed slots first, in slot order
    count = jnp.sum(needed)
    chunk = min(_REFILL_CHUNK, order.shape[0])

    def refill_chunk(turn: Array, state: State) -> State:
        turns = turn * chunk + jnp.arange(chunk)
        slot = order[jnp.minimum(turns, order.shape[0] - 1)]
        rows = partial(jax.tree.map, lambda leaf: leaf[slot])
        lane, parked, queue = rows(state.lanes), rows(state.parked), state.queue
        comes_back = parked.status == RUNNING
        wants = (turns < count) & ~comes_back
        position = queue.head + jnp.cumsum(wants) - wants
        admits = wants & (position < queue.tail)
        entry = position % queue.number.shape[0]
        fresh = jax.vmap(partial(new_lane, config))(
            queue.image[entry], queue.number[entry], queue.label[entry], queue.baseline[entry]
        )
        fresh = fresh._replace(status=jnp.where(admits, RUNNING, EMPTY).astype(jnp.int32))
        vacated = parked._replace(status=jnp.where(comes_back, EMPTY, parked.status))
        lane, parked = (
            jax.vmap(_where)(comes_back, parked, fresh),
            jax.vmap(_where)(lane.status > RUNNING, lane, vacated),
        )

        # Writing must not read the state: within one loop XLA would copy every lane to be safe.
        def write(row: Array, written: tuple[Lane, Lane]) -> tuple[Lane, Lane]:
            return (
                _set_row(written[0], slot[row], _row(lane, row)),
                _set_row(written[1], slot[row], _row(parked, row)),
            )

        filled = jnp.minimum(count - turn * chunk, chunk)
        lanes, parked = jax.lax.fori_loop(0, filled, write, (state.lanes, state.parked))
        head = queue.head + jnp.sum(admits).astype(jnp.int32)
        return State(lanes=lanes, parked=parked, queue=queue._replace(head=head))

    return jax.lax.fori_loop(0, (count + chunk - 1) // chunk, refill_chunk, state)


def collect(state: State, *, size: int, dtype: jnp.dtype) -> Finished:
    """Copy out up to `size` images that wait for verification, heatmaps rounded to `dtype`.

    Rounding happens here and scoring in `rescore`, two programs: within one, XLA may keep the
    excess precision and score a heatmap that is not the one stored.
    """
    slots = state.parked.status.shape[0]
    chosen = jnp.nonzero(state.parked.status > RUNNING, size=size, fill_value=slots)[0]
    rows = jax.tree.map(lambda leaf: jnp.take(leaf, chosen, axis=0, mode="clip"), state.parked)
    reached = rows.status == REACHED
    weights = jax.vmap(_where)(reached, rows.weights, rows.best_weights)
    heatmaps = jax.vmap(heatmap)(weights, as_unit_range(rows.image))
    return Finished(
        slot=chosen.astype(jnp.int32),
        image=rows.image,
        heatmap=heatmaps.astype(dtype),
        number=jnp.where(chosen < slots, rows.number, -1),
        label=rows.label,
        baseline=rows.baseline,
        status=rows.status,
        step=rows.step,
        heatmap_step=jnp.where(reached, rows.step, rows.best_step),
        curve=rows.curve,
    )


def rescore(
    objective: Objective, network: PyTree, finished: Finished
) -> tuple[Verified, Bool[Array, " V"]]:
    """Verify finished images in float32; also say which are settled.

    An image is settled unless it claimed the target and missed it.
    """
    verified = jax.vmap(objective.verify, in_axes=(None, 0, 0, 0, 0))(
        network,
        as_unit_range(finished.image),
        finished.heatmap.astype(jnp.float32),
        finished.label,
        finished.baseline,
    )
    reaches = verified.co_score >= objective.config.target
    return verified, (finished.status != REACHED) | reaches


def resolve(state: State, slot: Array, settled: Array) -> State:
    """Free the parked places of settled images; let the others go back to their slots.

    One that has no update left ends at the step limit instead, with its best heatmap.
    """
    parked = state.parked
    again = jnp.take(parked.step, slot, mode="clip") + 1
    max_steps = parked.curve.shape[1] - 1
    unsettled = jnp.where(again > max_steps, STEP_LIMIT, RUNNING)
    status = jnp.where(settled, EMPTY, unsettled).astype(jnp.int32)
    return state._replace(
        parked=parked._replace(
            status=parked.status.at[slot].set(status, mode="drop"),
            earliest=parked.earliest.at[slot].set(again, mode="drop"),
        )
    )


def shrink(state: State, *, slots: int) -> State:
    """Keep `slots` slots, those that hold an image first; the caller knows that they suffice."""
    idle = (state.lanes.status == EMPTY) & (state.parked.status == EMPTY)
    kept = jnp.argsort(idle)[:slots]
    take = partial(jax.tree.map, lambda leaf: jnp.take(leaf, kept, axis=0))
    return state._replace(lanes=take(state.lanes), parked=take(state.parked))


def _row(tree: _T, slot: Array) -> _T:
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, slot, axis=0, keepdims=False), tree
    )


def _set_row(tree: _T, slot: Array, row: _T) -> _T:
    return jax.tree.map(
        lambda leaf, value: jax.lax.dynamic_update_index_in_dim(
            leaf, value.astype(leaf.dtype), slot, axis=0
        ),
        tree,
        row,
    )


def _where(condition: Array, then: _T, otherwise: _T) -> _T:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
