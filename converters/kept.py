"""A model by its name or its file, converted once: its checkpoint in the cache folder.

Torch, seconds of importing, is only loaded where something is converted.
"""

import hashlib
from pathlib import Path

from converters.digest import weights_sha256
from converters.source_names import is_python_source, is_timm_name
from gaxjax.common import UserError, cache_folder, path_to_read, place_in_cache
from gaxjax.config import ModelConfig
from gaxjax.models import checkpoint

__all__ = ["is_published", "kept_conversion"]

_CACHED = "conversion 3"
"""Part of a kept conversion's name: raised when what a conversion keeps changes."""


def is_published(model: str) -> bool:
    """Tell whether a model is named by its library: ``resnet34``, ``timm:convnext_tiny``."""
    from converters.torchvision_weights import is_torchvision_name

    return is_timm_name(model) or is_torchvision_name(model)


def kept_conversion(config: ModelConfig) -> Path:
    """Return the checkpoint of a model that is none, converted on first use.

    Args:
        config: a name of torchvision or timm, or a file of weights (or their folder).

    Raises:
        UserError: no such model, or one that does not convert.

    Example:
        >>> kept_conversion(ModelConfig(model="model.pth")).name
        'model-...'
    """
    model = config.model
    path = path_to_read(model, "--model")
    if is_python_source(model):
        raise UserError(
            f"--model {model}: convert it first, which runs that file: "
            f"gaxjax convert {model} --output MODEL.ckpt"
        )
    if not path.exists():
        if is_published(model):
            config.refuse_file_flags(model if is_timm_name(model) else f"torchvision's {model}")
        elif path.suffix or path.name != model:
            raise UserError(
                f"--model {model}: no such file or checkpoint folder, and no torchvision "
                "model either"
            )
        from converters.conversion import pretrained

        return pretrained(model)
    settings = (
        _CACHED,
        weights_sha256(path),
        sorted((name, value) for name, value in vars(config).items() if name != "model"),
    )
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    kept = cache_folder() / f"{path.stem}-{key}"
    if not checkpoint.is_checkpoint(kept):
        from converters.conversion import convert

        place_in_cache(kept.name)
        convert(
            model,
            kept,
            architecture=config.architecture,
            normalization=config.normalization,
            mean=config.mean,
            std=config.std,
            ema=config.ema,
            binary=config.binary,
        )
    return kept
