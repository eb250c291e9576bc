from .bijection import convert_state_dict, guess_architecture, head_of, torch_state_dict
from .conversion import convert, convert_module, pretrained
from .digest import weights_sha256
from .direct import import_classifier
from .exported import Imported, import_module, import_program
from .graph_conversion import GraphConversion, convert_to_graph
from .kept import is_published, kept_conversion
from .logits_module import LogitsModule
from .normalization import mean_and_std, normalization_of
from .own_logits import read_reference
from .parity import parity_report
from .random_weights import random_state_dict
from .rebuilding import rebuild
from .source_names import is_python_source, is_timm_name
from .state_dict import read_state_dict, read_weights
from .torch_models import torch_model
from .torch_module import TorchSource, open_source
from .torch_weights import TorchWeights
from .torchvision_weights import (
    PublishedWeights,
    download,
    find_weights,
    is_torchvision_name,
)
from .way import way_of

__all__ = [
    "GraphConversion",
    "Imported",
    "LogitsModule",
    "PublishedWeights",
    "TorchSource",
    "TorchWeights",
    "convert",
    "convert_module",
    "convert_state_dict",
    "convert_to_graph",
    "download",
    "find_weights",
    "guess_architecture",
    "head_of",
    "import_classifier",
    "import_module",
    "import_program",
    "is_published",
    "is_python_source",
    "is_timm_name",
    "is_torchvision_name",
    "kept_conversion",
    "mean_and_std",
    "normalization_of",
    "open_source",
    "parity_report",
    "pretrained",
    "random_state_dict",
    "read_reference",
    "read_state_dict",
    "read_weights",
    "rebuild",
    "torch_model",
    "torch_state_dict",
    "way_of",
    "weights_sha256",
]
