"""Torch state dicts on disk, read safely: no code in the file ever runs."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaxjax.common import UserError, path_to_read

__all__ = ["read_state_dict"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""DataParallel's, torch.compile's, and what people call the network inside their own module."""


def read_state_dict(path: Path | str) -> dict[str, np.ndarray]:
    """Read the weights of a ``.pth``, ``.pt`` or ``.safetensors`` file.

    A dictionary that holds the state dict under ``state_dict``, ``model_state_dict``, ``model`` or
    ``net`` is opened, and prefixes that all keys share (``module.``, ``model.``, ``net.``) go. A
    ``backbone`` with a new head ``fc`` beside it, as the paper's X-ray models have it, becomes one
    network: the backbone's own head, which that network never computes, is left out.

    Returns:
        Arrays by torch key. bfloat16, which NumPy lacks, becomes float32, which loses nothing.

    Raises:
        UserError: missing or truncated file, a pickled module instead of weights, or no state
            dict inside.

    Example:
        >>> read_state_dict("model.pth")["fc.weight"].shape
        (10, 64)
    """
    path = path_to_read(path, "the state dict")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"the state dict {path} {what}; give a .pth or .safetensors file")
    if path.suffix == ".safetensors":
        loaded = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt", ".bin", ".tar", ".ckpt"):
        loaded = _read_torch(path)
    else:
        raise UserError(f"{path} is no .pth, .pt or .safetensors file; save the state dict as one")
    tensors = _unwrapped(loaded, path)
    tensors = _with_its_head(_without_prefix(tensors))
    return {key: _array(tensor) for key, tensor in tensors.items()}


def _read_torch(path: Path) -> Any:
    # Torch's older format is one pickle, which cannot be memory-mapped.
    mmap = zipfile.is_zipfile(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if not mmap and "Unsupported" not in str(error) and "GLOBAL" not in str(error):
            raise UserError(_truncated(path)) from error
        raise UserError(
            f"{path} holds more than weights (a whole pickled model, whose code would run on "
            f"loading); save model.state_dict() instead: torch.save(model.state_dict(), FILE)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(_truncated(path)) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(_truncated(path)) from error


def _truncated(path: Path) -> str:
    size = path.stat().st_size
    return f"{path} is truncated or no torch file ({size:,} bytes); copy or download it again"


def _unwrapped(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    if isinstance(loaded, Mapping):
        for name in _WRAPPERS:
            if isinstance(loaded.get(name), Mapping):
                return _unwrapped(loaded[name], path)
        if loaded and all(isinstance(value, torch.Tensor) for value in loaded.values()):
            return {str(key): value for key, value in loaded.items()}
        found = f"a dictionary with the keys {', '.join(map(str, list(loaded)[:5])) or '(none)'}"
    else:
        found = f"a {type(loaded).__name__}"
    raise UserError(
        f"{path} holds {found}, not a state dict (parameter name → tensor); "
        f"save it with torch.save(model.state_dict(), FILE)"
    )


def _without_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            return _without_prefix({key[len(prefix) :]: t for key, t in tensors.items()})
    return tensors


def _with_its_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Put the head of the paper's fine-tuned networks where torchvision's networks have theirs.

    Their keys are ``backbone.*``, ``fc.weight`` (and ``fc.bias``), and ``iter``, a counter.
    """
    backbone = {
        key.removeprefix("backbone."): tensor
        for key, tensor in tensors.items()
        if key.startswith("backbone.")
    }
    others = tensors.keys() - {f"backbone.{key}" for key in backbone}
    if not backbone or "fc.weight" not in others or others - {"fc.weight", "fc.bias", "iter"}:
        return tensors
    heads_of = {"conv1.weight": "fc", "classifier.1.weight": "classifier.6"}  # ResNet, AlexNet
    head = next((name for key, name in heads_of.items() if key in backbone), None)
    if head is None:
        return tensors
    kept = {key: tensor for key, tensor in backbone.items() if not key.startswith(f"{head}.")}
    heads = {key: tensors[key] for key in ("fc.weight", "fc.bias") if key in tensors}
    return kept | {key.replace("fc", head): tensor for key, tensor in heads.items()}


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
