"""Torch weights → gaxjax checkpoints. Needs torch (``pip install 'gaxjax[torch]'``)."""

from converters.bijection import convert_state_dict, guess_architecture, head_of, torch_state_dict
from converters.conversion import convert, pretrained
from converters.parity import parity_report
from converters.state_dict import read_state_dict
from converters.torchvision_weights import is_torchvision_name
from gaxjax.common.files import cache_folder, file_sha256

__all__ = [
    "cache_folder",
    "convert",
    "convert_state_dict",
    "file_sha256",
    "guess_architecture",
    "head_of",
    "is_torchvision_name",
    "parity_report",
    "pretrained",
    "read_state_dict",
    "torch_state_dict",
]
