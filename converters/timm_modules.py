"""timm's networks as modules: built by name or by a folder's config.json, with what timm knows."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from converters.blueprint import Blueprint, Preset, quietly
from converters.torchvision_weights import imagenet_class_names
from gaxjax.common import UserError, nearest, one_line
from gaxjax.config import Triple

__all__ = ["folder_blueprint", "pretrained_timm", "timm_blueprint"]

_INTERPOLATIONS = {"bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"}


def timm_blueprint(name: str) -> Blueprint:
    """Return how timm builds a network, and what is known of its weights.

    Args:
        name: timm's, with the tag of its weights or without: ``convnext_tiny.fb_in1k``.

    Raises:
        UserError: timm is not installed, or has no such network or weights.
    """
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        close = nearest(architecture.lower(), timm.list_models(), cutoff=0.7)
        raise UserError(f"timm {timm.__version__} has no network {architecture!r}{close}")
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
    try:
        cfg = timm.get_pretrained_cfg(name, allow_unregistered=False) if tag else None
    except RuntimeError:  # what timm says to a tag that it does not have
        cfg = None
    if tag and cfg is None:
        raise UserError(
            f"timm has no weights {tag!r} for {architecture}{nearest(tag, tags)} (known: "
            f"{', '.join(tags) or 'none'})"
        )
    cfg = cfg or timm.get_pretrained_cfg(architecture)
    known = cfg.to_dict() if cfg is not None else {}
    if known.get("tag"):
        name = f"{architecture}.{known['tag']}"
    return _blueprint(name, architecture, known, {})


def folder_blueprint(folder: Path) -> Blueprint:
    """Return the network of a folder as timm saves it: config.json beside the weights.

    Raises:
        UserError: no config.json, or one of another library.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"the folder {folder} has no config.json that names a network: give --architecture "
            "timm:NAME, or torchvision's name"
        )
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} ({one_line(error)}); download it again") from error
    if "model_type" in config or "architectures" in config:
        kind = config.get("architectures") or [config["model_type"]]
        raise UserError(
            f"{path} is of the library transformers ({kind[0]}): give a function that builds it, "
            "gaxjax convert mynet.py:build, with `return "
            f"AutoModelForImageClassification.from_pretrained({folder.name!r})`"
        )
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise UserError(f"{path} names no architecture: give --architecture timm:NAME")
    plain = timm_blueprint(architecture.partition(".")[0])
    own = config.get("pretrained_cfg", {})
    known = {**own, **{key: config[key] for key in ("num_classes",) if key in config}}
    labels = _labels(config)
    if labels:
        known["label_names"] = labels
    arguments = config.get("model_args") or {}
    if not isinstance(own, dict) or not isinstance(arguments, dict):
        raise UserError(f"{path}: pretrained_cfg and model_args must be objects")
    known.setdefault("classifier", plain.heads)
    return _blueprint(plain.name.partition(".")[0], architecture, known, arguments)


def pretrained_timm(blueprint: Blueprint, size: int | None) -> nn.Module:
    """Return a network with timm's own weights, downloaded where they are not kept.

    Raises:
        UserError: the download failed, or there are none.
    """
    timm = _timm()
    home = timm.get_pretrained_cfg(blueprint.name)
    if home is None or not home.has_weights:
        raise UserError(
            f"timm has no published weights of {blueprint.name}: give a file, gaxjax convert "
            f"FILE --architecture timm:{blueprint.name}"
        )
    if home.num_classes == 0:
        raise UserError(
            f"timm's {blueprint.name} are features without a classifier: give weights with a head"
        )
    try:
        with _silent_downloads(), quietly():
            fixed = blueprint.preset.fixed_size and size not in (None, blueprint.preset.size)
            settings = {"img_size": size} if fixed else {}
            return timm.create_model(blueprint.name, pretrained=True, **settings).float().eval()
    except Exception as error:  # of timm, its hub and the network
        raise UserError(
            f"cannot fetch timm's weights of {blueprint.name} ({one_line(error):.160}); download "
            "them elsewhere and give the file: gaxjax convert model.safetensors --architecture "
            f"timm:{blueprint.name}"
        ) from error


def _blueprint(
    name: str, architecture: str, known: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Blueprint:
    preset = _preset(known)

    def build(
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        num_classes: int | None = None,
        channels: int = 3,
        size: int | None = None,
    ) -> nn.Module:
        settings = {"num_classes": num_classes or preset.num_classes, **arguments}
        if num_classes:
            settings["num_classes"] = num_classes
        if channels != 3:
            settings["in_chans"] = channels
        if preset.fixed_size and size not in (None, preset.size):
            settings["img_size"] = size
        return _timm().create_model(architecture, pretrained=False, **settings)

    def heads(module: nn.Module) -> tuple[str, ...]:
        own = _configured(module, "classifier") or known.get("classifier") or ()
        return (own,) if isinstance(own, str) else tuple(own)

    def first(module: nn.Module) -> str | None:
        own = _configured(module, "first_conv")
        return own if isinstance(own, str) else None

    return Blueprint(kind="timm", name=name, build=build, heads=heads, first=first, preset=preset)


def _configured(module: nn.Module, name: str) -> Any:
    own = getattr(module, "pretrained_cfg", None) or {}
    return own.get(name)


def _preset(known: Mapping[str, Any]) -> Preset:
    """Read what timm's pretrained_cfg says, which lists stand for tuples in a config.json."""
    size = int((known.get("input_size") or (3, 224, 224))[-1])
    num_classes = int(known.get("num_classes") or 1000)
    return Preset(
        size=size,
        num_classes=num_classes,
        mean=_triple(known.get("mean")),
        std=_triple(known.get("std")),
        class_names=_class_names(known, num_classes),
        decoding=_decoding(known, size),
        fixed_size=bool(known.get("fixed_input_size")),
    )


def _decoding(known: Mapping[str, Any], size: int) -> dict[str, int | str]:
    """Return timm's evaluation transform, where it is one that images are decoded by here."""
    crop = float(known.get("crop_pct") or 1.0)
    mode = known.get("crop_mode") or "center"
    interpolation = known.get("interpolation") or "bicubic"
    if interpolation not in _INTERPOLATIONS:
        return {}
    if mode not in ("center", "squash"):
        return {}
    resize, side = ("crop", "squash")[mode == "squash"], max(size, math.floor(size / crop))
    return {"resize": resize, "resize_size": side, "interpolation": interpolation}


def _class_names(known: Mapping[str, Any], num_classes: int) -> tuple[str, ...] | None:
    names = known.get("label_names")
    if names and len(names) == num_classes:
        return tuple(map(str, names))
    if num_classes == 1000:
        return imagenet_class_names()
    try:
        from timm.data import ImageNetInfo, infer_imagenet_subset

        subset = infer_imagenet_subset(dict(known))
        if subset:
            info = ImageNetInfo(subset)
            if info.num_classes() == num_classes:
                return tuple(info.index_to_description(index) for index in range(num_classes))
    except (ImportError, AssertionError, KeyError, ValueError, AttributeError):
        pass  # names are a help, and timm's tables of them change
    return None


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    names = config.get("label_names")
    return [str(name) for name in names] if isinstance(names, list) else None


def _triple(values: Any) -> Triple | None:
    if not values or len(values) not in (1, 3):
        return None
    red, green, blue = (float(value) for value in (values if len(values) == 3 else values * 3))
    return red, green, blue


def _timm() -> Any:
    try:
        with quietly():
            import timm
            import timm.models
    except ModuleNotFoundError as error:
        raise UserError(
            f"timm's networks need {error.name}: install gaxjax with its timm extra "
            "(pip install 'gaxjax[timm]')"
        ) from None
    return timm


@contextmanager
def _silent_downloads() -> Iterator[None]:
    """Keep the hub's log of its retries off the screen: the failure is told once, in a line."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
