"""A batch of images in torch: the step for all slots, and the ways to run it fast."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from benchmarks.measure.measurement import CHECKED_UPDATES, Measurement
from benchmarks.measure.problem import Problem
from converters import torch_model
from gaxjax.config import GaxConfig

GAX = GaxConfig()  # the method's numbers; torch.compile cannot trace its making

_COMPILE_MODES = {
    "torch-compile": "default",
    "torch-compile-reduce-overhead": "reduce-overhead",
    "torch-compile-max-autotune": "max-autotune",
    "torch-compile-graph": "default",
}
_GRAPHS = ("torch-graph", "torch-compile-graph")
_FORMS = ("torch-eager", "torch-graph", *_COMPILE_MODES)
_WARM_UP_CALLS = 3


def target_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_device_bytes() -> int | None:
    """Return the most memory that tensors held on the GPU; None without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def synchronize() -> None:
    """Wait until the GPU has done everything, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def require_form(form: str) -> None:
    """Refuse a contender that does not exist, or not on this machine.

    Raises:
        ValueError: unknown name, or a CUDA graph without a GPU.
    """
    if form not in _FORMS:
        raise ValueError(f"no contender {form}; there are {', '.join(_FORMS)}, each with +refill")
    if form in _GRAPHS and not torch.cuda.is_available():
        raise ValueError(f"{form} is a CUDA graph and needs a GPU; there is none")


def require_precision(precision: str, known: tuple[str, ...]) -> None:
    """Refuse a precision that a contender, or this machine, does not have.

    Raises:
        ValueError: not one of `known`, or tf32 without a GPU.
    """
    if precision not in known:
        raise ValueError(f"precision must be one of {', '.join(known)} here; got {precision}")
    if precision == "tf32" and not torch.cuda.is_available():
        raise ValueError("tf32 needs a GPU; there is none")


def load_network(problem: Problem) -> nn.Module:
    """Return the classifier in float32 on the host, as torchvision makes it."""
    state_dict = torch.load(problem.weights_file, weights_only=True)
    return torch_model(problem.model, problem.num_classes, True, state_dict)


def fold(network: nn.Module) -> nn.Module:
    """Fold batch norms, lay weights out channels_last, and free them of gradients."""
    network = network.requires_grad_(False)
    norms = any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    folded = fuse(network) if norms else network
    return folded.to(memory_format=torch.channels_last)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Say whether float32 convolutions and matrix products may use TF32; a CPU has none."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return κ, [B, C]: 1 at the label, -1 / (C - 1) elsewhere."""
    others = torch.full((len(labels), num_classes), -1 / (num_classes - 1), device=labels.device)
    return others.scatter_(1, labels[:, None], 1.0)


def adam_update(
    w: Tensor, m: Tensor, v: Tensor, gradient: Tensor, step_size: Tensor, eps: Tensor
) -> None:
    """Update `w`, `m` and `v` in place by Adam, each slot by its own step's corrections.

    With c1 = 1 - β1^n and c2 = √(1 - β2^n), Adam's lr · (m / c1) / (√v / c2 + ε) is
    step_size · m / (√v + eps) for step_size = lr · c2 / c1 and eps = ε · c2: no pass over the
    pixels for the corrections. A step_size of 0 leaves `w` alone.

    Args:
        w: [S, 3, H, W], updated in place.
        m: first moments, likewise.
        v: second moments, likewise.
        gradient: [S, 3, H, W]
        step_size: [S, 1, 1, 1], of each slot's n-th update.
        eps: likewise.
    """
    m.lerp_(gradient, 1 - GAX.beta1)
    v.mul_(GAX.beta2).addcmul_(gradient, gradient, value=1 - GAX.beta2)
    w.addcmul_(m / v.sqrt().add_(eps), step_size, value=-1)


def corrected_rates(num_updates: int) -> tuple[Tensor, Tensor]:
    """Return step_size and eps of `adam_update` for the first updates, [num_updates] each."""
    n = torch.arange(1, num_updates + 1, dtype=torch.float64)
    c1 = -torch.expm1(n * math.log(GAX.beta1))
    c2 = torch.sqrt(-torch.expm1(n * math.log(GAX.beta2)))
    return (GAX.learning_rate * c2 / c1).float(), (GAX.adam_eps * c2).float()


class SlotStep(nn.Module):
    """Score, gradient and Adam's update in every slot, in place on tensors that never move.

    Only the network runs in its own precision; all else is float32. Autograd goes through the
    network alone: the chain rule around it is written out, which saves a third of the passes over
    the pixels. Buffers, so that `torch.compile` knows their addresses to be fixed.

    Attributes:
        pixels, w, m, v: [S, 3, H, W], channels_last; pixels in [0, 1].
        kappa, baseline: κ and κ·f(x), [S, C] and [S].
        count: updates so far, [S].
        running: False once a slot is done, which then keeps its `w`, [S].
        target, last_step: where a slot is done.
        report: [2, S]; the last call's step and its score.
    """

    pixels: Tensor
    w: Tensor
    m: Tensor
    v: Tensor
    kappa: Tensor
    baseline: Tensor
    count: Tensor
    running: Tensor
    target: Tensor
    last_step: Tensor
    report: Tensor
    scale: Tensor
    shift: Tensor
    step_sizes: Tensor
    epsilons: Tensor

    def __init__(
        self, network: nn.Module, measurement: Measurement, problem: Problem, target: float
    ) -> None:
        super().__init__()
        slots, size = measurement.slots, measurement.size
        self.network = network
        self.dtype = next(network.parameters()).dtype
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (problem.mean, problem.std))
        normalized = measurement.score_space == "normalized"
        rates = corrected_rates(max(measurement.max_steps, CHECKED_UPDATES) + 1)
        image = torch.zeros(slots, 3, size, size).to(memory_format=torch.channels_last)
        buffers = {
            **{name: image.clone() for name in ("pixels", "w", "m", "v")},
            "kappa": torch.zeros(slots, problem.num_classes),
            "baseline": torch.zeros(slots),
            "count": torch.zeros(slots, dtype=torch.int64),
            "running": torch.zeros(slots, dtype=torch.bool),
            "target": torch.tensor(target),
            "last_step": torch.tensor(measurement.max_steps),
            "report": torch.zeros(2, slots),
            "scale": 1 / std if normalized else torch.ones_like(std),
            "shift": -mean / std if normalized else torch.zeros_like(std),
            "step_sizes": rates[0],
            "epsilons": rates[1],
        }
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self) -> None:
        """Do one step in every slot."""
        score, gradient = self._evaluate()
        self.report.copy_(torch.stack((self.count.float(), score)))
        done = (score >= self.target) | (self.count >= self.last_step)
        self.running.logical_and_(~done)
        step_size = torch.where(self.running, self.step_sizes[self.count], 0.0)
        eps = self.epsilons[self.count]
        adam_update(
            self.w, self.m, self.v, gradient, step_size.view(-1, 1, 1, 1), eps.view(-1, 1, 1, 1)
        )
        self.count.add_(self.running)

    def _evaluate(self) -> tuple[Tensor, Tensor]:
        """Return the CO scores, and the gradients of the losses (paper eq. 6) by `w`."""
        x = self.pixels
        h = torch.tanh(self.w * x)
        weighted, slope = self._network_gradient(self.normalized(x + h))
        error = (h - x).add_(GAX.similarity_eps)
        ratio = error / (x + GAX.similarity_eps)
        distance = (ratio * error).mean((1, 2, 3), keepdim=True)
        pull = (-2 * GAX.similarity_factor / x[0].numel()) / distance.square()
        by_h = (ratio * pull).addcmul_(slope.float(), self.scale, value=-1)
        return weighted - self.baseline, by_h.mul_(torch.addcmul(x, x * h, h, value=-1))

    def _network_gradient(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return κ·f and its gradient by the network's inputs."""

        def weighted_logits(inputs: Tensor) -> tuple[Tensor, Tensor]:
            weighted = (self.kappa * self.network(inputs).float()).sum(1)
            return weighted.sum(), weighted

        if torch.compiler.is_compiling():  # torch.autograd.grad would break the graph
            gradient, weighted = torch.func.grad(weighted_logits, has_aux=True)(inputs)
            return weighted, gradient
        with torch.enable_grad():
            total, weighted = weighted_logits(inputs.requires_grad_())
            (gradient,) = torch.autograd.grad(total, inputs)
        return weighted.detach(), gradient

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return what the network sees of pixels in [0, 1], in its type."""
        return torch.addcmul(self.shift, pixels, self.scale).to(self.dtype)

    def fill(self, slots: Tensor, images: Tensor, labels: Tensor, baseline: Tensor) -> None:
        """Start images, uint8 [N, H, W, 3], in some slots."""
        self.pixels.index_copy_(0, slots, unit_range(images))
        self.kappa.index_copy_(0, slots, class_weights(labels, self.kappa.shape[1]))
        self.baseline.index_copy_(0, slots, baseline)
        self.w.index_fill_(0, slots, GAX.initial_weight)
        self.m.index_fill_(0, slots, 0)
        self.v.index_fill_(0, slots, 0)
        self.count.index_fill_(0, slots, 0)
        self.running.index_fill_(0, slots, True)

    def heatmaps(self, slots: Tensor) -> Tensor:
        """Return the heatmaps of some slots, rounded to float16 as ours are, [N, 3, H, W]."""
        return torch.tanh(self.w[slots] * self.pixels[slots]).half()


def unit_range(images: Tensor) -> Tensor:
    """Turn uint8 [N, H, W, 3] into float32 [N, 3, H, W] in [0, 1], channels_last as it lies."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def fast_call(step: SlotStep, form: str) -> Callable[[], Any]:
    """Return the step in the form of a contender, compiled, warmed up and captured.

    The compiled step is one graph with Adam in it: compiling forward and backward pass apart was
    slower on the CPU. Warming up changes the slots' contents.
    """
    call: Callable[[], Any] = step
    if form in _COMPILE_MODES:
        compiled = torch.compile(step, mode=_COMPILE_MODES[form], dynamic=False, fullgraph=True)
        call = compiled
        if form not in _GRAPHS:

            def call() -> None:
                torch.compiler.cudagraph_mark_step_begin()
                compiled()

    if form not in _GRAPHS:
        for _ in range(_WARM_UP_CALLS):
            call()
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_CALLS):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
