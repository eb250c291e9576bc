"""AX: the heatmaps of existing methods made and scored, natively in JAX or by Captum in torch."""

import time
from collections.abc import Iterator
from typing import Any, Literal, cast

import numpy as np

from benchmarks.measure.measurement import CHECKED_IMAGES, Fields, Measurement, Turn
from benchmarks.measure.problem import Problem
from gaxjax.config import AxConfig, BatchConfig, Method, ModelConfig
from gaxjax.results import Solution


class Attribution:
    """One method, or all of them, under `x + h`; `contender` is such as `native:deep_lift`.

    Scores are those of heatmaps rounded to float16, as runs store them; heatmaps reach the host.
    """

    def __init__(self, measurement: Measurement, problem: Problem) -> None:
        self._measurement, self._problem = measurement, problem
        self._backend, _, self._method = measurement.contender.partition(":")
        if measurement.precision not in ("float32", "highest"):
            raise ValueError(f"AX is in float32 or highest; got {measurement.precision}")
        if self._backend == "captum":
            import gaxjax.reference.captum_engine  # noqa: F401  loads torch while another is timed
        self._engine: Any = None

    def prepare(self) -> Fields:
        """Compile, and score the first images for the comparison of the backends."""
        measurement = self._measurement
        config = AxConfig(
            methods=(cast(Method, self._method),),
            operation="sum",
            backend="captum" if self._backend == "captum" else "jax",
            score_space=measurement.score_space,
        )
        batch = BatchConfig(
            precision=cast(Literal["float32", "highest"], measurement.precision),
            batch_size=measurement.slots,
            devices=measurement.devices,
        )
        started = time.perf_counter()
        self._engine = (
            self._captum(config, batch)
            if self._backend == "captum"
            else self._native(config, batch)
        )
        self._engine.warm_up()
        compile_seconds = time.perf_counter() - started
        scores: dict[str, list[float | None]] = {}  # None: a heatmap that is zero everywhere
        for solutions in self._solutions(CHECKED_IMAGES):
            for solution in solutions:
                scores.setdefault(solution.method, []).append(solution.co_score)
        return {"compile_seconds": compile_seconds, "ax_scores": scores}

    def turn(self) -> Turn:
        """Explain and score all images; the last scores on the host end it."""
        count = self._measurement.num_images
        started = time.perf_counter()
        for _ in self._solutions(count):
            pass
        return Turn(time.perf_counter() - started, image_steps=0, images=count)

    def finish(self) -> Fields:
        """Return the memory used, and what was measured."""
        return {
            "peak_device_bytes": self._peak_device_bytes(),
            "slots_used": self._engine.batch_size // self._measurement.devices,
            "backend": self._backend,
            "method": self._method,
        }

    def _native(self, config: AxConfig, batch: BatchConfig) -> Any:
        from gaxjax.ax import AxEngine
        from gaxjax.models import load_classifier

        size = self._measurement.size
        return AxEngine(
            load_classifier(self._problem.checkpoint, fold=False),
            config,
            batch,
            image_shape=(size, size, 3),
            heatmap_dtype=np.float16,
        )

    def _captum(self, config: AxConfig, batch: BatchConfig) -> Any:
        from gaxjax.reference import CaptumEngine, open_torch_classifier

        # The torch file, not the checkpoint: JAX would set a GPU's memory aside to read it.
        model = ModelConfig(
            model=str(self._problem.weights_file),
            architecture=self._problem.model,
            normalization="imagenet",
        )
        return CaptumEngine(open_torch_classifier(model), config, batch, heatmap_dtype=np.float16)

    def _solutions(self, count: int) -> Iterator[list[Solution]]:
        size = self._measurement.slots * self._measurement.devices
        batches = self._problem.batches(np.arange(count), size)
        return cast(Iterator[list[Solution]], self._engine.run(batches))

    def _peak_device_bytes(self) -> int | None:
        if self._backend == "captum":
            from benchmarks.contenders.torch_step import peak_device_bytes
        else:
            from benchmarks.contenders.engine import peak_device_bytes
        return peak_device_bytes()
