"""The six attribution methods by Captum, for a batch of images: what the JAX path is held to."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from captum import attr
from jaxtyping import Float, Int
from torch import nn

from gaxjax.common import UserError, nearest
from gaxjax.config import METHODS, Method, Pooling, Wanted
from gaxjax.reference.captum_graph import NONLINEARITIES
from gaxjax.reference.captum_model import first_convolution, layer, separated_part

__all__ = ["attributions", "completeness_delta", "completeness_gap", "divide_by_max_abs"]

Images = Float[torch.Tensor, "B 3 H W"]
"""RGB images in torch's order, or attributions like them."""

PerImage = Float[torch.Tensor, " B"]
"""One number per image."""

Targets = Int[torch.Tensor, " B"]
"""Class indices in [0, C)."""


def attributions(
    network: nn.Module,
    images: Images,
    targets: Targets,
    wanted: Sequence[Wanted],
    *,
    baseline: float | Float[torch.Tensor, "..."] = 0.0,
    deep_lift_pooling: Pooling = "captum",
) -> dict[Wanted, Images]:
    """Attribute each image's target logit to its pixels, by each wanted method.

    With DeepLift's pooling rule "captum" an image's result can depend on the first image of the
    batch: where a max pool's input equals the baseline's, Captum passes on that image's gradient
    (https://github.com/meta-pytorch/captum/issues/1276). With "complete" it does not. Where the
    network has an `nn.Softmax`, whose rule in Captum mixes the images of a batch, DeepLift goes
    image by image.

    Args:
        network: from `separate_nonlinearities`, bare or in `Normalized`, in eval mode. It is left
            as found: no hooks, no attributes.
        images: in the units that `network` takes, in the type of its weights.
        targets: one class per image.
        wanted: methods; a layer with "layer_grad_cam" only, None for the first convolution. Its
            output must be [B, c, h, w].
        baseline: DeepLift's: the value of every pixel, or one image, or one per image.
        deep_lift_pooling: how DeepLift shares out what overlapping max pools add: as Captum does,
            or completely; see `gaxjax.config.AxConfig`. Only with "complete" do attributions of a
            network of convolutions, ReLUs and pools sum to the logit's rise over the baseline.

    Returns:
        Attributions as they are, not divided by their largest; no gradients attached.

    Raises:
        UserError: `network` is not separated or not in eval mode; no such method or layer.

    Example:
        >>> from gaxjax.reference.captum_model import separate_nonlinearities
        >>> zeros, classes = torch.zeros(2, 3, 8, 8), torch.tensor([0, 4])
        >>> linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
        >>> network = separate_nonlinearities(linear, zeros)
        >>> attributions(network, zeros, classes, [("saliency", None)])["saliency", None].shape
        torch.Size([2, 3, 8, 8])
    """
    part = separated_part(network)
    if any(module.training for module in part.modules()):
        raise UserError("the network is in train mode; call network.eval() before attributions")
    for method, name in wanted:
        if method not in METHODS:
            raise UserError(f"no attribution method {method!r}{nearest(method, METHODS)}")
        if name is not None and method != "layer_grad_cam":
            raise UserError(f"{method} takes no layer; got {name!r}: give None")
    found = {}
    with _captum_at_work(part):
        for method, name in dict.fromkeys(wanted):
            # Its own leaf: Captum sets requires_grad, and the caller's tensor is not ours.
            z = images.detach().clone().requires_grad_()
            if method == "layer_grad_cam":
                result = _layer_grad_cam(network, z, targets, name)
            elif method == "deep_lift":
                result = _deep_lift(
                    network, z, _baseline_images(images, baseline), targets, deep_lift_pooling
                )
            elif method == "saliency":
                result = attr.Saliency(network).attribute(z, target=targets, abs=False)
            else:
                result = _PLAIN[method](network).attribute(z, target=targets)
            found[method, name] = result.detach()
    return found


_PLAIN: dict[Method, Callable[[nn.Module], attr.GradientAttribution]] = {
    "input_x_gradient": attr.InputXGradient,
    "deconvolution": attr.Deconvolution,
    "guided_backprop": attr.GuidedBackprop,
}


def completeness_delta(
    network: nn.Module,
    images: Images,
    attributions: Images,
    targets: Targets,
    baseline: float | Float[torch.Tensor, "..."] = 0.0,
) -> PerImage:
    """Return what attributions sum to beyond the rise of the logit over that of the baseline.

    `Σ attribution - (f(x)_t - f(baseline)_t)`, zero where the attribution is complete, as
    DeepLift's is meant to be (arXiv:1704.02685, eq. 1).

    Args:
        network: [B, 3, H, W] → logits [B, C].
        images: in the units that `network` takes.
        attributions: of the target logits.
        targets: one class per image.
        baseline: as given to `attributions`.
    """
    return attributions.sum((1, 2, 3)) - _rise(network, images, targets, baseline)


def completeness_gap(
    network: nn.Module,
    images: Images,
    attributions: Images,
    targets: Targets,
    baseline: float | Float[torch.Tensor, "..."] = 0.0,
) -> PerImage:
    """Return the size of `completeness_delta` over that of the rise; not finite where that is 0.

    Args:
        network: as for `completeness_delta`.
        images: likewise.
        attributions: likewise.
        targets: likewise.
        baseline: likewise.
    """
    rise = _rise(network, images, targets, baseline)
    return (attributions.sum((1, 2, 3)) - rise).abs() / rise.abs()


@torch.no_grad()
def _rise(
    network: nn.Module, images: Images, targets: Targets, baseline: float | torch.Tensor
) -> PerImage:
    """Return the target logits less those of the baselines."""
    rise = network(images) - network(_baseline_images(images, baseline))
    return rise.gather(1, targets[:, None])[:, 0]


def divide_by_max_abs(attribution: Images) -> tuple[Images, PerImage]:
    """Divide each image's attribution by its largest magnitude.

    Returns:
        The heatmap, in [-1, 1], and the largest magnitudes. Where that is 0, so is the heatmap;
        where it is not finite, neither is the heatmap.

    Example:
        >>> divide_by_max_abs(torch.zeros(1, 3, 8, 8))[0].isnan().any()
        tensor(False)
    """
    scale = attribution.abs().amax((1, 2, 3))
    divisor = torch.where(scale == 0, torch.ones_like(scale), scale)
    return attribution / divisor[:, None, None, None], scale


# --- Captum --------------------------------------------------------------------------------------


@contextmanager
def _captum_at_work(network: nn.Module) -> Iterator[None]:
    """Hush what Captum says each time it sets hooks; remove what its DeepLift leaves behind."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Setting (forward, )?backward hooks")
            yield
    finally:
        for module in network.modules():
            if type(module) in NONLINEARITIES:
                # Captum deletes them in the backward pass, which may not reach every module.
                for name in ("input", "output", "input_ref"):
                    vars(module).pop(name, None)


def _deep_lift(
    network: nn.Module,
    z: torch.Tensor,
    baselines: torch.Tensor,
    targets: torch.Tensor,
    pooling: Pooling,
) -> torch.Tensor:
    kind = attr.DeepLift if pooling == "captum" else _CompleteDeepLift
    mixing = any(type(module) is nn.Softmax for module in network.modules())
    rows = [each.split(1 if mixing else len(z)) for each in (z, baselines, targets)]
    return torch.cat(
        [
            kind(network).attribute(images, baselines=plain, target=target)
            for images, plain, target in zip(*rows, strict=True)
        ]
    )


def _layer_grad_cam(
    network: nn.Module, z: torch.Tensor, targets: torch.Tensor, name: str | None
) -> torch.Tensor:
    """Return Grad-CAM, not rectified, resized to the image and repeated over its channels."""
    name = name or first_convolution(network)
    method = attr.LayerGradCam(network, layer(network, name))
    cam = method.attribute(z, target=targets, relu_attributions=False)
    if not isinstance(cam, torch.Tensor) or cam.ndim != 4:
        raise UserError(
            f"layer {name!r} has no feature maps [B, c, h, w] for layer_grad_cam; name one before "
            "they are flattened"
        )
    resized = attr.LayerAttribution.interpolate(cam, tuple(z.shape[2:]), "bilinear")
    return resized.expand(-1, 3, -1, -1).contiguous()


def _baseline_images(images: torch.Tensor, baseline: float | torch.Tensor) -> torch.Tensor:
    if isinstance(baseline, torch.Tensor):
        return baseline.to(images).expand_as(images).contiguous()
    return torch.full_like(images, baseline)


_POOLS: dict[type[nn.Module], Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    nn.MaxPool1d: F.max_pool1d,
    nn.MaxPool2d: F.max_pool2d,
    nn.MaxPool3d: F.max_pool3d,
}


class _CompleteDeepLift(attr.DeepLift):
    """DeepLift whose max pools keep every share, so that attributions sum to the logit's rise.

    Captum shares out a window's rise from ``y0`` to ``y`` as here, but it unpools the shares,
    which assigns: a cell that wins several windows keeps the last one's share alone. And where a
    cell equals the baseline's, it passes on the gradient of the batch's first image; here it is
    the image's own.
    """

    def _backward_hook(
        self, module: Any, grad_input: torch.Tensor, grad_output: torch.Tensor
    ) -> torch.Tensor:
        if type(module) not in _POOLS:
            return super()._backward_hook(module, grad_input, grad_output)
        # Captum ran the images and, behind them, their baselines as one batch.
        x, x0 = module.input.chunk(2)
        y, y0 = module.output.chunk(2)
        gradient = grad_output.chunk(2)[0]
        options = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        _, winners = _POOLS[type(module)](
            module.input, **{name: getattr(module, name) for name in options}, return_indices=True
        )
        winner, winner0 = winners.flatten(2).chunk(2)
        top = torch.maximum(y, y0)
        shares = torch.zeros_like(x).flatten(2)
        shares.scatter_add_(2, winner, (gradient * (top - y0)).flatten(2))
        shares.scatter_add_(2, winner0, (gradient * (y - top)).flatten(2))
        rise = x - x0
        multipliers = torch.where(
            rise.abs() < self.eps, grad_input.chunk(2)[0], shares.view_as(x) / rise
        )
        del module.input, module.output  # as Captum does
        return torch.cat([multipliers, multipliers])
