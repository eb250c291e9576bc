"""What a row was measured on: device, versions, commit, and what the device can do at best."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchvision", "captum", "triton")

_GPU_STATE = (
    *("name", "driver_version", "memory.total", "memory.used", "power.limit"),
    *("clocks.sm", "clocks.max.sm", "temperature.gpu"),
)

_PEAK_FLOPS = {
    # NVIDIA H100 Tensor Core GPU data sheet, SXM, without sparsity; the H200's are the same. Other
    # H100s (PCIe, NVL) do less.
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12},
    "NVIDIA H200": {"bfloat16": 989e12, "tf32": 494.5e12, "float32": 67e12},
}


def machine() -> dict[str, Any]:
    """Describe this machine as the frameworks loaded here see it; loads none."""
    return {
        "device": _device(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES if version(name)},
    }


def _device() -> str:
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if jax is not None and jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    return "cpu"


def gpu_state() -> dict[str, str]:
    """Return what nvidia-smi says of the first GPU: driver, memory, clocks; nothing without one."""
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(_GPU_STATE)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return {}
    if told.returncode or not told.stdout.strip():
        return {}
    values = told.stdout.splitlines()[0].split(", ")
    return dict(zip(_GPU_STATE, values, strict=False))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def version(package: str) -> str | None:
    """Return a package's version, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """Return the checkout's short hash, with -dirty where tracked files differ from it.

    Stored rows do not count: writing them must not make the next row's commit another one.
    """
    short = _git("rev-parse", "--short", "HEAD")
    changed = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"
    )
    return f"{short or 'unknown'}-dirty" if changed else short or "unknown"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.strip()


def arithmetic(framework: str, precision: str, device: str) -> str:
    """Return the arithmetic that a precision means: on NVIDIA GPUs JAX's float32 is TF32.

    JAX multiplies float32 matrices and images at its default precision, which a GPU's tensor cores
    compute in TF32; `highest` asks for true float32. torch does the first only when it is told to.
    """
    if precision == "highest":
        return "float32"
    if framework == "jax" and precision == "float32" and device != "cpu":
        return "tf32"
    return precision


def peak_flops(device: str, arithmetic: str) -> float | None:
    """Return the data sheet's operations a second, None where it is not known here."""
    return _PEAK_FLOPS.get(device, {}).get(arithmetic)
