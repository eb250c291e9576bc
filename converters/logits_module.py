"""A torch network as a classifier: RGB images in, the logits alone out."""

from typing import Any

import torch
from torch import nn

from converters.logits_output import choose_logits, named_outputs

__all__ = ["LogitsModule", "logits_of"]


class LogitsModule(nn.Module):
    """A network whose output is [B, C], of images [B, 3, H, W], as its import in JAX gives them.

    Args:
        network: in eval mode.
        output: the name of its logits among its outputs; "" for the only one.
        grey: whether it takes one channel: the mean of red, green and blue, which are equal in a
            grey image.
        binary: whether [0, z] is made of its one logit z.
    """

    def __init__(
        self, network: nn.Module, output: str = "", *, grey: bool = False, binary: bool = False
    ):
        super().__init__()
        self.network = network
        self.output = output
        self.grey = grey
        self.binary = binary

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [B, C] of images ``x``, [B, 3, H, W]."""
        returned: Any = self.network(x.mean(dim=1, keepdim=True) if self.grey else x)
        logits = named_outputs(returned)[self.output].reshape(len(x), -1)
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if self.binary else logits


def logits_of(
    network: nn.Module, image: tuple[int, int, int], *, wanted: str | None, binary: bool
) -> tuple[LogitsModule, int]:
    """Return a network whose output is its logits alone, and how many they are.

    Args:
        network: in eval mode.
        image: (channels, height, width) that it takes.
        wanted: the name of the output; None: it is clear which.
        binary: make two logits of its one.

    Raises:
        UserError: as `choose_logits`.
    """
    with torch.no_grad():
        returned = named_outputs(network(torch.full((1, *image), 0.5)))
    shapes = {
        name: tuple(value.shape)
        for name, value in returned.items()
        if isinstance(value, torch.Tensor) and value.dtype.is_floating_point
    }
    name = type(network).__name__
    found = choose_logits(shapes, network=name, wanted=wanted, binary=binary)
    module = LogitsModule(network, found.name, grey=image[0] == 1, binary=binary)
    return module.eval(), 2 if binary else found.count
