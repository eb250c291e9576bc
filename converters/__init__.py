"""Torch networks → gaxjax checkpoints. Needs torch (``pip install 'gaxjax[torch]'``)."""

from converters.bijection import convert_state_dict, guess_architecture, head_of, torch_state_dict
from converters.conversion import convert, convert_module, pretrained
from converters.digest import weights_sha256
from converters.direct import import_classifier
from converters.exported import Imported, import_module, import_program
from converters.graph_conversion import GraphConversion, convert_to_graph
from converters.kept import is_published, kept_conversion
from converters.logits_module import LogitsModule
from converters.normalization import mean_and_std, normalization_of
from converters.own_logits import read_reference
from converters.parity import parity_report
from converters.random_weights import random_state_dict
from converters.rebuilding import rebuild
from converters.source_names import is_python_source, is_timm_name
from converters.state_dict import read_state_dict, read_weights
from converters.torch_models import torch_model
from converters.torch_module import TorchSource, open_source
from converters.torch_weights import TorchWeights
from converters.torchvision_weights import (
    PublishedWeights,
    download,
    find_weights,
    is_torchvision_name,
)
from converters.way import way_of
from gaxjax.common import cache_folder, file_sha256

__all__ = [
    "GraphConversion",
    "Imported",
    "LogitsModule",
    "PublishedWeights",
    "TorchSource",
    "TorchWeights",
    "cache_folder",
    "convert",
    "convert_module",
    "convert_state_dict",
    "convert_to_graph",
    "download",
    "file_sha256",
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
