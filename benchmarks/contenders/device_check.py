"""Whether the device computes, and computes right: products of matrices, copies, uploads."""

import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measure import machine
from benchmarks.measure.measurement import Fields, Measurement, Turn
from benchmarks.measure.problem import Problem

_CHECKED = 256  # rows and columns of a product that numpy computes as well
_LARGEST_DIFFERENCE = 2**-7  # over the largest entry: bfloat16 has 8 bits


@dataclass(frozen=True)
class Sizes:
    """How much work: on a GPU enough to keep it busy, elsewhere as little as shows that it runs.

    Attributes:
        side: of the square matrices.
        megabytes: copied and uploaded at a time.
        calls: of each, one after another.
    """

    side: int
    megabytes: int
    calls: int


_ON_A_GPU, _ELSEWHERE = Sizes(8192, 1024, 50), Sizes(_CHECKED, 1, 2)


@dataclass(frozen=True)
class Framework:
    """One framework's calls; none but `wait` waits.

    Attributes:
        multiply: the product of the matrices in bfloat16.
        copy: reads and writes an array on the device.
        upload: brings an array from the host's memory.
        wait: until a result is there.
        to_host: a result in float32.
        computes_on: the device of a product, as the framework names it.
        runtime: versions below the framework.
    """

    multiply: Callable[[], Any]
    copy: Callable[[], Any]
    upload: Callable[[], Any]
    wait: Callable[[Any], Any]
    to_host: Callable[[Any], np.ndarray]
    computes_on: Callable[[Any], str]
    runtime: str


class DeviceCheck:
    """The device's own rates, by torch or by JAX, and what nvidia-smi says of it.

    Matrices hold whole numbers of at most 2, so that every sum is exact in float32, and a product
    is off by the rounding of its result alone.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        known: dict[str, Callable[[], Any]] = {"jax": _jax, "torch": _torch}
        self._open = known[measurement.contender]
        importlib.import_module(measurement.contender)
        self._sizes: Sizes
        self._framework: Framework
        self._rates: dict[str, list[float]] = {}
        self._found: Fields = {}

    def prepare(self) -> Fields:
        """Bring the matrices to the device, and hold part of their product against numpy's.

        Raises:
            ValueError: the device computes wrongly.
        """
        started = time.perf_counter()
        on_gpu, make = self._open()
        self._sizes = sizes = _ON_A_GPU if on_gpu else _ELSEWHERE
        draw = np.random.default_rng(0)
        left, right = (
            draw.integers(-2, 3, (sizes.side, sizes.side), dtype=np.int8) for _ in range(2)
        )
        block = np.ones(sizes.megabytes << 18, np.int32)
        self._framework = framework = make(left, right, block)
        product = framework.multiply()
        part = framework.to_host(product)[:_CHECKED, :_CHECKED]
        for call in (framework.copy, framework.upload):
            framework.wait(call())
        seconds = time.perf_counter() - started
        expected = left[:_CHECKED].astype(np.float32) @ right[:, :_CHECKED].astype(np.float32)
        difference = float(np.abs(part - expected).max() / np.abs(expected).max())
        if not difference <= _LARGEST_DIFFERENCE:
            raise ValueError(f"a product of matrices differs from numpy's by {difference:.1e}")
        self._found = {
            "computed_on": framework.computes_on(product),
            "runtime": framework.runtime,
            "matmul_difference": difference,
        }
        return {"compile_seconds": seconds}

    def turn(self) -> Turn:
        """Time products, copies and uploads, each many in a row."""
        sizes, framework = self._sizes, self._framework
        gigabytes, uploads = sizes.megabytes * 2**20 / 1e9, sizes.calls // 10 + 1
        work = {  # a call, how much it does, and how many of them
            "matmul_tflops": (framework.multiply, 2 * sizes.side**3 / 1e12, sizes.calls),
            "copy_gb_per_s": (framework.copy, 2 * gigabytes, sizes.calls),
            "upload_gb_per_s": (framework.upload, gigabytes, uploads),
        }
        total = 0.0
        for name, (call, amount, calls) in work.items():
            framework.wait(call())
            started = time.perf_counter()
            for _ in range(calls):
                last = call()
            framework.wait(last)
            seconds = time.perf_counter() - started
            self._rates.setdefault(name, []).append(calls * amount / seconds)
            total += seconds
        return Turn(total, image_steps=0, images=0)

    def finish(self) -> Fields:
        """Return the medians of all turns, and the GPU's state under them."""
        rates = {name: statistics.median(values) for name, values in self._rates.items()}
        peak = machine.peak_flops(machine.machine()["device"], "bfloat16")
        share = rates["matmul_tflops"] * 1e12 / peak if peak else None
        state = {"matmul_share_of_peak": share, "gpu": machine.gpu_state()}
        return self._found | rates | state


Make = Callable[[np.ndarray, np.ndarray, np.ndarray], Framework]


def _jax() -> tuple[bool, Make]:
    import jax
    import jax.numpy as jnp

    device = jax.local_devices()[0]

    def make(left: np.ndarray, right: np.ndarray, block: np.ndarray) -> Framework:
        a, b = (jax.device_put(one, device).astype(jnp.bfloat16) for one in (left, right))
        there = jax.device_put(block, device)
        multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
        return Framework(
            multiply=lambda: multiply(a, b),
            copy=lambda: copy(there),
            upload=lambda: jax.device_put(block, device),
            wait=jax.block_until_ready,
            to_host=lambda found: np.asarray(found.astype(jnp.float32)),
            computes_on=lambda found: str(found.device),
            runtime=" ".join(device.client.platform_version.split()),
        )

    return device.platform != "cpu", make


def _torch() -> tuple[bool, Make]:
    import torch

    from benchmarks.contenders.torch_step import synchronize, target_device

    device = target_device()
    on_gpu = device.type == "cuda"

    def make(left: np.ndarray, right: np.ndarray, block: np.ndarray) -> Framework:
        a, b = (torch.from_numpy(one).to(device).bfloat16() for one in (left, right))
        here = torch.from_numpy(block)
        here = here.pin_memory() if on_gpu else here
        there = here.to(device)
        other = torch.empty_like(there)
        cudnn = torch.backends.cudnn.version() if on_gpu else None
        return Framework(
            multiply=lambda: a @ b,
            copy=lambda: other.copy_(there),
            upload=lambda: there.copy_(here, non_blocking=True),
            wait=lambda _: synchronize(),
            to_host=lambda found: found.float().cpu().numpy(),
            computes_on=lambda found: str(found.device),
            runtime=f"CUDA {torch.version.cuda}, cuDNN {cudnn}",
        )

    return on_gpu, make
