"""Devices and their memory: what is free, and what one slot needs of it."""

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import jax

from gaxjax.common.errors import UserError


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
    image's curve would depend on the slot count of the drain; without them it does not, and the
    step is faster as well.
    """
    flag = "xla_cpu_experimental_ynn_fusion_type"
    if device.platform == "cpu" and flag not in os.environ.get("XLA_FLAGS", ""):
        return {flag: ""}
    return {}


def matmul_precision(precision: str) -> AbstractContextManager[None]:
    """Return the context in which to trace what a user wants at this precision."""
    return jax.default_matmul_precision("highest") if precision == "highest" else nullcontext()
