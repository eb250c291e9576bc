from .base import (
    METHODS,
    MOST_PIXELS,
    Method,
    Operation,
    Pooling,
    Precision,
    Preset,
    ScoreSpace,
    Wanted,
    from_dict,
    require_config,
    require_types,
    to_dict,
)
from .finetune import FinetuneConfig
from .inputs import DataConfig, ModelConfig, require_normalization
from .methods import AX_PRESETS, GAX_PRESETS, AxConfig, GaxConfig
from .runs import AxRunConfig, BatchConfig, EngineConfig, GaxRunConfig, SnapshotConfig, StoreConfig

__all__ = [
    "AX_PRESETS",
    "GAX_PRESETS",
    "METHODS",
    "MOST_PIXELS",
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
    "require_config",
    "require_normalization",
    "require_types",
    "to_dict",
]
