"""Training a classifier: one jitted step of Adam on cross-entropy, and predictions in between.

All images live on the device as uint8, and a step is given the numbers of its batch: nothing else
crosses to the device. A step depends on nothing but its state, its rows and the config's seed, so
that training resumes where it was cut off; on a CPU to the bit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Int32, PyTree, UInt8

from gaxjax.common import matmul_precision
from gaxjax.config import FinetuneConfig
from gaxjax.models.classifier import as_unit_range

__all__ = ["TrainState", "Trainer", "batch_rows"]

_PREDICTED = 64  # images classified together


class TrainState(NamedTuple):
    """Everything that changes while training.

    Attributes:
        params: what Adam moves.
        statistics: batch norm's running means and variances.
        adam: optax's state.
        iteration: steps so far, int32.
    """

    params: PyTree
    statistics: PyTree
    adam: PyTree
    iteration: Int[Array, ""]


def batch_rows(config: FinetuneConfig, iteration: int, count: int) -> Int32[np.ndarray, " B"]:
    """Draw the images of a batch, uniformly with replacement (paper §3), from seed and iteration.

    Example:
        >>> batch_rows(FinetuneConfig(data="xray", batch_size=2), 0, 1000).shape
        (2,)
    """
    random = np.random.default_rng([config.seed, iteration])
    return random.integers(0, count, config.batch_size).astype(np.int32)


class Trainer:
    """Trains one model.

    Args:
        model: a model of `gaxjax.models`, with the weights to start from.
        config: learning rate, Adam's constants, weight decay, seed.
        mean: normalisation of the pixels, per channel, in [0, 1] pixel units; None for none.
        std: likewise.
    """

    def __init__(
        self,
        model: nnx.Module,
        config: FinetuneConfig,
        *,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        self._config = config
        self._mean, self._std = mean, std
        copy = nnx.clone(model)
        copy.eval()
        self._resting, *states = nnx.split(copy, nnx.Param, nnx.BatchStat)
        copy.train()
        self._training = nnx.graphdef(copy)
        self._adam = adam(config)
        self._start = tuple(states)  # parameters, batch norm's statistics
        self._dtype = jax.tree.leaves(states[0])[0].dtype
        self._step = jax.jit(self._one_step, donate_argnums=0)
        self._predict = jax.jit(self._classes)

    def start(self) -> TrainState:
        """Return the state before the first step; the model's arrays are copied."""
        params, statistics = jax.tree.map(jnp.copy, self._start)
        return TrainState(params, statistics, self._adam.init(params), jnp.int32(0))

    def step(
        self,
        state: TrainState,
        images: UInt8[Array, "N H W 3"],
        labels: Int[Array, " N"],
        rows: Int32[np.ndarray, " B"],
    ) -> tuple[TrainState, Float[Array, ""]]:
        """Take one step on the images of these rows; ``state`` is used up.

        Returns:
            The next state, and the batch's mean cross-entropy before the step.
        """
        return self._step(state, images, labels, rows)

    def predict(self, state: TrainState, images: UInt8[Array, "N H W 3"]) -> np.ndarray:
        """Return the predicted classes [N], with batch norm's running statistics."""
        count = len(images)
        found = []
        for start in range(0, count, _PREDICTED):
            rows = np.minimum(np.arange(start, start + _PREDICTED), count - 1).astype(np.int32)
            found.append(self._predict(state.params, state.statistics, images, rows))
        return np.concatenate(jax.device_get(found))[:count]

    def model(self, state: TrainState) -> nnx.Module:
        """Return the model in inference mode with a state's weights."""
        return nnx.merge(self._resting, state.params, state.statistics)

    def _one_step(
        self, state: TrainState, images: Any, labels: Any, rows: Any
    ) -> tuple[TrainState, Array]:
        pixels, wanted = self._pixels(images, rows), labels[rows]
        key = jax.random.fold_in(jax.random.key(self._config.seed), state.iteration)

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            model = nnx.merge(self._training, params, state.statistics, copy=True)
            for number, (_, layer) in enumerate(nnx.iter_modules(model)):
                if isinstance(layer, nnx.Dropout):
                    layer.rngs = nnx.Rngs(dropout=jax.random.fold_in(key, number))
            logits = model(pixels)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, wanted)
            return losses.mean(), nnx.state(model, nnx.BatchStat)

        with matmul_precision(self._config.precision):
            (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, adam_state = self._adam.update(gradients, state.adam, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, statistics, adam_state, state.iteration + 1), value

    def _classes(self, params: PyTree, statistics: PyTree, images: Any, rows: Any) -> Array:
        model = nnx.merge(self._resting, params, statistics)
        with jax.default_matmul_precision("highest"):  # as `evaluate` and GAX's baseline
            return model(self._pixels(images, rows)).argmax(-1)

    def _pixels(self, images: Any, rows: Any) -> Array:
        pixels = as_unit_range(images[rows]).astype(self._dtype)
        if self._mean is None or self._std is None:
            return pixels
        mean, std = (jnp.asarray(value, self._dtype) for value in (self._mean, self._std))
        return (pixels - mean) / std


def adam(config: FinetuneConfig) -> optax.GradientTransformation:
    """Return torch's Adam (paper §3: 1e-3, (0.5, 0.999)), whose weight decay is an L2 gradient."""
    by_size = optax.adam(
        config.learning_rate, b1=config.beta1, b2=config.beta2, eps=config.adam_eps
    )
    if not config.weight_decay:
        return by_size
    return optax.chain(optax.add_decayed_weights(config.weight_decay), by_size)
