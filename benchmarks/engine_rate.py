"""How close the engine comes to the bare jitted step it is built around.

    python -m benchmarks.engine_rate --model squeezenet.ckpt --data IMAGES --num-images 150

Three figures of one process, in image-steps/s:
- bare: the jitted step alone (loss, input gradient, Adam in every slot), nothing around it. Shared
  machines drift, so the engine is paused every few seconds, until its step in flight is over, and
  the bare step is timed then; the pauses, and the one step that ran within each, are taken off
  the engine's account.
- engine: everything until the last image leaves the queue, also classifying the images and
  verifying the scores in float32.
- engine, steps only: the same without the time of classification and verification, each
  measured alone after the run as batches × seconds per batch.
"""

import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import tyro

from benchmarks.rows import append_row, current_commit
from gaxjax import lanes
from gaxjax.classifier import open_classifier
from gaxjax.config import DataConfig, EngineConfig, GaxConfig, ModelConfig
from gaxjax.data import batches, open_images
from gaxjax.engine import Engine
from gaxjax.heatmap import as_unit_range, initial_weights
from gaxjax.program import Program, compiler_options

RESULTS = Path(__file__).parent / "results" / "engine_rate.jsonl"
_PAUSE_EVERY = 10.0  # seconds of the engine's work


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    model: ModelConfig
    data: DataConfig
    gax: GaxConfig = field(default_factory=lambda: GaxConfig(score_space="raw"))
    engine: EngineConfig = field(default_factory=EngineConfig)
    output: Path = RESULTS


class BareStep:
    """The step without lanes, queue, refill or report, on images of its own."""

    def __init__(self, program: Program, images: np.ndarray) -> None:
        objective = program.objective
        config, slots = objective.config, len(images)

        def step(network, state, image, label, baseline):
            weights, adam = state
            gradient = jax.value_and_grad(objective.loss_and_score, has_aux=True)
            (_, score), gradients = jax.vmap(gradient, in_axes=(0, None, 0, 0, 0))(
                weights, network, as_unit_range(image), label, baseline
            )
            updates, adam = jax.vmap(lanes.adam(config).update)(gradients, adam)
            return (jax.tree.map(jnp.add, weights, updates), adam), score

        pixels = jnp.asarray(images)
        weights = jax.vmap(partial(initial_weights, config=config))(as_unit_range(pixels))
        self._network = program.fast_weights
        self._state = weights, jax.vmap(lanes.adam(config).init)(weights)
        self._constant = pixels, jnp.zeros(slots, jnp.int32), jnp.zeros(slots, jnp.float32)
        lowered = jax.jit(step, donate_argnums=1).lower(self._network, self._state, *self._constant)
        self._step = lowered.compile(compiler_options=compiler_options(jax.local_devices()[0]))
        self.seconds: list[float] = []

    def time(self, calls: int) -> None:
        """Time some calls, after one that does not count."""
        for call in range(calls + 1):
            started = time.perf_counter()
            self._state, score = self._step(self._network, self._state, *self._constant)
            jax.block_until_ready((self._state, score))
            if call:
                self.seconds.append(time.perf_counter() - started)


def time_batch(function, *arguments, calls: int = 5) -> float:
    """Return the median seconds of one call."""
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


def measure(settings: Settings) -> dict:
    """Run bare step, engine, bare step; return the row."""
    classifier = open_classifier(settings.model)
    images = open_images(settings.data, num_classes=classifier.num_classes)
    size = settings.data.size
    engine = Engine(
        classifier,
        settings.gax,
        settings.engine,
        image_shape=(size, size, 3),
        heatmap_dtype=np.float16,
        num_images=len(images.records),
    )
    program = engine.warm_up()
    shown = np.stack([images.load(i % len(images.records)) for i in range(engine.slots)])
    compiled = []

    def listen(event: str, _: float, **__: object) -> None:
        compiled.append(event == "/jax/core/compile/backend_compile_duration")

    bare = BareStep(program, shown)
    bare.time(3)
    jax.monitoring.register_event_duration_secs_listener(listen)
    source = batches(images, batch_size=engine.batch_size, threads=settings.data.decode_threads)
    outcomes: dict[str, int] = {}
    steps, stats = [], engine.stats
    paused = undrained_paused = 0.0  # seconds
    undrained_pauses = verifications = 0
    pauses: list[float] = []  # when, in the engine's own seconds
    for solution in engine.run(source):
        outcomes[solution.outcome] = outcomes.get(solution.outcome, 0) + 1
        if solution.steps is not None:
            steps.append(solution.steps)
        if stats.undrained and stats.undrained[2] == stats.seconds:
            verifications = stats.verifications
        if stats.seconds - paused - (pauses[-1] if pauses else 0.0) > _PAUSE_EVERY:
            started = time.perf_counter()
            pauses.append(stats.seconds - paused)
            time.sleep(3 * float(np.median(bare.seconds)))  # the step in flight ends meanwhile
            bare.time(3)
            paused += time.perf_counter() - started
            if stats.undrained and stats.undrained[2] == stats.seconds:
                undrained_pauses, undrained_paused = len(pauses), paused
    jax.monitoring.unregister_event_duration_listener(listen)

    block = program.put(shown[None]), program.put(np.zeros((1, engine.slots), np.int32))
    baseline_seconds = time_batch(program.baseline, program.weights, *block)
    finished = program.collect[program.slots[0]](program.empty_state())
    verify_seconds = time_batch(program.rescore, program.weights, finished)

    done, _, seconds = stats.undrained or (stats.image_steps, 0, stats.seconds)
    seconds -= undrained_paused
    done -= undrained_pauses * stats.slots * stats.devices
    other = stats.baselines * baseline_seconds + verifications * verify_seconds
    bare_rate = engine.slots / float(np.median(bare.seconds))
    slowest, fastest = max(bare.seconds), min(bare.seconds)
    return {
        "bench": "engine_rate",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": current_commit(),
        "device": jax.devices()[0].device_kind,
        "processor": platform.machine(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "model": classifier.name,
        "size": size,
        "score_space": settings.gax.score_space,
        "precision": stats.precision,
        "slots": stats.slots,
        "images": len(images.records),
        "outcomes": outcomes,
        "mean_steps": round(float(np.mean(steps)), 2) if steps else None,
        "bare_image_steps_per_s": round(bare_rate, 3),
        "bare_min_max": [round(engine.slots / slowest, 3), round(engine.slots / fastest, 3)],
        "bare_calls": len(bare.seconds),
        "engine_image_steps_per_s": round(done / seconds, 3),
        "engine_steps_only_per_s": round(done / (seconds - other), 3),
        "engine_over_bare": round(done / seconds / bare_rate, 4),
        "engine_steps_only_over_bare": round(done / (seconds - other) / bare_rate, 4),
        "occupancy": round(stats.occupancy, 4),
        "seconds_until_drain": round(seconds, 2),
        "baseline_batches": stats.baselines,
        "baseline_seconds_each": round(baseline_seconds, 4),
        "verify_batches": stats.verifications,
        "verify_seconds_each": round(verify_seconds, 4),
        "compile_seconds": round(stats.compile_seconds, 2),
        "compilations_after_warm_up": sum(compiled),
    }


def main() -> None:
    """Measure once and append the row."""
    settings = tyro.cli(Annotated[Settings, tyro.conf.OmitArgPrefixes])
    append_row(measure(settings), settings.output)


if __name__ == "__main__":
    main()
