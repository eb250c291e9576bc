"""torchvision's classifiers as modules: built by name, for the weights that are there."""

from collections.abc import Mapping
from typing import Any

import torchvision
from torch import nn

from converters.blueprint import Blueprint, Preset, shape_of
from converters.torch_models import SmallResNet
from converters.torchvision_weights import find_weights

__all__ = ["torchvision_blueprint"]

_WITH_OWN_NORMALISATION = ("googlenet", "inception_v3")
"""Whose published weights are torch's port of TensorFlow's: their forward undoes ImageNet's mean
and std and takes its own, where they are built with ``transform_input``."""


def torchvision_blueprint(architecture: str, version: str | None = None) -> Blueprint:
    """Return how torchvision builds a classifier, and what is known of its weights.

    Args:
        architecture: torchvision's name, or small_resnet.
        version: of its weights; the first without it.

    Raises:
        UserError: no such classifier, or no such weights.
    """
    if architecture == "small_resnet":
        preset = Preset(size=32, num_classes=10)
    else:
        published = find_weights(f"{architecture}:{version}" if version else architecture)
        preset = Preset(
            size=published.size,
            num_classes=len(published.class_names),
            mean=published.mean,
            std=published.std,
            class_names=published.class_names,
            decoding=published.decoding,
            fixed_size=architecture.startswith(("vit_", "maxvit")),
        )
    assumptions = {}
    if architecture in _WITH_OWN_NORMALISATION:
        assumptions["transform_input"] = (
            f"{architecture} is taken to be trained from torchvision's own weights, whose forward "
            "turns ImageNet's normalisation into another (transform_input=True); if it was trained "
            "from nothing give the module itself: gaxjax convert mynet.py:build --weights FILE"
        )
    return Blueprint(
        kind="torchvision",
        name=architecture,
        build=lambda **settings: _build(architecture, preset, **settings),
        heads=_heads,
        first=_first,
        preset=preset,
        assumptions=assumptions,
    )


def _build(
    architecture: str,
    preset: Preset,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    num_classes: int | None = None,
    channels: int = 3,
    size: int | None = None,
) -> nn.Module:
    num_classes = num_classes or preset.num_classes
    if architecture == "small_resnet":
        module: nn.Module = SmallResNet(num_classes)
    else:
        own = _settings(architecture, preset, shapes, size)
        module = torchvision.models.get_model(
            architecture, weights=None, num_classes=num_classes, **own
        )
    if channels != 3:
        _replace_first(module, channels)
    return module


def _settings(
    architecture: str,
    preset: Preset,
    shapes: Mapping[str, tuple[int, ...]] | None,
    size: int | None,
) -> dict[str, Any]:
    """Return what a network's own builder wants to be told."""
    if architecture in _WITH_OWN_NORMALISATION:
        # The branches that train the middle layers are no part of the logits, but of the file.
        helpers = shapes is None or any(key.lower().startswith("aux") for key in shapes)
        return {"init_weights": False, "transform_input": True, "aux_logits": helpers}
    if architecture.startswith("vit_"):
        table = shape_of(shapes or {}, "pos_embedding")
        patch = int(architecture.rpartition("_")[2])
        if table is not None and len(table) == 3:
            side = round((table[1] - 1) ** 0.5)
            return {"image_size": side * patch}
        return {"image_size": size or preset.size}
    if architecture.startswith("maxvit"):
        return {"input_size": (size or preset.size,) * 2}
    return {}


def _heads(module: nn.Module) -> tuple[str, ...]:
    for kind in (nn.Linear, nn.Conv2d):  # SqueezeNet's last layer is a convolution
        layers = [name for name, layer in module.named_modules() if isinstance(layer, kind)]
        if layers:
            return (layers[-1],)
    return ()


def _first(module: nn.Module) -> str | None:
    return next(
        (name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)), None
    )


def _replace_first(module: nn.Module, channels: int) -> None:
    name = _first(module)
    assert name is not None
    old = module.get_submodule(name)
    assert isinstance(old, nn.Conv2d)
    settings = {
        key: getattr(old, key)
        for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **settings)
    owner, _, last = name.rpartition(".")
    setattr(module.get_submodule(owner), last, new)
