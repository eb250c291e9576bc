"""Devices and their memory: what is free, and what one slot needs of it."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp

from gaxjax.errors import UserError
from gaxjax.lanes import new_lane
from gaxjax.objective import Objective

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
