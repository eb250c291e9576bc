"""From what a user names to a torch module with its weights, and all that is known of it.

Only ``mynet.py:build`` runs code, the user's own; weights are read as data alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from converters.bijection import guess_architecture
from converters.blueprint import Blueprint, Preset, build_with
from converters.module_weights import fill, weights_among
from converters.shards import file_of, weights_sha256
from converters.state_dict import TorchWeights, normalise_layer, read_weights
from converters.timm_modules import folder_blueprint, pretrained_timm, timm_blueprint
from converters.torch_file import load_tensors
from converters.torchvision_modules import torchvision_blueprint
from converters.torchvision_weights import (
    check_promised_hash,
    classifiers,
    download,
    find_weights,
    published_file,
)
from converters.unsupported import family_of
from converters.user_code import build_from_file, resting, split_python_source
from converters.way import is_python_source, is_timm_name
from gaxjax.common import UserError, described, file_sha256, path_to_read

__all__ = ["TorchSource", "open_source", "rebuild"]


@dataclass(frozen=True, kw_only=True)
class TorchSource:
    """A torch network with its weights, and what is known of it.

    Attributes:
        module: [1, 3, H, W] → logits, or what holds them; in eval mode, float32, on the CPU.
        name: the architecture, short: efficientnet_b0, timm:convnext_tiny.fb_in1k, mynet.py:build.
        spoken: the module for people: ``timm's convnext_tiny.fb_in1k``.
        source: where its weights come from.
        sha256: of the file of its weights; empty where there is none.
        origin: what `rebuild` makes it from again.
        preset: what its makers say of its weights; None: nothing is known.
        weights: what a file tells of its weights; without arrays.
        notes: what was left aside, or run, in sentences.
        assumptions: what is taken for granted, by topic.
    """

    module: nn.Module
    name: str
    spoken: str
    source: str
    sha256: str = ""
    origin: dict[str, str]
    preset: Preset | None = None
    weights: TorchWeights = field(default_factory=lambda: TorchWeights({}))
    notes: tuple[str, ...] = ()
    assumptions: Mapping[str, str] = field(default_factory=dict)


def open_source(
    source: str | nn.Module,
    *,
    architecture: str | None = None,
    weights: Path | None = None,
    ema: bool = False,
    size: int | None = None,
) -> TorchSource:
    """Open what a user names as a torch module with its weights.

    Args:
        source: a torchvision name (``efficientnet_b0``, ``efficientnet_b0:IMAGENET1K_V1``); a timm
            name (``timm:convnext_tiny.fb_in1k``); a file of weights with ``architecture``; a folder
            that timm saved; ``mynet.py:build``, a function or class that is called without
            arguments; or a module, which is copied.
        architecture: of a file of weights: torchvision's name, or ``timm:NAME``.
        weights: a file for the module that ``source`` names.
        ema: take the averaged weights of a file that holds both.
        size: height and width of the images, where it is not the makers' own.

    Raises:
        UserError: no such source, weights that do not fit, or an error in the user's own code.
    """
    if isinstance(source, nn.Module):
        return _of_module(resting(source), weights, ema)
    if not isinstance(source, str | Path):
        raise UserError(
            f"source is {described(source)}; expected a name of torchvision or timm, a file of "
            "weights, mynet.py:build, or a torch module"
        )
    source = str(source)
    if is_python_source(source):
        _refuse_architecture(architecture, source)
        return _of_python(source, weights, ema)
    named = is_timm_name(source) or not Path(source).exists()
    if named:
        _refuse_architecture(architecture, source)
        blueprint = _blueprint_of(source)
        if weights is None:
            if ema:
                raise UserError(f"--ema is for a torch file; {source} needs none")
            return _published(source, blueprint, size)
        return _of_file(weights, blueprint, ema, size)
    if weights is not None:
        raise UserError(
            f"{source} is a file of weights itself: leave out --weights, or name the network "
            "before it"
        )
    path = path_to_read(source, "the model")
    if path.is_dir() and architecture is None:
        return _of_file(path, folder_blueprint(path), ema, size, known=True)
    return _of_file(path, _blueprint_for(path, architecture, ema), ema, size)


def rebuild(origin: Mapping[str, str], weights: Path | None = None) -> nn.Module:
    """Build the torch module again that a checkpoint was imported from.

    Args:
        origin: as `gaxjax.models.CheckpointMetadata.origin` keeps it.
        weights: the file of its weights; where it is known, in its place.

    Raises:
        UserError: something that it was made from is missing, or another than it was.

    Example:
        >>> origin = TorchSource.origin  # doctest: +SKIP
        >>> rebuild({"kind": "torchvision", "name": "resnet18"}, Path("w.pth"))  # doctest: +SKIP
    """
    kind, name = origin.get("kind", ""), origin.get("name", "")
    if kind == "module":
        raise UserError(
            f"it was imported from a module in Python ({name}), which no file keeps: import it by "
            "gaxjax convert mynet.py:build --weights FILE, to have it built again"
        )
    if kind not in ("torchvision", "timm", "python"):
        raise UserError(f"the checkpoint does not say how its network is built ({dict(origin)})")
    size = int(origin["size"]) if "size" in origin else None
    ema = origin.get("ema") == "yes"
    if origin.get("weights") and weights is None and not origin.get("published"):
        raise UserError(
            f"its weights come from {origin['weights']} (sha256 {origin.get('sha256', '')[:12]}…): "
            "give that file, --weights FILE"
        )
    if weights is not None:
        _check_same(weights, origin.get("sha256", ""))
    if kind == "python":
        path = Path(origin["path"])
        if not path.is_file():
            raise UserError(f"{path}, which builds its network, is not there")
        if file_sha256(path) != origin.get("code_sha256"):
            raise UserError(f"{path}, which builds its network, has changed since: convert again")
        return _of_python(f"{path}:{origin['function']}", weights, ema).module
    told = f"timm:{name}" if kind == "timm" else name
    if weights is None:
        return open_source(origin.get("published") or told, size=size).module
    if origin.get("config") == "yes" and weights.is_dir():
        return open_source(str(weights), ema=ema, size=size).module
    return _of_file(weights, _blueprint_of(told), ema, size).module


# --- Each kind -----------------------------------------------------------------------------------


def _blueprint_of(name: str) -> Blueprint:
    if is_timm_name(name):
        return timm_blueprint(name.removeprefix("timm:"))
    if name == "small_resnet":
        return torchvision_blueprint(name)
    architecture, _, version = name.partition(":")
    return torchvision_blueprint(architecture, version or None)


def _blueprint_for(path: Path, architecture: str | None, ema: bool) -> Blueprint:
    """Return the network of a file: as it was named, by the file's name, or by its keys."""
    if architecture is not None:
        return _blueprint_of(architecture)
    published = published_file(path)
    if published is not None:
        version = published.name.rpartition(".")[2]
        return torchvision_blueprint(published.architecture, version)
    arrays = read_weights(path, ema=ema).arrays
    try:
        return torchvision_blueprint(guess_architecture(arrays))
    except UserError as error:
        family = family_of(arrays)
        if family is None:
            raise
        raise UserError(f"{path}: {named_by_user(family)}") from error


def named_by_user(family: str) -> str:
    """Say what a file needs whose keys tell its family and not its network."""
    return (
        f"its keys are those of a network of the kind {family}: name it, --architecture NAME "
        "(torchvision's, such as efficientnet_b0) or --architecture timm:NAME, or give the module "
        "itself, mynet.py:build --weights FILE"
    )


def _published(source: str, blueprint: Blueprint, size: int | None) -> TorchSource:
    if blueprint.kind == "timm":
        name = f"timm:{blueprint.name}"
        return TorchSource(
            module=pretrained_timm(blueprint, size),
            name=name,
            spoken=blueprint.spoken,
            source=name,
            origin=_origin(blueprint, size) | {"published": name},
            preset=blueprint.preset,
        )
    published = find_weights(source)
    path = download(published)
    sha256 = file_sha256(path)
    check_promised_hash(path, sha256)
    module, weights = build_with(blueprint, load_tensors(path), size=size)
    version = published.name.rpartition(".")[2]
    return TorchSource(
        module=module,
        name=blueprint.name,
        spoken=blueprint.spoken,
        source=published.name,
        sha256=sha256,
        origin=_origin(blueprint, size)
        | {"published": f"{blueprint.name}:{version}", "weights": path.name, "sha256": sha256},
        preset=blueprint.preset,
        weights=_without_arrays(weights),
        notes=weights.notes,
    )


def _of_file(
    path: Path, blueprint: Blueprint, ema: bool, size: int | None, *, known: bool = False
) -> TorchSource:
    """Open weights for a network that a library builds.

    Args:
        path: the file, the index of several, or their folder.
        blueprint: which network.
        ema: as for `open_source`.
        size: likewise.
        known: whether the weights' makers speak for these weights, as a folder's config.json does.
    """
    file = _existing(path)
    sha256 = weights_sha256(file)
    published = published_file(file) if blueprint.kind == "torchvision" else None
    if published is not None:
        check_promised_hash(file, sha256)
        known = published.architecture == blueprint.name
    try:
        module, weights = build_with(blueprint, load_tensors(file), ema=ema, size=size)
    except UserError as error:
        raise UserError(_once(file, error)) from None
    origin = _origin(blueprint, size) | {"weights": file.name, "sha256": sha256}
    origin |= ({"ema": "yes"} if ema else {}) | ({"config": "yes"} if path.is_dir() else {})
    assumptions = dict(weights.assumptions)
    if not known:
        assumptions |= blueprint.assumptions
        assumptions["network"] = (
            f"the network is taken to be {blueprint.spoken}, as named; that its keys and shapes "
            "fit does not prove it: gaxjax convert --reference FILE.npz does"
        )
    return TorchSource(
        module=module,
        name=f"timm:{blueprint.name}" if blueprint.kind == "timm" else blueprint.name,
        spoken=blueprint.spoken,
        source=path.name,
        sha256=sha256,
        origin=origin,
        preset=blueprint.preset if known else _of_others(blueprint.preset),
        weights=_without_arrays(weights),
        notes=weights.notes,
        assumptions=assumptions,
    )


def _of_python(source: str, weights: Path | None, ema: bool) -> TorchSource:
    path, name = split_python_source(source)
    module = resting(build_from_file(path, name))
    called = f"{path.name}:{name}"
    code = file_sha256(path)
    opened = _with_weights(module, called, weights, ema)
    origin = {
        "kind": "python",
        "name": called,
        "path": str(path.absolute()),
        "function": name,
        "code_sha256": code,
    }
    notes = (f"{path} was run, which builds the network", *opened.notes)
    if weights is None:
        notes = (*notes, f"{called} gives its weights itself: no --weights was given")
    return TorchSource(
        module=module,
        name=called,
        spoken=called,
        source=called if weights is None else Path(weights).name,
        sha256=opened.sha256,
        origin=origin | opened.origin,
        weights=opened.weights,
        notes=notes,
        assumptions=opened.assumptions,
    )


def _of_module(module: nn.Module, weights: Path | None, ema: bool) -> TorchSource:
    name = type(module).__name__
    opened = _with_weights(module, f"the torch module {name}", weights, ema)
    return TorchSource(
        module=module,
        name=name,
        spoken=f"the torch module {name}",
        source=f"torch module {name}",
        sha256=opened.sha256,
        origin={"kind": "module", "name": name} | opened.origin,
        weights=opened.weights,
        notes=opened.notes,
        assumptions=opened.assumptions,
    )


def _with_weights(
    module: nn.Module, what: str, weights: Path | None, ema: bool
) -> TorchSource:
    """Fill a module from a file, where one is given; and see whether it normalises by itself."""
    inside = normalise_layer(
        {k: v for k, v in module.state_dict().items() if v.numel() == 3}, scales := {}
    )
    notes: tuple[str, ...] = ()
    if inside[0] is not None:
        notes = (
            f"{what} normalises by itself, by its own mean and std: its pixels enter as they are",
        )
        if scales:
            notes = (f"{notes[0]}; they are in units of 0 to 255: where it expects such pixels "
                     "give --mean 0 0 0 --std 0.00392157 0.00392157 0.00392157",)
    blank = TorchSource(module=module, name=what, spoken=what, source=what, origin={}, notes=notes)
    if weights is None:
        if ema:
            raise UserError("--ema is for a file of weights: give --weights FILE")
        return blank
    path = _existing(weights)
    try:
        read = weights_among(load_tensors(path), module.state_dict().keys(), (), ema=ema)
        fill(module, read.arrays, what)
    except UserError as error:
        raise UserError(_once(path, error)) from None
    sha256 = weights_sha256(path)
    return TorchSource(
        module=module,
        name=what,
        spoken=what,
        source=path.name,
        sha256=sha256,
        origin={"weights": path.name, "sha256": sha256} | ({"ema": "yes"} if ema else {}),
        weights=_without_arrays(read),
        notes=(*notes, *read.notes),
        assumptions=read.assumptions,
    )


def _origin(blueprint: Blueprint, size: int | None) -> dict[str, str]:
    origin = {"kind": blueprint.kind, "name": blueprint.name}
    if size not in (None, blueprint.preset.size) and blueprint.preset.fixed_size:
        origin["size"] = str(size)
    return origin


def _of_others(preset: Preset) -> Preset:
    """Return what a network's makers say that holds for weights of others too: its size."""
    return Preset(size=preset.size, num_classes=0, fixed_size=preset.fixed_size)


def _without_arrays(weights: TorchWeights) -> TorchWeights:
    return TorchWeights({}, weights.mean, weights.std, weights.assumptions, weights.notes)


def _existing(path: Path) -> Path:
    path = file_of(path_to_read(path, "--weights"))
    if not path.is_file():
        raise UserError(f"the weights {path} do not exist; give a .pth or .safetensors file")
    return path


def _check_same(weights: Path, sha256: str) -> None:
    given = weights_sha256(_existing(weights))
    if sha256 and given != sha256:
        raise UserError(
            f"{weights} (sha256 {given[:12]}…) is not the file that the checkpoint was made from "
            f"(sha256 {sha256[:12]}…): give that file"
        )


def _once(path: Path, error: UserError) -> str:
    text = str(error)
    return text if str(path) in text else f"{path}: {text}"


def _refuse_architecture(architecture: str | None, source: Any) -> None:
    if architecture is not None:
        told = "contradicts" if source in classifiers() else "is for a file of weights, not for"
        raise UserError(f"--architecture {architecture} {told} {source}; leave it out")
