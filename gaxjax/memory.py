"""How many images fit side by side: bytes per slot from the model, slots from the memory."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp

from gaxjax.config import EngineConfig
from gaxjax.errors import UserError
from gaxjax.lanes import new_lane
from gaxjax.objective import Objective

_CPU_SLOTS = 16  # past this, more images a step no longer raise a CPU's rate
_ACCELERATOR_SLOTS = 512
_SWEPT_CPU, _SWEPT = 64, 2048  # most slots that a sweep tries
_SHARE = 0.7  # of the free memory; the rest is for the compiler's scratch space
_RESIDUAL_FACTOR = 2.0  # XLA's peak over the residuals of jax.vjp: convolution scratch, gradients


def local_devices(count: int | None) -> list[jax.Device]:
    """Return the first `count` local devices, or all.

    Raises:
        UserError: there are fewer.
    """
    available = jax.local_devices()
    if count is not None and count > len(available):
        raise UserError(f"--devices {count} asks for more devices than the {len(available)} here")
    return available[:count]


def is_out_of_memory(error: jax.errors.JaxRuntimeError) -> bool:
    """Tell whether a device ran out of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


def bytes_per_slot(objective: Objective, image: jax.ShapeDtypeStruct) -> int:
    """Estimate the device memory of one slot: activations kept for the gradient, and state.

    Nothing is computed: shapes are traced. The lane counts twice, for its parked place.
    """
    objective = dataclasses.replace(objective, fast=None)  # it keeps no other activations
    network = jax.eval_shape(objective.fast_weights)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    lane = jax.eval_shape(
        lambda *args: new_lane(objective.config, *args), image, number, number, scalar
    )
    floats = jax.ShapeDtypeStruct(image.shape, jnp.float32)

    def residuals(weights: Any, network: Any, image: Any, label: Any, baseline: Any) -> Any:
        return jax.vjp(
            lambda weights: objective.loss_and_score(weights, network, image, label, baseline)[0],
            weights,
        )[1]

    kept = _nbytes(
        jax.eval_shape(residuals, lane.weights, network, floats, number, scalar)
    ) - _nbytes(network)
    return int(_RESIDUAL_FACTOR * max(kept, 0)) + 2 * _nbytes(lane) + 6 * _nbytes(image)


def choose_slots(
    objective: Objective,
    config: EngineConfig,
    image: jax.ShapeDtypeStruct,
    devices: list[jax.Device],
    num_images: int | None = None,
) -> int:
    """Return the slots per device: `config.slots`, or a power of two that fits the memory.

    Never more than the images need; never fewer than one.

    Raises:
        UserError: not even one image fits.
    """
    from gaxjax.sweep import swept_slots

    needed = None if num_images is None else max(1, -(-num_images // len(devices)))
    if isinstance(config.slots, int):
        return min(config.slots, needed or config.slots)
    on_cpu = devices[0].platform == "cpu"
    if config.slots == "auto":
        most = _fitting_slots(objective, image, devices, _SWEPT_CPU if on_cpu else _SWEPT)
        found = swept_slots(objective, image, devices[0], most)
        return min(found, needed or found)
    most = _CPU_SLOTS if on_cpu else _ACCELERATOR_SLOTS
    return _fitting_slots(objective, image, devices, min(most, needed or most))


def _fitting_slots(
    objective: Objective, image: jax.ShapeDtypeStruct, devices: list[jax.Device], most: int
) -> int:
    """Return the largest power of two up to `most` that fits the memory."""
    one, free = bytes_per_slot(objective, image), free_bytes(devices)
    if one > free:
        raise UserError(
            f"one image of {image.shape[0]} × {image.shape[1]} with --max-steps "
            f"{objective.config.max_steps} needs about {one / 2**30:,.1f} GiB and "
            f"{free / 2**30:,.1f} GiB are free: give a smaller --size or --max-steps"
        )
    slots = max(1, min(most, int(_SHARE * free / one)))
    return int(2 ** (slots.bit_length() - 1))


def free_bytes(devices: list[jax.Device]) -> int:
    """Return the free memory of one device, in bytes; host memory is shared among CPU devices."""
    statistics = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
    try:
        host = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        host = 4 << 30
    return host // len(devices)


def _nbytes(tree: Any) -> int:
    return sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")
    )
