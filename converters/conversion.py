"""The whole way: a torchvision name, a file of torch weights or a module → a gaxjax checkpoint."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from converters.bijection import convert_state_dict, guess_architecture, head_of
from converters.own_logits import OwnLogits, logits_of_module, normalised, prove, read_reference
from converters.parity import parity_report
from converters.state_dict import TorchWeights, read_weights, weights_of
from converters.torchvision_weights import (
    PublishedWeights,
    check_promised_hash,
    download,
    find_weights,
    imagenet_class_names,
    is_torchvision_name,
    published_file,
)
from converters.variants import what_shares_keys
from gaxjax.common import (
    UserError,
    cache_folder,
    file_sha256,
    host_free_bytes,
    own_numbers,
    path_to_read,
    require_memory,
    spelt_out,
)
from gaxjax.config import MOST_PIXELS, require_normalization
from gaxjax.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CheckpointMetadata,
    Triple,
    as_classifier,
    checkpoint,
    fold_batch_norm,
    gradient_bytes,
)

__all__ = ["convert", "mean_and_std", "normalization_of", "pretrained"]

_IMAGENET_CLASSES = 1000

_MAX_LOGIT_DIFFERENCE = 1e-3
"""Relative; float32 rounding stays a hundred times below it, a wrong conversion far above."""

_PACKAGES = ("gaxjax", "jax", "flax", "orbax-checkpoint", "torch", "torchvision")


@own_numbers()
def convert(
    source: str | torch.nn.Module,
    output: Path,
    *,
    architecture: str | None = None,
    normalization: Literal["auto", "imagenet", "none"] = "auto",
    mean: Triple | None = None,
    std: Triple | None = None,
    input_size: int = 256,
    class_names: Path | None = None,
    reference: Path | None = None,
    ema: bool = False,
    binary: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[CheckpointMetadata, dict[str, Any]]:
    """Convert torch weights, prove the result against torch, and write the checkpoint.

    What the proof compares: always torchvision's network with these weights. A file does not say
    whether that is the network that was trained, so this is noted as assumed, unless ``source`` is
    a module, whose own forward is compared too, or ``reference`` holds logits of the trained one.

    Args:
        source: A torchvision name (``resnet34``, ``resnet50:IMAGENET1K_V2``); a ``.pth``, ``.pt``
            or ``.safetensors`` file, which comes first where both exist; or a torch module, which
            is copied, run in eval mode, and left as it is.
        output: The checkpoint's folder.
        architecture: A name of `gaxjax.models.architectures`; read off the keys when None.
        normalization: What the weights were trained with. auto: torchvision's own for its names;
            that of a normalise layer in front of the network; for other files ImageNet's where the
            head has 1000 classes, else none.
        mean: What was subtracted from RGB pixels in [0, 1], in place of all that.
        std: What they were divided by then.
        input_size: Height and width of the images it will see, in pixels.
        class_names: Text file, one name per line in the order of the logits. Without it a
            1000-class head gets torchvision's ImageNet names, any other none.
        reference: An ``.npz`` file of inputs and logits of the network that was trained, as
            `converters.read_reference` takes it.
        ema: Take the averaged weights of a file that holds both.
        binary: Make two logits, [0, z], of a head with one logit z.
        note: Called with a sentence for each thing of the file that was left aside.

    Returns:
        The checkpoint's metadata, and the parity report (see `parity_report`), with the comparison
        with one's own network under ``reference`` where there is one.

    Raises:
        UserError: bad source, output or class names, weights that do not fit, or a network that is
            not the one that was trained.

    Example:
        >>> metadata, parity = convert("model.pth", Path("converted.ckpt"), input_size=32)
        >>> parity["folded"]["logits"]["max_rel"] < 1e-5
        True
    """
    if not isinstance(source, torch.nn.Module):
        path_to_read(source, "the model")
        source = spelt_out(source, "the model")
    output = spelt_out(output, "--output")
    checkpoint.check_destination(output)
    if not 1 <= input_size <= MOST_PIXELS:
        raise UserError(f"--input-size must be from 1 to {MOST_PIXELS:,} pixels; got {input_size}")
    require_normalization(normalization, mean, std)
    weights, published, origin = _read(source, architecture, ema=ema, binary=binary)
    if published is not None:
        architecture = published.architecture
    state_dict = weights.arrays
    architecture = architecture or guess_architecture(state_dict)
    model = convert_state_dict(state_dict, architecture)
    num_classes, head_bias = head_of(state_dict, architecture)
    if num_classes == 1:
        raise UserError(
            f"{origin['source']} has one logit z (a binary classifier, as BCEWithLogitsLoss trains "
            "it), and a CO score compares classes: give --binary, which makes two logits of it, "
            "[0, z]: class 0 the negative, class 1 the positive (gaxjax convert FILE --binary)"
        )
    for sentence in weights.notes:
        note(sentence)

    given = None if mean is None or std is None else (mean, std)
    mean, std, assumed = normalization_of(weights, num_classes, normalization, given, published)
    assumptions = dict(weights.assumptions)
    assumptions.pop("normalization", None)
    if assumed:
        assumptions["normalization"] = assumed
    own: OwnLogits | None = None
    inside = None if weights.mean is None or weights.std is None else (weights.mean, weights.std)
    if reference is not None:
        own = read_reference(reference)
    elif isinstance(source, torch.nn.Module):
        images = np.random.default_rng(0).random((4, input_size, input_size, 3), np.float32)
        if inside is None and mean is not None and std is not None:
            images = normalised(images, mean, std)
        own = logits_of_module(source, images, origin["source"])
    if own is None and published is None:
        whose = "gaxjax's" if architecture == "small_resnet" else "torchvision's"
        assumptions["network"] = (
            f"the network is taken to be {whose} {architecture}, by its keys and shapes alone, "
            f"which others share ({what_shares_keys(architecture)}): "
            "gaxjax convert --reference FILE.npz proves which it is"
        )
    metadata = CheckpointMetadata(
        architecture=architecture,
        num_classes=num_classes,
        head_bias=head_bias,
        mean=mean,
        std=std,
        input_size=input_size,
        class_names=_class_names(class_names, num_classes),
        assumptions=assumptions,
        ema=ema,
        binary=binary,
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        source=origin["source"],
        source_sha256=origin.get("source_sha256", ""),
    )
    side_by_side, shape = 2, (input_size, input_size, 3)
    require_memory(
        side_by_side * gradient_bytes(as_classifier(model, num_classes=num_classes), shape),
        host_free_bytes(),
        f"--input-size {input_size}",
        "give a smaller one: the proof against torch computes images of that size",
    )
    parity = parity_report(
        model,
        state_dict,
        architecture,
        num_classes=num_classes,
        head_bias=head_bias,
        mean=mean,
        std=std,
        size=input_size,
    )
    for form in ("unfolded", "folded"):
        worst = parity[form]["logits"]["max_rel"]
        if not worst < _MAX_LOGIT_DIFFERENCE:
            raise RuntimeError(
                f"the converted {architecture} ({form}) disagrees with torch: logits differ by "
                f"{worst:.1e} of the largest; nothing was written"
            )
    if own is not None:
        parity["reference"] = prove(
            own,
            fold_batch_norm(model),
            state_dict,
            architecture,
            head_bias=head_bias,
            inside=inside,
        )
    checkpoint.save(output, model, metadata, parity=parity)
    return metadata, parity


def _read(
    source: str | torch.nn.Module, architecture: str | None, *, ema: bool, binary: bool
) -> tuple[TorchWeights, PublishedWeights | None, dict[str, str]]:
    """Return the weights, torchvision's word on them where they are its own, and their origin."""
    if isinstance(source, torch.nn.Module):
        name = f"torch module {type(source).__name__}"
        try:
            return weights_of(source.state_dict(), ema=ema, binary=binary), None, {"source": name}
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    if not isinstance(source, str | Path):
        called = " (call it: an instance, not the class)" if isinstance(source, type) else ""
        raise UserError(
            f"source is a {type(source).__name__}{called}; expected a torchvision name, a .pth or "
            ".safetensors file, or a torch module"
        )
    published = None
    if not Path(source).exists() and is_torchvision_name(str(source)):
        published = find_weights(str(source))
        if architecture not in (None, published.architecture):
            raise UserError(
                f"--architecture {architecture} contradicts the torchvision name {source}; "
                f"leave it out"
            )
        if ema or binary:
            raise UserError(f"--ema and --binary are for a torch file; {source} needs neither")
    path = download(published) if published else _existing(str(source))
    weights = read_weights(path, ema=ema, binary=binary)
    sha256 = file_sha256(path)
    published = published or published_file(path)
    if published is not None:
        check_promised_hash(path, sha256)
    origin = {"source": published.name if published else path.name, "source_sha256": sha256}
    return weights, published, origin


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


def pretrained(name: str) -> Path:
    """Return the checkpoint of torchvision's weights ``name``, converted on first use.

    It is kept in `cache_folder`; torch's own cache (``$TORCH_HOME``) keeps the download.

    Raises:
        UserError: unknown name, or the download failed.

    Example:
        >>> model, _ = checkpoint.load(pretrained("resnet50:IMAGENET1K_V2"))  # doctest: +SKIP
    """
    weights = find_weights(name)
    path = cache_folder() / f"{weights.architecture}-{weights.name.rpartition('.')[2]}"
    if not checkpoint.is_checkpoint(path):
        convert(name, path)
    return path


def _existing(source: str) -> Path:
    path = Path(source)
    if not path.exists() and not path.suffix and path.name == source:
        find_weights(source)  # no file, no suffix: a misspelt torchvision name
    return path


def _class_names(path: Path | None, num_classes: int) -> tuple[str, ...] | None:
    if path is None:
        return imagenet_class_names() if num_classes == _IMAGENET_CLASSES else None
    path = path_to_read(path, "--class-names")
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the class names {path}: {error}") from error
    names = tuple(name for name in names if name)
    if len(names) != num_classes:
        raise UserError(
            f"{path} names {len(names)} classes, the head has {num_classes}; "
            f"give one name per line, in the order of the logits"
        )
    return names
