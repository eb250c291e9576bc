"""torchvision's published weights: their names, files, normalisation and class names."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision

from gaxjax.common import UserError, nearest
from gaxjax.models import architectures

__all__ = [
    "PublishedWeights",
    "download",
    "find_weights",
    "imagenet_class_names",
    "is_torchvision_name",
]

_DEFAULT = "IMAGENET1K_V1"
"""What ``pretrained=True`` meant when the paper was written."""


@dataclass(frozen=True)
class PublishedWeights:
    """One member of a torchvision weights enum."""

    architecture: str
    """torchvision's model name."""
    name: str
    """Such as ``ResNet34_Weights.IMAGENET1K_V1``."""
    url: str
    """Where torchvision downloads it from."""
    mean: tuple[float, float, float]
    """RGB mean of its normalisation, for pixels in [0, 1]."""
    std: tuple[float, float, float]
    """RGB standard deviation, likewise."""
    class_names: tuple[str, ...]
    """In the order of the logits."""


def is_torchvision_name(source: str) -> bool:
    """Tell whether ``source`` reads as a torchvision name (``resnet34``, ``resnet50:…``)."""
    return source.partition(":")[0] in _published_architectures()


def find_weights(name: str) -> PublishedWeights:
    """Look ``resnet34`` or ``resnet50:IMAGENET1K_V2`` up; the default is IMAGENET1K_V1.

    Raises:
        UserError: unknown model or weights; the nearest name is suggested.
    """
    architecture, _, version = name.partition(":")
    known = _published_architectures()
    if architecture not in known:
        raise UserError(
            f"no torchvision model {architecture!r}{nearest(architecture, known)} "
            f"(known: {', '.join(known)})"
        )
    members = torchvision.models.get_model_weights(architecture).__members__
    version = version or _DEFAULT
    if version not in members:
        raise UserError(
            f"torchvision has no weights {version!r} for {architecture}"
            f"{nearest(version, members)} (known: {', '.join(members)})"
        )
    member = members[version]
    preset = member.transforms()
    return PublishedWeights(
        architecture=architecture,
        name=f"{type(member).__name__}.{version}",
        url=member.url,
        mean=_triple(preset.mean),
        std=_triple(preset.std),
        class_names=tuple(member.meta["categories"]),
    )


def download(weights: PublishedWeights) -> Path:
    """Return the path of the weights' file in torch's own cache, downloaded where it is missing.

    Raises:
        UserError: the download failed.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    if path.is_file():
        return path
    # torchvision's files carry the start of their SHA-256 in their name: resnet34-b627a593.pth
    prefix = path.stem.rpartition("-")[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=prefix)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"cannot download {weights.name} from {weights.url} ({reason}); "
            f"fetch it elsewhere and put it at {path}"
        ) from error
    return path


def imagenet_class_names() -> tuple[str, ...]:
    """Return torchvision's names of the 1000 ImageNet classes, in the order of the logits."""
    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _published_architectures() -> tuple[str, ...]:
    return tuple(name for name in architectures() if name != "small_resnet")


def _triple(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
