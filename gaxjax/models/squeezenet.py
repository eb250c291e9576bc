"""SqueezeNet 1.0 and 1.1 (arXiv:1602.07360), as in torchvision."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gaxjax import ops
from gaxjax.common import Images, Logits
from gaxjax.models.layers import Conv, Dropout, MaxPool, Relu, run

__all__ = ["Fire", "SqueezeNet"]


class Fire(nnx.Module):
    """Squeeze to few channels, then expand by 1 × 1 and 3 × 3 side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int, *, rngs: nnx.Rngs):
        self.squeeze = Conv(channels, squeezed, 1, rngs=rngs)
        self.expand1x1 = Conv(squeezed, expanded, 1, rngs=rngs)
        self.expand3x3 = Conv(squeezed, expanded, 3, padding=1, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        """Return the two expansions, joined along the channels."""
        x = ops.relu(self.squeeze(x))
        return jnp.concatenate([ops.relu(self.expand1x1(x)), ops.relu(self.expand3x3(x))], -1)


class SqueezeNet(nnx.Module):
    """Fire modules, a convolution as head, and an average; images of at least 21 × 21 pixels.

    The head's ReLU comes before the average, as in torchvision: logits are never negative.
    """

    def __init__(
        self,
        version: Literal["1_0", "1_1"],
        *,
        num_classes: int,
        head_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        def fire(channels: int, squeezed: int, expanded: int) -> Fire:
            return Fire(channels, squeezed, expanded, rngs=rngs)

        def pool() -> MaxPool:
            return MaxPool(3, 2, ceil_mode=True)

        if version == "1_0":
            features = [
                *(Conv(3, 96, 7, stride=2, rngs=rngs), Relu(), pool()),
                *(fire(96, 16, 64), fire(128, 16, 64), fire(128, 32, 128), pool()),
                *(fire(256, 32, 128), fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256)),
                *(pool(), fire(512, 64, 256)),
            ]
        else:
            features = [
                *(Conv(3, 64, 3, stride=2, rngs=rngs), Relu(), pool()),
                *(fire(64, 16, 64), fire(128, 16, 64), pool()),
                *(fire(128, 32, 128), fire(256, 32, 128), pool()),
                *(fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256), fire(512, 64, 256)),
            ]
        self.features = nnx.List(features)
        head = Conv(512, num_classes, 1, use_bias=head_bias, rngs=rngs)
        self.classifier = nnx.List([Dropout(0.5), head, Relu()])

    def __call__(self, images: Images) -> Logits:
        """Return logits; ``images`` are as the weights were trained on (usually normalised)."""
        return ops.global_average_pool(run(self.classifier, run(self.features, images)))
