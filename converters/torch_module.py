"""From what a user names to a torch module with its weights, and all that is known of it.

Only ``mynet.py:build`` runs code, the user's own; weights are read as data alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from converters.bijection import guess_architecture
from converters.blueprint import Blueprint, Preset
from converters.digest import weights_sha256
from converters.module_weights import build_with, fill, weights_among
from converters.shards import file_of
from converters.source_names import is_python_source, is_timm_name
from converters.state_dict import read_weights
from converters.timm_modules import folder_blueprint, pretrained_timm, timm_blueprint
from converters.torch_file import load_tensors
from converters.torch_weights import TorchWeights, normalise_layer
from converters.torchvision_modules import torchvision_blueprint
from converters.torchvision_weights import (
    check_promised_hash,
    classifiers,
    download,
    find_weights,
    published_file,
)
from converters.user_code import build_from_file, resting, split_python_source
from gaxjax.common import UserError, described, file_sha256, path_to_read

__all__ = ["TorchSource", "blueprint_of", "existing", "of_file", "of_python", "open_source"]


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
        likely: what they say of their own weights of this network, where these are others.
        normalises: whether the module normalises its pixels itself.
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
    likely: Preset | None = None
    normalises: bool = False
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
        return of_python(source, weights, ema)
    named = is_timm_name(source) or not Path(source).exists()
    if named:
        _refuse_architecture(architecture, source)
        blueprint = blueprint_of(source)
        if weights is None:
            if ema:
                raise UserError(f"--ema is for a torch file; {source} needs none")
            return _published(source, blueprint, size)
        return of_file(weights, blueprint, ema, size)
    if weights is not None:
        raise UserError(
            f"{source} is a file of weights itself: leave out --weights, or name the network "
            "before it"
        )
    path = path_to_read(source, "the model")
    if path.is_dir() and architecture is None:
        return of_file(path, folder_blueprint(path), ema, size, known=True)
    return of_file(path, _blueprint_for(path, architecture, ema), ema, size)


# --- Each kind -----------------------------------------------------------------------------------


def blueprint_of(name: str) -> Blueprint:
    """Return the network that a name of torchvision or timm stands for.

    Raises:
        UserError: none has it.
    """
    if is_timm_name(name):
        return timm_blueprint(name.removeprefix("timm:"))
    if name == "small_resnet":
        return torchvision_blueprint(name)
    architecture, _, version = name.partition(":")
    return torchvision_blueprint(architecture, version or None)


def _blueprint_for(path: Path, architecture: str | None, ema: bool) -> Blueprint:
    """Return the network of a file: as it was named, by the file's name, or by its keys."""
    if architecture is not None:
        return blueprint_of(architecture)
    published = published_file(path)
    if published is not None:
        version = published.name.rpartition(".")[2]
        return torchvision_blueprint(published.architecture, version)
    return torchvision_blueprint(guess_architecture(read_weights(path, ema=ema).arrays))


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


def of_file(
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
    file = existing(path)
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
        likely=None if known else blueprint.preset,
        weights=_without_arrays(weights),
        notes=weights.notes,
        assumptions=assumptions,
    )


def of_python(source: str, weights: Path | None, ema: bool) -> TorchSource:
    """Open what a user's own file builds: ``mynet.py:build``.

    Args:
        source: the file, and the function or class in it.
        weights: a file for it; without one it has its own.
        ema: as for `open_source`.
    """
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
    return replace(
        opened,
        name=called,
        spoken=called,
        source=opened.source if weights else called,
        origin=origin | opened.origin,
        notes=notes,
    )


def _of_module(module: nn.Module, weights: Path | None, ema: bool) -> TorchSource:
    name = type(module).__name__
    opened = _with_weights(module, f"the torch module {name}", weights, ema)
    return replace(
        opened,
        name=name,
        source=opened.source if weights else f"torch module {name}",
        origin={"kind": "module", "name": name} | opened.origin,
    )


def _with_weights(module: nn.Module, what: str, weights: Path | None, ema: bool) -> TorchSource:
    """Fill a module from a file, where one is given; and see whether it normalises by itself."""
    units: dict[str, str] = {}
    triples = {key: value for key, value in module.state_dict().items() if value.numel() == 3}
    normalises = normalise_layer(triples, units)[0] is not None
    notes: tuple[str, ...] = ()
    if normalises:
        told = f"{what} normalises by itself, by its own mean and std: its pixels enter as they are"
        mend = (
            "; those are in units of 0 to 255: where it expects such pixels give --mean 0 0 0 "
            "--std 0.00392157 0.00392157 0.00392157"
        )
        notes = (told + mend * bool(units),)
    blank = TorchSource(
        module=module,
        name=what,
        spoken=what,
        source=what,
        origin={},
        notes=notes,
        normalises=normalises,
    )
    if weights is None:
        if ema:
            raise UserError("--ema is for a file of weights: give --weights FILE")
        return blank
    path = existing(weights)
    try:
        read = weights_among(load_tensors(path), module.state_dict().keys(), (), ema=ema)
        fill(module, read.arrays, what)
    except UserError as error:
        raise UserError(_once(path, error)) from None
    sha256 = weights_sha256(path)
    return replace(
        blank,
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


def existing(path: Path) -> Path:
    """Return the file of weights that a user named, of a folder the one in it.

    Raises:
        UserError: it is not there.
    """
    path = file_of(path_to_read(path, "--weights"))
    if not path.is_file():
        raise UserError(f"the weights {path} do not exist; give a .pth or .safetensors file")
    return path


def _once(path: Path, error: UserError) -> str:
    text = str(error)
    return text if str(path) in text else f"{path}: {text}"


def _refuse_architecture(architecture: str | None, source: Any) -> None:
    if architecture is not None:
        told = "contradicts" if source in classifiers() else "is for a file of weights, not for"
        raise UserError(f"--architecture {architecture} {told} {source}; leave it out")
