"""Any torch network → a checkpoint that holds it as a graph, proven against the network itself."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from converters.blueprint import scaled_decoding
from converters.exported import import_module
from converters.logits_module import logits_of
from converters.normalization import class_names_of, normalization_of
from converters.own_logits import prove as proven_by
from converters.own_logits import read_reference
from converters.parity import check_parity, module_parity, require_room_for_proof
from converters.torch_module import TorchSource, open_source
from gaxjax.config import Triple
from gaxjax.models import (
    CheckpointMetadata,
    GraphNetwork,
)

__all__ = ["GraphConversion", "convert_to_graph"]

_USUAL_SIZE = 224
"""Of images, where nothing is known: what most networks are trained on."""
_PACKAGES = ("gaxjax", "jax", "flax", "orbax-checkpoint", "torch", "torchvision", "timm")


@dataclass(frozen=True, eq=False)
class GraphConversion:
    """An imported network, not yet written.

    Attributes:
        network: as it runs in JAX.
        metadata: what its weights mean.
        parity: how far it is from torch; see `module_parity`.
    """

    network: GraphNetwork
    metadata: CheckpointMetadata
    parity: dict[str, Any]


def convert_to_graph(
    source: str | nn.Module,
    *,
    architecture: str | None = None,
    weights: Path | None = None,
    logits: str | None = None,
    normalization: Literal["auto", "imagenet", "none"] = "auto",
    given: tuple[Triple, Triple] | None = None,
    input_size: int | None = None,
    class_names: Path | Sequence[str] | None = None,
    decoding: Mapping[str, int | str] | None = None,
    reference: Path | None = None,
    ema: bool = False,
    binary: bool = False,
    prove: bool = True,
    note: Callable[[str], None] = lambda _: None,
) -> GraphConversion:
    """Import a torch network as a graph, and prove it against the network itself.

    Args:
        source: as for `converters.torch_module.open_source`.
        architecture: likewise.
        weights: likewise.
        logits: the name of the output that is the logits, where there are several.
        normalization: auto, imagenet or none, as for `converters.convert`.
        given: mean and std as the user gave them.
        input_size: height and width of its images; its makers' own, or 224, where None.
        class_names: a text file, or the names.
        decoding: how images are made of files; its makers' own where None.
        reference: inputs and logits of the network that was trained.
        ema: take the averaged weights of a file that holds both.
        binary: make two logits, [0, z], of a network with one logit z.
        prove: compare it with torch; without it the report is empty.
        note: called with a sentence for each thing that a user may want to know.

    Raises:
        UserError: no such source, weights that do not fit, or a network that cannot be imported.
        RuntimeError: the graph and the network disagree.
    """
    opened = open_source(
        source, architecture=architecture, weights=weights, ema=ema, size=input_size
    )
    for sentence in opened.notes:
        note(sentence)
    size = input_size or (opened.preset.size if opened.preset else _USUAL_SIZE)
    imported = import_module(opened.module, size=size, logits=logits, binary=binary)
    for sentence in imported.notes:
        note(sentence)
    network = GraphNetwork(imported.graph, imported.weights)
    theirs, num_classes = logits_of(
        opened.module, imported.graph.image, wanted=logits, binary=binary
    )
    mean, std, assumptions = _normalization(opened, num_classes, normalization, given)
    told = {"logits": theirs.output} if theirs.output else {}
    told |= ({"grey": "yes"} if theirs.grey else {}) | ({"binary": "yes"} if binary else {})
    preset = opened.preset if opened.preset and opened.preset.num_classes == num_classes else None
    if decoding is None:
        decoding = scaled_decoding(preset, size) if preset else {}
    named = preset.class_names if class_names is None and preset else None
    metadata = CheckpointMetadata(
        architecture=opened.name,
        num_classes=num_classes,
        mean=mean,
        std=std,
        input_size=size,
        decoding=dict(decoding),
        imported=True,
        origin=opened.origin | told,
        class_names=named or class_names_of(class_names, num_classes),
        assumptions=assumptions,
        ema=ema,
        binary=binary,
        versions=_versions(),
        source=opened.source,
        source_sha256=opened.sha256,
    )
    parity: dict[str, Any] = {}
    if prove:
        require_room_for_proof(network, num_classes, size)
        parity = {"against": opened.spoken} | module_parity(
            network, theirs, num_classes=num_classes, mean=mean, std=std, size=size
        )
        check_parity(parity, opened.name, f"{opened.spoken} in torch")
    if reference is not None:
        parity["reference"] = proven_by(read_reference(reference), network, None, opened.spoken)
        assumptions.pop("network", None)
    return GraphConversion(network, metadata, parity)


def _normalization(
    opened: TorchSource,
    num_classes: int,
    normalization: str,
    given: tuple[Triple, Triple] | None,
) -> tuple[Triple | None, Triple | None, dict[str, str]]:
    """Return mean and std, and all that is taken for granted."""
    assumptions = dict(opened.assumptions)
    assumptions.pop("normalization", None)
    auto = given is None and normalization == "auto"
    preset, likely = opened.preset, opened.likely
    if auto and opened.normalises:
        return None, None, assumptions
    silent = auto and opened.weights.mean is None
    if silent and preset and preset.num_classes == num_classes:
        return preset.mean, preset.std, assumptions
    if silent and likely and likely.num_classes == num_classes:
        assumptions["normalization"] = (
            f"the mean and std of {opened.spoken} as its makers train it are assumed, because the "
            f"head has its {num_classes} classes; if it was trained otherwise give --mean R G B "
            "--std R G B (for plain pixels: --mean 0 0 0 --std 1 1 1)"
        )
        return likely.mean, likely.std, assumptions
    mean, std, assumed = normalization_of(opened.weights, num_classes, normalization, given)
    if assumed:
        assumptions["normalization"] = assumed
    return mean, std, assumptions


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # timm, where it is not installed
    return found
