"""How many images are optimised side by side: as asked, as many as fit, or by a short sweep."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.common import (
    UserError,
    affordable,
    cache_folder,
    compiler_options,
    free_bytes,
    is_out_of_memory,
    num_cores,
    processor,
    replacing,
    stored_json,
)
from gaxjax.config import EngineConfig
from gaxjax.gax.heatmap import initial_weights
from gaxjax.gax.lane import Lane, new_lane
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import Plan
from gaxjax.gax.setting import blank
from gaxjax.models import as_unit_range

__all__ = ["bytes_per_slot", "choose_slots", "compiled_bytes", "swept_slots"]

_CPU_SLOTS = 16  # past this, more images a step no longer raise a CPU's rate
_ACCELERATOR_SLOTS = 512
_SHARE = 0.7  # of the free memory; the rest is for the compiler's scratch space

# Of the sweep:
_SWEPT_CPU, _SWEPT = 64, 2048  # most slots that are tried
_FEWEST = 4
_GOOD_ENOUGH = 0.98  # of the best rate: of equal counts the smaller drains sooner
_HOPELESS = 0.9  # of the best rate: larger counts are not tried
_CALLS = 3

_MEASURED = 4, 8  # slots of the programs whose memory the compiler tells


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
        UserError: not even one image fits, or not as many as asked for.
    """
    needed = None if num_images is None else max(1, -(-num_images // len(devices)))
    if isinstance(config.slots, int):
        slots = min(config.slots, needed or config.slots)
        least = int(bytes_per_slot(objective, image) / _RESIDUAL_FACTOR)
        halves = devices[0].platform != "cpu"
        return affordable(slots, least, free_bytes(devices), "--slots", image.shape, halves=halves)
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
    """Return the largest power of two up to `most` that fits the memory.

    The compiler is asked only where a rough figure, which is more than it takes, does not fit.
    """
    free = free_bytes(devices)
    slots = most
    if most * bytes_per_slot(objective, image) > _SHARE * free:
        fixed, each = compiled_bytes(objective, image, devices[0])
        if fixed + each > free:
            raise UserError(
                f"one image of {image.shape[0]} × {image.shape[1]} with --max-steps "
                f"{objective.config.max_steps} needs about {(fixed + each) / 2**30:,.1f} GiB and "
                f"{free / 2**30:,.1f} GiB are free: give a smaller --size or --max-steps"
            )
        slots = max(1, min(most, int((_SHARE * free - fixed) / each)))
    return int(2 ** (slots.bit_length() - 1))


def compiled_bytes(
    objective: Objective, image: jax.ShapeDtypeStruct, device: jax.Device
) -> tuple[int, int]:
    """Return a program's memory by the compiler's own figures: whatever the slots, and each slot.

    Lines through two small programs of each kind; cuDNN's scratch memory is in none. The most is
    held while a step runs, beside the weights of verification, or while as many images as there are
    slots are classified, beside the state.

    Args:
        objective: what is optimised.
        image: one image as it is given.
        device: a device, which may be one that is only described.
    """
    totals = []  # of a step and of a classification, by slots
    for slots in _MEASURED:
        plan = Plan(
            objective,
            devices=[device],
            slots=slots,
            drain=False,
            image=image,
            heatmap_dtype=jnp.float32,
        )
        step, baseline = (
            plan.compiled(name).memory_analysis()  # type: ignore[attr-defined]
            for name in ("step", "baseline")
        )
        exact = _nbytes(objective.classifier.weights)
        totals.append(
            (
                exact + step.argument_size_in_bytes + step.temp_size_in_bytes,
                baseline.argument_size_in_bytes
                + baseline.temp_size_in_bytes
                + step.argument_size_in_bytes,
            )
        )
    few, many = _MEASURED
    lines = []
    for low, high in zip(*totals, strict=True):
        each = (high - low) // (many - few)
        lines.append((low - few * each, each))
    return max(0, *(fixed for fixed, _ in lines)), max(1, *(each for _, each in lines))


def swept_slots(
    objective: Objective, image: jax.ShapeDtypeStruct, device: jax.Device, most: int
) -> int:
    """Return the power of two, at most `most`, with the highest rate of image-steps.

    The gradient of each count is compiled and called a few times: about a minute, once. What was
    found is remembered for this kind of device, network, image size, precision and JAX.

    Args:
        objective: what a step differentiates.
        image: one image as it is given.
        device: where to try.
        most: what fits the memory; a count that does not after all is passed over.
    """
    file = cache_folder() / "slots.json"
    key = _key(objective, image, device)
    known = _read(file)
    if key not in known:
        rates: dict[int, float] = {}
        slots = min(_FEWEST, most)
        while slots <= most and (not rates or rates[slots // 2] > _HOPELESS * max(rates.values())):
            try:
                rates[slots] = _rate(objective, image, slots, device)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error) or not rates:
                    raise
                break
            slots *= 2
        best = max(rates.values())
        known = _read(file) | {
            key: min(slots for slots, rate in rates.items() if rate >= _GOOD_ENOUGH * best)
        }
        with contextlib.suppress(OSError):  # where it cannot be kept, it is found anew
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
    return min(known[key], most)


def _rate(
    objective: Objective, image: jax.ShapeDtypeStruct, slots: int, device: jax.Device
) -> float:
    """Return the gradients a second of so many images side by side, at the best of a few calls."""
    noise = np.random.default_rng(0).integers(0, 256, (slots, *image.shape))
    images = jax.device_put(noise.astype(image.dtype), device)
    start = partial(initial_weights, config=objective.config, generator=objective.generator)
    weights = jax.vmap(start)(as_unit_range(images))
    network = jax.device_put(objective.fast_weights(), device)
    labels = jax.device_put(jnp.zeros(slots, jnp.int32), device)
    baseline = jax.device_put(jnp.zeros(slots, jnp.float32), device)

    def gradients(weights, network, images, labels, baseline):  # type: ignore[no-untyped-def]
        return objective.scores_and_gradients(
            weights, network, as_unit_range(images), labels, baseline
        )

    arguments = weights, network, images, labels, baseline
    step = jax.jit(gradients).lower(*arguments).compile(compiler_options(device))
    jax.block_until_ready(step(*arguments))
    seconds = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        seconds.append(time.perf_counter() - started)
    return slots / min(seconds)


def _key(objective: Objective, image: jax.ShapeDtypeStruct, device: jax.Device) -> str:
    kind = device.device_kind
    if device.platform == "cpu":
        kind = f"{processor()} {num_cores()} cores"
    shapes = [leaf.shape for leaf in jax.tree.leaves(objective.classifier.weights)]
    versions = [importlib.metadata.version(name) for name in ("gaxjax", "jax", "jaxlib")]
    settings = kind, shapes, objective.precision, versions
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    size = " × ".join(map(str, image.shape))
    return f"{device.device_kind}, {objective.classifier.name}, {size} {image.dtype}, {digest}"


def _read(file: Path) -> dict[str, int]:
    try:
        known = stored_json(file, dict[str, int])
    except (OSError, ValueError):  # not there yet, or not ours any more
        return {}
    return {key: slots for key, slots in known.items() if slots >= 1}


_RESIDUAL_FACTOR = 2.0  # XLA's peak over the residuals of jax.vjp: convolution scratch, gradients


def bytes_per_slot(objective: Objective, image: jax.ShapeDtypeStruct) -> int:
    """Estimate the memory of one slot in no time: activations kept for the gradient, and state.

    More than a GPU needs, by two or three times: see `compiled_bytes`. Shapes are traced. The lane
    counts twice, for its parked place.
    """
    objective = dataclasses.replace(objective, fast=None)  # it keeps no other activations
    network = jax.eval_shape(objective.fast_weights)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    setting = jax.eval_shape(lambda: blank(objective.swept))
    start = partial(new_lane, objective.config, generator=objective.generator)
    lane = jax.eval_shape(start, image, number, number, scalar, setting)

    def residuals(network: Any, lanes: Lane) -> Any:
        images = as_unit_range(lanes.image)
        return jax.vjp(
            lambda weights: objective.losses_and_scores(
                weights, network, images, lanes.label, lanes.baseline, lanes.setting
            )[0],
            lanes.weights,
        )[1]

    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), lane)
    kept = _nbytes(jax.eval_shape(residuals, network, one)) - _nbytes(network)
    return int(_RESIDUAL_FACTOR * max(kept, 0)) + 2 * _nbytes(lane) + 6 * _nbytes(image)


def _nbytes(tree: Any) -> int:
    return sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")
    )
