"""The classifier of a run in torch, and the logits behind its CO scores.

Weights come from a torch state dict, read straight, or from a checkpoint, converted back; an
imported network is its own module again, or its graph run by torch's operations. What is computed
with them here is torch's alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Float64, Int
from torch import nn

import converters
from converters import (
    PublishedWeights,
    download,
    find_weights,
    import_module,
    kept_conversion,
    rebuild,
    torch_model,
    way_of,
)
from gaxjax.common import HostImages, UserError, file_sha256, path_to_read
from gaxjax.config import ModelConfig, Operation, ScoreName, ScoreSpace
from gaxjax.models import (
    CheckpointMetadata,
    GraphNetwork,
    as_classifier,
    checkpoint,
    named_weights,
)
from gaxjax.reference.torch_graph import TorchGraph

__all__ = [
    "TorchClassifier",
    "augment",
    "ax_logits",
    "flax_fingerprint",
    "gax_logits",
    "open_torch_classifier",
    "to_space",
    "to_torch",
    "weighted",
    "weighted_logits",
]

HostHeatmaps = Float16[np.ndarray, "B H W 3"] | Float32[np.ndarray, "B H W 3"]
"""Heatmaps as they are stored."""

TorchImages = Float[torch.Tensor, "B 3 H W"]
"""RGB images in torch's order, in [0, 1] or normalised."""

TorchLogits = Float[torch.Tensor, "B C"]
"""Raw classifier outputs: no softmax."""


@dataclass(frozen=True)
class TorchClassifier:
    """A classifier in torch that never trains.

    Attributes:
        network: [B, 3, H, W] → logits [B, C], in eval mode, its parameters without gradients; its
            images are as it was trained on them (normalised where a normalisation is declared).
        num_classes: C.
        mean, std: per-channel normalisation in [0, 1] pixel units, or None where there is none.
        name: the architecture.
        provenance: one line for people: where the weights come from.
        fingerprint: of an imported network, that of its graph and weights in JAX; of a
            hand-written one "", and `flax_fingerprint` tells it.
    """

    network: nn.Module
    num_classes: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    name: str
    provenance: str
    fingerprint: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which everything is computed."""
        return next(p.dtype for p in self.network.parameters() if p.is_floating_point())

    def normalize(self, images: TorchImages) -> TorchImages:
        """Return (x - mean) / std per channel, or x where no normalisation is declared."""
        if self.mean is None or self.std is None:
            return images
        mean, std = (
            torch.tensor(value, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
            for value in (self.mean, self.std)
        )
        return (images - mean) / std


# --- Opening -------------------------------------------------------------------------------------


def open_torch_classifier(config: ModelConfig, weights: Path | None = None) -> TorchClassifier:
    """Open in torch what `gaxjax.runs.opening.open_classifier` opens in JAX.

    Args:
        config: a checkpoint folder, a state dict file or a torchvision name.
        weights: the torch file that the model was converted from, to be read straight: then no
            conversion stands between the file and torch.

    Raises:
        UserError: no such model, weights that do not fit, or a file that the model was not
            converted from.

    Example:
        >>> open_torch_classifier(ModelConfig(model="model.ckpt")).provenance
        'weights of model.ckpt, converted back'
    """
    path = path_to_read(config.model, "--model")
    if checkpoint.is_named(path):
        return _from_checkpoint(path, config, weights)
    if way_of(config.model, config.architecture) == "graph":
        kept = kept_conversion(config)
        model, metadata = checkpoint.load(kept)
        own = _normalization(config, metadata)
        file = weights or (path if path.exists() else None)
        assert isinstance(model, GraphNetwork)
        return _imported(kept, model, metadata, own, file, original=True)
    if path.exists():
        if weights is not None:
            _refuse_another(weights, file_sha256(path), config.model)
        return _from_file(weights or path, config)
    published = find_weights(config.model)
    config.refuse_file_flags(f"torchvision's {config.model}")
    if weights is not None:
        # torchvision's files carry the start of their SHA-256 in their name.
        prefix = Path(published.url).stem.rpartition("-")[2]
        _refuse_another(weights, prefix, published.name)
    own = _normalization(config, published)
    named = replace(config, architecture=published.architecture, mean=own[0], std=own[1])
    return _from_file(weights or download(published), named)


def flax_fingerprint(classifier: TorchClassifier) -> str:
    """Return the fingerprint that a run records for these weights and this normalisation.

    What torch computes with is converted to JAX for it, so where it equals a run's, torch computes
    with the run's weights, and of an imported network by the run's graph.

    Args:
        classifier: in float32.
    """
    if classifier.fingerprint:
        return classifier.fingerprint
    state_dict = {name: value.numpy() for name, value in classifier.network.state_dict().items()}
    return as_classifier(
        converters.convert_state_dict(state_dict, classifier.name),
        num_classes=classifier.num_classes,
        mean=classifier.mean,
        std=classifier.std,
    ).fingerprint


def _normalization(
    config: ModelConfig, declared: CheckpointMetadata | PublishedWeights
) -> tuple[Any, Any]:
    """Return mean and std: as they were given, else as they are declared."""
    return (config.mean, config.std) if config.mean else (declared.mean, declared.std)


def _from_checkpoint(path: Path, config: ModelConfig, weights: Path | None) -> TorchClassifier:
    config.refuse_file_flags(f"{path} is a checkpoint and")
    model, metadata = checkpoint.load(path)
    own = _normalization(config, metadata)
    if isinstance(model, GraphNetwork):
        return _imported(path, model, metadata, own, weights)
    if weights is not None:
        _refuse_another(weights, metadata.source_sha256, str(path))
    if weights is None:
        state_dict = converters.torch_state_dict(model, metadata.architecture)
        provenance = f"weights of {path}, converted back"
    else:
        read = converters.read_weights(weights, ema=metadata.ema, binary=metadata.binary)
        state_dict, provenance = read.arrays, _provenance(weights)
    return _with_weights(state_dict, metadata.architecture, *own, provenance)


def _imported(
    path: Path,
    model: GraphNetwork,
    metadata: CheckpointMetadata,
    normalization: tuple[Any, Any],
    weights: Path | None,
    *,
    original: bool = False,
) -> TorchClassifier:
    """Open an imported network: its graph run by torch, or the network itself.

    Args:
        path: the checkpoint, with the model and metadata that were read from it.
        model: likewise.
        metadata: likewise.
        normalization: mean and std.
        weights: the torch file that it was converted from; then it is the network itself.
        original: take that also without a file, where it knows where its weights are.
    """
    if weights is None and not original:
        network: nn.Module = TorchGraph(model.graph, named_weights(model))
        provenance = f"graph and weights of {path}, run by torch's operations"
    else:
        network = rebuild(metadata.origin, weights)
        # Imported anew: where its fingerprint is the run's, so are its graph and its weights.
        imported = import_module(
            network.network,
            size=model.graph.image[1:],
            logits=network.output or None,
            binary=network.binary,
        )
        model = GraphNetwork(imported.graph, imported.weights)
        provenance = f"{metadata.architecture} itself"
        provenance += f" with {_provenance(weights)}" if weights else ""
    mean, std = normalization
    num_classes = metadata.num_classes
    fingerprint = as_classifier(model, num_classes=num_classes, mean=mean, std=std).fingerprint
    name = metadata.architecture
    return TorchClassifier(network, num_classes, mean, std, name, provenance, fingerprint)


def _from_file(path: Path, config: ModelConfig) -> TorchClassifier:
    """Read a torch file, under the rules of `converters.convert`."""
    read = converters.read_weights(path, ema=config.ema, binary=config.binary)
    architecture = config.architecture or converters.guess_architecture(read.arrays)
    num_classes, _ = converters.head_of(read.arrays, architecture)
    given = (config.mean, config.std) if config.mean and config.std else None
    mean, std, _ = converters.normalization_of(read, num_classes, config.normalization, given)
    return _with_weights(read.arrays, architecture, mean, std, _provenance(path))


def _with_weights(
    state_dict: dict[str, np.ndarray],
    architecture: str,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    provenance: str,
) -> TorchClassifier:
    num_classes, head_bias = converters.head_of(state_dict, architecture)
    try:
        network = torch_model(architecture, num_classes, head_bias, state_dict)
    except RuntimeError:
        converters.convert_state_dict(state_dict, architecture)  # names every fault
        raise
    network.requires_grad_(False)
    return TorchClassifier(network, num_classes, mean, std, architecture, provenance)


def _refuse_another(weights: Path, sha256: str, model: str) -> None:
    """Compare a file with the whole SHA-256 that a model records, or with its start."""
    if not path_to_read(weights, "--weights").is_file():
        raise UserError(f"--weights {weights} does not exist; give the torch file of {model}")
    if not sha256:
        raise UserError(
            f"{model} does not record which file its weights came from: leave --weights out"
        )
    given = file_sha256(weights)
    if not given.startswith(sha256):
        raise UserError(
            f"--weights {weights} (sha256 {given[:12]}…) is not the file that {model} was made "
            f"from (sha256 {sha256[:12]}…): give that file, or leave --weights out"
        )


def _provenance(path: Path) -> str:
    return f"{path}, sha256 {file_sha256(path)[:12]}…"


# --- Logits and scores ---------------------------------------------------------------------------


def to_torch(images: HostImages | HostHeatmaps, dtype: torch.dtype = torch.float32) -> TorchImages:
    """Bring images or heatmaps to torch's order; uint8 becomes [0, 1], in float32 as in JAX."""
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(dtype)


def to_space(
    classifier: TorchClassifier, images: HostImages, score_space: ScoreSpace
) -> TorchImages:
    """Return z, where AX heatmaps live: x, or (x - mean) / std in the space `released`."""
    pixels = to_torch(images, classifier.dtype)
    return classifier.normalize(pixels) if score_space == "released" else pixels


def ax_logits(classifier: TorchClassifier, z: TorchImages, score_space: ScoreSpace) -> TorchLogits:
    """Return f(z) of AX for images of `to_space`, plain or augmented; differentiable in z."""
    return classifier.network(classifier.normalize(z) if score_space == "normalized" else z)


def gax_logits(
    classifier: TorchClassifier, pixels: TorchImages, score_space: ScoreSpace, *, augmented: bool
) -> TorchLogits:
    """Return f(x) of GAX, or f(g(x, h)) when `augmented`: `released` normalises only the former."""
    normalized = score_space == "normalized" or (score_space == "released" and not augmented)
    return classifier.network(classifier.normalize(pixels) if normalized else pixels)


def augment(z: TorchImages, heatmaps: TorchImages, operation: Operation) -> TorchImages:
    """Return g(z, h): z + h for `sum`, z * h for `mult`."""
    return z + heatmaps if operation == "sum" else z * heatmaps


def weighted_logits(
    logits: TorchLogits, labels: Int[torch.Tensor, " B"]
) -> Float64[torch.Tensor, " B"]:
    """Return κ·f (paper eq. 5), the label's logit less the mean of the others, in float64."""
    logits = logits.double()
    at_label = logits.gather(1, labels[:, None])[:, 0]
    return at_label - (logits.sum(1) - at_label) / (logits.shape[1] - 1)


def weighted(
    logits: TorchLogits, labels: Int[torch.Tensor, " B"], score: ScoreName
) -> Float64[torch.Tensor, " B"]:
    """Return κ·f, or κ·log_softmax(f) or κ·softmax(f), in float64."""
    outputs = logits.double()
    if score == "softmax":
        outputs = outputs.softmax(1)
    elif score == "log_softmax":
        outputs = outputs.log_softmax(1)
    return weighted_logits(outputs, labels)
