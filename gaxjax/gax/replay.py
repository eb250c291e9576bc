"""A few images through the same steps as a run's engine took them, to watch them on the way.

An image's result does not depend on its neighbours, so the same functions over these images alone,
compiled alike, go through the run's own `w`: to the bit on a CPU, closely elsewhere.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, Float32, Int32, UInt8

from gaxjax.common import compiler_options, pad_rows
from gaxjax.gax.lane import EMPTY, RUNNING, Lane, new_lane
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import drain_sizes
from gaxjax.gax.slots import image_steps
from gaxjax.models import as_unit_range

__all__ = ["Replay", "Replayed", "Seen", "Watched"]

_TOP = 5


class Watched(NamedTuple):
    """An image to replay.

    Attributes:
        image: uint8, 0 to 255.
        label: the groundtruth class.
        last: updates that the run made.
        final: the step whose heatmap the run stored.
        steps: whose heatmaps are wanted, ascending.
    """

    image: UInt8[np.ndarray, "H W 3"]
    label: int
    last: int
    final: int
    steps: Sequence[int]


class Replayed(NamedTuple):
    """What one image's replay gives.

    Attributes:
        baseline: κ·f(x), or κ·softmax(f(x)).
        curve: scores, as the run's; last + 1 long.
        heatmaps: in (-1, 1), one for each of the wanted steps.
        final: that of the run's stored step, in the run's type.
    """

    baseline: float
    curve: Float32[np.ndarray, " T"]
    heatmaps: Float16[np.ndarray, "N H W 3"]
    final: Float[np.ndarray, "H W 3"]


class Seen(NamedTuple):
    """What stored heatmaps achieve, in float32 at the highest precision.

    Attributes:
        co_score: one score each.
        classes: the most probable ones of the augmented image, up to five.
        probabilities: theirs, in [0, 1], falling.
    """

    co_score: Float32[np.ndarray, " N"]
    classes: Int32[np.ndarray, "N K"]
    probabilities: Float32[np.ndarray, "N K"]


class Replay:
    """An engine's functions for a few images side by side; compiled at their first use.

    Args:
        objective: the engine's.
        device: its first.
        slots: as many as it has on one device.
        heatmap_dtype: in which the run stores heatmaps.
    """

    def __init__(
        self, objective: Objective, device: jax.Device, slots: int, heatmap_dtype: Any
    ) -> None:
        self._device = device
        self._slots = slots
        # The engine's own smallest number of lanes: with fewer, bits may differ.
        self.num_lanes = drain_sizes(slots, drain=True)[-1]
        self._verify_size = max(1, slots // 4)
        self._fast_weights = jax.device_put(objective.fast_weights(), self._device)
        self._weights = jax.device_put(objective.classifier.weights, self._device)
        top = min(_TOP, objective.classifier.num_classes)

        def baseline(network: Any, image: Any, label: Any) -> Any:
            return objective.baseline(network, as_unit_range(image), label).weighted

        def heatmaps(lanes: Lane) -> Any:
            found = objective.heatmaps(lanes.weights, as_unit_range(lanes.image))
            return found.astype(jnp.float16), found.astype(heatmap_dtype)

        def see(network: Any, image: Any, heatmap: Any, label: Any, baseline: Any) -> Any:
            wide = heatmap.astype(jnp.float32)
            logits = objective.verified_logits(network, as_unit_range(image), wide)
            probabilities, classes = jax.lax.top_k(jax.nn.softmax(logits), top)
            return objective.weighted(logits, label) - baseline, classes, probabilities

        jit = partial(jax.jit, compiler_options=compiler_options(self._device))
        self._baseline, self._heatmaps, self._see = jit(baseline), jit(heatmaps), jit(see)
        start = partial(new_lane, objective.config, generator=objective.generator)
        self._start = jit(jax.vmap(start))
        self._step = jit(partial(image_steps, objective))

    def run(self, images: Sequence[Watched], advance: Callable[[], None]) -> list[Replayed]:
        """Optimise up to `num_lanes` images, for as many updates as the run made.

        Args:
            images: what to replay.
            advance: called before each step.
        """
        size = self.num_lanes
        pixels = np.stack([one.image for one in images])
        labels = np.array([one.label for one in images], np.int32)
        last = np.array([one.last for one in images], np.int32)
        baselines = np.asarray(
            # Of the engine's own batch, whose rows XLA may sum in another order.
            self._baseline(
                self._weights, self._put(pixels, self._slots), self._put(labels, self._slots)
            )
        )[: len(images)]
        lanes: Lane = self._start(
            self._put(pixels, size),
            self._put(np.arange(len(images), dtype=np.int32), size),
            self._put(labels, size),
            self._put(baselines, size),
        )
        lanes = lanes._replace(
            status=self._put(np.full(len(images), RUNNING, np.int32), size, fill=EMPTY),
            # The run knows where an image ends, past scores that failed their verification.
            earliest=self._put(last, size),
        )
        heatmaps: list[list[np.ndarray]] = [[] for _ in images]
        finals: dict[int, np.ndarray] = {}
        for step in range(int(last.max()) + 1):
            advance()
            due = [lane for lane, one in enumerate(images) if step in one.steps]
            if due:
                small, stored = self._heatmaps(lanes)
                for lane in due:
                    heatmaps[lane].append(np.asarray(small[lane]))
                    if step == images[lane].final:
                        finals[lane] = np.asarray(stored[lane])
            lanes = self._step(self._fast_weights, lanes)
        curves = np.asarray(lanes.curve)
        return [
            Replayed(
                float(baselines[lane]),
                curves[lane, : one.last + 1],
                np.stack(heatmaps[lane]),
                finals[lane],
            )
            for lane, one in enumerate(images)
        ]

    def see(self, image: Watched, replayed: Replayed) -> Seen:
        """Score an image's heatmaps as they are stored, as the engine verifies its own."""
        size = self._verify_size

        def repeated(value: Any) -> jax.Array:
            return jax.device_put(np.repeat(np.asarray(value)[None], size, axis=0), self._device)

        pixels, label = repeated(image.image), repeated(np.int32(image.label))
        baseline = repeated(np.float32(replayed.baseline))
        parts = []
        for start in range(0, len(replayed.heatmaps), size):
            some = replayed.heatmaps[start : start + size]
            found = self._see(self._weights, pixels, self._put(some, size), label, baseline)
            parts.append([np.asarray(leaf)[: len(some)] for leaf in found])
        return Seen(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))

    def _put(self, rows: np.ndarray, size: int, *, fill: int = 0) -> jax.Array:
        """Move rows to the device, padded to `size`."""
        return jax.device_put(pad_rows(rows, size, fill), self._device)
