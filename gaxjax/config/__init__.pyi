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
from .decoding import PAPERS, Decoding, Interpolation, Resize
from .finetune import FinetuneConfig
from .inputs import DataConfig, ModelConfig, require_normalization
from .methods import AX_PRESETS, GAX_PRESETS, AxConfig, GaxConfig
from .runs import AxRunConfig, BatchConfig, EngineConfig, GaxRunConfig, SnapshotConfig, StoreConfig

__all__ = [
    "AX_PRESETS",
    "GAX_PRESETS",
    "METHODS",
    "MOST_PIXELS",
    "PAPERS",
    "AxConfig",
    "AxRunConfig",
    "BatchConfig",
    "DataConfig",
    "Decoding",
    "EngineConfig",
    "FinetuneConfig",
    "GaxConfig",
    "GaxRunConfig",
    "Interpolation",
    "Method",
    "ModelConfig",
    "Operation",
    "Pooling",
    "Precision",
    "Preset",
    "Resize",
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
