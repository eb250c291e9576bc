"""The device side of the engine: slots, the queue behind them, a refill, and one jitted step.

A slot has a *lane*, where an image is optimised, and a *parked* place beside it. A lane that ends
moves to its parked place and takes up the next image in the refill before the next step, so that
no slot waits for the host. The host empties parked places later: it re-evaluates each score in
float32, and an image that misses the target goes back to its slot with its optimiser untouched.

All functions here are about one device; arrays of a `State` lead with its slots.
"""

from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from gaxjax.config import GaxConfig
from gaxjax.gax.generator import Generator
from gaxjax.gax.lane import EMPTY, REACHED, RUNNING, STEP_LIMIT, Lane, advance, new_lane, where
from gaxjax.gax.objective import Objective, Verified
from gaxjax.gax.setting import LaneSetting, blank
from gaxjax.models import as_unit_range

_CHUNK = 8  # slots refilled in one turn on a CPU

_T = TypeVar("_T")


class Queue(NamedTuple):
    """Images waiting on the device, a ring: entries `head` up to `tail`, modulo the capacity."""

    image: Array
    image_index: Int[Array, " Q"]
    label: Int[Array, " Q"]
    baseline: Float[Array, " Q"]
    setting: LaneSetting
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
        wanting: slots that a refill would change.
    """

    running: Any
    pending: Any
    stalled: Any
    occupied: Any
    admitted: Any
    wanting: Any


class Finished(NamedTuple):
    """Up to V ended images, copied out for verification.

    The heatmap is the one at `heatmap_step`, -1 where no score was ever finite. Where unused,
    `image_index` is -1 and `slot` is out of range.
    """

    slot: Int[Array, " V"]
    image: Array
    heatmap: Array
    image_index: Int[Array, " V"]
    label: Int[Array, " V"]
    baseline: Float[Array, " V"]
    setting: LaneSetting
    status: Int[Array, " V"]
    step: Int[Array, " V"]
    heatmap_step: Int[Array, " V"]
    curve: Float[Array, "V T"]


def empty_state(
    config: GaxConfig,
    *,
    slots: int,
    capacity: int,
    image: jax.ShapeDtypeStruct,
    swept: tuple[str, ...] = (),
    generator: Generator | None = None,
) -> State:
    """Return a state without images: `slots` lanes and a queue of `capacity`."""
    zero, setting = jnp.int32(0), blank(swept)
    blank_image = jnp.zeros(image.shape, image.dtype)
    blank_lane = partial(new_lane, config, generator=generator)
    lane = blank_lane(blank_image, jnp.int32(-1), zero, jnp.float32(0), setting)
    lane = lane._replace(status=jnp.int32(EMPTY))
    lanes = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], slots, axis=0), lane)
    queue = Queue(
        image=jnp.zeros((capacity, *image.shape), image.dtype),
        image_index=jnp.full((capacity,), -1, jnp.int32),
        label=jnp.zeros((capacity,), jnp.int32),
        baseline=jnp.zeros((capacity,), jnp.float32),
        setting=jax.tree.map(lambda leaf: jnp.repeat(leaf[None], capacity, axis=0), setting),
        head=zero,
        tail=zero,
    )
    return State(lanes=lanes, parked=jax.tree.map(jnp.copy, lanes), queue=queue)


def enqueue(
    state: State,
    image: Array,
    image_index: Array,
    label: Array,
    baseline: Array,
    setting: LaneSetting,
    count: Array,
) -> State:
    """Append a block of images of which the first `count` are real.

    Blocks have one size, which divides the capacity; only the last may be partly filled.
    The caller sees to it that there is room.
    """
    queue = state.queue
    start = queue.tail % queue.image_index.shape[0]

    def write(ring: Array, block: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(ring, block, start, axis=0)

    return state._replace(
        queue=Queue(
            image=write(queue.image, image),
            image_index=write(queue.image_index, image_index),
            label=write(queue.label, label),
            baseline=write(queue.baseline, baseline),
            setting=jax.tree.map(write, queue.setting, setting),
            head=queue.head,
            tail=queue.tail + count,
        )
    )


def step(objective: Objective, network: PyTree, state: State) -> tuple[State, Report]:
    """Do one image-step in every running lane: the engine's hot path.

    Args:
        objective: what is optimised.
        network: the classifier's weights, in the objective's precision.
        state: donated by the engine.
    """
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
        wanting=jnp.sum(_wants_refill(state)),
    )
    return state, report


def image_steps(objective: Objective, network: PyTree, lanes: Lane) -> Lane:
    """Do one image-step in every running lane; arguments as for `step`."""
    images = as_unit_range(lanes.image)
    scores, gradients = objective.scores_and_gradients(
        lanes.weights, network, images, lanes.label, lanes.baseline, lanes.setting
    )
    return jax.vmap(partial(advance, objective.config))(lanes, scores, gradients)


def refill_sizes(slots: int, platform: str) -> tuple[int, ...]:
    """Return the sizes of refill that are worth having, ascending.

    At the paper's forty steps an image one slot in forty ends at each. On a GPU every row costs its
    bytes, whether it is used or not; on a CPU only what is used costs.
    """
    if platform == "cpu":
        return (slots,)
    return tuple(sorted({-(-slots // share) for share in (16, 4, 1)}))


def refill_in_turns(
    config: GaxConfig, state: State, *, generator: Generator | None = None
) -> State:
    """Refill all slots that want it, a few at a turn: where no host waits for a loop's length."""
    most = min(_CHUNK, state.lanes.status.shape[0])
    turn = partial(refill, config, most=most, generator=generator)
    return jax.lax.while_loop(lambda state: jnp.any(_wants_refill(state)), turn, state)


def refill(
    config: GaxConfig, state: State, *, most: int, generator: Generator | None = None
) -> State:
    """Move ended lanes to their parked places and give free lanes their next image.

    Without a loop, whose length only the device would know and the host of a GPU wait for: rows of
    so many slots are gathered and scattered, used or not. What is left over has its turn later.

    Args:
        config: of new lanes.
        state: of a device.
        most: slots to refill, at most.
        generator: of new lanes, in place of the config's.
    """
    slots = state.lanes.status.shape[0]
    slot = jnp.nonzero(_wants_refill(state), size=most, fill_value=slots)[0]

    rows = partial(jax.tree.map, lambda leaf: jnp.take(leaf, slot, axis=0, mode="clip"))
    lane, parked, queue = rows(state.lanes), rows(state.parked), state.queue
    comes_back = parked.status == RUNNING
    wants = (slot < slots) & ~comes_back
    position = queue.head + jnp.cumsum(wants) - wants
    admits = wants & (position < queue.tail)
    entry = position % queue.image_index.shape[0]
    fresh = jax.vmap(partial(new_lane, config, generator=generator))(
        queue.image[entry],
        queue.image_index[entry],
        queue.label[entry],
        queue.baseline[entry],
        jax.tree.map(lambda ring: ring[entry], queue.setting),
    )
    fresh = fresh._replace(status=jnp.where(admits, RUNNING, EMPTY).astype(jnp.int32))
    vacated = parked._replace(status=jnp.where(comes_back, EMPTY, parked.status))
    taken_up = jax.vmap(where)(comes_back, parked, fresh)
    put_by = jax.vmap(where)(lane.status > RUNNING, lane, vacated)

    write = partial(jax.lax.platform_dependent, slot, cpu=_write_by_row, default=_write_at_once)
    lanes, parked = write((state.lanes, state.parked), (taken_up, put_by))
    head = queue.head + jnp.sum(admits).astype(jnp.int32)
    return State(lanes=lanes, parked=parked, queue=queue._replace(head=head))


def _write_at_once(slot: Array, trees: _T, rows: _T) -> _T:
    """Scatter rows to their slots; a slot that is out of range is left out."""
    rows = jax.lax.optimization_barrier(rows)  # read before anything is written, or XLA copies all

    def write(leaf: Array, values: Array) -> Array:
        values = values.astype(leaf.dtype)
        return leaf.at[slot].set(values, mode="drop", unique_indices=True, indices_are_sorted=True)

    return jax.tree.map(write, trees, rows)


def _write_by_row(slot: Array, trees: _T, rows: _T) -> _T:
    """Do the same in a loop, which is what keeps XLA's CPU backend from copying all."""

    def write(row: Array, trees: _T) -> _T:
        return jax.tree.map(
            lambda leaf, values: jax.lax.dynamic_update_index_in_dim(
                leaf, values[row].astype(leaf.dtype), slot[row], axis=0
            ),
            trees,
            rows,
        )

    num_slots = jax.tree.leaves(trees)[0].shape[0]
    return jax.lax.fori_loop(0, jnp.sum(slot < num_slots), write, trees)


def _wants_refill(state: State) -> Bool[Array, " slots"]:
    """Tell which slots have an ended lane to put by, or a free one that an image can go to."""
    ended = state.lanes.status > RUNNING
    free = state.lanes.status == EMPTY
    pending = state.parked.status > RUNNING
    returned = state.parked.status == RUNNING
    waiting = state.queue.head < state.queue.tail
    return (ended & ~pending) | (free & (returned | waiting))


def collect(objective: Objective, state: State, *, size: int, dtype: jnp.dtype) -> Finished:
    """Copy out up to `size` images that wait for verification, heatmaps rounded to `dtype`.

    Rounding happens here and scoring in `rescore`, two programs: within one, XLA may keep the
    excess precision and score a heatmap that is not the one stored.
    """
    slots = state.parked.status.shape[0]
    chosen = jnp.nonzero(state.parked.status > RUNNING, size=size, fill_value=slots)[0]
    rows = jax.tree.map(lambda leaf: jnp.take(leaf, chosen, axis=0, mode="clip"), state.parked)
    reached = rows.status == REACHED
    weights = jax.vmap(where)(reached, rows.weights, rows.best_weights)
    heatmaps = objective.heatmaps(weights, as_unit_range(rows.image))
    return Finished(
        slot=chosen.astype(jnp.int32),
        image=rows.image,
        heatmap=heatmaps.astype(dtype),
        image_index=jnp.where(chosen < slots, rows.image_index, -1),
        label=rows.label,
        baseline=rows.baseline,
        setting=rows.setting,
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
    verified = objective.verify(
        network,
        as_unit_range(finished.image),
        finished.heatmap.astype(jnp.float32),
        finished.label,
        finished.baseline,
        finished.setting,
    )
    target = finished.setting.get("target", objective.config.target)
    reaches = verified.scored.co_score >= target
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
