"""How closely the native attribution methods and Captum agree, and which one rounding moves.

    python -m benchmarks.parity.attribution_parity                       # random weights, all
    python -m benchmarks.parity.attribution_parity --weights squeezenet1_0.pth --data IMAGES

Each heatmap is made four times: natively and by Captum, in float64 and in float32. Captum in
float64 is taken for the truth. In float64 the two agree to rounding, which proves the methods; in
float32 each strays from the truth by as much, where a ReLU's or a max pool's input rounds to the
other side of a tie, which explains the rest. CO scores are those of the four heatmaps in one and
the same float64 network. Appends one row per architecture.
"""

import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro

from benchmarks.machine import commit
from benchmarks.rows import append_row
from converters.bijection import convert_state_dict, guess_architecture, head_of
from converters.random_weights import random_state_dict
from converters.state_dict import read_state_dict
from converters.torch_models import torch_model
from gaxjax.ax.methods import attributions
from gaxjax.ax.objective import AxObjective, wanted_of
from gaxjax.config.base import METHODS, Pooling, Wanted
from gaxjax.config.inputs import DataConfig
from gaxjax.config.methods import AxConfig
from gaxjax.data.sources import open_images
from gaxjax.models.classifier import as_classifier
from gaxjax.models.registry import architectures
from gaxjax.reference import captum_methods as captum
from gaxjax.reference.captum_model import separate_nonlinearities

RESULTS = Path(__file__).parents[1] / "results" / "parity" / "attribution_parity.jsonl"
MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
TRUTH = "captum_float64"
POOLINGS: tuple[Pooling, ...] = ("captum", "complete")
CPU_OPTIONS: Any = {"xla_backend_optimization_level": 0}  # compiles in a quarter of the time


@dataclass(frozen=True)
class Settings:
    """What to compare.

    Attributes:
        weights: A torch state dict; random weights for every architecture when not given.
        data: A folder of images, normalised as ImageNet's; random ones when not given.
        num_images: Images per architecture.
        size: Height and width, in pixels; 256 with weights and 67 without when not given.
        architectures: Of the random weights.
        baseline: DeepLift's baseline image: zero (the usual one) or textured (uniform noise,
            which leaves no ties).
        output: File of rows to append to.
    """

    weights: Path | None = None
    data: Path | None = None
    num_images: int = 2
    size: int | None = None
    architectures: tuple[str, ...] = architectures()
    baseline: str = "zero"
    output: Path = RESULTS


def main() -> None:
    """Compare every architecture and append the rows."""
    settings = tyro.cli(Settings)
    size = settings.size or (256 if settings.weights else 67)
    if settings.weights:
        state_dict = read_state_dict(settings.weights)
        cases: list[tuple[str, dict[str, np.ndarray] | None]] = [
            (guess_architecture(state_dict), state_dict)
        ]
    else:
        cases = [(name, None) for name in settings.architectures]
    for architecture, weights in cases:
        started = time.perf_counter()
        if weights is None:
            weights = random_state_dict(architecture, size=size)
        methods = _compare(architecture, weights, _images(settings, size), settings.baseline)
        row = {
            "bench": "attribution_parity",
            "commit": commit(),
            "device": f"{os.cpu_count()} × cpu",
            "versions": {n: version(n) for n in ("jax", "flax", "torch", "captum", "numpy")},
            "model": architecture,
            "weights": settings.weights.name if settings.weights else "random",
            "size": size,
            "images": settings.num_images,
            "deep_lift_baseline": settings.baseline,
            "methods": methods,
            "seconds": round(time.perf_counter() - started, 1),
        }
        append_row(row, settings.output)
        print(json.dumps(row, indent=1))


def _images(settings: Settings, size: int) -> np.ndarray:
    """Return images [N, H, W, 3], float64, as the network takes them."""
    random = np.random.default_rng(0)
    if settings.data is None:
        return random.normal(size=(settings.num_images, size, size, 3))
    config = DataConfig(data=str(settings.data), size=size, num_images=settings.num_images)
    images = open_images(config, num_classes=1000)
    pixels = np.stack([images.load(i) for i in range(settings.num_images)])
    return (pixels / 255 - MEAN) / STD


def _compare(architecture: str, weights: Any, images: np.ndarray, kind: str) -> dict[str, Any]:
    """Return each method's figures, the worst and the median over the images."""
    num_classes, head_bias = head_of(weights, architecture)
    network = torch_model(architecture, num_classes, head_bias, state_dict=weights)
    example = _to_torch(images[:1])
    exact = separate_nonlinearities(network.double(), example)
    network = torch_model(architecture, num_classes, head_bias, state_dict=weights)
    single = separate_nonlinearities(network, example.float())
    baseline = np.zeros_like(images[0])
    if kind == "textured":
        baseline = np.random.default_rng(1).normal(size=baseline.shape)
    shape = images[0].shape
    makers: dict[str, Callable[..., dict[Wanted, np.ndarray]]] = {
        TRUTH: partial(_captum, exact),
        "captum_float32": partial(_captum, single),
        "jax_float64": _native(architecture, weights, num_classes, shape, "float64"),
        "jax_float32": _native(architecture, weights, num_classes, shape, "float32"),
    }
    figures: dict[str, dict[str, list[float]]] = {}
    for image in images:
        target = int(_logits(exact, image).argmax())
        for pooling in POOLINGS:
            found = {name: make(image, baseline, target, pooling) for name, make in makers.items()}
            for key in found[TRUTH]:
                if pooling == "complete" and key[0] != "deep_lift":
                    continue
                method = key[0] if pooling == "captum" else "deep_lift complete"
                raw = {name: attributions[key] for name, attributions in found.items()}
                for figure, value in _figures(exact, image, baseline, target, raw).items():
                    if method.startswith("deep_lift") or not figure.startswith("completeness"):
                        figures.setdefault(method, {}).setdefault(figure, []).append(value)
    return {
        method: {
            figure: {"worst": float(np.max(values)), "median": float(np.median(values))}
            for figure, values in found.items()
        }
        for method, found in figures.items()
    }


def _figures(
    exact: torch.nn.Module,
    image: np.ndarray,
    baseline: np.ndarray,
    target: int,
    raw: dict[str, np.ndarray],
) -> dict[str, float]:
    """Hold one method's attributions, by maker, against the truth.

    Heatmaps are divided by their largest magnitude and compared by L2 norm, relative to the
    truth's; completeness is relative to the logit's rise over the baseline.
    """
    heatmaps = {name: h / (np.abs(h).max() or 1.0) for name, h in raw.items()}
    scores = {
        (name, operation): _co_score(exact, image, h, target, operation)
        for (name, h), operation in itertools.product(heatmaps.items(), ("sum", "mult"))
    }
    rise = float((_logits(exact, image) - _logits(exact, baseline))[target])
    figures = {}
    for name in heatmaps:
        figures[f"completeness {name}"] = abs(float(raw[name].sum()) - rise) / abs(rise)
        if name == TRUTH:
            continue
        size = float(np.linalg.norm(heatmaps[TRUTH])) or 1.0
        figures[f"heatmap {name}"] = float(np.linalg.norm(heatmaps[name] - heatmaps[TRUTH])) / size
        for operation in ("sum", "mult"):
            difference = abs(scores[name, operation] - scores[TRUTH, operation])
            figures[f"co_score {operation} {name}"] = difference
    return figures


def _captum(
    network: torch.nn.Module, image: np.ndarray, baseline: np.ndarray, target: int, pooling: Pooling
) -> dict[Wanted, np.ndarray]:
    dtype = next(network.parameters()).dtype
    wanted: list[Wanted] = [
        (method, captum.first_convolution(network) if method == "layer_grad_cam" else None)
        for method in METHODS
    ]
    found = captum.attributions(
        network,
        _to_torch(image[None]).to(dtype),
        torch.tensor([target]),
        wanted,
        baseline=_to_torch(baseline[None]).to(dtype),
        deep_lift_pooling=pooling,
    )
    return {key: h[0].numpy().transpose(1, 2, 0).astype(np.float64) for key, h in found.items()}


def _native(
    architecture: str, weights: Any, num_classes: int, shape: tuple[int, ...], dtype: str
) -> Callable[..., dict[Wanted, np.ndarray]]:
    """Compile the native methods, both pooling rules in one program."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        classifier = as_classifier(
            convert_state_dict(weights, architecture), num_classes=num_classes
        )
        wanted = wanted_of(AxConfig(), classifier, jax.ShapeDtypeStruct(shape, jnp.float32))
        objective = AxObjective(classifier, AxConfig(), wanted)
        network = jax.tree.map(lambda leaf: leaf.astype(dtype), classifier.weights)

        def both(network: Any, image: Any, baseline: Any, target: Any) -> list[Any]:
            def forward(z: Any, probes: Any) -> Any:
                return objective.logits(network, z, probes)

            return [
                attributions(forward, image, target, wanted, baseline=baseline, pooling=pooling)
                for pooling in POOLINGS
            ]

        pixels = jax.ShapeDtypeStruct(shape, dtype)
        lowered = jax.jit(both).lower(network, pixels, pixels, jax.ShapeDtypeStruct((), "int32"))
        program = lowered.compile(compiler_options=CPU_OPTIONS)

    def make(image: Any, baseline: Any, target: int, pooling: Pooling) -> dict[Wanted, Any]:
        with jax.enable_x64(dtype == "float64"):
            found = program(network, image.astype(dtype), baseline.astype(dtype), np.int32(target))
        chosen = found[POOLINGS.index(pooling)]
        return {key: np.asarray(chosen[key], np.float64) for key in wanted}

    return make


def _logits(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(_to_torch(image[None]))[0].numpy()


def _co_score(
    network: torch.nn.Module, image: np.ndarray, heatmap: np.ndarray, label: int, operation: str
) -> float:
    augmented = image + heatmap if operation == "sum" else image * heatmap
    rise = _logits(network, augmented) - _logits(network, image)
    return float(rise[label] - np.delete(rise, label).mean())


def _to_torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


if __name__ == "__main__":
    main()
