"""The whole table of operations; importing it fills it."""

from gaxjax.models.graph import elementwise, moving, products, reductions, rewriting, spatial
from gaxjax.models.graph.table import OPERATIONS

__all__ = ["OPERATIONS", "elementwise", "moving", "products", "reductions", "rewriting", "spatial"]
