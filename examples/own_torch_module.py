"""A torch module of one's own: trained for seconds, imported, explained, reported.

    python examples/own_torch_module.py FOLDER

It needs no download: the images are scikit-learn's handwritten digits. Nothing of the module is
written anew for JAX, and none of its code is needed once it is imported.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import converters
import gaxjax
from gaxjax.config import DataConfig, ModelConfig


class Block(nn.Module):
    """A depthwise convolution, two linear layers with GELU, and a way around them."""

    def __init__(self, width: int):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.grow, self.shrink = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape, [B, C, H, W]."""
        y = self.norm(self.mix(x)).permute(0, 2, 3, 1)
        return x + self.shrink(nn.functional.gelu(self.grow(y))).permute(0, 3, 1, 2)


def network() -> nn.Module:
    """Return images [B, 3, 32, 32] → logits [B, 10]."""
    stem = nn.Conv2d(3, 32, 4, stride=4)
    return nn.Sequential(
        stem, Block(32), Block(32), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits, float32 [1797, 32, 32, 3] in [0, 1], and their labels [1797]."""
    found = load_digits()
    images = np.repeat(np.repeat(found.images / 16, 4, axis=1), 4, axis=2)
    return np.repeat(images[..., None], 3, axis=-1).astype(np.float32), found.target


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int) -> nn.Module:
    """Train by Adam on cross-entropy, in batches of 64."""
    torch.manual_seed(0)
    module = network()
    adam = torch.optim.Adam(module.parameters(), 3e-3)
    pixels, classes = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            adam.zero_grad()
            nn.functional.cross_entropy(module(pixels[rows]), classes[rows]).backward()
            adam.step()
    return module


def main(folder: Path, *, epochs: int = 6, num_images: int = 32) -> None:
    """Train, import, explain in memory, then as a run with a report."""
    images, labels = digits()
    held_out = np.arange(len(images)) % 4 == 3
    module = train(images[~held_out], labels[~held_out], epochs=epochs)

    # In memory: the module itself, at the images' size.
    config = gaxjax.GaxConfig(bias=True)  # digits are mostly black, and only the bias moves black
    solutions = gaxjax.explain(module, images[held_out][:8], labels[held_out][:8], config)
    print("GAX:", solutions)

    # On disk: a checkpoint that needs no torch, a run that survives a crash, a page of figures.
    checkpoint = folder / "digits.ckpt"
    _, parity = converters.convert_module(
        module, checkpoint, size=32, class_names=[str(digit) for digit in range(10)]
    )
    print(f"torch and JAX: logits differ by {parity['folded']['logits']['max_rel']:.0e} at most")
    model = ModelConfig(model=str(checkpoint))
    data = DataConfig(data="digits", num_images=num_images)
    run = gaxjax.GaxRunConfig(model=model, data=data, gax=config)
    gaxjax.run_gax(run, folder / "gax")
    print(f"gaxjax verify {folder / 'gax'}; gaxjax report {folder / 'gax'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
