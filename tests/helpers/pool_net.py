"""A small network with an overlapping max pool, images for it, and their labels."""

import jax
import numpy as np
from flax import nnx

from gaxjax.models.layers import Conv, Linear, MaxPool, Relu, flatten, run

SIZE, CLASSES = 12, 5


class PoolNet(nnx.Module):
    """Two convolutions with an overlapping, padded max pool between them."""

    def __init__(self, rngs=None):
        rngs = rngs or nnx.Rngs(0)
        self.zeroth = nnx.List([Relu()])  # alphabetical order is not that of execution
        self.features = nnx.List(
            [
                Conv(3, 6, 3, padding=1, rngs=rngs),
                Relu(),
                MaxPool(3, 2, padding=1),
                Conv(6, 8, 3, padding=1, rngs=rngs),
                Relu(),
            ]
        )
        self.beginning = Linear(8 * 6 * 6, CLASSES, rngs=rngs)

    def __call__(self, images):
        return self.beginning(flatten(run(self.features, images)))


def pool_net():
    network = PoolNet()
    for i in (0, 3):
        shape = network.features[i].bias[...].shape
        network.features[i].bias[...] = jax.random.normal(jax.random.key(i), shape) * 0.3
    return network


NETWORK = pool_net()
IMAGES = np.random.default_rng(1).uniform(size=(7, SIZE, SIZE, 3)).astype(np.float32)
LABELS = np.arange(7, dtype=np.int32) % CLASSES
