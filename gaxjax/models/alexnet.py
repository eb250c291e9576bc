"""AlexNet (Krizhevsky 2014, "One weird trick", arXiv:1404.5997), torchvision's variant."""

from flax import nnx

from gaxjax import ops
from gaxjax.common import Images, Logits
from gaxjax.models.layers import Conv, Dropout, Linear, MaxPool, Relu, flatten, run

__all__ = ["AlexNet"]


class AlexNet(nnx.Module):
    """Five convolutions, three linear layers; images of at least 63 × 63 pixels."""

    def __init__(self, *, num_classes: int, head_bias: bool = True, rngs: nnx.Rngs):
        self.features = nnx.List(
            [
                Conv(3, 64, 11, stride=4, padding=2, rngs=rngs),
                Relu(),
                MaxPool(3, 2),
                Conv(64, 192, 5, padding=2, rngs=rngs),
                Relu(),
                MaxPool(3, 2),
                Conv(192, 384, 3, padding=1, rngs=rngs),
                Relu(),
                Conv(384, 256, 3, padding=1, rngs=rngs),
                Relu(),
                Conv(256, 256, 3, padding=1, rngs=rngs),
                Relu(),
                MaxPool(3, 2),
            ]
        )
        self.classifier = nnx.List(
            [
                Dropout(0.5),
                Linear(6 * 6 * 256, 4096, rngs=rngs),
                Relu(),
                Dropout(0.5),
                Linear(4096, 4096, rngs=rngs),
                Relu(),
                Linear(4096, num_classes, use_bias=head_bias, rngs=rngs),
            ]
        )

    def __call__(self, images: Images) -> Logits:
        """Return logits; ``images`` are as the weights were trained on (usually normalised)."""
        x = run(self.features, images)
        x = flatten(ops.adaptive_average_pool(x, (6, 6)))
        return run(self.classifier, x)
