"""ResNet, wide ResNet and ResNeXt (arXiv:1512.03385, 1605.07146, 1611.05431), as in torchvision."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from gaxjax import ops
from gaxjax.common import Images, Logits
from gaxjax.models.layers import BatchNorm, Conv, Linear, MaxPool, run

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "SmallResNet"]


def _shortcut(channels: int, out_channels: int, stride: int, rngs: nnx.Rngs) -> Any:
    """A 1 × 1 convolution with batch norm where the block changes its shape, else nothing."""
    if stride == 1 and channels == out_channels:
        return None
    projection = Conv(channels, out_channels, 1, stride=stride, use_bias=False, rngs=rngs)
    return nnx.List([projection, BatchNorm(out_channels, rngs=rngs)])


class BasicBlock(nnx.Module):
    """Two 3 × 3 convolutions and a shortcut (ResNet 18 and 34)."""

    expansion = 1

    def __init__(
        self,
        channels: int,
        planes: int,
        *,
        stride: int,
        groups: int = 1,
        base_width: int = 64,
        rngs: nnx.Rngs,
    ):
        assert (groups, base_width) == (1, 64), "only Bottleneck has groups and widths"
        self.conv1 = Conv(channels, planes, 3, stride=stride, padding=1, use_bias=False, rngs=rngs)
        self.bn1 = BatchNorm(planes, rngs=rngs)
        self.conv2 = Conv(planes, planes, 3, padding=1, use_bias=False, rngs=rngs)
        self.bn2 = BatchNorm(planes, rngs=rngs)
        self.downsample = nnx.data(_shortcut(channels, planes, stride, rngs))

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B P Q D"]:
        """Add the convolved ``x`` to ``x``, or to its projection, and rectify."""
        y = ops.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return ops.relu(y + (x if self.downsample is None else run(self.downsample, x)))


class Bottleneck(nnx.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolutions and a shortcut (ResNet 50 and deeper).

    The stride is on the 3 × 3 convolution, as in torchvision ("ResNet V1.5").
    """

    expansion = 4

    def __init__(
        self,
        channels: int,
        planes: int,
        *,
        stride: int,
        groups: int = 1,
        base_width: int = 64,
        rngs: nnx.Rngs,
    ):
        width = planes * base_width // 64 * groups
        out_channels = planes * self.expansion
        self.conv1 = Conv(channels, width, 1, use_bias=False, rngs=rngs)
        self.bn1 = BatchNorm(width, rngs=rngs)
        self.conv2 = Conv(
            *(width, width, 3),
            stride=stride,
            padding=1,
            groups=groups,
            use_bias=False,
            rngs=rngs,
        )
        self.bn2 = BatchNorm(width, rngs=rngs)
        self.conv3 = Conv(width, out_channels, 1, use_bias=False, rngs=rngs)
        self.bn3 = BatchNorm(out_channels, rngs=rngs)
        self.downsample = nnx.data(_shortcut(channels, out_channels, stride, rngs))

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B P Q D"]:
        """Add the convolved ``x`` to ``x``, or to its projection, and rectify."""
        y = ops.relu(self.bn1(self.conv1(x)))
        y = ops.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return ops.relu(y + (x if self.downsample is None else run(self.downsample, x)))


class ResNet(nnx.Module):
    """A stem, four stages of residual blocks, an average and a linear head."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        num_blocks: Sequence[int],
        *,
        groups: int = 1,
        base_width: int = 64,
        num_classes: int,
        head_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        def stage(channels: int, planes: int, blocks: int, stride: int) -> Any:
            make = partial(block, planes=planes, groups=groups, base_width=base_width, rngs=rngs)
            first = make(channels, stride=stride)
            rest = [make(planes * block.expansion, stride=1) for _ in range(blocks - 1)]
            return nnx.List([first, *rest])

        self.conv1 = Conv(3, 64, 7, stride=2, padding=3, use_bias=False, rngs=rngs)
        self.bn1 = BatchNorm(64, rngs=rngs)
        self.maxpool = MaxPool(3, 2, padding=1)
        self.layer1 = stage(64, 64, num_blocks[0], 1)
        self.layer2 = stage(64 * block.expansion, 128, num_blocks[1], 2)
        self.layer3 = stage(128 * block.expansion, 256, num_blocks[2], 2)
        self.layer4 = stage(256 * block.expansion, 512, num_blocks[3], 2)
        self.fc = Linear(512 * block.expansion, num_classes, use_bias=head_bias, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        """Return logits; ``images`` are as the weights were trained on (usually normalised)."""
        x = self.maxpool(self.bn1(self.conv1(images)), rectify=True)
        for blocks in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = run(blocks, x)
        return self.fc(ops.global_average_pool(x))


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
