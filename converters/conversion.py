"""The whole way: a name, a file of torch weights or a module → a gaxjax checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from converters.family_conversion import OtherNetwork, convert_family
from converters.graph_conversion import convert_to_graph
from converters.source_names import is_timm_name
from converters.torchvision_weights import find_weights, is_torchvision_name
from converters.way import way_of
from gaxjax.common import UserError, cache_folder, described, own_numbers, path_to_read, spelt_out
from gaxjax.config import MOST_PIXELS, Triple, require_normalization
from gaxjax.models import CheckpointMetadata, checkpoint

__all__ = ["convert", "convert_module", "pretrained"]


@own_numbers()
def convert(
    source: str | torch.nn.Module,
    output: Path | str,
    *,
    architecture: str | None = None,
    weights: Path | str | None = None,
    logits: str | None = None,
    as_graph: bool = False,
    normalization: Literal["auto", "imagenet", "none"] = "auto",
    mean: Triple | None = None,
    std: Triple | None = None,
    input_size: int | None = None,
    class_names: Path | Sequence[str] | None = None,
    decoding: Mapping[str, int | str] | None = None,
    reference: Path | None = None,
    ema: bool = False,
    binary: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[CheckpointMetadata, dict[str, Any]]:
    """Convert a torch network, prove the result against torch, and write the checkpoint.

    `way_of` says which way it takes: into a hand-written network, or as a graph of operations.

    What the proof compares: of a graph the module that was imported, itself; of a hand-written
    network torchvision's with these weights. A file does not say whether that is the network that
    was trained, so this is noted as assumed, unless ``source`` is a module, whose own forward is
    compared too, or ``reference`` holds logits of the trained one.

    Args:
        source: A name of torchvision (``resnet34``, ``efficientnet_b0:IMAGENET1K_V1``) or timm
            (``timm:convnext_tiny.fb_in1k``); a file of torch or safetensors, an index of such, or a
            folder that timm saved, which come first where both exist; ``mynet.py:build``, which
            runs that file; or a torch module, which is copied, run in eval mode, and left as it is.
        output: The checkpoint's folder.
        architecture: Of a file: a name of torchvision, ``timm:NAME``, or small_resnet; read off the
            keys of hand-written networks when None.
        weights: A file for the network that ``source`` names, in place of its own weights.
        logits: The name of the output that is the logits, where the network has several.
        as_graph: Import a network as a graph that would be a hand-written one.
        normalization: What the weights were trained with. auto: their makers' own where it is
            known; that of a normalise layer in front of the network; for other files ImageNet's
            where the head has 1000 classes, else none.
        mean: What was subtracted from RGB pixels in [0, 1], in place of all that.
        std: What they were divided by then.
        input_size: Height and width of the images it will see, in pixels. When None its makers'
            own, else 224; 256 for a hand-written network.
        class_names: Text file, one name per line in the order of the logits, or the names. Without
            it its makers' own; a 1000-class head gets torchvision's ImageNet names, any other none.
        decoding: How its images are made of files, as `CheckpointMetadata.decoding`; its makers'
            own when None.
        reference: An ``.npz`` file of inputs and logits of the network that was trained, as
            `converters.read_reference` takes it.
        ema: Take the averaged weights of a file that holds both.
        binary: Make two logits, [0, z], of a head with one logit z.
        note: Called with a sentence for each thing of the file that was left aside.

    Returns:
        The checkpoint's metadata, and the parity report (see `parity_report`), with the comparison
        with one's own network under ``reference`` where there is one.

    Raises:
        UserError: bad source, output or class names, weights that do not fit, or a network that
            cannot be imported, or is not the one that was trained.

    Example:
        >>> metadata, parity = convert("model.pth", Path("converted.ckpt"), input_size=32)
        >>> parity["folded"]["logits"]["max_rel"] < 1e-5
        True
    """
    if not isinstance(source, torch.nn.Module):
        if isinstance(source, str | Path) and not str(source).startswith("timm:"):
            path_to_read(source, "the model")
        source = spelt_out(source, "the model")
    output = Path(spelt_out(output, "--output"))
    checkpoint.check_destination(output)
    if input_size is not None and not 1 <= input_size <= MOST_PIXELS:
        raise UserError(f"--input-size must be from 1 to {MOST_PIXELS:,} pixels; got {input_size}")
    require_normalization(normalization, mean, std)
    given = None if mean is None or std is None else (mean, std)
    shared: dict[str, Any] = {
        "architecture": architecture,
        "normalization": normalization,
        "given": given,
        "input_size": input_size,
        "class_names": class_names,
        "decoding": decoding,
        "reference": reference,
        "ema": ema,
        "binary": binary,
        "note": note,
    }
    path = None if weights is None else Path(spelt_out(weights, "--weights"))
    if path is not None and architecture is None and isinstance(source, str):
        # A name with weights means what the file with that name means.
        named = is_timm_name(source) or is_torchvision_name(source)
        if named and not Path(source).exists():
            architecture = source if is_timm_name(source) else source.partition(":")[0]
            source, path, shared["architecture"] = str(path), None, architecture
    way = way_of(source, architecture, weights=path, as_graph=as_graph or logits is not None)
    if way == "family":
        try:
            return convert_family(source, output, **shared)
        except OtherNetwork as error:
            note(f"{error}: so it is imported as a graph of its own operations")
    found = convert_to_graph(source, weights=path, logits=logits, **shared)
    checkpoint.save(output, found.network, found.metadata, parity=found.parity)
    return found.metadata, found.parity


def convert_module(
    module: Any, output: Path | str, *, size: int | None = None, **settings: Any
) -> tuple[CheckpointMetadata, dict[str, Any]]:
    """Convert a torch module in Python: `convert`, whose other settings it takes.

    Args:
        module: a torch module, images [B, 3, H, W] → logits [B, C], or outputs that hold them. It
            is copied, run in eval mode, and left as it is.
        output: the checkpoint's folder.
        size: height and width of its images, in pixels.
        settings: ``mean``, ``std``, ``class_names`` (a list will do), ``logits``, ``binary``,
            ``decoding``, ``weights``, ``reference``, ``as_graph``, ``note``.

    Raises:
        UserError: as for `convert`.

    Example:
        >>> names = ["cat", "dog"]
        >>> convert_module(net, "pets.ckpt", size=64, class_names=names)  # doctest: +SKIP
    """
    if not isinstance(module, torch.nn.Module):
        called = ": call it" if isinstance(module, type) else ""
        raise UserError(f"module is {described(module)}; expected an instance of nn.Module{called}")
    return convert(module, output, input_size=size, **settings)


def pretrained(name: str) -> Path:
    """Return the checkpoint of the weights ``name`` of torchvision or timm, converted on first use.

    It is kept in `cache_folder`; torch's own cache (``$TORCH_HOME``) keeps the download.

    Raises:
        UserError: unknown name, or the download failed.

    Example:
        >>> model, _ = checkpoint.load(pretrained("resnet50:IMAGENET1K_V2"))  # doctest: +SKIP
    """
    if is_timm_name(name):
        path = cache_folder() / name.replace(":", "-")
    else:
        weights = find_weights(name)
        path = cache_folder() / f"{weights.architecture}-{weights.name.rpartition('.')[2]}"
    if not checkpoint.is_checkpoint(path):
        convert(name, path)
    return path
