"""Torch weights → a checkpoint of a hand-written network, proven against torch."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from converters.bijection import convert_state_dict, guess_architecture, head_of
from converters.digest import weights_sha256
from converters.normalization import class_names_of, normalization_of
from converters.own_logits import OwnLogits, logits_of_module, normalised, prove, read_reference
from converters.parity import check_parity, parity_report, require_room_for_proof
from converters.shards import file_of
from converters.state_dict import read_weights, weights_of
from converters.torch_weights import TorchWeights
from converters.torchvision_weights import (
    PublishedWeights,
    check_promised_hash,
    download,
    find_weights,
    is_torchvision_name,
    published_file,
)
from converters.variants import what_shares_keys
from gaxjax.common import UserError
from gaxjax.config import Triple
from gaxjax.models import (
    CheckpointMetadata,
    checkpoint,
    fold_batch_norm,
)

__all__ = ["OtherNetwork", "convert_family"]

_FAMILY_SIZE = 256
"""Of images of a hand-written network, as the paper takes them."""

_PACKAGES = ("gaxjax", "jax", "flax", "orbax-checkpoint", "torch", "torchvision")


class OtherNetwork(Exception):
    """A module has the keys of a hand-written network and computes something else."""


def convert_family(
    source: str | torch.nn.Module,
    output: Path,
    *,
    architecture: str | None,
    normalization: Literal["auto", "imagenet", "none"],
    given: tuple[Triple, Triple] | None,
    input_size: int | None,
    class_names: Path | Sequence[str] | None,
    decoding: Mapping[str, int | str] | None,
    reference: Path | None,
    ema: bool,
    binary: bool,
    note: Callable[[str], None],
) -> tuple[CheckpointMetadata, dict[str, Any]]:
    """Fill a hand-written network: see `converters.convert`, whose settings these are.

    Raises:
        UserError: as there.
        OtherNetwork: ``source`` is a module that computes something else.
    """
    input_size = input_size or _FAMILY_SIZE
    weights, published, origin = _read(source, architecture, ema=ema, binary=binary)
    if published is not None:
        architecture = published.architecture
    state_dict = weights.arrays
    architecture = architecture or guess_architecture(state_dict)
    model = convert_state_dict(state_dict, architecture)
    num_classes, head_bias = head_of(state_dict, architecture)
    if num_classes == 1:
        raise UserError(
            f"{origin['source']} has one logit z (a binary classifier, as BCEWithLogitsLoss trains "
            "it), and a CO score compares classes: give --binary, which makes two logits of it, "
            "[0, z]: class 0 the negative, class 1 the positive (gaxjax convert FILE --binary)"
        )
    for sentence in weights.notes:
        note(sentence)

    mean, std, assumed = normalization_of(weights, num_classes, normalization, given, published)
    assumptions = dict(weights.assumptions)
    assumptions.pop("normalization", None)
    if assumed:
        assumptions["normalization"] = assumed
    own: OwnLogits | None = None
    inside = None if weights.mean is None or weights.std is None else (weights.mean, weights.std)
    if reference is not None:
        own = read_reference(reference)
    elif isinstance(source, torch.nn.Module):
        images = np.random.default_rng(0).random((4, input_size, input_size, 3), np.float32)
        if inside is None and mean is not None and std is not None:
            images = normalised(images, mean, std)
        try:
            own = logits_of_module(source, images, origin["source"])
        except UserError as error:
            raise OtherNetwork(str(error)) from error
    if own is None and published is None:
        whose = "gaxjax's" if architecture == "small_resnet" else "torchvision's"
        assumptions["network"] = (
            f"the network is taken to be {whose} {architecture}, by its keys and shapes alone, "
            f"which others share ({what_shares_keys(architecture)}): "
            "gaxjax convert --reference FILE.npz proves which it is"
        )
    proof = None
    if own is not None:
        network = fold_batch_norm(model)
        try:
            proof = prove(
                own, network, state_dict, architecture, head_bias=head_bias, inside=inside
            )
        except UserError as error:
            if reference is not None:
                raise
            told = f"{origin['source']} has the keys of {architecture} and computes something else"
            raise OtherNetwork(told) from error
    metadata = CheckpointMetadata(
        architecture=architecture,
        num_classes=num_classes,
        head_bias=head_bias,
        mean=mean,
        std=std,
        input_size=input_size,
        decoding=dict(decoding or {}),
        class_names=class_names_of(class_names, num_classes),
        assumptions=assumptions,
        ema=ema,
        binary=binary,
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        source=origin["source"],
        source_sha256=origin.get("source_sha256", ""),
    )
    require_room_for_proof(model, num_classes, input_size)
    parity = parity_report(
        model,
        state_dict,
        architecture,
        num_classes=num_classes,
        head_bias=head_bias,
        mean=mean,
        std=std,
        size=input_size,
    )
    check_parity(parity, architecture, "torch")
    if proof is not None:
        parity["reference"] = proof
    checkpoint.save(output, model, metadata, parity=parity)
    return metadata, parity


def _read(
    source: str | torch.nn.Module, architecture: str | None, *, ema: bool, binary: bool
) -> tuple[TorchWeights, PublishedWeights | None, dict[str, str]]:
    """Return the weights, torchvision's word on them where they are its own, and their origin."""
    if isinstance(source, torch.nn.Module):
        name = f"torch module {type(source).__name__}"
        try:
            return weights_of(source.state_dict(), ema=ema, binary=binary), None, {"source": name}
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    published = None
    if not Path(source).exists() and is_torchvision_name(str(source)):
        published = find_weights(str(source))
        if architecture not in (None, published.architecture):
            raise UserError(
                f"--architecture {architecture} contradicts the torchvision name {source}; "
                f"leave it out"
            )
        if ema or binary:
            raise UserError(f"--ema and --binary are for a torch file; {source} needs neither")
    path = download(published) if published else _existing(str(source))
    weights = read_weights(path, ema=ema, binary=binary)
    sha256 = weights_sha256(file_of(path))
    published = published or published_file(path)
    if published is not None:
        check_promised_hash(path, sha256)
    origin = {"source": published.name if published else path.name, "source_sha256": sha256}
    return weights, published, origin


def _existing(source: str) -> Path:
    path = Path(source)
    if not path.exists() and not path.suffix and path.name == source:
        find_weights(source)  # no file, no suffix: a misspelt torchvision name
    return path
