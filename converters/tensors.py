"""Torch tensors become NumPy arrays; those that have no such values are named, with the mend."""

from collections.abc import Mapping

import numpy as np
import torch

from gaxjax.common import UserError

__all__ = ["to_arrays"]

_MAX_NAMED = 3


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, np.ndarray], str]:
    """Return arrays by key, and a sentence where their values had to change.

    bfloat16, which NumPy lacks, becomes float32, which loses nothing; float64 is rounded.

    Raises:
        UserError: tensors without plain values: quantised, sparse, complex, meta, float8, nested.
    """
    kinds: dict[str, list[str]] = {}
    for key, tensor in tensors.items():
        kind = _without_values(tensor)
        if kind:
            kinds.setdefault(kind, []).append(key)
    for kind, keys in kinds.items():
        more = ", …" if len(keys) > _MAX_NAMED else ""
        raise UserError(
            f"{len(keys)} of {len(tensors)} tensors {kind.replace('STATE', 'STATE_DICT')} "
            f"({', '.join(keys[:_MAX_NAMED])}{more})"
        )
    arrays: dict[str, np.ndarray] = {}
    rounded: list[str] = []
    for key, tensor in tensors.items():
        array = _array(tensor)
        if array.dtype == np.float64:
            with np.errstate(over="ignore"):
                nearest = array.astype(np.float32)
            if (np.isinf(nearest) & np.isfinite(array)).any():
                raise UserError(f"{key} is float64 and holds values beyond float32's (3.4e38)")
            if not np.array_equal(nearest, array, equal_nan=True):
                rounded.append(key)
            array = nearest
        arrays[key] = array
    said = f"{len(rounded)} of {len(arrays)} tensors are float64 in the file: rounded to float32"
    return arrays, said if rounded else ""


def _without_values(tensor: torch.Tensor) -> str:
    """Return what keeps a tensor from being an array of numbers, with the mend; empty: nothing."""
    again = "torch.save({k: %s for k, v in STATE.items()}, FILE)"
    if tensor.is_meta:
        return (
            "are on the meta device, which holds shapes without values; save the network after its "
            "weights are loaded"
        )
    if tensor.is_quantized:
        mend = again % "v.dequantize() if v.is_quantized else v"
        return f"are quantised; {mend}, or better: save the network before it is quantised"
    if tensor.is_nested:
        return "are nested tensors, which no network here has"
    if tensor.layout != torch.strided:
        mend = again % "v.to_dense() if v.layout != torch.strided else v"
        return f"are sparse ({str(tensor.layout).removeprefix('torch.')}); {mend}"
    if tensor.is_complex():
        return (
            f"are {str(tensor.dtype).removeprefix('torch.')}: a network here has real weights; "
            f"where their imaginary parts are 0: {again % 'v.real if v.is_complex() else v'}"
        )
    name = str(tensor.dtype).removeprefix("torch.")
    if name.startswith(("float8", "float4")):
        mend = again % "v.float() if v.is_floating_point() else v"
        return f"are {name}; {mend}, times their scales where the file keeps such"
    if name.startswith(
        ("bits", "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7")
    ) and (name not in ("uint16", "uint32", "uint64")):
        return f"are {name}, which no network here has; save floating-point weights"
    return ""


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
