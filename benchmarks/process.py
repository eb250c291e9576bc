"""A contestant's process, seen from outside: commands to it, answers within a time limit."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measurement import Fields, Measurement

__all__ = ["Worker"]


class Failed(Exception):
    """A contestant gave up, or ran out of time; the message goes into its row."""


class Worker:
    """A contestant's process, seen from outside."""

    def __init__(self, measurement: Measurement, folder: Path, *, logs: Path, on_cpu: bool) -> None:
        self.measurement = measurement
        self.error: str | None = None
        # Inductor keeps what it compiled; a second run's compile_seconds would not be the first's.
        self._inductor = tempfile.TemporaryDirectory(prefix="inductor-", ignore_cleanup_errors=True)
        self.fields: Fields = {}
        self.turns: list[Fields] = []
        environment = os.environ | _environment(measurement, on_cpu=on_cpu)
        environment["TORCHINDUCTOR_CACHE_DIR"] = self._inductor.name
        log = logs / f"{measurement.key.replace('/', ',')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.worker"),
                    *(json.dumps(measurement.as_fields()), str(folder.resolve())),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                cwd=Path(__file__).parents[1],
                text=True,
                bufsize=1,
            )

    def ask(self, command: str, seconds: float) -> Fields:
        """Send a command and wait for the answer; after an error, everything is refused."""
        if self.error is not None:
            return {}
        try:
            assert self._process.stdin is not None
            if command:
                self._process.stdin.write(command + "\n")
                self._process.stdin.flush()
            return self._answer(command or "start", seconds)
        except (Failed, OSError) as error:
            self.error = str(error)
            self._process.kill()
            return {}

    def _answer(self, command: str, seconds: float) -> Fields:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], seconds)[0]:
            raise Failed(f"{command} took more than {seconds:.0f} s")
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
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._inductor.cleanup()


def _environment(measurement: Measurement, *, on_cpu: bool) -> dict[str, str]:
    """Return what a worker's environment must add."""
    added = {"TOKENIZERS_PARALLELISM": "false"}
    if on_cpu:
        added |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    if measurement.devices > 1 or measurement.workload == "devices":
        flags = os.environ.get("XLA_FLAGS", "")
        count = measurement.devices
        added["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}".strip()
        added["JAX_PLATFORMS"] = "cpu"
    return added
