"""Tests of the importer: modules to import, and what is asked of the graph."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from converters.exported import Imported, import_module
from gaxjax.common import UserError
from gaxjax.models import GraphNetwork

SIZE = 8
TOLERANCE = 1e-5
"""Relative, in float32; measured 1e-7 to 1e-6."""


class Applied(nn.Module):
    """A function of the image and of modules, as a module."""

    def __init__(self, function: Any, **modules: nn.Module):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        """Apply the function."""
        return self.function(x, **dict(self.named_children()))


def convolution(channels: int = 3, width: int = 4) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, width, 3, padding=1)


def pooled(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3))


def head(*layers: nn.Module, features: int = 4 * SIZE * SIZE) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 5))


def operations(imported: Imported) -> list[str]:
    """Return the operations; but for the turn before a flattening, which is of the layout."""
    turns = "_channels_last"
    return [node.operation for node in imported.graph.nodes if not node.name.endswith(turns)]


def agrees(module: nn.Module, imported: Imported, output: Any = lambda made: made) -> None:
    """Assert that the graph gives torch's logits on two images."""
    channels, height, width = imported.graph.image
    images = np.random.default_rng(0).normal(size=(2, channels, height, width)).astype("f4")
    with torch.no_grad():
        resting = copy.deepcopy(module).float().eval()
        wanted = output(resting(torch.from_numpy(images))).reshape(2, -1).numpy()
    network = GraphNetwork(imported.graph, imported.weights)
    with jax.default_matmul_precision("highest"):
        given = network(jnp.repeat(images.transpose(0, 2, 3, 1), 3 // channels, axis=-1))
    np.testing.assert_allclose(given, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())


def refusal(module: nn.Module, **options: Any) -> str:
    with pytest.raises(UserError) as raised:
        import_module(module, size=SIZE, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)
