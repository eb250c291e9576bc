"""GAX as the paper's released code runs it: torch, one image at a time, plain on purpose.

The yardstick for the engine's curves and, timed, for its speed. Each quirk of the released loop
stands behind a named option; by default the loop follows the engine's contract: a heatmap belongs
to its score.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from gaxjax.common import UserError
from gaxjax.config import GaxConfig


@dataclass(frozen=True)
class ReferenceResult:
    """One image's optimisation in torch.

    Attributes:
        curve: CO scores, float64 [T]; `curve[t]` is measured at `w` after t updates.
        heatmap: [H, W, 3], in the network's type.
        steps: updates behind `heatmap`: of the best score where the target was not reached.
        reached: whether the target stopped it.
    """

    curve: Float[np.ndarray, " T"]
    heatmap: Float[np.ndarray, "H W 3"]
    steps: int
    reached: bool


def reference_gax(
    network: torch.nn.Module,
    image: Float[np.ndarray, "H W 3"],
    label: int,
    config: GaxConfig,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    heatmap_after_update: bool = False,
    beyond_target: bool = False,
    weight_gradients: bool = False,
    only_correct: bool = False,
) -> ReferenceResult:
    """Optimise one heatmap by torch's own optimiser (paper §3, eqs. 5 and 6: Adam).

    Args:
        network: classifier in eval mode; [1, 3, H, W] → logits [1, C]. All is computed in the
            type of its weights, and on their device.
        image: float32 in [0, 1].
        label: groundtruth class.
        config: the method; the score space decides where mean and std apply.
        mean: per channel, in [0, 1] pixel units; None where the network has no normalisation.
        std: likewise.
        heatmap_after_update: the released code stores the heatmap one update later than its
            score.
        beyond_target: the released code stops at a score above the target, not at it.
        weight_gradients: the released code leaves the network's own gradients on: slower, same
            numbers.
        only_correct: turn away an image that the network gets wrong, with an empty curve.

    Raises:
        UserError: torch has no such optimiser: see `torch_optimizer`.
    """
    weight = next(network.parameters())
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(weight)
    shift, scale = (
        None if v is None else pixels.new_tensor(v).view(1, 3, 1, 1) for v in (mean, std)
    )

    def logits(pixels: torch.Tensor, *, normalized: bool) -> torch.Tensor:
        if normalized and shift is not None and scale is not None:
            pixels = (pixels - shift) / scale
        return network(pixels)

    for parameter in network.parameters():
        parameter.requires_grad_(weight_gradients)
    best = (float("-inf"), -1, torch.zeros_like(pixels))  # score, step, heatmap
    with torch.no_grad():
        baseline = logits(pixels, normalized=config.score_space != "raw")
    if only_correct and int(baseline.argmax()) != label:
        return ReferenceResult(np.array([]), np.zeros_like(image), 0, reached=False)
    kappa, plain = _score_constants(baseline, label), _scored(baseline, config)

    shape = (1, 3, config.grid, config.grid) if config.generator == "coarse" else pixels.shape
    w = pixels.new_full(shape, config.initial_weight).requires_grad_()
    b = pixels.new_full(shape, config.initial_bias).requires_grad_() if config.bias else None
    optimizer = torch_optimizer(config, [w] if b is None else [w, b])

    def heatmap() -> torch.Tensor:
        product = _spread(w, pixels, config) * pixels
        return torch.tanh(product if b is None else product + _spread(b, pixels, config))

    curve: list[float] = []
    while True:
        h = heatmap()
        augmented = pixels + h if config.operation == "sum" else pixels * h
        after = logits(augmented, normalized=config.score_space == "normalized")
        score = torch.sum(kappa * (_scored(after, config) - plain))
        distance = torch.mean(
            (h - pixels + config.similarity_eps) ** 2 / (pixels + config.similarity_eps)
        )
        loss = -score + config.similarity_factor / distance
        if config.total_variation_factor:
            differences = h.diff(dim=2).abs().sum() + h.diff(dim=3).abs().sum()
            loss = loss + config.total_variation_factor * differences / h.numel()
        # The last score is followed by an update too, as in the released code. Read before the
        # backward pass, each score would have a GPU wait for the host.
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(score.item())
        steps = len(curve) - 1
        best = max(best, (curve[-1], steps, h.detach()), key=lambda entry: entry[0])
        reached = curve[-1] > config.target or (curve[-1] == config.target and not beyond_target)
        if reached or steps >= config.max_steps or not math.isfinite(curve[-1]):
            break
    if heatmap_after_update:
        steps += 1
        h = heatmap()
    elif not reached:
        _, steps, h = best
    return ReferenceResult(
        curve=np.array(curve),
        heatmap=h.detach().cpu().numpy()[0].transpose(1, 2, 0),
        steps=steps,
        reached=reached,
    )


def _spread(values: torch.Tensor, pixels: torch.Tensor, config: GaxConfig) -> torch.Tensor:
    """Return `w` as it meets the image: itself, blurred, or resized."""
    if config.generator == "coarse":
        size = (pixels.shape[2], pixels.shape[3])
        return torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)
    if config.generator == "pixel":
        return values
    reach = min(int(4 * config.sigma), max(pixels.shape) - 1)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(pixels) / config.sigma) ** 2)
    kernel = torch.outer(line, line)[None, None].repeat(3, 1, 1, 1)

    def blurred(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(image, kernel, padding=reach, groups=3)

    return blurred(values) / blurred(torch.ones_like(values))


def torch_optimizer(config: GaxConfig, trained: list[torch.Tensor]) -> torch.optim.Optimizer:
    """Return torch's optimiser that does the same: of adam, adamw, sgd and rmsprop.

    Args:
        config: names it, with optax's arguments.
        trained: what it updates.

    Raises:
        UserError: torch has none that does the same. Of rmsprop only eps_in_sqrt=false does: torch
            adds eps to the root, and optax by default under it.
    """
    given = dict(config.optimizer_keywords)
    if config.optimizer == "rmsprop":
        given.setdefault("eps_in_sqrt", True)
    same = {
        "adam": {"eps_root": 0.0, "nesterov": False},
        "adamw": {"eps_root": 0.0, "nesterov": False},
        "sgd": {},
        "rmsprop": {
            "eps_in_sqrt": False,
            "initial_scale": 0.0,
            "nesterov": False,
            "bias_correction": False,
        },
    }.get(config.optimizer)
    others = {} if same is None else {k: v for k, v in same.items() if given.pop(k, v) != v}
    if same is None or others:
        needed = ", ".join(f"{name}={str(value).lower()}" for name, value in others.items())
        raise UserError(
            f"torch has no optimiser that does what optax's {config.optimizer} does"
            + (f" but with {needed}" if needed else "")
        )
    defaults = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 1e-4, "decay": 0.9}
    known = {name: given.get(name, value) for name, value in defaults.items()}
    rate, betas, eps = config.learning_rate, (known["b1"], known["b2"]), known["eps"]
    if config.optimizer == "adam":
        return torch.optim.Adam(trained, lr=rate, betas=betas, eps=eps)
    if config.optimizer == "adamw":
        decay = known["weight_decay"]
        return torch.optim.AdamW(trained, lr=rate, betas=betas, eps=eps, weight_decay=decay)
    momentum = given.get("momentum", 0.0)
    if config.optimizer == "sgd":
        nesterov = given.get("nesterov", False)
        return torch.optim.SGD(trained, lr=rate, momentum=momentum, nesterov=nesterov)
    return torch.optim.RMSprop(
        trained,
        lr=rate,
        alpha=known["decay"],
        eps=eps,
        momentum=momentum,
        centered=given.get("centered", False),
    )


def _scored(logits: torch.Tensor, config: GaxConfig) -> torch.Tensor:
    """Return what the score is of."""
    if config.score == "softmax":
        return logits.softmax(1)
    return logits.log_softmax(1) if config.score == "log_softmax" else logits


def _score_constants(logits: torch.Tensor, label: int) -> torch.Tensor:
    """Return κ as a row [1, C]: 1 at the label, -1 / (C - 1) elsewhere."""
    kappa = torch.full_like(logits, -1.0 / (logits.shape[1] - 1))
    kappa[0, label] = 1.0
    return kappa
