from .arrays import read_arrays, read_description, write_arrays
from .checkpoint import (
    CheckpointMetadata,
    load_classifier,
    named_weights,
)
from .classifier import Classifier, as_classifier, as_unit_range, network_logits, renormalized
from .graph.form import IMAGE, Graph, Node, Value, Weight, replaced
from .graph.network import GraphNetwork
from .graph.operations import OPERATIONS
from .graph.rewriting import flatten_channels_last
from .layers import Conv
from .memory import forward_bytes, gradient_bytes
from .registry import abstract, architectures, build, head_name
from .rewriting import fast_form, fold_batch_norm
from .strangers import is_torch_module
from .tracing import (
    check_classifier,
    check_differentiable,
    check_engine,
    check_image_size,
    check_outputs,
    checked_first,
    count_classes,
)
from .training import Trainer, TrainState, batch_rows

__all__ = [
    "IMAGE",
    "OPERATIONS",
    "CheckpointMetadata",
    "Classifier",
    "Conv",
    "Graph",
    "GraphNetwork",
    "Node",
    "TrainState",
    "Trainer",
    "Value",
    "Weight",
    "abstract",
    "architectures",
    "as_classifier",
    "as_unit_range",
    "batch_rows",
    "build",
    "check_classifier",
    "check_differentiable",
    "check_engine",
    "check_image_size",
    "check_outputs",
    "checked_first",
    "count_classes",
    "fast_form",
    "flatten_channels_last",
    "fold_batch_norm",
    "forward_bytes",
    "gradient_bytes",
    "head_name",
    "is_torch_module",
    "load_classifier",
    "named_weights",
    "network_logits",
    "read_arrays",
    "read_description",
    "renormalized",
    "replaced",
    "write_arrays",
]
