"""Random weights for every architecture, with batch norms that would show a wrong rule."""

import numpy as np
import torch
import torchvision
from torch import nn

from converters.torch_models import SmallResNet


def random_state_dict(
    architecture: str, *, num_classes: int = 7, seed: int = 0, size: int = 64
) -> dict[str, np.ndarray]:
    """Draw He-normal weights; every bias, scale, mean and variance is its own random number.

    Batch norm's running statistics are first set to those of random images, so that activations
    stay near 1 through a hundred layers, and then moved at random.

    Args:
        architecture: a name of `gaxjax.models.architectures`.
        num_classes: length of the logits.
        seed: of the draw.
        size: height and width of the random images.

    Returns:
        A torch state dict, float32, as NumPy arrays.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    def normal(like: torch.Tensor, std: float) -> torch.Tensor:
        return torch.empty_like(like).normal_(0, std, generator=generator)

    with torch.device("meta"):
        model = (
            SmallResNet(num_classes)
            if architecture == "small_resnet"
            else torchvision.models.get_model(architecture, weights=None, num_classes=num_classes)
        )
    model.to_empty(device="cpu").requires_grad_(False)
    norms = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            module.weight.copy_(normal(module.weight, (2 / fan_in) ** 0.5))
            if module.bias is not None:
                module.bias.copy_(normal(module.bias, 0.1))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.weight.copy_(uniform(module.weight, 0.5, 1.5))
            module.bias.copy_(normal(module.bias, 0.3))
            norms.append(module)
    if norms:
        for module in norms:
            module.momentum = 1.0  # keep the last batch's statistics whole
        model.train()(torch.randn(8, 3, size, size, generator=generator))
    for module in norms:
        assert module.running_mean is not None
        assert module.running_var is not None
        module.running_mean += 0.3 * module.running_var.sqrt() * normal(module.running_mean, 1.0)
        module.running_var *= uniform(module.running_var, 0.6, 1.6)
    return {key: value.numpy() for key, value in model.state_dict().items()}
