"""The engine's device functions, compiled ahead of time over all local devices.

Everything is compiled before the first image, for the full slot count and the smaller ones of the
drain: a compiled executable refuses other shapes, so nothing can recompile later. A second program
of the same settings and the same network, with whatever weights, finds everything compiled.
Devices form a 1-D mesh; each owns its slots, queue and parked images, and the step has no
collectives.
"""

import dataclasses
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from gaxjax.common import compiled_once, compiler_options, lowered_digest
from gaxjax.gax import slots as device
from gaxjax.gax.heatmap import initial_weights
from gaxjax.gax.objective import Objective
from gaxjax.models import as_unit_range

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


class Program:
    """Compiled executables for one objective, image shape and slot count.

    Attributes:
        slots: per device, the full count first.
        verify_size: images verified together, per device.
        compile_seconds: how long compiling took.
        step, collect, resolve: one executable per slot count.
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
        self.mesh = Mesh(np.array(devices), ("slots",))
        self.slots = drain_sizes(slots, drain=drain)
        self.verify_size = max(1, slots // 4)
        self.per_device = NamedSharding(self.mesh, P("slots"))
        replicated = NamedSharding(self.mesh, P())
        self._compiler_options = compiler_options(devices[0])
        self.fast_weights = jax.device_put(objective.fast_weights(), replicated)
        self.weights = (
            self.fast_weights
            if objective.precision != "bfloat16" and objective.fast is None
            else jax.device_put(objective.classifier.weights, replicated)
        )

        config = objective.config
        self._settings: Hashable = (
            *(config, objective.precision, objective.fast is None, str(heatmap_dtype)),
            *(slots, image.shape, str(image.dtype), self.mesh),
        )
        self._network = same_network(objective, image)
        capacity = QUEUE_BLOCKS * slots
        empty = partial(device.empty_state, config, slots=slots, capacity=capacity, image=image)
        self._empty = self._compile(empty, None)
        block = self._shapes(
            (
                jax.ShapeDtypeStruct((slots, *image.shape), image.dtype),
                *(jax.ShapeDtypeStruct((slots,), kind) for kind in (jnp.int32, jnp.int32)),
                jax.ShapeDtypeStruct((slots,), jnp.float32),
                jax.ShapeDtypeStruct((), jnp.int32),
            )
        )

        def baseline(network: PyTree, image: Any, label: Any) -> Any:
            one = jax.vmap(objective.baseline, in_axes=(None, 0, 0))
            return one(network, as_unit_range(image), label)

        self.baseline = self._compile(baseline, self.weights, block[0], block[2])
        state = self._shapes(jax.eval_shape(empty))
        self.enqueue = self._compile(device.enqueue, None, state, *block, donate=True)
        self.step, self.collect, self.resolve, self.shrink = {}, {}, {}, {}
        for position, size in enumerate(self.slots):
            if position:
                smaller = partial(device.shrink, slots=size)
                self.shrink[size] = self._compile(smaller, None, state)
                state = self._shapes(jax.eval_shape(partial(empty, slots=size)))
            self.step[size] = self._compile(
                partial(device.step, objective), self.fast_weights, state, donate=True
            )
            gather = partial(device.collect, size=self.verify_size, dtype=heatmap_dtype)
            self.collect[size] = self._compile(gather, None, state)
            pair = self._shapes(
                tuple(
                    jax.ShapeDtypeStruct((self.verify_size,), kind)
                    for kind in (jnp.int32, jnp.bool_)
                )
            )
            self.resolve[size] = self._compile(device.resolve, None, state, *pair, donate=True)
        finished = self._shapes(jax.eval_shape(gather, _local(state)))
        self.rescore = self._compile(partial(device.rescore, objective), self.weights, finished)
        self.compile_seconds = time.perf_counter() - started

    @property
    def num_devices(self) -> int:
        """Devices in the mesh."""
        return self.mesh.size

    def empty_state(self) -> device.State:
        """Return a state without images, laid out over the devices."""
        return self._empty()

    def put(self, array: np.ndarray) -> jax.Array:
        """Move a host array [devices, ...] to the devices, one row each."""
        return jax.device_put(array, self.per_device)

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
        same: Hashable = inner.__qualname__, str(sizes), self._settings, donated
        if has_network:
            same = None if self._network is None else (same, self._network)
        return compiled_once(
            jax.jit(mapped, donate_argnums=donated),
            *given,
            same=same,
            options=self._compiler_options,
        )

    def _shapes(self, local: Any) -> Any:
        """Return global shapes, leading with the device, of one device's shapes."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (self.num_devices, *leaf.shape), leaf.dtype, sharding=self.per_device
            ),
            local,
        )


def same_network(objective: Objective, image: jax.ShapeDtypeStruct) -> Hashable | None:
    """Return what two objectives' networks have in common where they are computed alike.

    Of a network of `gaxjax.models` that is its structure. Any other is traced as `step`, `baseline`
    and `rescore` see it, for its function may read what has changed since; in its direct form,
    which is quick, and from which the fast one is made. None: no other is known to be alike.
    """
    classifier = objective.classifier
    if classifier.structure is not None:
        return classifier.structure, classifier.mean, classifier.std
    direct = dataclasses.replace(objective, fast=None)

    def one(image: Any, label: Any, baseline: Any, network: PyTree, fast: PyTree) -> Any:
        weights = initial_weights(image, objective.config)
        plain = objective.baseline(network, image, label)
        stepped = direct.score_and_gradients(weights, fast, image, label, baseline)
        return plain, stepped, objective.verify(network, image, weights["w"], label, baseline)

    two = [
        jax.ShapeDtypeStruct((2, *shape), kind)
        for shape, kind in ((image.shape, jnp.float32), ((), jnp.int32), ((), jnp.float32))
    ]
    networks = jax.eval_shape(lambda: (classifier.weights, direct.fast_weights()))
    traced = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None, None)))
    return lowered_digest(traced, *two, *networks)


def _local(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes)
