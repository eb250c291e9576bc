"""The GAX engine: thousands of images through a fixed number of slots, each to its own end.

`heatmap.py` and `objective.py` say what is optimised, `lane.py` how one image is, `slots.py` what
a step does to all slots on the device, `program.py` compiles it, and `scheduler.py` is the host's
side. Here they are put together, and begun again with fewer slots where memory runs out.
"""

from collections import abc, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaxjax.common import (
    UserError,
    half_as_many,
    hardware,
    local_devices,
    own_numbers,
    yielding_own_numbers,
)
from gaxjax.config import EngineConfig, GaxConfig, Precision, Setting, require_config
from gaxjax.data import Batch, Prefetch
from gaxjax.gax.capacity import choose_slots
from gaxjax.gax.generator import Generator
from gaxjax.gax.heatmap import check_generator
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import Program
from gaxjax.gax.scheduler import Scheduler
from gaxjax.gax.setting import Settings
from gaxjax.gax.settled import Owed
from gaxjax.gax.stats import EngineStats
from gaxjax.models import Classifier, check_engine, checked_first, fast_form
from gaxjax.results import Solution
from gaxjax.score import check_reachable

__all__ = ["GaxEngine", "make_objective", "resolve_precision"]

_MOST = 2**31 - 1  # numbers of optimisations are int32 on the device


def resolve_precision(
    precision: Precision, device: jax.Device, classifier: Classifier
) -> Precision:
    """Turn `auto` into bfloat16 on a GPU and float32 elsewhere.

    Raises:
        UserError: bfloat16 is asked of a function that holds its weights itself.
    """
    castable = any(
        jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(classifier.weights)
    )
    if precision == "bfloat16" and not castable:
        raise UserError(
            f"{classifier.name} holds its weights itself, so they cannot be cast to bfloat16: "
            "pass a module, or jax.tree_util.Partial(function, weights)"
        )
    if precision != "auto":
        return precision
    return "bfloat16" if device.platform == "gpu" and castable else "float32"


def make_objective(
    classifier: Classifier, gax: GaxConfig, precision: Precision, device: jax.Device
) -> Objective:
    """Return the objective in the form that suits the device.

    Raises:
        UserError: as `resolve_precision`.
    """
    precision = resolve_precision(precision, device, classifier)
    return Objective(classifier, gax, precision, fast_form(classifier, precision, device.platform))


class GaxEngine:
    """Optimises heatmaps for a stream of images.

    Args:
        classifier: the frozen model.
        gax: what to optimise.
        config: how fast.
        image_shape: (H, W, 3).
        image_dtype: uint8, or float32 for pixels already in [0, 1].
        heatmap_dtype: type of the heatmaps handed out; scores are verified after that rounding.
        num_images: how many will come, where known; slots past it would stay empty.
        sweep: settings that each image is optimised with, side by side: all of the same fields.
        generator: makes the heatmaps, in place of the config's generator.

    Raises:
        UserError: arguments of another kind; a function that is no classifier; a target that the
            score cannot reach; too little memory.

    Example:
        >>> engine = GaxEngine(classifier, GaxConfig(), EngineConfig(), image_shape=(16, 16, 3))
        >>> for [solution] in engine.run(image_batches):
        ...     index, score, heatmap = solution.index, solution.co_score, solution.heatmap
    """

    @own_numbers()
    def __init__(
        self,
        classifier: Classifier,
        gax: GaxConfig,
        config: EngineConfig,
        *,
        image_shape: tuple[int, ...],
        image_dtype: Any = np.uint8,
        heatmap_dtype: Any = np.float32,
        num_images: int | None = None,
        sweep: Sequence[Setting] = (),
        generator: Generator | None = None,
    ) -> None:
        require_config(gax, GaxConfig, "gax")
        require_config(config, EngineConfig, "config")
        check_engine(classifier, image_shape, image_dtype)
        check_generator(gax, image_shape)
        for setting in sweep or ({},):
            target = float(setting.get("target", gax.target))
            check_reachable(target, gax.score, classifier.num_classes)
        self.devices = local_devices(config.devices)
        self.settings = Settings(gax, sweep)
        objective = make_objective(classifier, gax, config.precision, self.devices[0])
        self.objective = replace(objective, swept=self.settings.swept, generator=generator)
        if num_images is not None:
            num_images *= len(self.settings)
            if num_images > _MOST:
                raise UserError(
                    f"{num_images:,} optimisations are more than one run can count: sweep over "
                    "fewer images (--sweep-images)"
                )
        self._image = jax.ShapeDtypeStruct(image_shape, image_dtype)
        self.heatmap_dtype = jnp.dtype(heatmap_dtype)
        self._drain = config.drain
        self.slots = choose_slots(self.objective, config, self._image, self.devices, num_images)
        self.stats = EngineStats()
        self.program: Program | None = None

    @property
    def batch_size(self) -> int:
        """Images per batch that `run` works on best."""
        return self.slots * len(self.devices)

    @property
    def heatmaps_per_image(self) -> int:
        """The most heatmaps that one image's solutions hold: one a setting."""
        return len(self.settings)

    @property
    def hardware(self) -> dict[str, str]:
        """On what it runs, for a run's header."""
        return hardware(self.devices)

    @own_numbers()
    def warm_up(self) -> Program:
        """Compile everything; `run` does it when it was not done before.

        Slots are halved until the program fits the memory.
        """
        while self.program is None:
            try:
                self.program = Program(
                    self.objective,
                    devices=self.devices,
                    slots=self.slots,
                    drain=self._drain,
                    image=self._image,
                    heatmap_dtype=self.heatmap_dtype,
                )
            except jax.errors.JaxRuntimeError as error:
                self._halve(error)
            else:
                self.stats.compile_seconds += self.program.compile_seconds
        self.stats.slots, self.stats.devices = self.slots, len(self.devices)
        self.stats.verify_size = self.program.verify_size
        self.stats.precision = self.objective.precision
        return self.program

    @yielding_own_numbers
    def run(self, batches: Iterable[Batch]) -> abc.Generator[list[Solution], None, None]:
        """Yield each image's one solution, in a list, as they settle, in no particular order.

        With a sweep one solution a setting, in the order of the settings.

        An image that is classified wrongly, or could not be read, gets its outcome without being
        optimised. `batches` is read in a thread and must not wait for solutions.

        Raises:
            UserError: even a single slot does not fit the memory; the model returns no logits.
        """
        arrived: deque[Batch] = deque()
        owed: dict[int, Owed] = {}
        settled: dict[int, list[Solution]] = {}
        with Prefetch(checked_first(self.objective.classifier, batches)) as source:
            while True:
                program = self.warm_up()
                try:
                    settings = self.settings
                    scheduler = Scheduler(program, self.stats, source, arrived, owed, settings)
                    for solution in scheduler.solutions():
                        found = settled.setdefault(solution.index, [])
                        found.append(solution)
                        if len(found) == len(settings):
                            del settled[solution.index]
                            yield sorted(found, key=lambda one: settings.texts.index(one.setting))
                    return
                except jax.errors.JaxRuntimeError as error:
                    if error is source.error:  # the images' own trouble, not the engine's
                        raise
                    self._halve(error)

    def _halve(self, error: jax.errors.JaxRuntimeError) -> None:
        """Out of memory: forget the program and go on with half the slots."""
        self.slots = half_as_many(
            self.slots,
            error,
            "a single slot: use smaller images (--size) or a smaller model",
        )
        self.program = None
        self.stats.halvings += 1
