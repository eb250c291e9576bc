from .operations import (
    BackwardRules,
    Padding,
    adaptive_average_pool,
    backward_rules,
    convolution,
    curve,
    global_average_pool,
    max_pool,
    overhang,
    relu,
)
from .pooling import pool_winners, unpool
from .products import two_way_product
from .winograd import WINDOW, transformed_kernel, winograd_convolution

__all__ = [
    "WINDOW",
    "BackwardRules",
    "Padding",
    "adaptive_average_pool",
    "backward_rules",
    "convolution",
    "curve",
    "global_average_pool",
    "max_pool",
    "overhang",
    "pool_winners",
    "relu",
    "transformed_kernel",
    "two_way_product",
    "unpool",
    "winograd_convolution",
]
