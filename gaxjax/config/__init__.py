"""Every setting and its default, once: frozen dataclasses, validated when made.

The command line's flags are generated from these classes, each run stores its config whole
(`to_dict`), and `from_dict` reads it back. Presets name whole settings.
"""

from gaxjax.config.base import (
    METHODS,
    Method,
    Operation,
    Pooling,
    Precision,
    Preset,
    ScoreSpace,
    Wanted,
    from_dict,
    to_dict,
)
from gaxjax.config.finetune import FinetuneConfig
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AX_PRESETS, GAX_PRESETS, AxConfig, GaxConfig
from gaxjax.config.runs import (
    AxRunConfig,
    BatchConfig,
    EngineConfig,
    GaxRunConfig,
    SnapshotConfig,
    StoreConfig,
)

__all__ = [
    "AX_PRESETS",
    "GAX_PRESETS",
    "METHODS",
    "AxConfig",
    "AxRunConfig",
    "BatchConfig",
    "DataConfig",
    "EngineConfig",
    "FinetuneConfig",
    "GaxConfig",
    "GaxRunConfig",
    "Method",
    "ModelConfig",
    "Operation",
    "Pooling",
    "Precision",
    "Preset",
    "ScoreSpace",
    "SnapshotConfig",
    "StoreConfig",
    "Wanted",
    "from_dict",
    "to_dict",
]
