"""A torch module as a classifier in JAX, at once and without a file: for notebooks."""

from dataclasses import replace

import jax
import numpy as np
import torch
from torch import nn

from converters.exported import import_module
from converters.logits_module import logits_of
from converters.user_code import resting
from gaxjax.common import own_numbers
from gaxjax.config import Triple
from gaxjax.models import Classifier, GraphNetwork, as_classifier, fold_batch_norm

__all__ = ["import_classifier"]

_MAX_LOGIT_DIFFERENCE = 1e-3
"""Relative, as for a checkpoint."""


@own_numbers()
def import_classifier(
    module: nn.Module,
    size: tuple[int, int],
    *,
    mean: Triple | None = None,
    std: Triple | None = None,
    fold: bool = True,
) -> Classifier:
    """Import a torch module for images of one size; nothing is written.

    Its logits are compared with torch's on one image of noise. `converters.convert_module` compares
    gradients too, and keeps the result.

    Args:
        module: images [B, 3, H, W] → logits [B, C]; it is copied, and run in eval mode.
        size: (height, width) of the images.
        mean: of its normalisation, for pixels in [0, 1]; together with `std`.
        std: likewise.
        fold: fold batch norm into the convolutions.

    Raises:
        UserError: it cannot be imported.

    Example:
        >>> import_classifier(net, (32, 32)).num_classes  # doctest: +SKIP
        10
    """
    theirs = resting(module)
    imported = import_module(theirs, size=size)
    network = GraphNetwork(imported.graph, imported.weights)
    logits, num_classes = logits_of(theirs, imported.graph.image, wanted=None, binary=False)
    image = np.random.default_rng(0).random((1, *size, 3), np.float32)
    with torch.no_grad():
        wanted = logits(torch.from_numpy(image.transpose(0, 3, 1, 2).copy())).numpy()
    classifier = as_classifier(network, num_classes=num_classes, mean=mean, std=std)
    with jax.default_matmul_precision("highest"):
        given = np.asarray(jax.jit(classifier.apply)(classifier.weights, image))
    worst = float(np.abs(given - wanted).max() / max(np.abs(wanted).max(), 1e-30))
    if not worst < _MAX_LOGIT_DIFFERENCE:
        raise RuntimeError(
            f"the imported {type(module).__name__} disagrees with torch: logits differ by "
            f"{worst:.1e} of the largest"
        )
    if fold:
        folded = fold_batch_norm(network)
        own = classifier.fingerprint
        classifier = as_classifier(
            folded, num_classes=num_classes, mean=mean, std=std, fingerprint=own
        )
    notes = {f"import {number}": text for number, text in enumerate(imported.notes, 1)}
    return replace(classifier, name=type(theirs).__name__, assumptions=notes)
