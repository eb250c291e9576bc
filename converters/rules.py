"""Which torch key becomes which Flax leaf, and back: one rule table per architecture family.

Names are the same in both frameworks up to the last word, so a table says little: what kind of
layer stands where. A rule applies where its names match and the array has its transform's rank,
which is how VGG's convolutions and batch norms, both ``features.N.weight``, are told apart.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["IGNORED", "Rule", "Transform", "rules"]


@dataclass(frozen=True)
class Transform:
    """A change of layout that can be undone."""

    ndim: int
    """Rank of the torch array."""
    apply: Callable[[np.ndarray], np.ndarray]
    """Torch's layout to ours."""
    undo: Callable[[np.ndarray], np.ndarray]
    """Ours to torch's."""


@dataclass(frozen=True)
class Rule:
    """``LAYER.torch_name`` becomes ``LAYER.flax_name``, for each layer that ``layers`` matches."""

    layers: str
    """Regular expression over a layer's whole dotted name, the same in both frameworks."""
    torch_name: str
    """Last word of the torch key."""
    flax_name: str
    """Last word of the Flax leaf."""
    transform: Transform

    def target_of(self, key: str) -> str | None:
        """Return the Flax leaf that ``key`` fills, or None where the rule does not apply."""
        layer, _, word = key.rpartition(".")
        applies = word == self.torch_name and re.fullmatch(self.layers, layer)
        return f"{layer}.{self.flax_name}" if applies else None

    def key_of(self, target: str) -> str | None:
        """Return the torch key that fills the leaf ``target``: the inverse of `target_of`."""
        layer, _, word = target.rpartition(".")
        applies = word == self.flax_name and re.fullmatch(self.layers, layer)
        return f"{layer}.{self.torch_name}" if applies else None


IGNORED = {
    r"(.*\.)?num_batches_tracked": "counts training batches; inference never reads it",
}
"""Torch keys without a Flax leaf, and why."""

VECTOR = Transform(1, lambda w: w, lambda w: w)
# OIHW → HWIO
CONV = Transform(4, lambda w: w.transpose(2, 3, 1, 0), lambda w: w.transpose(3, 2, 0, 1))
LINEAR = Transform(2, np.transpose, np.transpose)  # [out, in] → [in, out]


def _linear_after_flatten(height: int, width: int) -> Transform:
    """A linear layer over flattened features: torch flattens C, H, W and we H, W, C."""

    def apply(w: np.ndarray) -> np.ndarray:
        if w.shape[1] % (height * width):
            return w.transpose()  # the wrong shape, which the converter reports
        channels = w.shape[1] // (height * width)
        by_axes = w.reshape(w.shape[0], channels, height, width)
        return by_axes.transpose(2, 3, 1, 0).reshape(-1, w.shape[0])

    def undo(w: np.ndarray) -> np.ndarray:
        by_axes = w.reshape(height, width, -1, w.shape[1])
        return by_axes.transpose(3, 2, 0, 1).reshape(w.shape[1], -1)

    return Transform(2, apply, undo)


def _batch_norm(layers: str) -> list[Rule]:
    return [
        Rule(layers, torch_name, flax_name, VECTOR)
        for torch_name, flax_name in {
            "weight": "scale",
            "bias": "bias",
            "running_mean": "mean",
            "running_var": "var",
        }.items()
    ]


def _weighted(layers: str, transform: Transform) -> list[Rule]:
    return [
        Rule(layers, "weight", "kernel", transform),
        Rule(layers, "bias", "bias", VECTOR),
    ]


_RESNET = [
    *_weighted(r"(layer\d\.\d+\.)?conv\d|layer\d\.\d+\.downsample\.0", CONV),
    *_batch_norm(r"(layer\d\.\d+\.)?bn\d|layer\d\.\d+\.downsample\.1"),
    *_weighted(r"fc", LINEAR),
]

_FAMILIES = {
    "alexnet": [
        *_weighted(r"features\.\d+", CONV),
        *_weighted(r"classifier\.1", _linear_after_flatten(6, 6)),
        *_weighted(r"classifier\.[46]", LINEAR),
    ],
    "resnet": _RESNET,
    "small_resnet": _RESNET,
    "squeezenet": [
        *_weighted(r"features\.\d+(\.(squeeze|expand1x1|expand3x3))?", CONV),
        *_weighted(r"classifier\.1", CONV),
    ],
    "vgg": [
        *_weighted(r"features\.\d+", CONV),
        *_batch_norm(r"features\.\d+"),
        *_weighted(r"classifier\.0", _linear_after_flatten(7, 7)),
        *_weighted(r"classifier\.[36]", LINEAR),
    ],
}


def rules(architecture: str) -> list[Rule]:
    """Return the rule table of ``architecture``'s family."""
    family = re.sub(r"^(wide_)?resne[x]?t.*", "resnet", architecture)
    for name, table in _FAMILIES.items():
        if family.startswith(name):
            return table
    raise AssertionError(f"no rule table for {architecture}")
