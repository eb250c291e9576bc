"""VGG 11, 13, 16 and 19, with and without batch norm (arXiv:1409.1556), as in torchvision."""

from flax import nnx

from gaxjax import ops
from gaxjax.common import Images, Logits
from gaxjax.models.layers import BatchNorm, Conv, Dropout, Linear, MaxPool, Relu, flatten, run

__all__ = ["STAGES", "VGG"]

STAGES = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions in each of the five stages, by depth."""

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nnx.Module):
    """Stages of 3 × 3 convolutions, each closed by a max pool; images of at least 32 × 32."""

    def __init__(
        self,
        depth: int,
        *,
        batch_norm: bool,
        num_classes: int,
        head_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        features: list[nnx.Module] = []
        channels = 3
        for num_convolutions, width in zip(STAGES[depth], _WIDTHS, strict=True):
            for _ in range(num_convolutions):
                features.append(Conv(channels, width, 3, padding=1, rngs=rngs))
                if batch_norm:
                    features.append(BatchNorm(width, rngs=rngs))
                features.append(Relu())
                channels = width
            features.append(MaxPool(2, 2))
        self.features = nnx.List(features)
        self.classifier = nnx.List(
            [
                Linear(7 * 7 * 512, 4096, rngs=rngs),
                Relu(),
                Dropout(0.5),
                Linear(4096, 4096, rngs=rngs),
                Relu(),
                Dropout(0.5),
                Linear(4096, num_classes, use_bias=head_bias, rngs=rngs),
            ]
        )

    def __call__(self, images: Images) -> Logits:
        """Return logits; ``images`` are as the weights were trained on (usually normalised)."""
        x = run(self.features, images)
        x = flatten(ops.adaptive_average_pool(x, (7, 7)))
        return run(self.classifier, x)
