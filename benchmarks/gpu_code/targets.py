"""GPUs in XLA's words, and what their data sheets promise."""

from dataclasses import dataclass
from typing import Literal

TargetName = Literal["h100", "h200", "a100", "rtx4090"]


@dataclass(frozen=True)
class Target:
    """A GPU that need not be here.

    Attributes:
        description: XLA's GpuTargetConfigProto, as text.
        bandwidth: bytes a second.
        peak: operations a second by precision; the tensor cores' without sparsity, accumulating in
            float32, and of `highest` those of float32 without tensor cores.
        issue: instructions a second of all warps: multiprocessors × 4 × boost clock.
    """

    description: str
    bandwidth: float
    peak: dict[str, float]
    issue: float


def _described(name: str, numbers: dict[str, int | float], major: int, minor: int) -> str:
    fields = "\n".join(f"  {field}: {value}" for field, value in numbers.items())
    accelerated = " feature_extension: ACCELERATED_FEATURES" if major == 9 else ""
    return (
        f"gpu_device_info {{\n{fields}\n"
        f"  cuda_compute_capability {{ major: {major} minor: {minor}{accelerated} }}\n}}\n"
        'dnn_version_info { major: 9 minor: 10 }\nplatform_name: "CUDA"\n'
        f'device_description_str: "{name}"\n'
    )


_ALL = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 49152,
    "block_dim_limit_x": 2147483647,
    "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535,
    "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536,
}
_HOPPER = _ALL | {
    "shared_memory_per_block_optin": 232448,
    "shared_memory_per_core": 233472,
    "threads_per_core_limit": 2048,
    "core_count": 132,
    "fpus_per_core": 128,
    "l2_cache_size": 52428800,
    "clock_rate_ghz": 1.98,
}
_HOPPER_PEAK = {"bfloat16": 989e12, "float32": 494.5e12, "highest": 66.9e12}

TARGETS: dict[TargetName, Target] = {
    # NVIDIA H100 and H200 data sheets, SXM.
    "h100": Target(
        _described(
            "NVIDIA H100 80GB HBM3",
            _HOPPER | {"memory_bandwidth": 3352320000000, "device_memory_size": 84942979072},
            *(9, 0),
        ),
        bandwidth=3.35e12,
        peak=_HOPPER_PEAK,
        issue=132 * 4 * 1.755e9,
    ),
    "h200": Target(
        _described(
            "NVIDIA H200",
            _HOPPER | {"memory_bandwidth": 4800000000000, "device_memory_size": 150754820096},
            *(9, 0),
        ),
        bandwidth=4.8e12,
        peak=_HOPPER_PEAK,
        issue=132 * 4 * 1.755e9,
    ),
    # NVIDIA A100 data sheet, SXM with 80 GB.
    "a100": Target(
        _described(
            "NVIDIA A100-SXM4-80GB",
            _ALL
            | {
                "shared_memory_per_block_optin": 166912,
                "shared_memory_per_core": 167936,
                "threads_per_core_limit": 2048,
                "core_count": 108,
                "fpus_per_core": 64,
                "l2_cache_size": 41943040,
                "clock_rate_ghz": 1.41,
                "memory_bandwidth": 2039000000000,
                "device_memory_size": 85095874560,
            },
            *(8, 0),
        ),
        bandwidth=2.039e12,
        peak={"bfloat16": 312e12, "float32": 156e12, "highest": 19.5e12},
        issue=108 * 4 * 1.41e9,
    ),
    # NVIDIA Ada GPU architecture whitepaper, GeForce RTX 4090.
    "rtx4090": Target(
        _described(
            "NVIDIA GeForce RTX 4090",
            _ALL
            | {
                "shared_memory_per_block_optin": 101376,
                "shared_memory_per_core": 102400,
                "threads_per_core_limit": 1536,
                "core_count": 128,
                "fpus_per_core": 128,
                "l2_cache_size": 75497472,
                "clock_rate_ghz": 2.52,
                "memory_bandwidth": 1008096000000,
                "device_memory_size": 25393692672,
            },
            *(8, 9),
        ),
        bandwidth=1.008e12,
        peak={"bfloat16": 165.2e12, "float32": 82.6e12, "highest": 82.6e12},
        issue=128 * 4 * 2.52e9,
    ),
}
