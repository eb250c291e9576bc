"""Which of a file's tensors are the network: wrappers, averaged copies and strangers beside it."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from converters.inert_pickle import Stranger, class_name
from gaxjax.common import UserError

__all__ = ["Network", "choose"]

Tensors = dict[str, torch.Tensor]

_STEMS = ("layer1.0.conv1.weight", "features.0.weight")
"""A key of every network that we have: what stands before it is the network's own prefix."""

_NOT_WEIGHTS = re.compile(r"(^|_)(opt|optim\w*|lr|scheduler\w*|scaler|amp|hparams|hyper_\w+)($|_)")
_AVERAGED = re.compile(r"^(ema\w*|\w+ema|swa|polyak|shadow|averag\w*)$")
_BESIDE = re.compile(
    r"criteri|loss|metric|accuracy|auroc|confusion|class_weight|pos_weight|"
    r"(^|_)(acc|auc|f1|map|mcc|kappa|precision|recall)(_|\d|$)|^ema_"
)
"""What trainings keep in a module beside its network, and what its logits do not depend on."""
_COUNTS = re.compile(r"^(iter\w*|epoch\w*|step\w*|num_updates|n_averaged|decay|global_step)$")


@dataclass(frozen=True)
class Network:
    """One network's tensors within a file.

    Attributes:
        tensors: by key, without the prefix.
        outside: the other tensors of the same dictionary.
        place: where it was found: ``state_dict``, ``model.*``; empty for the whole file.
        averaged: whether its name says that it is an average along the training.
        assumption: what was chosen without being told; empty where there was no choice.
        note: what stood beside it; empty for nothing.
    """

    tensors: Tensors
    outside: Tensors
    place: str
    averaged: bool
    assumption: str = ""
    note: str = ""


def choose(loaded: Any, *, ema: bool, names: Collection[str] = ()) -> Network:
    """Find the network in what a file holds.

    Args:
        loaded: what the file holds.
        ema: take averaged weights; plain ones where they are when not.
        names: the keys of the network that is looked for; without them it is one of ours.

    Raises:
        UserError: none, several that nothing tells apart, or no averaged one where it was asked.
    """
    states = list(_states(loaded, (), set()))
    found = [
        network
        for path, state in states
        for network in _networks(path, state, loaded, frozenset(names))
    ]
    known = [network for network in found if _is_known(network.tensors, names)]
    found = known or found
    if not found:
        raise UserError(_what_it_holds(loaded))
    plain = [network for network in found if not network.averaged]
    averaged = [network for network in found if network.averaged]
    if ema and not averaged:
        raise UserError("it holds no averaged weights (EMA): leave out --ema")
    pool = averaged if ema or not plain else plain
    if any(not _same(pool[0].tensors, other.tensors) for other in pool[1:]):
        raise UserError(_several(pool))
    taken = pool[0]
    assumption = ""
    if plain and averaged and not ema:
        assumption = (
            f"the plain weights ({taken.place}) were taken, not the averaged ones "
            f"({averaged[0].place}), which the file holds too: --ema takes those"
        )
    elif averaged and not plain and not ema:
        assumption = f"the weights are averaged ones ({taken.place or 'AveragedModel'}), the only "
        assumption += "ones in the file"
    return Network(
        **{name: getattr(taken, name) for name in ("tensors", "outside", "place", "averaged")},
        assumption=assumption,
        note=_beside(loaded, found),
    )


def _states(
    value: Any, path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Yield every dictionary of parameters, outermost first, with the keys that lead to it."""
    if id(value) in seen or len(path) > 6 or any(_NOT_WEIGHTS.search(word) for word in path):
        return
    seen = seen | {id(value)}
    if isinstance(value, Mapping):
        tensors = {str(key): item for key, item in value.items() if isinstance(item, torch.Tensor)}
        quantised = any("_packed_params" in str(key) for key in value)
        if any(key.rpartition(".")[2] == "weight" for key in tensors) or quantised:
            if quantised:
                _refuse_quantised()
            yield path, tensors
        for key, item in value.items():
            yield from _states(item, (*path, str(key)), seen)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value[:20]):
            yield from _states(item, (*path, str(number)), seen)


def _refuse_quantised() -> None:
    raise UserError(
        "it is a quantised network (_packed_params); save the network's floating-point weights, "
        "before torch.ao.quantization.convert"
    )


def _is_known(tensors: Tensors, names: Collection[str]) -> bool:
    if names:
        return 2 * sum(name in tensors for name in names) >= len(names)
    return any(stem in tensors for stem in _STEMS)


def _networks(
    path: tuple[str, ...], state: Tensors, loaded: Any, names: frozenset[str]
) -> list[Network]:
    """Split a dictionary by the prefixes under which the network stands."""
    if names:
        roots = _roots_by_names(state, names)
    else:
        roots = sorted(dict.fromkeys(root for key in state for root in _roots_of(key)), key=len)
    own = names or _STEMS
    if not roots:
        prefix = _common_prefix(state)
        inside = {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}
        outside = {key: t for key, t in state.items() if not key.startswith(prefix)}
        return [Network(inside, outside, ".".join(path), _is_averaged((*path, prefix)))]
    networks = []
    for root in roots:
        deeper = [other for other in roots if other != root and other.startswith(root)]
        inside, outside = {}, {}
        for key, tensor in state.items():
            name = key.removeprefix(root)
            ours = key.startswith(root) and not any(key.startswith(other) for other in deeper)
            if ours and (not _is_beside(name) or name in own):
                inside[name] = tensor
            elif not any(other != root and key.startswith(other) for other in roots):
                outside[key] = tensor
        averaged = _is_averaged((*path, root)) or (
            len(roots) == 1 and any(_last(key) == "n_averaged" for key in outside)
        )
        if path and path[-1] in ("state_dict", "current_model_state"):
            parent = _at(loaded, path[:-1])
            if isinstance(parent, Mapping) and "current_model_state" in parent:
                averaged = path[-1] == "state_dict"  # as Lightning's WeightAveraging leaves them
        place = ".".join(path)
        if len(roots) > 1:
            place = f"{place} " * bool(path) + (f"{root}*" if root else "without a prefix")
        networks.append(Network(inside, outside, place, averaged))
    return networks


def _roots_of(key: str) -> Iterator[str]:
    for stem in _STEMS:
        root = key.removesuffix(stem)
        if root != key and (not root or root.endswith(".")):
            yield root


def _roots_by_names(state: Tensors, names: frozenset[str]) -> list[str]:
    """Return the prefixes under which most of a network's keys stand, shortest first."""
    counts: dict[str, int] = {}
    for key in state:
        words = key.split(".")
        for start in range(len(words)):
            if ".".join(words[start:]) in names:
                root = "".join(f"{word}." for word in words[:start])
                counts[root] = counts.get(root, 0) + 1
    # One layer's key may be another's end: `0.weight` that of `1.0.weight`.
    most = max(counts.values(), default=0)
    return sorted((root for root, count in counts.items() if 2 * count >= most), key=len)


def _common_prefix(state: Tensors) -> str:
    """Return the dotted prefix that all weights share."""
    keys = [key for key in state if _last(key) in ("weight", "bias", "running_mean")]
    prefix = ""
    while keys and all("." in key[len(prefix) :] for key in keys):
        word = keys[0][len(prefix) :].partition(".")[0]
        if not all(key[len(prefix) :].startswith(f"{word}.") for key in keys):
            break
        if all(key[len(prefix) + len(word) + 1 :].count(".") == 0 for key in keys):
            break  # a single layer: its own name is no wrapping
        prefix += f"{word}."
    return prefix


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _at(loaded: Any, path: Sequence[str]) -> Any:
    for word in path:
        if not isinstance(loaded, Mapping):
            return None
        loaded = loaded.get(word)
    return loaded


def _is_averaged(path: Sequence[str]) -> bool:
    words = re.split(r"[^a-z0-9]+", ".".join(path).lower())
    return any(_AVERAGED.match(word) and word not in ("schema", "cinema") for word in words)


def _is_beside(key: str) -> bool:
    """Tell whether a tensor has no part in the logits, by its name."""
    words = key.lower().split(".")
    return any(_BESIDE.search(word) for word in words[:-1] or words) or bool(
        _COUNTS.match(words[-1])
    )


def harmless(outside: Tensors) -> list[str]:
    """Return the keys outside a network that its logits do not depend on, by their names."""
    return [
        key
        for key in outside
        if _is_beside(key) or _is_averaged(key.split(".")[:1]) or key.lower().startswith("ema_")
    ]


def _same(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(
        first[key].shape == second[key].shape and torch.equal(first[key], second[key])
        for key in first
    )


def _several(pool: list[Network]) -> str:
    places = [network.place or "(the whole file)" for network in pool]
    first = pool[0].place
    path, _, root = first.rpartition(" ")
    inner = first.split(".") if not root.endswith("*") else path.split(".") * bool(path)
    taken = "torch.load(FILE)" + "".join(
        f"[{word if word.isdigit() else repr(word)}]" for word in inner if word
    )
    if root.endswith("*"):
        root = root[:-1]
        taken = (
            f"{{k.removeprefix({root!r}): v for k, v in {taken}.items() if k.startswith({root!r})}}"
        )
    return (
        f"it holds several networks, and nothing says which is meant: {', '.join(places[:6])}; "
        f"save the one that you mean, such as: torch.save({taken}, NEW)"
    )


def _beside(loaded: Any, found: list[Network]) -> str:
    """Name what a file holds at its top beside networks, with the classes of what is no data."""
    if not isinstance(loaded, Mapping):
        return ""
    taken = {network.place.split(" ")[0].split(".")[0] for network in found}
    names = []
    for key, item in loaded.items():
        if str(key) in taken or isinstance(item, torch.Tensor):
            continue
        strange = sorted(_strangers(item))
        names.append(f"{key} ({', '.join(strange[:3])})" if strange else str(key))
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"left aside, and none of its code was run: {shown}" if names else ""


def _strangers(value: Any) -> set[str]:
    """Return the classes of strangers within; a training's state may nest them deeply."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = [value]
    while waiting and len(seen) < 2000:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Stranger) or (isinstance(item, type) and issubclass(item, Stranger)):
            found.add(class_name(item))
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set):
            waiting += item
    return found


def _what_it_holds(loaded: Any) -> str:
    if isinstance(loaded, Stranger):
        return (
            f"it holds a pickled {class_name(loaded)} (where that is a whole model, its code would "
            "run on loading); save model.state_dict() instead: torch.save(model.state_dict(), FILE)"
        )
    mend = "save it with torch.save(model.state_dict(), FILE)"
    if isinstance(loaded, Mapping):
        items = list(loaded.items())
        whole = [f"{key} is a {class_name(v)}" for key, v in items if isinstance(v, Stranger)]
        if any("numpy" in text for text in whole):
            return (
                "its weights are NumPy arrays; save tensors: "
                "torch.save({k: torch.as_tensor(v) for k, v in WEIGHTS.items()}, FILE)"
            )
        if whole:
            return f"it holds no state dict, but whole objects ({'; '.join(whole[:3])}); {mend}"
        if items and all(isinstance(item, torch.Tensor) for _, item in items):
            what = "tensors without a weight among them"
            return f"it holds {what} ({', '.join(str(key) for key, _ in items[:5])}); {mend}"
        keys = ", ".join(str(key)[:40] for key, _ in items[:5]) or "(none)"
        what = f"dictionary with the keys {keys}"
    else:
        what = class_name(loaded)
    return f"it holds a {what}, not a state dict (parameter name → tensor); {mend}"
