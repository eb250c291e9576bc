"""A small residual net for 32 × 32 images, trained in seconds on two cores."""

from flax import nnx

from gaxjax import ops
from gaxjax.models.layers import BatchNorm, Conv, Linear, run
from gaxjax.models.resnet import BasicBlock
from gaxjax.types import Images, Logits

__all__ = ["SmallResNet"]


class SmallResNet(nnx.Module):
    """ResNet's CIFAR form (arXiv:1512.03385 §4.2): three stages of one block, 16 to 64 channels.

    It ends in a global average, so any image size will do.
    """

    def __init__(self, *, num_classes: int, head_bias: bool = True, rngs: nnx.Rngs):
        self.conv1 = Conv(3, 16, 3, padding=1, use_bias=False, rngs=rngs)
        self.bn1 = BatchNorm(16, rngs=rngs)
        self.layer1 = nnx.List([BasicBlock(16, 16, stride=1, rngs=rngs)])
        self.layer2 = nnx.List([BasicBlock(16, 32, stride=2, rngs=rngs)])
        self.layer3 = nnx.List([BasicBlock(32, 64, stride=2, rngs=rngs)])
        self.fc = Linear(64, num_classes, use_bias=head_bias, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        """Return logits of images in whatever scale the model was trained on."""
        x = ops.relu(self.bn1(self.conv1(images)))
        for blocks in (self.layer1, self.layer2, self.layer3):
            x = run(blocks, x)
        return self.fc(ops.global_average_pool(x))
