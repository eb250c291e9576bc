"""Torch weights → gaxjax checkpoints. Needs torch (``pip install 'gaxjax[torch]'``)."""

from converters.bijection import convert_state_dict, guess_architecture, head_of, torch_state_dict
from converters.conversion import convert, mean_and_std, normalization_of, pretrained
from converters.own_logits import read_reference
from converters.parity import parity_report
from converters.random_weights import random_state_dict
from converters.state_dict import TorchWeights, read_state_dict, read_weights
from converters.torch_models import torch_model
from converters.torchvision_weights import (
    PublishedWeights,
    download,
    find_weights,
    is_torchvision_name,
)
from gaxjax.common import cache_folder, file_sha256

__all__ = [
    "PublishedWeights",
    "TorchWeights",
    "cache_folder",
    "convert",
    "convert_state_dict",
    "download",
    "file_sha256",
    "find_weights",
    "guess_architecture",
    "head_of",
    "is_torchvision_name",
    "mean_and_std",
    "normalization_of",
    "parity_report",
    "pretrained",
    "random_state_dict",
    "read_reference",
    "read_state_dict",
    "read_weights",
    "torch_model",
    "torch_state_dict",
]
