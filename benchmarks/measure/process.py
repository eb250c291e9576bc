"""A contestant's process, seen from outside: commands to it, answers within a time limit."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from benchmarks.measure.measurement import Fields, Measurement
from benchmarks.measure.problem import Problem
from gaxjax.cli.startup import ALLOCATOR

Accelerator = Literal["none", "any", "gpu", "shared gpu"]
"""What workers have: `any` is what a framework finds, a `shared gpu` one of several workers."""

__all__ = ["Accelerator", "Worker"]


class Failed(Exception):
    """A contestant gave up, or ran out of time; the message goes into its row."""


class TookTooLong(Failed):
    """No answer in time."""


class Worker:
    """A contestant's process, seen from outside.

    Args:
        measurement: what it does.
        folder: of its problem.
        cache: where logs go, and on a GPU what compilers keep from worker to worker.
        accelerator: what it may use.

    Attributes:
        problem: for who judges its answers; None where it could not be opened.
        error: why it failed, None so far.
        cut_off: whether the run's own end, and not the contestant, was to blame.
        due: when it must have done its turns, in the seconds of `time.monotonic`.
        fields, turns: what it answered.
    """

    def __init__(
        self, measurement: Measurement, folder: Path, *, cache: Path, accelerator: Accelerator
    ) -> None:
        self.measurement = measurement
        self.problem: Problem | None = None
        self.error: str | None = None
        self.cut_off = False
        self.due = float("inf")
        self._killed = False
        self.fields: Fields = {}
        self.turns: list[Fields] = []
        # Inductor keeps what it compiled; a second run's compile_seconds would not be the first's.
        self._inductor = tempfile.TemporaryDirectory(prefix="inductor-", ignore_cleanup_errors=True)
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": self._inductor.name}
        environment |= worker_environment(measurement, cache, accelerator)
        log = cache / "logs" / f"{measurement.key.replace('/', ',')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.measure.worker"),
                    *(json.dumps(measurement.as_fields()), str(folder.resolve())),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                cwd=Path(__file__).parents[2],
                text=True,
                bufsize=1,
                process_group=0,  # so that compilers it started end with it
            )

    def ask(self, command: str, seconds: float, left: float = float("inf")) -> Fields:
        """Send a command and wait for the answer; after an error, everything is refused.

        Args:
            command: one of the worker's; empty to wait until it has loaded.
            seconds: the most it may take.
            left: the most that the run has left; the error then is not the contestant's.
        """
        if self.error is not None:
            return {}
        try:
            assert self._process.stdin is not None
            if command:
                self._process.stdin.write(command + "\n")
                self._process.stdin.flush()
            return self._answer(command or "start", min(seconds, left))
        except (Failed, OSError, ValueError) as error:
            self.error = str(error)
            self.cut_off = isinstance(error, TookTooLong) and left < seconds
            self.kill()
            return {}

    def _answer(self, command: str, seconds: float) -> Fields:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], seconds)[0]:
            raise TookTooLong(f"{command} took more than {seconds:.0f} s")
        line = output.readline()
        if not line:
            raise Failed(f"ended with status {self._process.wait()} at {command}")
        answer: Fields = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self) -> None:
        """End the process, and wait until its memory is free."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self.kill()
        self._process.wait()
        self._process.stdout.close()
        self._inductor.cleanup()

    def kill(self) -> None:
        """Kill the process and all that it started; once, as its number may then be another's."""
        if self._killed:
            return
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def worker_environment(
    measurement: Measurement, cache: Path, accelerator: Accelerator
) -> dict[str, str]:
    """Return what a worker's environment must add."""
    added, cache = {"TOKENIZERS_PARALLELISM": "false"}, cache.resolve()
    added["GLIBC_TUNABLES"] = os.environ.get("GLIBC_TUNABLES", ALLOCATOR)  # torch gains as well
    flags = []
    if accelerator == "none":
        added |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    elif accelerator == "any":
        pass
    elif measurement.framework == "torch":
        # JAX, if it is loaded at all, must not set the GPU's memory aside.
        added |= {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    else:
        added |= {
            "JAX_PLATFORMS": "cuda,cpu",  # an error, not the CPU, where CUDA does not start
            "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        if accelerator == "shared gpu":
            added["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        if measurement.workload == "profile":  # in a command buffer kernels lose their names
            flags.append("--xla_gpu_enable_command_buffer=")
    if measurement.devices > 1 or measurement.workload == "devices":
        flags.append(f"--xla_force_host_platform_device_count={measurement.devices}")
        added["JAX_PLATFORMS"] = "cpu"
    if flags:
        added["XLA_FLAGS"] = " ".join([*os.environ.get("XLA_FLAGS", "").split(), *flags])
    return added
