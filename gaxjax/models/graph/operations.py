"""The whole table of operations; importing it fills it."""

from gaxjax.models.graph import (
    curves,
    elementwise,
    making,
    moving,
    normalisation,
    padding,
    pools,
    products,
    recurrent,
    reductions,
    resizing,
    rewriting,
    spatial,
    views,
)
from gaxjax.models.graph.table import OPERATIONS

__all__ = [
    "OPERATIONS",
    "curves",
    "elementwise",
    "making",
    "moving",
    "normalisation",
    "padding",
    "pools",
    "products",
    "recurrent",
    "reductions",
    "resizing",
    "rewriting",
    "spatial",
    "views",
]
