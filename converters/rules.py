"""Which torch key becomes which Flax leaf: one rule table per architecture family.

Names are the same in both frameworks up to the last word, so a table says little: what kind of
layer stands where. A rule applies where its pattern matches and the array has its transform's
rank, which is how VGG's convolutions and batch norms, both ``features.N.weight``, are told apart.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["IGNORED", "Rule", "rules"]


@dataclass(frozen=True)
class Transform:
    """A change of layout."""

    ndim: int
    """Rank of the torch array."""
    apply: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """Keys that match ``pattern`` become ``target``."""

    pattern: str
    """Regular expression over the whole torch key."""
    target: str
    """Dotted name of the Flax leaf, with the pattern's groups."""
    transform: Transform

    def target_of(self, key: str) -> str | None:
        """Return the Flax leaf that ``key`` fills, or None where the pattern does not match."""
        match = re.fullmatch(self.pattern, key)
        return match.expand(self.target) if match else None


IGNORED = {
    r"(.*\.)?num_batches_tracked": "counts training batches; inference never reads it",
}
"""Torch keys without a Flax leaf, and why."""

VECTOR = Transform(1, lambda w: w)
CONV = Transform(4, lambda w: w.transpose(2, 3, 1, 0))  # OIHW → HWIO
LINEAR = Transform(2, lambda w: w.transpose())  # [out, in] → [in, out]


def _linear_after_flatten(height: int, width: int) -> Transform:
    """A linear layer over flattened features: torch flattens C, H, W and we H, W, C."""

    def apply(w: np.ndarray) -> np.ndarray:
        if w.shape[1] % (height * width):
            return w.transpose()  # the wrong shape, which the converter reports
        channels = w.shape[1] // (height * width)
        by_axes = w.reshape(w.shape[0], channels, height, width)
        return by_axes.transpose(2, 3, 1, 0).reshape(-1, w.shape[0])

    return Transform(2, apply)


def _batch_norm(pattern: str) -> list[Rule]:
    return [
        Rule(rf"{pattern}\.{torch_name}", rf"\1.{name}", VECTOR)
        for torch_name, name in {
            "weight": "scale",
            "bias": "bias",
            "running_mean": "mean",
            "running_var": "var",
        }.items()
    ]


def _weighted(pattern: str, transform: Transform) -> list[Rule]:
    return [
        Rule(rf"{pattern}\.weight", r"\1.kernel", transform),
        Rule(rf"{pattern}\.bias", r"\1.bias", VECTOR),
    ]


_RESNET = [
    *_weighted(r"((?:layer\d\.\d+\.)?conv\d|layer\d\.\d+\.downsample\.0)", CONV),
    *_batch_norm(r"((?:layer\d\.\d+\.)?bn\d|layer\d\.\d+\.downsample\.1)"),
    *_weighted(r"(fc)", LINEAR),
]

_FAMILIES = {
    "alexnet": [
        *_weighted(r"(features\.\d+)", CONV),
        *_weighted(r"(classifier\.1)", _linear_after_flatten(6, 6)),
        *_weighted(r"(classifier\.[46])", LINEAR),
    ],
    "resnet": _RESNET,
    "small_resnet": _RESNET,
    "squeezenet": [
        *_weighted(r"(features\.\d+(?:\.(?:squeeze|expand1x1|expand3x3))?)", CONV),
        *_weighted(r"(classifier\.1)", CONV),
    ],
    "vgg": [
        *_weighted(r"(features\.\d+)", CONV),
        *_batch_norm(r"(features\.\d+)"),
        *_weighted(r"(classifier\.0)", _linear_after_flatten(7, 7)),
        *_weighted(r"(classifier\.[36])", LINEAR),
    ],
}


def rules(architecture: str) -> list[Rule]:
    """Return the rule table of ``architecture``'s family."""
    family = re.sub(r"^(wide_)?resne[x]?t.*", "resnet", architecture)
    for name, table in _FAMILIES.items():
        if family.startswith(name):
            return table
    raise AssertionError(f"no rule table for {architecture}")
