"""The user's own network as the proof: its logits on its inputs against the converted network's."""

import copy
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx
from torch import nn

from converters.torch_models import torch_model
from converters.variants import variants
from gaxjax.common import UserError, file_sha256, one_line, path_to_read
from gaxjax.config import IMAGENET_MEAN, IMAGENET_STD, Triple

__all__ = ["OwnLogits", "logits_of_module", "normalised", "prove", "read_reference"]

_MAX_DIFFERENCE = 1e-3
"""Of the largest logit. Float32's rounding stays far below it, half precision does not."""
_TRIED = 8
"""Inputs on which other explanations are tried, once the logits disagree."""
_BATCH = 16
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class OwnLogits:
    """What the network that was trained gives.

    Attributes:
        inputs: [N, H, W, 3] float32, what its forward was given.
        logits: [N, C] float32, what it returned.
        name: what it is called, for people.
        sha256: of the file; empty for a module.
    """

    inputs: np.ndarray
    logits: np.ndarray
    name: str
    sha256: str = ""


def read_reference(path: Path) -> OwnLogits:
    """Read inputs and logits of one's own network from an ``.npz`` file.

    Args:
        path: with the arrays ``inputs``, [N, 3, H, W] or [N, H, W, 3] float, as the network's
            forward was given them, and ``logits``, [N, C].

    Raises:
        UserError: no such file or arrays, other shapes or types, numbers that are not finite.
    """
    mend = "numpy.savez(FILE, inputs=x.numpy(), logits=model(x).numpy())"
    path = path_to_read(path, "--reference")
    if not path.is_file():
        raise UserError(f"--reference {path} is no file; make one with {mend}")
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise UserError(f"--reference {path} holds one array; make it with {mend}")
        with opened as archive:
            missing = [name for name in ("inputs", "logits") if name not in archive.files]
            if missing:
                raise UserError(
                    f"--reference {path} has no {' and no '.join(missing)} (it has: "
                    f"{', '.join(archive.files) or 'nothing'}); make it with {mend}"
                )
            inputs, logits = archive["inputs"], archive["logits"]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise UserError(
            f"--reference {path} is no .npz of plain arrays ({one_line(error)}); make it "
            f"with {mend}"
        ) from error
    return _checked(inputs, logits, f"--reference {path}", path.name, file_sha256(path))


def logits_of_module(module: nn.Module, inputs: np.ndarray, name: str) -> OwnLogits:
    """Run a copy of a module, in eval mode and float32 on the CPU; the module stays as it is.

    Args:
        module: [B, 3, H, W] → logits [B, C].
        inputs: [B, H, W, 3] float32.
        name: what it is called.

    Raises:
        UserError: it cannot be copied or run, or returns no logits.
    """
    try:
        resting = copy.deepcopy(module).cpu().float().eval()
        with torch.no_grad():
            logits = resting(torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy()))
    except Exception as error:  # whatever the user's own code raises
        shape = f"[{inputs.shape[0]}, 3, {inputs.shape[1]}, {inputs.shape[2]}]"
        raise UserError(
            f"{name} cannot be run on inputs {shape} ({one_line(error)}); give a module that takes "
            "such a batch, or another --input-size"
        ) from error
    if not isinstance(logits, torch.Tensor):
        raise UserError(
            f"{name} returns a {type(logits).__name__}; expected logits [B, C]: give a module that "
            "returns them alone"
        )
    return _checked(inputs, logits.numpy(), name, name, "")


def _checked(inputs: Any, logits: Any, where: str, name: str, sha256: str) -> OwnLogits:
    if inputs.ndim != 4 or 3 not in (inputs.shape[1], inputs.shape[3]):
        raise UserError(
            f"{where}: inputs have the shape {list(inputs.shape)}; expected [N, 3, H, W] or "
            "[N, H, W, 3]"
        )
    if logits.ndim == 1 and len(logits) == len(inputs):
        logits = logits[:, None]  # a squeezed single logit
    if logits.ndim != 2 or len(logits) != len(inputs) or not len(inputs):
        raise UserError(
            f"{where}: logits have the shape {list(logits.shape)} for {len(inputs)} inputs; "
            "expected [N, C], one row for each of at least one input"
        )
    for kind, array in (("inputs", inputs), ("logits", logits)):
        if not np.issubdtype(array.dtype, np.floating):
            raise UserError(
                f"{where}: {kind} are {array.dtype}; expected floats, as the network's forward "
                f"was given and returned them"
            )
        if not np.isfinite(array).all():
            raise UserError(f"{where}: {kind} hold NaN or infinity")
    if inputs.shape[1] == 3:
        inputs = inputs.transpose(0, 2, 3, 1)
    return OwnLogits(
        np.ascontiguousarray(inputs, np.float32), logits.astype(np.float32), name, sha256
    )


def prove(
    own: OwnLogits,
    model: nnx.Module,
    arrays: Mapping[str, np.ndarray] | None,
    architecture: str,
    *,
    head_bias: bool = True,
    inside: tuple[Triple, Triple] | None = None,
) -> dict[str, Any]:
    """Compare the converted network with the one that was trained.

    Args:
        own: what that one gives.
        model: the converted network, NNX, batch norm folded or not.
        arrays: its weights by torch key, for finding out why it differs; None: of a graph.
        architecture: its name.
        head_bias: whether its last layer has a bias.
        inside: mean and std of a normalise layer that belongs to the network; None: none does.

    Returns:
        JSON values: what it was compared with, and the differences of the logits.

    Raises:
        UserError: the logits differ; what explains the difference is named where it is known.
    """
    inputs = own.inputs if inside is None else normalised(own.inputs, *inside)
    ours = _logits(model, inputs.astype(np.float32))
    wanted = own.logits
    if wanted.shape[1] == 1 and ours.shape[1] == 2 and not np.any(ours[:, 0]):
        ours = ours[:, 1:]  # two logits were made of this one
    if wanted.shape[1] != ours.shape[1]:
        raise UserError(
            f"{own.name} has {wanted.shape[1]} logits, the network's head {ours.shape[1]} classes; "
            "give the logits of this network"
        )
    worst = _difference(ours, wanted)
    if worst < _MAX_DIFFERENCE:
        gap = ours.astype(np.float64) - wanted
        return {
            "against": own.name,
            "sha256": own.sha256,
            "images": len(wanted),
            "size": list(own.inputs.shape[1:3]),
            "logits": {
                "max_abs": float(np.abs(gap).max()),
                "max_rel": worst,
                "rel_l2": float(np.linalg.norm(gap) / max(float(np.linalg.norm(wanted)), _TINY)),
            },
        }
    start = slice(0, _TRIED)
    why = _explanation(ours[start], wanted[start], inputs[start], arrays, architecture, head_bias)
    raise UserError(
        f"the converted {architecture} is not the network behind {own.name}: its logits differ by "
        f"{worst:.2g} of the largest ({np.abs(wanted).max():.3g}); {why}; nothing was written"
    )


def normalised(inputs: np.ndarray, mean: Triple, std: Triple) -> np.ndarray:
    """Return (x - mean) / std per channel of images [N, H, W, 3], in float32."""
    return (inputs - np.array(mean, np.float32)) / np.array(std, np.float32)


def _logits(model: nnx.Module, inputs: np.ndarray) -> np.ndarray:
    graph, state = nnx.split(model)
    forward = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    size, found = min(_BATCH, len(inputs)), []
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padded = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), "f4")])
            found.append(np.asarray(forward(state, padded))[: len(batch)])
    return np.concatenate(found)


def _difference(given: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference, relative to the largest wanted; infinite where not finite."""
    scale = max(float(np.abs(wanted).max()), _TINY)
    worst = float(np.abs(given.astype(np.float64) - wanted).max()) / scale
    return worst if np.isfinite(worst) else float("inf")


def _explanation(
    ours: np.ndarray,
    wanted: np.ndarray,
    inputs: np.ndarray,
    arrays: Mapping[str, np.ndarray] | None,
    architecture: str,
    head_bias: bool,
) -> str:
    """Find what makes the network's logits those that are wanted."""
    logits = torch.from_numpy(ours)
    for name, values in (
        ("softmax", logits.softmax(1)),
        ("log-softmax", logits.log_softmax(1)),
        ("sigmoid", logits.sigmoid()),
    ):
        if _difference(values.numpy(), wanted) < _MAX_DIFFERENCE:
            return f"they are the {name} of this network's: give the logits, from before the {name}"

    if arrays is None:
        return (
            "were they computed by this network with these weights, in eval mode and in float32 "
            "(no TF32)?"
        )

    def network() -> nn.Module:
        assert arrays is not None
        return torch_model(architecture, len(arrays[_head(arrays)]), head_bias, arrays)

    def agrees(net: nn.Module, images: np.ndarray) -> bool:
        try:
            with torch.no_grad():
                found = net(torch.from_numpy(images.transpose(0, 3, 1, 2).astype("f4"))).numpy()
        except (RuntimeError, ValueError):
            return False  # the images are too small for it
        found = found[:, 1:] if wanted.shape[1] == 1 else found
        return _difference(found, wanted) < _MAX_DIFFERENCE

    plain = network()
    for words, images in _other_inputs(inputs):
        if agrees(plain, images):
            return f"they are this network's on inputs {words}"
    for variant in variants(architecture):
        changed = network()
        variant.change(changed)
        if agrees(changed.eval(), inputs):
            what = f"{architecture} with {variant.words}"
            return f"they are those of a {what}, which gaxjax does not have yet"
    if agrees(network().train(), inputs):
        return "they are this network's in training mode: call model.eval() first"
    return (
        "no variant that gaxjax knows gives them either: were they computed with these weights, in "
        "eval mode and in float32 (no TF32)?"
    )


def _head(arrays: Mapping[str, np.ndarray]) -> str:
    return next(
        key for key in ("fc.weight", "classifier.6.weight", "classifier.1.weight") if key in arrays
    )


def _other_inputs(inputs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "with their channels in the order BGR", inputs[..., ::-1]
    for words, mean, std in (
        ("ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD),
        ("mean 0.5 and std 0.5", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ):
        yield (
            f"normalised by {words}: so your network normalises inside; give --mean and --std, and "
            "as inputs what comes after that",
            normalised(inputs, mean, std),
        )
    yield "times 255: inputs here are what the forward was given", inputs * 255
    yield "divided by 255: inputs here are what the forward was given", inputs / 255
