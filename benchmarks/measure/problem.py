"""The same weights and images for every contender, made once and kept in a folder.

    python -m benchmarks.measure.problem CACHE MODEL SIZE

Real weights and images come from $GAXJAX_TEST_DATA (the layout of its folder is in
benchmarks/README.md); without them weights are random and images synthetic, and rows say so.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure.measurement import CHECKED_IMAGES, CHECKED_UPDATES, UNREACHABLE
from gaxjax.config import DataConfig, GaxConfig, ScoreSpace

if TYPE_CHECKING:
    from gaxjax.data import Batch

SPACES: tuple[ScoreSpace, ...] = ("normalized", "raw")
_REAL_WEIGHTS = {"squeezenet1_0": "weights/squeezenet1_0_imagenet.pth"}
_REAL_IMAGES = "data/imagenet_sample"
_NUM_IMAGES, _FEWER_IMAGES = 512, 64
_QUICK = ("small_resnet", "resnet34", *_REAL_WEIGHTS)  # to classify all images takes a minute
_SPREAD_OF_LOGITS = 2.5
_SEARCHED = 64  # images among which correctly classified ones are looked for


@dataclass(frozen=True)
class Problem:
    """A classifier and images.

    Attributes:
        weights_file: torch state dict; `torch_model` makes the network of it.
        checkpoint: the same weights for `gaxjax.load_classifier`.
        model, num_classes, mean, std: of the classifier.
        weights, images_are: "real", or "random" and "synthetic".
        flops_per_image_step: of forward pass and input gradient; a multiply-add counts two.
        scores: by score space, the float64 scores of torch that contenders must reach, [K][T].
        image_folder: JPEG files in class folders, where they are real.
        images, labels: uint8 [N, H, W, 3] and int32 [N]; the labels of a random network are its
            own predictions. First come `CHECKED_IMAGES` that are classified correctly in every
            score space, where there are some: every contender has scores of those.
    """

    weights_file: Path
    checkpoint: Path
    model: str
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    images_are: str
    flops_per_image_step: float
    scores: dict[str, list[list[float]]]
    image_folder: Path | None
    images: np.ndarray
    labels: np.ndarray

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels; indices past the last image begin again."""
        rows = indices % len(self.images)
        return self.images[rows], self.labels[rows]

    def batches(self, order: np.ndarray, size: int) -> Iterator["Batch"]:
        """Yield the images of these numbers, int [N], in batches of `size`."""
        from gaxjax.data import Batch

        for start in range(0, len(order), size):
            indices = order[start : start + size].astype(np.int32)
            yield Batch(indices, *self.batch(indices), ())


def problem_folder(cache: Path, model: str, size: int) -> Path:
    """Return where a problem is kept: apart for real and for made-up data."""
    real = "real" if test_data() else "synthetic"
    return cache / f"{model}-{size}-{real}"


def test_data() -> Path | None:
    """Return the folder of real images and weights, where it is given."""
    folder = os.environ.get("GAXJAX_TEST_DATA")
    return Path(folder) if folder else None


def open_problem(folder: Path) -> Problem:
    """Open a problem that `make_problem` made; without torch."""
    stored = json.loads((folder / "problem.json").read_text())
    image_folder = stored.pop("image_folder")
    return Problem(
        weights_file=folder / "weights.pth",
        checkpoint=folder / "model.ckpt",
        mean=tuple(stored.pop("mean")),
        std=tuple(stored.pop("std")),
        image_folder=Path(image_folder) if image_folder else None,
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy"),
        **stored,
    )


def make_problem(folder: Path, model: str, size: int) -> None:
    """Make weights, checkpoint, images, labels and the scores to reach; problem.json comes last."""
    import torch

    from converters import (
        convert_state_dict,
        import_module,
        mean_and_std,
        random_state_dict,
        read_state_dict,
        torch_model,
    )
    from gaxjax.models import CheckpointMetadata, GraphNetwork, architectures, checkpoint
    from gaxjax.reference import reference_gax

    folder.mkdir(parents=True, exist_ok=True)
    data = test_data()
    mean, std = mean_and_std("imagenet", 1000)
    assert mean is not None
    assert std is not None
    real = data / _REAL_WEIGHTS[model] if data and model in _REAL_WEIGHTS else None
    num_classes = 10 if model == "small_resnet" else 1000
    imported = model not in architectures()
    if real:
        state_dict = read_state_dict(real)
    elif imported:
        state_dict = _gentle_weights(model, num_classes, size)
    else:
        state_dict = random_state_dict(model, num_classes=num_classes, size=min(size, 64))
    torch.save({name: torch.as_tensor(v) for name, v in state_dict.items()}, folder / "weights.pth")
    network = torch_model(model, num_classes, True, state_dict).requires_grad_(False)
    if not (folder / "model.ckpt").exists():
        metadata = CheckpointMetadata(
            architecture=model,
            num_classes=num_classes,
            mean=mean,
            std=std,
            input_size=size,
            imported=imported,
        )
        if imported:
            found = import_module(network, size=size)
            converted: Any = GraphNetwork(found.graph, found.weights)
        else:
            converted = convert_state_dict(state_dict, model)
        checkpoint.save(folder / "model.ckpt", converted, metadata)

    images, labels = _images(size, _NUM_IMAGES if model in _QUICK else _FEWER_IMAGES)
    if not real:
        labels = _predictions(network, images, mean, std)
    order = _correct_first(network, images, labels, mean, std)
    images, labels = images[order], labels[order]
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)

    network = network.double()
    unreachable = GaxConfig(target=UNREACHABLE, max_steps=CHECKED_UPDATES)
    scores = {}
    for space in SPACES:
        config = dataclasses.replace(unreachable, score_space=space)
        scores[space] = [
            reference_gax(
                network,
                images[i].astype(np.float32) / 255,
                int(labels[i]),
                config,
                mean=mean,
                std=std,
            ).curve.tolist()
            for i in range(CHECKED_IMAGES)
        ]
    stored = {
        "model": model,
        "num_classes": num_classes,
        "mean": mean,
        "std": std,
        "weights": "real" if real else "random",
        "images_are": "real" if data else "synthetic",
        "flops_per_image_step": _flops(model, size, num_classes),
        "scores": scores,
        "image_folder": str((data / _REAL_IMAGES).resolve()) if data else None,
    }
    (folder / "problem.json").write_text(json.dumps(stored, indent=1))


def _gentle_weights(model: str, num_classes: int, size: int) -> dict[str, np.ndarray]:
    """Draw as the library does, and a head whose logits differ among images as trained ones do.

    Weights with a wide spread of their own, as the families have, make an imported network of a
    hundred layers magnify a rounding, torch's as ours: nobody's scores could be told wrong.
    """
    import torch

    from benchmarks.coverage.zoo import ZooModel, module_of

    network = module_of(ZooModel("torchvision", model, size), num_classes=num_classes)
    head = [each for each in network.modules() if isinstance(each, torch.nn.Linear)][-1]
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        logits = network(torch.randn(8, 3, size, size, generator=generator))
        scale = _SPREAD_OF_LOGITS / logits.std(0).mean()
        head.weight *= scale
        head.bias.copy_(scale * (head.bias - logits.mean(0)))
    return {name: value.numpy() for name, value in network.state_dict().items()}


def _images(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode real images with their ImageNet classes, or draw smooth ones."""
    data = test_data()
    if data:
        from gaxjax.data import open_images

        found = open_images(DataConfig(data=str(data / _REAL_IMAGES), size=size), num_classes=1000)
        count = min(count, len(found.records))
        labels = np.array([record.label for record in found.records[:count]], np.int32)
        return np.stack([found.load(i) for i in range(count)]), labels
    from PIL import Image

    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    smooth = [
        Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in coarse
    ]
    return np.stack([np.asarray(image) for image in smooth]), np.zeros(count, np.int32)


def _predictions(
    network: Any, images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]
) -> np.ndarray:
    import torch

    shift, scale = (torch.tensor(value).view(1, 3, 1, 1) for value in (mean, std))
    found = []
    with torch.no_grad():
        for start in range(0, len(images), 8):
            pixels = torch.from_numpy(images[start : start + 8]).permute(0, 3, 1, 2) / 255
            found.append(network((pixels - shift) / scale).argmax(1).numpy())
    return np.concatenate(found).astype(np.int32)


def _correct_first(
    network: Any,
    images: np.ndarray,
    labels: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> np.ndarray:
    """Return the images' order: first some that are correct, normalised and raw."""
    found: list[int] = []
    for start in range(0, min(len(images), _SEARCHED), 8):
        block, known = images[start : start + 8], labels[start : start + 8]
        normalized = _predictions(network, block, mean, std) == known
        raw = _predictions(network, block, (0.0,) * 3, (1.0,) * 3) == known
        found += (start + np.flatnonzero(normalized & raw)).tolist()
        if len(found) >= CHECKED_IMAGES:
            break
    first = np.array(found[:CHECKED_IMAGES], np.int64)
    return np.concatenate([first, np.setdiff1d(np.arange(len(images)), first)])


def _flops(model: str, size: int, num_classes: int) -> float:
    """Count forward pass and input gradient, by torch's own counter, without computing."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from converters import torch_model

    with torch.device("meta"):
        network = torch_model(model, num_classes).to("meta").requires_grad_(False)
        pixels = torch.zeros(1, 3, size, size, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            network(pixels).sum().backward()
    return float(counter.get_total_flops())


def main() -> None:
    """Make the problem that the command line names."""
    cache, model, size = sys.argv[1:]
    make_problem(problem_folder(Path(cache), model, int(size)), model, int(size))


if __name__ == "__main__":
    main()
