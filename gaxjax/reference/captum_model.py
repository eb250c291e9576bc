"""Torch classifiers made safe for Captum: every nonlinearity a module of its own.

Captum changes gradients by hooks on nonlinear modules and on the tensors that go in. A module that
is used twice or writes in place, a mere function call, and a tensor that other operations use too
make it refuse or, worse, answer wrongly without a word. `separate_nonlinearities` rebuilds a model
without any of these and proves that its logits stay; `layer` finds the model's layers again.
"""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from jaxtyping import Float
from torch import fx, nn

from gaxjax.common import UserError, nearest
from gaxjax.reference.captum_graph import at_rest, rebuild
from gaxjax.reference.torch_graph import TorchGraph

__all__ = ["Normalized", "first_convolution", "layer", "separate_nonlinearities", "separated_part"]


Separated = fx.GraphModule | TorchGraph
"""A network in which every nonlinearity is a module of its own: rebuilt, or imported so."""


def separate_nonlinearities(
    model: nn.Module, example: Float[torch.Tensor, "B ..."] | None = None
) -> Separated:
    """Rebuild a classifier so that each use of a nonlinearity is its own module, not in place.

    Every call of a leaf module gets a module of its own (`relu`, used twice, becomes `relu_1` and
    `relu_2`), functional forms become modules, in-place operations are written out of place, and
    each nonlinearity works on a private copy of its input.

    Args:
        model: images → logits; torchvision's, or any that `torch.fx` can trace. It stays as it
            is: mode, hooks, weights. The result shares its weights but not its hooks, so move or
            cast the model first.
        example: images to prove the logits on; None for two random images of 224 × 224.

    Returns:
        The same function in eval mode. Where a module is used once, its name is the model's. A
        separated network is returned as it is, and so is an imported one.

    Raises:
        UserError: `torch.fx` cannot trace the model, no hook can reach a nonlinearity in it, or
            the logits on the example differ by more than rounding (64 units in the last place of
            the largest; on a CPU torchvision's classifiers agree to the last bit).

    Example:
        >>> import torchvision
        >>> network = separate_nonlinearities(torchvision.models.resnet18())
        >>> network.get_submodule("layer1.0.relu_2")
        ReLU()
    """
    if _is_separated(model):
        return model
    images = _random_images(model) if example is None else example
    with torch.no_grad():
        # Before the rebuilding: old-style weight norm renews its weight when the model is called.
        with at_rest(model):
            expected = _logits(model, images)
        separated = rebuild(model)
        logits = _logits(separated, images)
    error = (logits - expected).abs().max()
    if not error <= 64 * torch.finfo(expected.dtype).eps * expected.abs().max():
        raise UserError(
            f"{type(model).__name__} with its nonlinearities separated gives other logits (they "
            f"differ by up to {error:.3g}): does it change a tensor in place that it still uses "
            "under another name, or have hooks that change its values? Mend that, and try again"
        )
    return separated


def _is_separated(model: nn.Module) -> TypeGuard[Separated]:
    rebuilt = isinstance(model, fx.GraphModule) and "layers" in model.meta
    return rebuilt or isinstance(model, TorchGraph)


def _random_images(model: nn.Module) -> torch.Tensor:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    like = next((p for p in model.parameters() if p.is_floating_point()), images)
    return images.to(like)


def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    shape = list(images.shape)
    try:
        logits = model(images)
    except Exception as error:  # the model's own code, which may raise anything
        raise UserError(
            f"{type(model).__name__} fails on images {shape} ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); pass an example that it takes"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(images):
        given = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"{type(model).__name__} returned {given} for images {shape}; expected logits "
            f"[{len(images)}, classes]"
        )
    if not logits.isfinite().all():
        raise UserError(
            f"{type(model).__name__}'s logits on the example are not all finite, so nothing can "
            "be proven on them; pass another example"
        )
    return logits


class Normalized(nn.Module):
    """A network of pixels in [0, 1] around one of normalised pixels: ``network((z - mean) / std)``.

    Separate first, wrap after; `layer` and `first_convolution` look through the wrapper.

    Args:
        network: [B, 3, H, W] → logits [B, C].
        mean: one per channel, in pixel units.
        std: likewise.

    Example:
        >>> Normalized(torch.nn.Flatten(), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))(torch.ones(1, 3, 1, 1))
        tensor([[2.5000, 2.5000, 2.5000]])
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            # float64, and cast to the images' type: exact for either.
            tensor = torch.tensor(tuple(values), dtype=torch.float64).view(1, -1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, z: Float[torch.Tensor, "B 3 H W"]) -> Float[torch.Tensor, "B C"]:
        """Return logits of images in [0, 1]."""
        return self.network((z - self.mean.to(z)) / self.std.to(z))


def separated_part(network: nn.Module) -> Separated:
    """Return what `separate_nonlinearities` made: the network itself, or the one in `Normalized`.

    Raises:
        UserError: it is neither.
    """
    part = network.network if isinstance(network, Normalized) else network
    if not _is_separated(part):
        raise UserError(
            f"{type(part).__name__} has not been separated, and Captum could answer wrongly "
            "without a word; pass separate_nonlinearities(model), bare or inside Normalized"
        )
    return part


def layer(network: nn.Module, name: str) -> nn.Module:
    """Find the module whose output is that of the original model's module of this name.

    Args:
        network: separated, bare or in `Normalized`.
        name: as in the model's `named_modules()`, containers (``"layer1"``) included, or the name
            of one use of a reused module (``"layer1.0.relu_2"``).

    Returns:
        A module of `network`, called once per forward pass; for hooks.

    Raises:
        UserError: no module of this name runs, or it runs several times.
    """
    part = separated_part(network)
    if isinstance(part, TorchGraph):
        return part.layer(name)
    layers: dict[str, list[str]] = part.meta["layers"]
    if name not in layers:
        raise UserError(f"no layer {name!r} runs in {type(part).__name__}{nearest(name, layers)}")
    if len(layers[name]) > 1:
        raise UserError(
            f"layer {name!r} runs {len(layers[name])} times; name one use of it"
            f"{nearest(name, layers[name])}"
        )
    return part.get_submodule(layers[name][0])


def first_convolution(model: nn.Module) -> str:
    """Return the name, for `layer`, of the first `nn.Conv2d` in the order of execution.

    Args:
        model: a separated network, bare or in `Normalized`, or a model before its separation.

    Raises:
        UserError: there is none, or `torch.fx` cannot trace the model.
    """
    part = model.network if isinstance(model, Normalized) else model
    if isinstance(part, TorchGraph):
        return part.first_convolution()
    if not isinstance(part, fx.GraphModule) or "layers" not in part.meta:
        part = rebuild(part)
    name = part.meta["first_convolution"]
    if name is None:
        raise UserError(f"{type(part).__name__} has no nn.Conv2d; name a layer of it")
    return name
