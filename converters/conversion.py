"""The whole way: a torchvision name or a file of torch weights → a gaxjax checkpoint."""

import importlib.metadata
from pathlib import Path
from typing import Any, Literal

from converters.bijection import convert_state_dict, guess_architecture, head_of
from converters.parity import parity_report
from converters.state_dict import read_state_dict
from converters.torchvision_weights import (
    download,
    find_weights,
    imagenet_class_names,
    is_torchvision_name,
)
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
from gaxjax.config import MOST_PIXELS
from gaxjax.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CheckpointMetadata,
    Triple,
    as_classifier,
    checkpoint,
    gradient_bytes,
)

__all__ = ["convert", "mean_and_std", "pretrained"]

_IMAGENET_CLASSES = 1000

_MAX_LOGIT_DIFFERENCE = 1e-3
"""Relative; float32 rounding stays a hundred times below it, a wrong conversion far above."""

_PACKAGES = ("gaxjax", "jax", "flax", "orbax-checkpoint", "torch", "torchvision")


@own_numbers()
def convert(
    source: str,
    output: Path,
    *,
    architecture: str | None = None,
    normalization: Literal["auto", "imagenet", "none"] = "auto",
    input_size: int = 256,
    class_names: Path | None = None,
) -> tuple[CheckpointMetadata, dict[str, Any]]:
    """Convert torch weights, prove the result against torch, and write the checkpoint.

    Args:
        source: A torchvision name (``resnet34``, ``resnet50:IMAGENET1K_V2``), or a ``.pth``,
            ``.pt`` or ``.safetensors`` file. A file of that name comes first.
        output: The checkpoint's folder.
        architecture: A name of `gaxjax.models.architectures`; read off the keys when None.
        normalization: What the weights were trained with. auto: torchvision's own for its names;
            for a file ImageNet's where the head has 1000 classes, else none.
        input_size: Height and width of the images it will see, in pixels.
        class_names: Text file, one name per line in the order of the logits. Without it a
            1000-class head gets torchvision's ImageNet names, any other none.

    Returns:
        The checkpoint's metadata, and the parity report (see `parity_report`).

    Raises:
        UserError: bad source, output or class names, or weights that do not fit.

    Example:
        >>> metadata, parity = convert("model.pth", Path("converted.ckpt"), input_size=32)
        >>> parity["folded"]["logits"]["max_rel"] < 1e-5
        True
    """
    path_to_read(source, "the model")
    source, output = spelt_out(source, "the model"), spelt_out(output, "--output")
    checkpoint.check_destination(output)
    if not 1 <= input_size <= MOST_PIXELS:
        raise UserError(f"--input-size must be from 1 to {MOST_PIXELS:,} pixels; got {input_size}")
    shape = (input_size, input_size, 3)
    published = None
    if not Path(source).exists() and is_torchvision_name(source):
        published = find_weights(source)
        if architecture not in (None, published.architecture):
            raise UserError(
                f"--architecture {architecture} contradicts the torchvision name {source}; "
                f"leave it out"
            )
        architecture = published.architecture
    path = download(published) if published else _existing(source)
    state_dict = read_state_dict(path)
    architecture = architecture or guess_architecture(state_dict)
    model = convert_state_dict(state_dict, architecture)
    num_classes, head_bias = head_of(state_dict, architecture)

    mean, std = mean_and_std(normalization, num_classes)
    if published is not None and normalization == "auto":
        mean, std = published.mean, published.std
    metadata = CheckpointMetadata(
        architecture=architecture,
        num_classes=num_classes,
        head_bias=head_bias,
        mean=mean,
        std=std,
        input_size=input_size,
        class_names=_class_names(class_names, num_classes),
        source=published.name if published else path.name,
        source_sha256=file_sha256(path),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
    )
    side_by_side = 2
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
    checkpoint.save(output, model, metadata, parity=parity)
    return metadata, parity


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
    if not Path(source).exists() and not Path(source).suffix:
        find_weights(source)  # no file, no suffix: a misspelt torchvision name
    return Path(source)


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
