"""Classifiers on disk: an Orbax folder with weights, and beside it what they mean.

```
CHECKPOINT/
  gaxjax.json   format, CheckpointMetadata, parity report, SHA-256 of it and of every other file
  weights/      Orbax: one array per dotted name, such as layer1.0.conv1.kernel
  graph.json    of an imported network alone: its operations, as `gaxjax.models.Graph`
```
"""

import dataclasses
import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gaxjax.common import (
    UserError,
    cannot_write,
    described,
    one_line,
    own_numbers,
    path_to_read,
    path_to_write,
    ran_out,
)
from gaxjax.config import (
    MOST_PIXELS,
    DataConfig,
    Triple,
    from_dict,
    require_types,
)
from gaxjax.models import registry
from gaxjax.models.arrays import (
    read_arrays,
    read_description,
    read_text,
    write_arrays,
)
from gaxjax.models.classifier import Classifier, as_classifier
from gaxjax.models.graph.form import Graph
from gaxjax.models.graph.network import GraphNetwork
from gaxjax.models.rewriting import fold_batch_norm

__all__ = [
    "CheckpointMetadata",
    "check_destination",
    "fingerprint",
    "is_checkpoint",
    "is_named",
    "load",
    "load_classifier",
    "named_weights",
    "read_parity",
    "save",
    "with_normalization",
]

_FORMAT, _FORMAT_WITH_GRAPH = 1, 2
_DESCRIPTION, _GRAPH = "gaxjax.json", "graph.json"


class _Format(TypedDict):
    format: int


class _Description(_Format):
    metadata: dict[str, Any]
    files: dict[str, str]
    parity: NotRequired[dict[str, Any] | None]
    arrays: NotRequired[dict[str, tuple[str, list[int]]]]


@dataclass(frozen=True, kw_only=True)
class CheckpointMetadata:
    """What a classifier's weights mean."""

    architecture: str
    """A name of `gaxjax.models.architectures`; of an imported network, any name."""
    num_classes: int
    """Length of the logits."""
    head_bias: bool = True
    """Whether the last layer has a bias."""
    mean: Triple | None = None
    """RGB mean of the normalisation it was trained with, for pixels in [0, 1]; None: none."""
    std: Triple | None = None
    """RGB standard deviation, likewise."""
    input_size: int = 256
    """Height and width of its images, in pixels, unless told otherwise."""
    decoding: dict[str, int | str] = field(default_factory=dict)
    """How its images are made of files, where that is known: `resize`, `resize_size` and
    `interpolation`, as in `gaxjax.config.DataConfig`."""
    imported: bool = False
    """Whether it is a graph of torch's operations; else a network of `architectures`."""
    origin: dict[str, str] = field(default_factory=dict)
    """Of an imported network, what builds it in torch again: `kind` (torchvision, timm, python or
    module) and what that needs, as in `converters.torch_module`."""
    class_names: tuple[str, ...] | None = None
    """One name per class, in the order of the logits."""
    validation_accuracy: float | None = None
    """Share of the validation images classified correctly, where it was trained here."""
    assumptions: dict[str, str] = field(default_factory=dict)
    """What is not declared but taken for granted, by topic, as in `Classifier.assumptions`."""
    source: str = ""
    """Name of the file it was converted from, or of torchvision's weights."""
    source_sha256: str = ""
    """SHA-256 of that file, in hexadecimal."""
    ema: bool = False
    """Whether that file's averaged weights were taken, where it holds both."""
    binary: bool = False
    """Whether two logits, [0, z], were made of that file's one, z."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that made it."""

    def __post_init__(self) -> None:
        require_types(self)
        if not self.decoding.keys() <= {"resize", "resize_size", "interpolation"}:
            raise UserError(f"a checkpoint's decoding has unknown settings: {list(self.decoding)}")
        settings: dict[str, Any] = dict(self.decoding)
        DataConfig(data=".", **settings)  # raises for others than its own
        for name, least, most in (
            ("num_classes", 1, 2**31 - 1),
            ("input_size", 1, MOST_PIXELS),
            ("validation_accuracy", 0, 1),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UserError(
                    f"a checkpoint's {name} must lie in {least} … {most}; got {described(value)}"
                )
        if (self.mean is None) != (self.std is None):
            raise UserError("a checkpoint declares both mean and std, or neither")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and not all(math.isfinite(value) for value in values):
                raise UserError(f"a checkpoint's {name} must be finite numbers; got {values}")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise UserError(f"a checkpoint's std must be above 0; got {self.std}")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise UserError(
                f"{len(self.class_names)} class names for {self.num_classes} classes: "
                f"give one name per class, in the order of the logits"
            )


def with_normalization(
    metadata: CheckpointMetadata, mean: Triple, std: Triple
) -> CheckpointMetadata:
    """Return what a checkpoint means under a mean and std that were given in place of its own."""
    others = {key: text for key, text in metadata.assumptions.items() if key != "normalization"}
    if (mean, std) != (metadata.mean, metadata.std):
        own = "none" if metadata.mean is None else f"mean {metadata.mean}, std {metadata.std}"
        verb = "assumes" if "normalization" in metadata.assumptions else "declares"
        others["normalization"] = (
            f"normalisation: mean {mean}, std {std}, as given; the checkpoint {verb} {own}"
        )
    return dataclasses.replace(metadata, mean=mean, std=std, assumptions=others)


@own_numbers()
def save(
    path: Path | str,
    model: nnx.Module,
    metadata: CheckpointMetadata,
    *,
    parity: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint whole or not at all: to a sibling folder first, then renamed.

    Args:
        path: Folder to make. An earlier checkpoint there is replaced, an empty folder is used.
        model: What `gaxjax.models.build` returns, or a `GraphNetwork`; batch norm not folded.
        metadata: What the weights mean.
        parity: Report of the comparison with torch, kept for the reader.

    Raises:
        UserError: ``path`` is a file, or a folder that holds something else; or it cannot be
            written.
    """
    path = path_to_write(path, "the checkpoint").absolute()
    check_destination(path)
    weights = {name: jnp.asarray(array) for name, array in named_weights(model).items()}
    about = {"format": _FORMAT, "metadata": dataclasses.asdict(metadata), "parity": parity}
    texts = {}
    assert metadata.imported == isinstance(model, GraphNetwork)
    if isinstance(model, GraphNetwork):
        about["format"] = _FORMAT_WITH_GRAPH
        about["arrays"] = {
            name: [str(array.dtype), list(array.shape)] for name, array in weights.items()
        }
        texts[_GRAPH] = model.graph.to_json()
    else:
        like = named_weights(_abstract_model(metadata))
        assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in like.items()}, (
            f"the model is no {metadata.architecture} with {metadata.num_classes} classes"
        )
    try:
        write_arrays(path, weights, _DESCRIPTION, about, texts)
    except (OSError, ValueError) as error:
        raise cannot_write(f"the checkpoint {path}", error) from error


@own_numbers()
def load(path: Path | str) -> tuple[nnx.Module, CheckpointMetadata]:
    """Read a checkpoint; torch is not needed.

    The model is built as shapes and filled from the file, so nothing is initialised in vain.

    Returns:
        The classifier in inference mode, its arrays on the default device, and its metadata.

    Raises:
        UserError: nothing at ``path``, no checkpoint, another format, or damaged weights.

    Example:
        >>> model, metadata = load("model.ckpt")
        >>> mean, std = jnp.array(metadata.mean), jnp.array(metadata.std)
        >>> model((images / 255.0 - mean) / std).shape
        (4, 10)
    """
    path = path_to_read(path, "the checkpoint").absolute()
    description = _read_description(path)
    metadata = _metadata(path, description)
    if metadata.imported:
        return _load_graph(path, description), metadata
    model = _abstract_model(metadata)
    try:
        arrays = read_arrays(path, description, named_weights(model))
    except (ValueError, OSError, MemoryError) as error:
        raise _damaged(path, error) from error
    state = nnx.state(model)
    for keys, variable in nnx.to_flat_state(state):
        variable.set_value(arrays[_dotted(keys)])
    nnx.update(model, state)
    return model, metadata


def _load_graph(path: Path, description: dict[str, Any]) -> GraphNetwork:
    try:
        graph = Graph.from_json(read_text(path, description, _GRAPH))
        like = {
            name: jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
            for name, (dtype, shape) in description["arrays"].items()
        }
        if like.keys() != set(graph.weights):
            raise ValueError(f"{_GRAPH} and {_DESCRIPTION} name other weights")
        return GraphNetwork(graph, read_arrays(path, description, like))
    except (ValueError, TypeError, KeyError, OverflowError, OSError, MemoryError) as error:
        raise _damaged(path, error) from error


def check_destination(path: Path | str) -> None:
    """Raise UserError where `save` would refuse ``path``; for asking before long work."""
    path = path_to_write(path, "--output").absolute()
    if path.exists() and not is_checkpoint(path) and not _is_empty_folder(path):
        raise UserError(
            f"{path} exists and is no gaxjax checkpoint; name a new folder, or remove it first"
        )


def is_checkpoint(path: Path | str) -> bool:
    """Tell whether ``path`` is a folder that `save` made."""
    return (Path(path) / _DESCRIPTION).is_file()


def is_named(path: Path) -> bool:
    """Tell whether a path that a user named is read as a checkpoint: whole, damaged or empty.

    A folder with a config.json is torch weights, as timm saves them.
    """
    return is_checkpoint(path) or (path.is_dir() and not (path / "config.json").exists())


def read_parity(path: Path | str) -> dict[str, Any] | None:
    """Return the parity report kept with a checkpoint, or None where there is none."""
    return _read_description(Path(path).absolute()).get("parity")


def fingerprint(model: nnx.Module) -> str:
    """Return the SHA-256 of all weights with their names, shapes and types, in hexadecimal."""
    digest = hashlib.sha256()
    if isinstance(model, GraphNetwork):
        digest.update(f"{model.graph.digest}\n".encode())
    for name, array in sorted(named_weights(model).items()):
        host = np.ascontiguousarray(array)
        digest.update(f"{name} {host.shape} {host.dtype}\n".encode())
        digest.update(host.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _dotted(keys: tuple[Any, ...]) -> str:
    return ".".join(str(key) for key in keys)


def named_weights(model: nnx.Module) -> dict[str, Any]:
    """Return a model's arrays (or shapes) by dotted name; random streams are not weights."""
    if isinstance(model, GraphNetwork):
        return {name: variable[...] for name, variable in model.weights.items()}
    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    return {_dotted(keys): leaf.get_value() for keys, leaf in nnx.to_flat_state(state)}


def _abstract_model(metadata: CheckpointMetadata) -> Any:
    return registry.abstract(
        metadata.architecture, num_classes=metadata.num_classes, head_bias=metadata.head_bias
    )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _read_description(path: Path) -> dict[str, Any]:
    mend = "make one with: gaxjax convert MODEL --output FOLDER"
    if not path.exists():
        raise UserError(f"no checkpoint at {path}: nothing is there; {mend}")
    if not is_checkpoint(path):
        raise UserError(f"{path} is no gaxjax checkpoint (no {_DESCRIPTION} in it); {mend}")
    try:
        found = read_description(path, _DESCRIPTION, _Format)["format"]
        if found not in (_FORMAT, _FORMAT_WITH_GRAPH):
            raise UserError(
                f"the checkpoint {path} has format {found}, this gaxjax reads "
                f"{_FORMAT} and {_FORMAT_WITH_GRAPH}; convert the weights again"
            )
        description = read_description(path, _DESCRIPTION, _Description)
    except ValueError as error:
        raise _damaged(path, error) from error
    return description


def _metadata(path: Path, description: dict[str, Any]) -> CheckpointMetadata:
    try:
        return from_dict(CheckpointMetadata, description["metadata"])
    except UserError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    reason = one_line(error) or "out of memory"
    if ran_out(error):
        return UserError(
            f"cannot read the checkpoint {path} now ({reason}); it may be whole: free memory or "
            "close files, and try again"
        )
    return UserError(f"the checkpoint {path} is damaged ({reason}); convert the weights again")


@own_numbers()
def load_classifier(
    path: Path, *, fold: bool = True, mean: Triple | None = None, std: Triple | None = None
) -> Classifier:
    """Load a checkpoint made by `gaxjax convert`.

    Args:
        path: the checkpoint's folder.
        fold: fold batch norm into the convolutions: the same function, faster. Without it every
            layer's output is torch's.
        mean: RGB mean of the normalisation, in place of the checkpoint's; together with `std`.
        std: RGB standard deviation, likewise.

    Raises:
        UserError: no checkpoint there, or a damaged one.
    """
    model, metadata = load(path)
    if mean is not None and std is not None:
        metadata = with_normalization(metadata, mean, std)
    declared = {name: getattr(metadata, name) for name in ("num_classes", "mean", "std")}
    classifier = as_classifier(model, **declared)
    if fold:
        fingerprint = classifier.fingerprint  # of the weights as they were trained
        classifier = as_classifier(fold_batch_norm(model), **declared, fingerprint=fingerprint)
    return dataclasses.replace(
        classifier,
        class_names=metadata.class_names,
        input_size=metadata.input_size,
        validation_accuracy=metadata.validation_accuracy,
        decoding=metadata.decoding,
        assumptions=metadata.assumptions,
        name=metadata.architecture,
    )
