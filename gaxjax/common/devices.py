"""Devices: how many, what they have free, and how rows and programs are made for them."""

import functools
import math
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.experimental.layout import Format, Layout
from jax.sharding import Sharding
from jaxtyping import PyTree, Shaped

from gaxjax.common.errors import UserError
from gaxjax.common.memory import allowed_cores, host_free_bytes
from gaxjax.common.text import one_line

__all__ = [
    "compiler_options",
    "free_bytes",
    "half_as_many",
    "hardware",
    "is_out_of_memory",
    "local_devices",
    "matmul_precision",
    "no_devices",
    "num_cores",
    "pad_rows",
    "placed_shapes",
    "processor",
    "same_bits_at_any_count",
    "weight_places",
]


def local_devices(count: int | None) -> list[jax.Device]:
    """Return the first `count` local devices, or all.

    Raises:
        UserError: there are fewer, or JAX finds none of the platform it was told to take.
    """
    try:
        available: list[jax.Device] = jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where CUDA is missing
        raise no_devices(error) from error
    if count is not None and count > len(available):
        raise UserError(f"--devices {count} asks for more devices than the {len(available)} here")
    return available[:count]


def no_devices(error: Exception) -> UserError:
    """Return the one line for a platform of which JAX finds no device.

    Example:
        >>> no_devices(RuntimeError("Unable to initialize backend 'cuda'"))
        UserError("JAX finds no device (Unable to initialize backend 'cuda')")
    """
    reason = "" if isinstance(error, AssertionError) else f" ({one_line(error).split(' (')[0]})"
    asked = [f"{name}={os.environ[name]}" for name in _ASKING if os.environ.get(name)]
    mend = f"; {' and '.join(asked)} asks for what is not here: unset it" if asked else ""
    return UserError(f"JAX finds no device{reason}{mend}")


_ASKING = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_NUM_CPU_DEVICES", "CUDA_VISIBLE_DEVICES")


def num_cores() -> int:
    """Return the number of processor cores that this process may use, a container's share too."""
    process = psutil.Process()
    # macOS binds no process to cores.
    bound = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    cores = len(bound) if bound else psutil.cpu_count() or 1
    granted = allowed_cores()
    return cores if granted is None else max(1, min(cores, math.ceil(granted)))


def free_bytes(devices: list[jax.Device]) -> int:
    """Return the free memory of one device, in bytes; host memory is shared among CPU devices.

    Of the host's, what the system holds for files that it could read again is free; a container's
    limit counts, and this process's own.
    """
    statistics = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
    return host_free_bytes() // len(devices)


def hardware(devices: list[jax.Device]) -> dict[str, str]:
    """Describe devices of one kind: their number and name, and the platform."""
    kind = devices[0].device_kind
    return {"device": f"{len(devices)} × {kind}", "platform": devices[0].platform}


def is_out_of_memory(error: jax.errors.JaxRuntimeError) -> bool:
    """Tell whether a device ran out of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


def half_as_many(count: int, error: jax.errors.JaxRuntimeError, alone: str) -> int:
    """Return half of what a device had no memory for.

    Args:
        count: how many images side by side were too many.
        error: what the device said; raised again where it is not about memory.
        alone: what to say of a single one, and how to mend it.

    Raises:
        UserError: there was a single one.
    """
    if not is_out_of_memory(error):
        raise error
    if count == 1:
        raise UserError(f"out of device memory with {alone}") from error
    return count // 2


def pad_rows(
    rows: Shaped[np.ndarray, "N *row"], size: int, fill: int | Literal["last"] = 0
) -> Shaped[np.ndarray, "M *row"]:
    """Make a batch as long as the program wants it.

    Args:
        rows: at most `size` of them.
        size: how many are wanted.
        fill: what is in the missing ones: a number, or the last row again.

    Example:
        >>> pad_rows(np.array([3, 1]), 4), pad_rows(np.array([3, 1]), 4, "last")
        (array([3, 1, 0, 0]), array([3, 1, 1, 1]))
    """
    padded = np.empty((size, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    padded[len(rows) :] = rows[-1] if fill == "last" else fill
    return padded


def processor() -> str:
    """Return what programs for the host may depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def compiler_options(device: jax.Device) -> dict[str, str | bool]:
    """Return the compiler's settings for a device; a user's own XLA_FLAGS go first.

    CPU: XLA's YNNPACK matrix products depend in their last bit on the number of rows, so that an
    image's curve would depend on the slot count of the drain; without them it does not (where
    `same_bits_at_any_count`), and the step is faster as well: 1.5 times on a CPU with AVX2 alone.
    """
    flag = "xla_cpu_experimental_ynn_fusion_type"
    if device.platform == "cpu" and flag not in os.environ.get("XLA_FLAGS", ""):
        return {flag: ""}
    return {}


@functools.cache
def same_bits_at_any_count(device: jax.Device) -> bool:
    """Tell whether a row of a matrix product is the same to the last bit among any others.

    Where it is not, an image's results depend in their last bits on its neighbours, and on the slot
    count of the drain.

    Seen with jaxlib 0.10.2 on a processor with AVX-512: it is; with AVX2 alone it is not: XLA's
    products and convolutions (Eigen's) round rows at the end of a thread's share otherwise, at 7,
    8, 9, 14, … rows. So the processor is asked: equal rows must give equal rows.
    """
    if device.platform != "cpu":
        return True
    for count in (8, 1568):
        rows = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (count, 1))
        matrix = np.full((64, 10), 1 / 3, np.float32)
        product = jax.jit(jnp.dot, compiler_options=compiler_options(device))
        found = np.asarray(product(*jax.device_put((rows, matrix), device)))
        if not (found == found[0]).all():
            return False
    return True


def weight_places(weights: PyTree, sharding: Sharding, *, kernels: bool) -> PyTree:
    """Return where arrays go, and in which order of bytes where that matters.

    cuDNN reads a kernel output channel by output channel. Where it does not lie so, XLA turns every
    kernel anew at each call.

    Args:
        weights: arrays, or their shapes.
        sharding: of all.
        kernels: whether those of four dimensions are kernels, HWIO.
    """
    device: Any = next(iter(sharding.device_set))
    on_gpu = device.platform == "gpu"

    def place(leaf: Any) -> Sharding | Format:
        is_kernel = on_gpu and kernels and len(leaf.shape) == 4
        return Format(Layout((3, 0, 1, 2)), sharding) if is_kernel else sharding

    return jax.tree.map(place, weights)


def placed_shapes(arrays: PyTree, places: PyTree) -> PyTree:
    """Return the shapes of arrays, or of their shapes, at the places of `weight_places`."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            leaf.shape, leaf.dtype, sharding=place
        ),
        arrays,
        places,
    )


def matmul_precision(precision: str) -> AbstractContextManager[None]:
    """Return the context in which to trace what a user wants at this precision."""
    return jax.default_matmul_precision("highest") if precision == "highest" else nullcontext()
