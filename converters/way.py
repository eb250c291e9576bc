"""Which way a model takes into JAX: as one of the hand-written networks, or as a graph."""

from pathlib import Path
from typing import Any, Literal

import torch

from converters.bijection import guess_architecture
from converters.source_names import is_python_source, is_timm_name
from converters.state_dict import weights_of
from converters.torchvision_weights import architecture_of_file, classifiers
from gaxjax.common import UserError
from gaxjax.models import architectures

__all__ = ["way_of"]

Way = Literal["family", "graph"]


def way_of(
    source: Any,
    architecture: str | None = None,
    *,
    weights: Path | None = None,
    as_graph: bool = False,
) -> Way:
    """Say which way a model takes; what `convert` does, and what opens or verifies a model asks.

    ``family``: a network that is written by hand here (AlexNet, ResNet, SqueezeNet, VGG and
    small_resnet, the names of `gaxjax.models.architectures`), readable and trainable, filled by
    rules from torch key to leaf. ``graph``: any other network, imported by `torch.export` as a
    graph of operations. The second takes those networks too, where ``as_graph`` asks for it.

    Args:
        source: a torchvision or timm name, a file or folder of weights, ``mynet.py:build``, or a
            torch module. Of a module the keys decide, of a file without a known name
            ``architecture``: without it, it is taken for one of the hand-written networks.
        architecture: of a file of weights.
        weights: a file for the module that ``source`` builds, or is.
        as_graph: take the general way in any case.

    Example:
        >>> way_of("resnet50"), way_of("efficientnet_b0"), way_of("resnet50", as_graph=True)
        ('family', 'graph', 'graph')
    """
    if as_graph or weights is not None:
        return "graph"
    if isinstance(source, torch.nn.Module):
        return "family" if _has_known_keys(source) else "graph"
    source = str(source)
    if is_timm_name(source) or is_python_source(source) or Path(source).is_dir():
        return "graph"
    name = architecture
    if name is None:
        exists = Path(source).exists()
        name = architecture_of_file(Path(source)) if exists else source.partition(":")[0]
        if name is None or not (exists or name in classifiers()):
            return "family"  # whose keys, or whose misspelt name, are told there
    return "family" if name in architectures() else "graph"


def _has_known_keys(module: torch.nn.Module) -> bool:
    try:
        guess_architecture(weights_of(module.state_dict()).arrays)
    except UserError:
        return False
    return True
