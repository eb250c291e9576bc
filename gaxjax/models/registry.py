"""The classifiers by name: Flax NNX, NHWC, one file per architecture family.

A model maps ``Float[Array, "B H W 3"]`` to logits ``Float[Array, "B C"]`` in the dtype of its
weights and images, is in inference mode unless ``.train()`` was called, and works in `jax.vmap`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import nnx

from gaxjax.common import UserError, nearest
from gaxjax.models.alexnet import AlexNet
from gaxjax.models.resnet import BasicBlock, Bottleneck, ResNet, SmallResNet
from gaxjax.models.squeezenet import SqueezeNet
from gaxjax.models.vgg import STAGES, VGG

__all__ = ["abstract", "architectures", "build", "head_name"]

_ARCHITECTURES: dict[str, Callable[..., nnx.Module]] = {
    "alexnet": AlexNet,
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet101": partial(ResNet, Bottleneck, (3, 4, 23, 3)),
    "resnet152": partial(ResNet, Bottleneck, (3, 8, 36, 3)),
    "wide_resnet50_2": partial(ResNet, Bottleneck, (3, 4, 6, 3), base_width=128),
    "wide_resnet101_2": partial(ResNet, Bottleneck, (3, 4, 23, 3), base_width=128),
    "resnext50_32x4d": partial(ResNet, Bottleneck, (3, 4, 6, 3), groups=32, base_width=4),
    "resnext101_32x8d": partial(ResNet, Bottleneck, (3, 4, 23, 3), groups=32, base_width=8),
    "resnext101_64x4d": partial(ResNet, Bottleneck, (3, 4, 23, 3), groups=64, base_width=4),
    "small_resnet": SmallResNet,
    "squeezenet1_0": partial(SqueezeNet, "1_0"),
    "squeezenet1_1": partial(SqueezeNet, "1_1"),
    **{f"vgg{depth}": partial(VGG, depth, batch_norm=False) for depth in STAGES},
    **{f"vgg{depth}_bn": partial(VGG, depth, batch_norm=True) for depth in STAGES},
}


def architectures() -> tuple[str, ...]:
    """Return every name that `build` knows, sorted; all but small_resnet are torchvision's."""
    return tuple(sorted(_ARCHITECTURES))


def build(name: str, *, num_classes: int, rngs: nnx.Rngs, head_bias: bool = True) -> nnx.Module:
    """Build a randomly initialised float32 classifier in inference mode.

    Args:
        name: One of `architectures`.
        num_classes: Length of the logits.
        rngs: Keys of the initial weights.
        head_bias: Whether the last layer has a bias.

    Raises:
        UserError: unknown ``name`` or no classes.

    Example:
        >>> net = build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
        >>> net(jnp.zeros((1, 32, 32, 3))).shape
        (1, 10)
    """
    if name not in _ARCHITECTURES:
        # Only what is nearly the same: a densenet121 is no misspelt resnet152.
        close = nearest(name.lower(), architectures(), cutoff=0.8)
        raise UserError(
            f"unknown architecture {name!r}{close or ': gaxjax does not have it yet'} "
            f"(known: {', '.join(architectures())})"
        )
    if num_classes < 1:
        raise UserError(f"a classifier needs at least 1 class; got num_classes={num_classes}")
    model = _ARCHITECTURES[name](num_classes=num_classes, head_bias=head_bias, rngs=rngs)
    model.eval()
    return model


def abstract(name: str, *, num_classes: int, head_bias: bool = True) -> Any:
    """Return `build`'s model with shapes in place of weights: nothing is drawn or allocated."""
    return nnx.eval_shape(
        lambda: build(name, num_classes=num_classes, head_bias=head_bias, rngs=_OneKey(0))
    )


class _OneKey(nnx.Rngs):
    """One key for all layers: shapes need no other, and Flax is slow to count keys in a trace."""

    def params(self) -> jax.Array:
        return self.default.key[...]


def head_name(name: str) -> str:
    """Return the dotted path of the last layer, the same here and in torch: ``fc``."""
    return {"alexnet": "classifier.6", "squeezenet": "classifier.1", "vgg": "classifier.6"}.get(
        name.rstrip("_bn0123456789"), "fc"
    )
