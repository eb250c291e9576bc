"""What a network's pixels and classes are, where only its weights are known."""

from collections.abc import Sequence
from pathlib import Path

from converters.torch_weights import TorchWeights
from converters.torchvision_weights import PublishedWeights, imagenet_class_names
from gaxjax.common import UserError, path_to_read
from gaxjax.config import IMAGENET_MEAN, IMAGENET_STD, Triple

__all__ = ["class_names_of", "mean_and_std", "normalization_of"]

_IMAGENET_CLASSES = 1000


def normalization_of(
    weights: TorchWeights,
    num_classes: int,
    normalization: str,
    given: tuple[Triple, Triple] | None,
    published: PublishedWeights | None = None,
) -> tuple[Triple | None, Triple | None, str]:
    """Return mean and std for pixels in [0, 1], and what was assumed or overruled for them.

    Args:
        weights: as they were read.
        num_classes: of the head.
        normalization: auto, imagenet or none, as for `convert`.
        given: mean and std as the user gave them, which count before all others.
        published: torchvision's word, where the weights are its own.
    """
    layer = weights.mean, weights.std
    if given is not None or normalization != "auto":
        mean, std = given or mean_and_std(normalization, num_classes)
        if weights.mean is None or layer == (mean, std):
            return mean, std, ""
        told = "none" if mean is None else f"mean {mean}, std {std}"
        own = f"mean {layer[0]}, std {layer[1]}"
        return mean, std, f"normalisation: {told}, as given; the file's own layer has {own}"
    if weights.mean is not None:
        return *layer, weights.assumptions.get("normalization", "")
    if published is not None:
        return published.mean, published.std, ""
    mean, std = mean_and_std(normalization, num_classes)
    if mean is None:
        numbers = " ".join(map(str, IMAGENET_MEAN)), " ".join(map(str, IMAGENET_STD))
        return (
            mean,
            std,
            "no normalisation is assumed, pixels enter as they are, in [0, 1], because the head "
            f"has {num_classes} classes and not ImageNet's 1000; if it was trained otherwise give "
            f"--mean R G B --std R G B (ImageNet's: --mean {numbers[0]} --std {numbers[1]})",
        )
    return (
        mean,
        std,
        "ImageNet's mean and std are assumed, because the head has 1000 classes; if it was trained "
        "otherwise give --mean R G B --std R G B (for plain pixels: --mean 0 0 0 --std 1 1 1)",
    )


def mean_and_std(normalization: str, num_classes: int) -> tuple[Triple | None, Triple | None]:
    """Return a weights file's mean and std, for pixels in [0, 1]; None: no normalisation.

    Args:
        normalization: auto, imagenet or none, as for `convert`.
        num_classes: of the head, by which auto decides.
    """
    if normalization == "imagenet" or (
        normalization == "auto" and num_classes == _IMAGENET_CLASSES
    ):
        return IMAGENET_MEAN, IMAGENET_STD
    return None, None


def class_names_of(
    given: Path | str | Sequence[str] | None, num_classes: int
) -> tuple[str, ...] | None:
    """Return class names as given or read from a text file; without them 1000 are ImageNet's.

    Raises:
        UserError: the file cannot be read, or there is another number of classes.
    """
    if given is None:
        return imagenet_class_names() if num_classes == _IMAGENET_CLASSES else None
    if isinstance(given, str | Path):
        path = path_to_read(given, "--class-names")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the class names {path}: {error}") from error
        names = tuple(line.strip() for line in lines if line.strip())
        where, mend = str(path), "give one name per line, in the order of the logits"
    else:
        names = tuple(str(name) for name in given)
        where, mend = "class_names", "give one for each, in the order of the logits"
    if len(names) != num_classes:
        raise UserError(f"{where} names {len(names)} classes, the head has {num_classes}; {mend}")
    return names
