"""Columns of a score table as arrays."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from gaxjax.results.method_statistics import KEYS, MethodStatistics

__all__ = ["numbers", "of_method", "texts"]


def of_method(scores: pa.Table, method: MethodStatistics) -> Bool[np.ndarray, " N"]:
    """Tell which rows of a score table belong to one method, layer and operation."""
    mine: np.ndarray = np.ones(len(scores), bool)
    for name in KEYS:
        mine &= texts(scores, name) == getattr(method, name)
    return mine


def texts(scores: pa.Table, name: str) -> np.ndarray:
    """Return a column of text as Python objects, None where it is null."""
    found: np.ndarray = np.array(scores[name].to_pylist(), object)
    return found


def numbers(scores: pa.Table, name: str) -> Float[np.ndarray, " N"]:
    """Return a column of numbers in float64, NaN where it is null."""
    found: np.ndarray = scores[name].cast(pa.float64()).to_numpy()
    return found
