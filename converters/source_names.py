"""What a source is, by how it is written."""

import re

__all__ = ["is_python_source", "is_timm_name"]


def is_timm_name(source: str) -> bool:
    """Tell whether a source names a network of timm: ``timm:convnext_tiny.fb_in1k``."""
    return source.startswith("timm:")


def is_python_source(source: str) -> bool:
    """Tell whether a source names a function or class in a Python file: ``mynet.py:build``."""
    return bool(re.search(r"\.py(:|$)", source))
