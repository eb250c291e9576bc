"""The ways to read label texts: as class indices, by the model's names, or in sorted order."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from gaxjax.common import UserError, counted, nearest
from gaxjax.data.labels import imagenet_wnids

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
_MOST_NAMED = 100_000  # classes beyond it are numbers without names
_MOST_CLASSES = 2**31  # labels are int32


@dataclass(frozen=True)
class ModelClasses:
    """The classes that labels must fit."""

    count: int | None = None
    """How many; None where no model is known."""
    names: tuple[str, ...] | None = None
    """The model's own names in index order, where it has them."""

    def __post_init__(self) -> None:
        if self.names is not None and self.count not in (None, len(self.names)):
            raise UserError(
                f"{len(self.names)} class names for {self.count} classes: give one name per class"
            )

    @property
    def num_classes(self) -> int | None:
        """How many classes there are, by the count or by the names."""
        return self.count if self.names is None else len(self.names)


@dataclass(frozen=True)
class LabelSpace:
    """The class indices that a set of label texts stands for."""

    num_classes: int
    """How many classes there are, those without an image included."""
    names: tuple[str, ...] | None
    """Name of each class in index order; None where labels are bare indices."""
    indices: Mapping[str, int]
    """Label text to class index, in [0, num_classes)."""
    kind: str
    """`ImageNet wnids`, `names` or `class indices`."""
    labels_from: str = ""
    """How it was found, a phrase for people."""
    notes: tuple[str, ...] = ()
    """What else they should know of it."""


@dataclass(frozen=True)
class Labels:
    """What is known of the label texts that are to be read; see `label_space` for each."""

    texts: tuple[str, ...]
    """All, sorted."""
    needed: tuple[str, ...]
    """Those that an image has, sorted."""
    model: ModelClasses
    noun: str
    source: object
    whose: str
    listed: bool

    @property
    def some(self) -> str:
        """The first of them, for messages."""
        return some_of(self.texts)

    @property
    def are_wnids(self) -> bool:
        """Whether all are ImageNet's."""
        return set(self.texts) <= set(imagenet_wnids())

    @property
    def kind(self) -> str:
        """As `LabelSpace.kind`, where they are no indices."""
        return "ImageNet wnids" if self.are_wnids else "names"


# --- Indices -------------------------------------------------------------------------------------


def by_index(labels: Labels) -> LabelSpace:
    """Take whole numbers as class indices."""
    model, noun, source = labels.model, labels.noun, labels.source
    count = model.num_classes
    indices = {text: _index(text, labels) for text in labels.needed}
    low, high = min(indices.values()), max(indices.values())
    order = "" if labels.listed else ", or number them in sorted order by --label-by order"
    named = "label" if labels.listed else noun
    if low < 0:
        raise UserError(f"{source}: {named} {low} is below 0; class indices start at 0{order}")
    if count is not None and high >= count:
        one_based = (
            f"; they seem to count from 1: subtract 1 from each{order}"
            if low >= 1 and high == count
            else order
        )
        raise UserError(
            f"{source}: {named} {high} does not fit the model's {count} classes; class "
            f"indices go from 0 to {count - 1}{one_based}"
        )
    if not labels.listed and len(set(indices.values())) < len(indices):
        first, second = _two_with_one_index(indices)
        raise UserError(
            f"{source}: the {noun}s {first} and {second} are the same class index; put their "
            "images into one"
        )
    if count is None:
        numbers = [text for text in labels.texts if WHOLE_NUMBER.fullmatch(text)]
        count = 1 + max(_index(text, labels) for text in numbers)
    names = model.names
    if names is None and not labels.listed and count <= _MOST_NAMED:
        text_of = {index: text for text, index in indices.items()}
        names = tuple(text_of.get(index, str(index)) for index in range(count))
    present = f"{low} to {high}" if low < high else f"{low}"
    notes: tuple[str, ...] = ()
    if low == 1 and 2 < len(set(indices.values())) == high:
        notes = (
            f"no image has the class index 0: where the labels 1 to {high} count from 1, "
            "subtract 1 from each",
        )
    said = f"{labels.whose}, which are class indices ({present})"
    kind = "class indices" if labels.listed else "names"
    return LabelSpace(count, names, indices, kind, said, notes)


def _index(text: str, labels: Labels) -> int:
    """Read a whole number, which may be too long for any type."""
    digits = text.lstrip("+-").lstrip("0")
    if len(digits) > 10 or int(text) >= _MOST_CLASSES:
        count = labels.model.num_classes
        fits = f"the model's {count} classes" if count is not None else "any model"
        raise UserError(
            f"{labels.source}: label {text[:40]} does not fit {fits}; class indices start at 0"
            + ("" if labels.listed else "; --label-by order sorts such names")
        )
    return int(text)


def _two_with_one_index(indices: Mapping[str, int]) -> tuple[str, str]:
    seen: dict[int, str] = {}
    for text, index in indices.items():
        if index in seen:
            return seen[index], text
        seen[index] = text
    raise AssertionError("no index is there twice")


# --- Names ---------------------------------------------------------------------------------------


def by_name(labels: Labels) -> LabelSpace:
    """Match the texts with the model's names: exactly, or but for case, blanks, - and _."""
    names = labels.model.names
    if names is None:
        raise UserError(
            "--label-by names: the model names no classes; name them when converting it "
            "(--class-names FILE), or leave the flag out"
        )
    exact: defaultdict[str, list[int]] = defaultdict(list)
    loose: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        exact[name].append(index)
        loose[loosely(name)].append(index)
    found: dict[str, int] = {}
    but_for_case = False
    for text in labels.texts:
        meant = exact.get(text) or loose.get(loosely(text), [])
        if len(meant) == 1:
            found[text] = meant[0]
            but_for_case |= text not in exact
        elif text in labels.needed:
            _refuse_name(text, meant, names, labels)
    said = f"{labels.whose}, matched by name with the model's class names"
    said += ", whatever their case, blanks, - and _" if but_for_case else ""
    return LabelSpace(len(names), names, found, labels.kind, said)


def loosely(name: str) -> str:
    """Write a name as people compare them: `Great_White shark` is `great white-shark`.

    Accents stay; only how they are written (one character or two) does not matter.
    """
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFKC", name).casefold())).strip()


def _refuse_name(text: str, meant: Sequence[int], names: Sequence[str], labels: Labels) -> NoReturn:
    by_index = (
        "give class indices instead"
        if labels.listed
        else "name the folders by class indices, or give a CSV file (path,label) with class indices"
    )
    if meant:
        raise UserError(
            f"the {labels.noun} {text} in {labels.source} may be any of the model's classes "
            f"{_and(f'{index} ({names[index]})' for index in meant)}; {by_index}"
        )
    known = set(map(loosely, names))
    unknown = [each for each in labels.needed if loosely(each) not in known]
    hint = nearest(text, list(dict.fromkeys(names)))
    order = (
        "; if they stand in the model's order, --label-by order numbers them so"
        if len(labels.texts) == len(names)
        else ""
    )
    raise UserError(
        f"{counted(len(labels.needed), labels.noun)} in {labels.source} "
        f"({some_of(labels.needed)}), but {text} is no class name of the model, whose "
        f"{len(names)} classes are "
        f"{some_of(names)}"
        + (f" ({len(unknown)} are none)" if len(unknown) > 1 else "")
        + f"; write the names as the model has them, or {by_index}{order}{hint}"
    )


# --- Order ---------------------------------------------------------------------------------------


def in_order(labels: Labels, reason: str) -> LabelSpace:
    """Number wnids by ImageNet's table, and others in sorted order."""
    names, table, count = labels.texts, imagenet_wnids(), labels.model.num_classes
    by_table = labels.are_wnids and count in (None, len(table))
    if by_table:
        names = table
    if count not in (None, len(names)):
        mend = (
            f"ImageNet wnids fit a model of 1000 classes or one of exactly {len(names)}"
            if labels.are_wnids
            else "give one class folder per class (it may be empty), or a CSV file (path,label) "
            "with class indices"
        )
        raise UserError(
            f"{counted(len(names), labels.noun)} in {labels.source} ({labels.some}), but the model "
            f"has {count} classes; {mend}"
        )
    indices = {name: index for index, name in enumerate(names)}
    if by_table:
        said = f"{labels.whose}, which are ImageNet wnids, by ImageNet's own order of the 1000"
        return LabelSpace(len(names), names, indices, labels.kind, said)
    said = f"{labels.whose} in sorted order, as torchvision's ImageFolder numbers them"
    said += pairs(indices, reason)
    notes: tuple[str, ...] = ()
    theirs = labels.model.names
    if theirs is not None:
        other = [name for name, index in indices.items() if theirs[index] != name]
        if other:
            notes = (
                f"{counted(len(other), labels.noun)} of {len(names)} bear another name than the "
                f"model's class with their index: {indices[other[0]]} is {other[0]} here, "
                f"{theirs[indices[other[0]]]} in the model",
            )
    return LabelSpace(len(names), names, indices, labels.kind, said, notes)


def pairs(indices: Mapping[str, int], reason: str = "") -> str:
    """Write the first texts with their indices, and a reason, in brackets."""
    first = [f"{name} = {index}" for name, index in list(indices.items())[:3]]
    return f" ({', '.join(first)}{', …' * (len(indices) > 3)}{'; ' * bool(reason)}{reason})"


def some_of(texts: Sequence[str]) -> str:
    """Write the first few."""
    return ", ".join(texts[:3]) + (", …" if len(texts) > 3 else "")


def _and(texts: Iterable[str]) -> str:
    return " and ".join(texts)
