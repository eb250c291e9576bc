"""One network's weights as arrays, with what their file tells of it."""

import re
from dataclasses import dataclass, field

import numpy as np
import torch

from gaxjax.common import UserError
from gaxjax.config import Triple

__all__ = ["TorchWeights", "normalise_layer"]

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TorchWeights:
    """One network's weights, and what their file tells of it.

    Attributes:
        arrays: by torchvision's key.
        mean, std: of a normalise layer in front of the network; None where it has none.
        assumptions: what was chosen without being told, by topic.
        notes: what was left aside, in sentences.
    """

    arrays: dict[str, np.ndarray]
    mean: Triple | None = None
    std: Triple | None = None
    assumptions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def normalise_layer(
    outside: Tensors, assumptions: dict[str, str]
) -> tuple[Triple | None, Triple | None, Tensors]:
    """Take the mean and std out that a layer in front of the network keeps, three of each."""
    for key, mean in outside.items():
        found = re.fullmatch(r"(.*?)(mean)(s?)", key)
        if found is None:
            continue
        other = f"{found[1]}std{found[3]}"
        std = outside.get(other)
        if std is None or mean.numel() != 3 or std.numel() != 3:
            continue
        values = [tuple(t.detach().double().flatten().tolist()) for t in (mean, std)]
        if not all(np.isfinite(v) for v in (*values[0], *values[1])) or min(values[1]) <= 0:
            raise UserError(f"{key} and {other} are no mean and std: {values[0]}, {values[1]}")
        if max(values[0]) > 1:
            values = [tuple(v / 255 for v in value) for value in values]
            assumptions["normalization"] = (
                f"{key} and {other} of the file are in units of 0 to 255: divided by 255, for "
                "pixels in [0, 1]; if that is wrong give --mean R G B --std R G B"
            )
        rest = {name: t for name, t in outside.items() if name not in (key, other)}
        return _triple(values[0]), _triple(values[1]), rest
    return None, None, outside


def _triple(values: tuple[float, ...]) -> Triple:
    red, green, blue = (float(f"{value:.7g}") for value in values)  # 0.485, not float32's of it
    return red, green, blue
