"""The engine's device functions, compiled ahead of time over all local devices.

Everything is compiled before the first image, for the full slot count and the smaller ones of the
drain: a compiled executable refuses other shapes, so nothing can recompile later. A second program
of the same settings and the same network, with whatever weights, finds everything compiled.
Devices form a 1-D mesh; each owns its slots, queue and parked images, and the step has no
collectives.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from gaxjax.common import (
    compiled_once,
    compiler_options,
    lowered_digest,
    placed_shapes,
    weight_places,
)
from gaxjax.config import GaxConfig
from gaxjax.gax import slots as device
from gaxjax.gax.heatmap import initial_weights
from gaxjax.gax.objective import Objective
from gaxjax.gax.setting import blank
from gaxjax.models import as_unit_range

_NOT_OF_A_LANE = (
    *("score", "score_space", "operation", "target", "learning_rate", "include_misclassified"),
    *("similarity_factor", "similarity_eps", "total_variation_factor"),
)
"""Settings that change no program but those with the network: not a new lane, nor its heatmap."""

QUEUE_BLOCKS = 4  # a queue holds this many blocks of as many images as there are slots


def drain_sizes(slots: int, *, drain: bool) -> tuple[int, ...]:
    """Return the slot counts to compile, largest first: quarters, down to no fewer than 4.

    Below 4 images XLA's CPU backend multiplies matrices in another order, and an image's result
    would depend on when the drain began.
    """
    sizes = [slots]
    while drain and sizes[-1] // 4 >= 4:
        sizes.append(sizes[-1] // 4)
    return tuple(sizes)


class Plan:
    """What is compiled for one objective, image shape and slot count; nothing is computed.

    It needs no device that is there: XLA compiles for one that is only described.

    Attributes:
        objective: what is optimised.
        slots: per device, the full count first.
        verify_size: images verified together, per device.
        per_device, replicated: one row on each device of the mesh, and the whole on each.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        devices: list[jax.Device],
        slots: int,
        drain: bool,
        image: jax.ShapeDtypeStruct,
        heatmap_dtype: Any,
    ) -> None:
        self.objective = objective
        self.mesh = Mesh(np.array(devices), ("slots",))
        self.slots = drain_sizes(slots, drain=drain)
        self.verify_size = max(1, slots // 4)
        self.per_device = NamedSharding(self.mesh, P("slots"))
        self.replicated = NamedSharding(self.mesh, P())
        self._image, self._heatmap_dtype = image, heatmap_dtype
        self._platform = devices[0].platform
        self._compiler_options = compiler_options(devices[0])
        self._fast_weights = self._whole(jax.eval_shape(objective.fast_weights))
        self._weights = self._whole(objective.classifier.weights)
        sizes = slots, image.shape, str(image.dtype), str(heatmap_dtype), self.mesh
        usual = GaxConfig()
        lane = replace(objective.config, **{name: getattr(usual, name) for name in _NOT_OF_A_LANE})
        self._of_lane: Hashable = lane, objective.swept, sizes
        self._of_network: Hashable = (
            *(objective.config, objective.precision, objective.fast is None, objective.swept),
            sizes,
        )
        self._network: Hashable | None = same_network(objective, image)

    def compiled(self, name: str, slots: int | None = None, *, most: int = 1) -> Callable:
        """Compile one of the device functions, or find it compiled.

        Args:
            name: `empty`, `enqueue`, `baseline` and `rescore` exist for the full slot count;
                `refill`, `step`, `collect`, `resolve` for each; `shrink` for the smaller ones, each
                from the next larger.
            slots: of them; the full count by default.
            most: how many a `refill` fills.
        """
        size = self.slots[0] if slots is None else slots
        state = self._state(size)
        match name:
            case "empty":
                return self._compile(self._empty(size), None)
            case "enqueue":
                # What the queue has of an image: itself, its index, label and baseline.
                block = self._rows(size, self._image, jnp.int32, jnp.int32, jnp.float32)
                setting = jax.tree.map(
                    lambda leaf: self._rows(size, leaf)[0],
                    jax.eval_shape(lambda: blank(self.objective.swept)),
                )
                count = self._shapes(jax.ShapeDtypeStruct((), jnp.int32))
                return self._compile(
                    device.enqueue, None, state, *block, setting, count, donate=True
                )
            case "baseline":
                images, labels = self._rows(size, self._image, jnp.int32)
                baseline = partial(_baseline, self.objective)
                return self._compile(baseline, self._weights, images, labels)
            case "refill":
                config, generator = self.objective.config, self.objective.generator
                refill = partial(device.refill, config, most=most, generator=generator)
                if self._platform == "cpu" and most == size:
                    refill = partial(device.refill_in_turns, config, generator=generator)
                return self._compile(refill, None, state, donate=True)
            case "step":
                step = partial(device.step, self.objective)
                return self._compile(step, self._fast_weights, state, donate=True)
            case "collect":
                return self._compile(self._collect, None, state)
            case "rescore":
                finished = self._shapes(jax.eval_shape(self._collect, _local(state)))
                rescore = partial(device.rescore, self.objective)
                return self._compile(rescore, self._weights, finished)
            case "resolve":
                pair = self._rows(self.verify_size, jnp.int32, jnp.bool_)
                return self._compile(device.resolve, None, state, *pair, donate=True)
            case "shrink":
                larger = self._state(self.slots[self.slots.index(size) - 1])
                return self._compile(partial(device.shrink, slots=size), None, larger)
        raise AssertionError(f"no device function {name!r}")

    # -- shapes ------------------------------------------------------------------------------------

    def _empty(self, slots: int) -> partial[device.State]:
        config, capacity = self.objective.config, QUEUE_BLOCKS * self.slots[0]
        return partial(
            device.empty_state,
            config,
            slots=slots,
            capacity=capacity,
            image=self._image,
            swept=self.objective.swept,
            generator=self.objective.generator,
        )

    @property
    def _collect(self) -> partial[device.Finished]:
        collect, size, dtype = device.collect, self.verify_size, self._heatmap_dtype
        return partial(collect, self.objective, size=size, dtype=dtype)

    def _state(self, slots: int) -> Any:
        return self._shapes(jax.eval_shape(self._empty(slots)))

    def _rows(self, count: int, *each: Any) -> Any:
        """Return shapes of so many rows a device, of shapes or of scalar types."""
        rows = (one if hasattr(one, "shape") else jax.ShapeDtypeStruct((), one) for one in each)
        return self._shapes(
            tuple(jax.ShapeDtypeStruct((count, *one.shape), one.dtype) for one in rows)
        )

    def _shapes(self, local: Any) -> Any:
        """Return global shapes, leading with the device, of one device's shapes."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (self.mesh.size, *leaf.shape), leaf.dtype, sharding=self.per_device
            ),
            local,
        )

    def _whole(self, weights: PyTree) -> PyTree:
        """Return the shapes of a network's weights, which every device has whole."""
        return placed_shapes(weights, self.places(weights))

    def places(self, weights: PyTree) -> PyTree:
        """Return where, and in which order of bytes, a network's weights lie on the devices."""
        ours = self.objective.classifier.structure is not None
        return weight_places(weights, self.replicated, kernels=ours)

    # -- compiling ---------------------------------------------------------------------------------

    def _compile(
        self, function: Callable, network: PyTree, *arguments: Any, donate: bool = False
    ) -> Callable:
        """Compile a one-device function; with `donate`, the state (first after network) is."""
        has_network = network is not None
        mapped = self._on_each_device(function, network=has_network)
        given = (network, *arguments) if has_network else arguments
        donated = (1 if has_network else 0,) if donate else ()
        inner = function.func if isinstance(function, partial) else function
        sizes = sorted(function.keywords.items()) if isinstance(function, partial) else []
        same: Hashable = inner.__qualname__, str(sizes), donated
        if not has_network:
            same = same, self._of_lane
        else:
            same = self._network and (same, self._of_network, self._network)
        if self.objective.generator is not None:  # a function, which may read what has changed
            same = None
        return compiled_once(
            jax.jit(mapped, donate_argnums=donated),
            *given,
            same=same,
            options=self._compiler_options,
        )

    def _on_each_device(self, function: Callable, *, network: bool = False) -> Callable:
        """Map a one-device function over the mesh: arguments and results lead with the device."""

        def local(*arguments: Any) -> Any:
            first, rest = (arguments[:1], arguments[1:]) if network else ((), arguments)
            results = function(*first, *(jax.tree.map(lambda leaf: leaf[0], arg) for arg in rest))
            return jax.tree.map(lambda leaf: leaf[None], results)

        def mapped(*arguments: Any) -> Any:
            specs = tuple(P() if network and i == 0 else P("slots") for i in range(len(arguments)))
            # check_vma=False: loop carries mix fresh constants with per-device values on purpose.
            return jax.shard_map(
                local, mesh=self.mesh, in_specs=specs, out_specs=P("slots"), check_vma=False
            )(*arguments)

        return mapped


class Program:
    """Compiled executables for one objective, image shape and slot count, and its weights.

    Attributes:
        slots: per device, the full count first.
        verify_size: images verified together, per device.
        weights, fast_weights: on the devices, as they are and as the step wants them.
        on_cpu: where the host computes the steps itself.
        compile_seconds: how long compiling took.
        refill: per slot count executables by the slots that they fill (`slots.refill_sizes`).
        step, collect, resolve: one executable per slot count; shrink: likewise, but the first.
        baseline, rescore, enqueue: at the full slot count.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        devices: list[jax.Device],
        slots: int,
        drain: bool,
        image: jax.ShapeDtypeStruct,
        heatmap_dtype: Any,
    ) -> None:
        started = time.perf_counter()
        self.objective = objective
        plan = Plan(
            objective,
            devices=devices,
            slots=slots,
            drain=drain,
            image=image,
            heatmap_dtype=heatmap_dtype,
        )
        self.slots, self.verify_size, self.num_devices = plan.slots, plan.verify_size, len(devices)
        self.per_device = plan.per_device
        self.on_cpu = devices[0].platform == "cpu"
        fast, exact = objective.fast_weights(), objective.classifier.weights
        self.fast_weights = jax.device_put(fast, plan.places(fast))
        self.weights = (
            self.fast_weights
            if objective.precision != "bfloat16" and objective.fast is None
            else jax.device_put(exact, plan.places(exact))
        )
        self._empty = plan.compiled("empty")
        self.baseline, self.enqueue = plan.compiled("baseline"), plan.compiled("enqueue")
        self.rescore = plan.compiled("rescore")
        self.step, self.collect, self.resolve = (
            {size: plan.compiled(name, size) for size in plan.slots}
            for name in ("step", "collect", "resolve")
        )
        self.refill = {
            size: {
                most: plan.compiled("refill", size, most=most)
                for most in device.refill_sizes(size, devices[0].platform)
            }
            for size in plan.slots
        }
        self.shrink = {size: plan.compiled("shrink", size) for size in plan.slots[1:]}
        self.compile_seconds = time.perf_counter() - started

    def empty_state(self) -> device.State:
        """Return a state without images, laid out over the devices."""
        return self._empty()

    def put(self, array: np.ndarray) -> jax.Array:
        """Move a host array [devices, ...] to the devices, one row each."""
        return jax.device_put(array, self.per_device)


def same_network(objective: Objective, image: jax.ShapeDtypeStruct) -> Hashable | None:
    """Return what two objectives' networks have in common where they are computed alike.

    Of a network of `gaxjax.models` that is its structure. Any other is traced as `step`, `baseline`
    and `rescore` see it, for its function may read what has changed since; in its direct form,
    which is quick, and from which the fast one is made. None: no other is known to be alike.
    """
    classifier = objective.classifier
    if classifier.structure is not None:
        return classifier.structure, classifier.mean, classifier.std
    direct = replace(objective, fast=None)

    def both(images: Any, labels: Any, baselines: Any, network: PyTree, fast: PyTree) -> Any:
        start = partial(initial_weights, config=objective.config, generator=objective.generator)
        weights = jax.vmap(start)(images)
        plain = objective.baseline(network, images, labels)
        stepped = direct.scores_and_gradients(weights, fast, images, labels, baselines)
        heatmaps = objective.heatmaps(weights, images)
        verified = objective.verify(network, images, heatmaps, labels, baselines)
        return plain, stepped, verified

    two = [
        jax.ShapeDtypeStruct((2, *shape), kind)
        for shape, kind in ((image.shape, jnp.float32), ((), jnp.int32), ((), jnp.float32))
    ]
    networks = jax.eval_shape(lambda: (classifier.weights, direct.fast_weights()))
    return lowered_digest(jax.jit(both), *two, *networks)


def _baseline(objective: Objective, network: PyTree, images: Any, labels: Any) -> Any:
    return objective.baseline(network, as_unit_range(images), labels)


def _local(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes)
