"""The same classifiers in torch: torchvision's own, and a plain twin of small_resnet."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from gaxjax.models import head_name

__all__ = ["SmallResNet", "torch_model"]


class SmallResNet(nn.Module):
    """`gaxjax.models.small_resnet.SmallResNet` in torch, with the same names."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(BasicBlock(16, 16))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, stride=2, downsample=_shortcut(16, 32)))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, stride=2, downsample=_shortcut(32, 64)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of images ``x``, ``[B, 3, H, W]``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _shortcut(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, stride=2, bias=False), nn.BatchNorm2d(out_channels)
    )


def torch_model(
    architecture: str,
    num_classes: int,
    head_bias: bool = True,
    state_dict: Mapping[str, np.ndarray | torch.Tensor] | None = None,
) -> nn.Module:
    """Return the torch classifier in eval mode, NCHW.

    Args:
        architecture: A name of `gaxjax.models.architectures`.
        num_classes: Length of the logits.
        head_bias: Whether the last layer has a bias; torchvision's always has one, so without it
            the layer is replaced.
        state_dict: Its weights, as float32, copied; a random model when None.

    Returns:
        torchvision's model, or `SmallResNet`.
    """
    # With weights given, none are drawn first: VGG's would take seconds.
    with torch.device("cpu" if state_dict is None else "meta"):
        model: Any
        if architecture == "small_resnet":
            model = SmallResNet(num_classes)
        else:
            model = torchvision.models.get_model(
                architecture, weights=None, num_classes=num_classes
            )
        if not head_bias:
            model.get_submodule(head_name(architecture)).register_parameter("bias", None)
    if state_dict is not None:
        tensors = {name: _tensor(value) for name, value in state_dict.items()}
        model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval()


def _tensor(value: np.ndarray | torch.Tensor) -> torch.Tensor:
    tensor = torch.as_tensor(np.array(value)) if isinstance(value, np.ndarray) else value.clone()
    return tensor.float() if tensor.is_floating_point() else tensor
