"""torchvision's published weights: their names, files, normalisation and class names."""

import difflib
import functools
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision

from gaxjax.common import UserError, nearest

__all__ = [
    "PublishedWeights",
    "architecture_of_file",
    "check_promised_hash",
    "classifiers",
    "download",
    "find_weights",
    "imagenet_class_names",
    "is_torchvision_name",
    "published_file",
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
    size: int = 224
    """Height and width of the images that they were measured on, in pixels."""
    decoding: Mapping[str, int | str] = field(default_factory=dict)
    """How those are made of files, as `gaxjax.models.CheckpointMetadata.decoding`."""


def is_torchvision_name(source: str) -> bool:
    """Tell whether ``source`` reads as a torchvision name (``resnet34``, ``resnet50:…``)."""
    return source.partition(":")[0] in classifiers()


@functools.cache
def classifiers() -> tuple[str, ...]:
    """Return the names of torchvision's classifiers, sorted."""
    return tuple(sorted(torchvision.models.list_models(module=torchvision.models)))


def architecture_of_file(path: Path) -> str | None:
    """Return the architecture of one of torchvision's own files, by its name."""
    published = published_file(path)
    return None if published is None else published.architecture


def find_weights(name: str) -> PublishedWeights:
    """Look ``resnet34`` or ``resnet50:IMAGENET1K_V2`` up; the default is IMAGENET1K_V1.

    Raises:
        UserError: unknown model or weights; the nearest name is suggested.
    """
    architecture, _, version = name.partition(":")
    if architecture not in classifiers():
        raise UserError(f"no torchvision model {architecture!r}{_meant(architecture)}")
    members = torchvision.models.get_model_weights(architecture).__members__
    version = version or (_DEFAULT if _DEFAULT in members else next(iter(members)))
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
        size=int(preset.crop_size[0]),
        decoding={
            "resize": "crop",
            "resize_size": int(preset.resize_size[0]),
            "interpolation": str(preset.interpolation.value),
        },
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


def published_file(path: Path) -> PublishedWeights | None:
    """Return torchvision's weights whose file has this name, such as ``resnet34-b627a593.pth``."""
    if not re.search(r"-[0-9a-f]{8}$", path.stem):
        return None
    for architecture in classifiers():
        for version, member in torchvision.models.get_model_weights(
            architecture
        ).__members__.items():
            if Path(urlparse(member.url).path).name == path.name:
                return find_weights(f"{architecture}:{version}")
    return None


def check_promised_hash(path: Path, sha256: str) -> None:
    """Hold one of torchvision's files against the start of its SHA-256, which its name carries.

    Raises:
        UserError: they differ.
    """
    promised = path.stem.rpartition("-")[2]
    if not sha256.startswith(promised):
        raise UserError(
            f"{path} is not what its name says: its SHA-256 begins with {sha256[:8]}, that of "
            f"torchvision's file with {promised}; download it again, or rename it if it is another"
        )


def imagenet_class_names() -> tuple[str, ...]:
    """Return torchvision's names of the 1000 ImageNet classes, in the order of the logits."""
    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _meant(name: str) -> str:
    """Say which network a misspelt name may mean, or where names come from.

    Only what is nearly the same is meant: a densenet999 is no misspelt resnet152.
    """
    known = {own: own for own in classifiers()}
    more = "; with the extra timm installed timm:NAME takes timm's too"
    if importlib.util.find_spec("timm") is not None:
        import timm

        theirs = timm.list_models()
        if name.lower() in theirs:
            return f"; timm has it: timm:{name.lower()}"
        known = {own: f"timm:{own}" for own in theirs} | known
        more = "; timm's are named timm:NAME"
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
    if close:
        return f"; did you mean {known[close[0]]!r}?"
    return f"; torchvision has: {', '.join(classifiers())}{more}"


def _triple(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
