"""A torch module at rest: in eval mode for a while, tried on images, and left as it was."""

import contextlib
import copy
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from converters.logits_output import named_outputs
from gaxjax.common import UserError, one_line

__all__ = ["at_rest", "check_independence", "first_run", "line_of", "unwrapped"]

_CHANNELS = (3, 1)
_MIXING = 1e-2
"""Relative: float32 and another order of summation in a batch explain 1e-5 of random networks."""

_TORCH = Path(torch.__file__).parent
_HERE = Path(__file__).parent


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside `torch.compile`, DataParallel and DistributedDataParallel.

    Raises:
        UserError: it is no module, or one of TorchScript.
    """
    if not isinstance(module, nn.Module):
        raise UserError(f"a {type(module).__name__} is no torch module; give an nn.Module")
    while True:
        inner = getattr(module, "_orig_mod", None)
        if isinstance(module, nn.parallel.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            break
        module = inner
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(
            "a TorchScript module cannot be imported; give the nn.Module that it was made from"
        )
    return module


@contextlib.contextmanager
def at_rest(module: nn.Module) -> Iterator[nn.Module]:
    """Give a module in eval mode, on the CPU and in full precision; then all is as it was.

    The module itself where it is so already but for the mode, else a copy.

    Args:
        module: as `unwrapped` returns it.

    Raises:
        UserError: it would have to be copied and cannot be.
    """
    modes = {each: each.training for each in module.modules()}
    tensors = [*module.parameters(), *module.buffers()]
    half = any(each.dtype in (torch.float16, torch.bfloat16) for each in tensors)
    if half or any(each.device.type != "cpu" for each in tensors):
        try:
            resting = copy.deepcopy(module).cpu()
        except Exception as error:  # whatever the user's own code raises
            raise UserError(
                f"{type(module).__name__} cannot be copied ({one_line(error)}); give it in float32 "
                "on the CPU: module.float().cpu()"
            ) from error
        module = resting.float() if half else resting
    buffers = _buffers(module)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Without gradients torch would compute whole encoder layers by one operation of its own.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield module.eval()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        _restore(module, buffers)
        for each, training in modes.items():
            if each.training != training:
                # By its own method first: what it does on a change of modes must be undone too.
                each.train(training)
        for each, training in modes.items():
            each.training = training


def first_run(module: nn.Module, size: tuple[int, int]) -> tuple[torch.Tensor, dict[str, Any]]:
    """Run a module at rest on one image of 3 channels, or of 1 where it takes no other.

    A table that it makes when it first meets a size is kept: it runs twice then, and must leave
    the table as it is.

    Args:
        module: as `at_rest` gives it.
        size: (height, width).

    Returns:
        The image, and what it returned by name, as `named_outputs`.

    Raises:
        UserError: it cannot be run on an image, or changes its buffers at every run.
    """
    _check_signature(module)
    original = _buffers(module)
    failures = []
    for channels in _CHANNELS:
        image = _images(module, 1, channels, size)
        try:
            returned = module(image)
            if _changed(module, original):
                first = _buffers(module)
                module(2 * image)
                if changed := _changed(module, first):
                    raise UserError(_changing(module, changed))
        except UserError:
            raise
        except Exception as error:  # whatever the user's own code raises
            failures.append(error)
            _restore(module, original)
            continue
        return image, named_outputs(returned)
    raise UserError(_no_image(module, size, failures[0])) from failures[0]


def check_independence(
    module: nn.Module,
    image: torch.Tensor,
    logits_of: Callable[[Any], torch.Tensor],
) -> None:
    """Check that an image's logits do not depend on the other images of its batch.

    Args:
        module: in eval mode.
        image: one that it takes, [1, C, H, W].
        logits_of: the logits of what the module returns.

    Raises:
        UserError: they do, or two images cannot be run at once.
    """
    _, channels, height, width = image.shape
    images, name = _images(module, 2, channels, (height, width)), type(module).__name__
    try:
        together = logits_of(module(images)).reshape(2, -1)
    except Exception as error:  # whatever the user's own code raises
        raise UserError(
            f"{name} takes one image but not two at once ({one_line(error)}"
            f"{line_of(error, module)}); let its forward keep the first axis as it is"
        ) from error
    alone = torch.stack([logits_of(module(images[i : i + 1])).reshape(-1) for i in range(2)])
    scale = float(alone.abs().max())
    if not torch.allclose(together, alone, rtol=0, atol=_MIXING * scale, equal_nan=True):
        gap = float((together - alone).abs().max())
        raise UserError(
            f"{name} mixes the images of a batch: logits differ by {gap / scale:.2g} of the "
            f"largest between two images alone and together{_statistics_of_batch(module)}; images "
            "must be independent of one another in eval mode"
        )


def line_of(error: BaseException, module: nn.Module) -> str:
    """Return ", at model.py:12 in block.1 (Block)": the user's line that raised an error, or ""."""
    paths = {id(each): path for path, each in module.named_modules()}
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if _TORCH in file.parents or _HERE in file.parents or not file.exists():
            continue
        owner = frame.f_locals.get("self")
        where = f" in {paths[id(owner)]}" if paths.get(id(owner)) else ""
        kind = f" ({type(owner).__name__})" if where else ""
        found = f", at {file.name}:{line}{where}{kind}"
    return found


def _check_signature(module: nn.Module) -> None:
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return  # of compiled code: the trial tells
    needed = [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if len(needed) != 1:
        raise UserError(
            f"{type(module).__name__}.forward takes {', '.join(needed) or 'nothing'}; expected one "
            "input, the images [B, C, H, W]: wrap it in a module whose forward gives the rest"
        )


def _images(module: nn.Module, count: int, channels: int, size: tuple[int, int]) -> torch.Tensor:
    dtypes = [each.dtype for each in (*module.parameters(), *module.buffers())]
    dtype = next((each for each in dtypes if each.is_floating_point), torch.float32)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, *size, generator=generator).to(dtype)


def _buffers(module: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return each buffer by its path, and a copy of its values."""
    return {name: (buffer, buffer.clone()) for name, buffer in module.named_buffers()}


def _changed(module: nn.Module, before: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> list[str]:
    """Return the paths of the buffers whose values are not what they were."""
    return [
        name
        for name, buffer in module.named_buffers()
        if name in before
        and not (
            buffer.shape == before[name][1].shape
            and torch.allclose(buffer, before[name][1], rtol=0, atol=0, equal_nan=True)
        )
    ]


def _restore(module: nn.Module, before: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Give a module its buffers back, and these their values."""
    for name in _changed(module, before):
        buffer, values = before[name]
        owner, _, own_name = name.rpartition(".")
        setattr(module.get_submodule(owner), own_name, buffer.copy_(values))


def _changing(module: nn.Module, names: list[str]) -> str:
    path = names[0].rpartition(".")[0]
    owner = module.get_submodule(path)
    training = owner.training and isinstance(owner, nn.modules.batchnorm._BatchNorm)
    why = "it is in training mode after eval(); " if training else ""
    return (
        f"{type(module).__name__} changes its buffer {names[0]} when it runs in eval mode, in "
        f"{path or 'itself'} ({type(owner).__name__}); {why}a network to explain must not change"
    )


def _no_image(module: nn.Module, size: tuple[int, int], error: Exception) -> str:
    height, width = size
    wanted = re.search(r"to have (\d+) channels", str(error))
    if wanted and int(wanted[1]) not in _CHANNELS:
        return (
            f"{type(module).__name__} takes images of {wanted[1]} channels; gaxjax takes networks "
            "of 3 channels (RGB) or 1 (grey)"
        )
    return (
        f"{type(module).__name__} cannot be run on an image [1, 3, {height}, {width}] "
        f"({one_line(error)}{line_of(error, module)}); give a network that takes images "
        "[B, 3, H, W], and the size it takes"
    )


def _statistics_of_batch(module: nn.Module) -> str:
    for path, each in module.named_modules():
        norm = isinstance(each, nn.modules.batchnorm._BatchNorm)
        if norm and (each.training or each.running_mean is None):
            return (
                f"; {path} ({type(each).__name__}) takes its statistics from the batch, for want "
                "of running ones (track_running_stats=False)"
            )
    return ""
