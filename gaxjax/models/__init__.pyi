from .arrays import read_arrays, read_description, write_arrays
from .checkpoint import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CheckpointMetadata,
    Triple,
    load_classifier,
    named_weights,
)
from .classifier import Classifier, as_classifier, as_unit_range, check_image_size, network_logits
from .layers import Conv
from .memory import forward_bytes, gradient_bytes
from .registry import abstract, architectures, build, head_name
from .rewriting import fast_form, fold_batch_norm
from .training import Trainer, TrainState, batch_rows

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "CheckpointMetadata",
    "Classifier",
    "Conv",
    "TrainState",
    "Trainer",
    "Triple",
    "abstract",
    "architectures",
    "as_classifier",
    "as_unit_range",
    "batch_rows",
    "build",
    "check_image_size",
    "fast_form",
    "fold_batch_norm",
    "forward_bytes",
    "gradient_bytes",
    "head_name",
    "load_classifier",
    "named_weights",
    "network_logits",
    "read_arrays",
    "read_description",
    "write_arrays",
]
