"""Other networks with the same keys: what a state dict alone cannot tell apart, built in torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Variant", "variants", "what_shares_keys"]


@dataclass(frozen=True)
class Variant:
    """A change of a torchvision network that leaves its keys as they are."""

    words: str
    """As in: a resnet50 with WORDS."""
    change: Callable[[nn.Module], None]
    """Makes it, in place."""


def what_shares_keys(architecture: str) -> str:
    """Return what other networks have the keys of one, for people.

    Example:
        >>> what_shares_keys("vgg16")
        'another activation, max pools with ceil_mode, no average pool before the head'
    """
    if _is_resnet(architecture):
        first = ["its stride in the 1×1 convolution (Caffe's, v1)"] * _has_bottlenecks(architecture)
        others = ["no max pool (CIFAR)", "dilation or stride 1 in the last stages"]
        return ", ".join([*first, *others, "another activation or batch norm eps"])
    if architecture.startswith("squeezenet"):
        return "another activation, max pools without ceil_mode, no ReLU after the last layer"
    local = ["local response normalisation (the paper's)"] * (architecture == "alexnet")
    pools = ["max pools with ceil_mode", "no average pool before the head"]
    return ", ".join([*local, "another activation", *pools])


def variants(architecture: str) -> Iterator[Variant]:
    """Yield the networks that have the keys of one and compute something else."""
    if _is_resnet(architecture):
        yield from _resnets(_has_bottlenecks(architecture))
    else:
        yield Variant("max pools with ceil_mode", lambda net: _ceil_mode(net, True))
        yield Variant("max pools without ceil_mode", lambda net: _ceil_mode(net, False))
        if architecture.startswith("squeezenet"):
            yield Variant("no ReLU after its last layer", _no_last_relu)
        if architecture == "alexnet":
            yield Variant("local response normalisation", _local_response)
    for activation in (nn.LeakyReLU(0.01), nn.LeakyReLU(0.1), nn.GELU(), nn.SiLU(), nn.ELU()):
        yield Variant(f"{activation!r} in place of ReLU", _with_activation(activation))
    yield Variant("ReLU6 in place of ReLU", _with_activation(nn.ReLU6()))


def _is_resnet(architecture: str) -> bool:
    return "resne" in architecture


def _has_bottlenecks(architecture: str) -> bool:
    return architecture not in ("small_resnet", "resnet18", "resnet34")


def _resnets(bottlenecks: bool) -> Iterator[Variant]:
    if bottlenecks:
        yield Variant("its stride in the 1×1 convolution (Caffe's, v1)", _stride_in_the_first)
        for first in (4, 3, 2):
            which = {4: "its last stage", 3: "its last two stages", 2: "its last three stages"}
            yield Variant(f"dilation in {which[first]}", _dilated_from(first))
    yield Variant("no max pool (as for CIFAR)", _without_max_pool)
    yield Variant("stride 1 in its first convolution", _stride_1_first)
    yield Variant("stride 1 in its first convolution and no max pool", _stride_1_and_no_pool)
    yield Variant("stride 1 in its last stage", _stride_1_last)
    yield Variant("a max pool with ceil_mode and without padding", _caffe_pool)
    for eps in (1e-3, 1e-4, 2e-5, 1e-6):
        yield Variant(f"a batch norm eps of {eps:g}", _with_eps(eps))


def _blocks(net: nn.Module, stage: int) -> list[nn.Module]:
    return list(net.get_submodule(f"layer{stage}").children()) if hasattr(net, "layer4") else []


def _stride_in_the_first(net: nn.Module) -> None:
    for stage in (2, 3, 4):
        for block in _blocks(net, stage)[:1]:
            first, second = block.get_submodule("conv1"), block.get_submodule("conv2")
            first.stride, second.stride = second.stride, (1, 1)  # type: ignore[assignment]


def _dilated_from(first: int) -> Callable[[nn.Module], None]:
    def change(net: nn.Module) -> None:
        dilation = 1
        for stage in range(first, 5):
            for number, block in enumerate(_blocks(net, stage)):
                # As torchvision: the first block of a stage keeps the dilation of the one before.
                here = dilation if number == 0 else dilation * 2
                for layer in block.modules():
                    if isinstance(layer, nn.Conv2d):
                        layer.stride = (1, 1)
                        if layer.kernel_size == (3, 3):
                            layer.dilation = layer.padding = (here, here)
            dilation *= 2

    return change


def _without_max_pool(net: nn.Module) -> None:
    net.maxpool = nn.Identity()


def _stride_1_first(net: nn.Module) -> None:
    net.get_submodule("conv1").stride = (1, 1)  # type: ignore[assignment]


def _stride_1_and_no_pool(net: nn.Module) -> None:
    _stride_1_first(net)
    _without_max_pool(net)


def _stride_1_last(net: nn.Module) -> None:
    for block in _blocks(net, 4):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)


def _caffe_pool(net: nn.Module) -> None:
    net.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _with_eps(eps: float) -> Callable[[nn.Module], None]:
    def change(net: nn.Module) -> None:
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = eps

    return change


def _ceil_mode(net: nn.Module, on: bool) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = on


def _no_last_relu(net: nn.Module) -> None:
    net.get_submodule("classifier").add_module("2", nn.Identity())


class _LocalResponse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.local_response_norm(functional.relu(x), 5, 1e-4, 0.75, 2.0)


def _local_response(net: nn.Module) -> None:
    features = net.get_submodule("features")
    features.add_module("1", _LocalResponse())
    features.add_module("4", _LocalResponse())


def _with_activation(activation: nn.Module) -> Callable[[nn.Module], None]:
    def change(net: nn.Module) -> None:
        for owner in list(net.modules()):
            for name, layer in list(owner.named_children()):
                if isinstance(layer, nn.ReLU):
                    setattr(owner, name, activation)

    return change
