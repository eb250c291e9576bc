"""The classifiers by name, their checkpoint, and the one form in which everything uses them."""

from gaxjax.models.arrays import read_arrays, read_description, write_arrays
from gaxjax.models.checkpoint import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CheckpointMetadata,
    Triple,
    load_classifier,
    named_weights,
)
from gaxjax.models.classifier import (
    Classifier,
    as_classifier,
    as_unit_range,
    check_image_size,
    network_logits,
)
from gaxjax.models.layers import Conv
from gaxjax.models.registry import abstract, architectures, build, head_name
from gaxjax.models.rewriting import fast_form, fold_batch_norm
from gaxjax.models.training import Trainer, TrainState, batch_rows

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
    "head_name",
    "load_classifier",
    "named_weights",
    "network_logits",
    "read_arrays",
    "read_description",
    "write_arrays",
]
