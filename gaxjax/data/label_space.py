"""Which class a label text means: by the model's names, as an index, by ImageNet's table, in order.

Numbers are class indices and are never sorted as text; names are matched with the model's names
where it has any. Where two readings are possible and differ, the user is asked (--label-by).
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from gaxjax.common import UserError, counted, nearest
from gaxjax.data.labels import imagenet_wnids

LabelBy = Literal["auto", "names", "indices", "order", "as before"]
"""The readings a user may ask for, and the one of earlier versions, for what they stored."""

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
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
class _Labels:
    """What is known of the label texts that are to be read."""

    texts: tuple[str, ...]
    needed: tuple[str, ...]
    model: ModelClasses
    noun: str
    source: object
    whose: str
    listed: bool

    @property
    def some(self) -> str:
        return _some(self.texts)

    @property
    def are_wnids(self) -> bool:
        return set(self.texts) <= set(imagenet_wnids())

    @property
    def kind(self) -> str:
        return "ImageNet wnids" if self.are_wnids else "names"


def label_space(
    texts: Collection[str],
    model: ModelClasses,
    *,
    noun: str,
    source: object,
    whose: str,
    by: LabelBy = "auto",
    listed: bool = False,
    empty: Collection[str] = (),
) -> LabelSpace:
    """Give every label text its class index.

    In this order: whole numbers are indices; names are matched with the model's names; ImageNet's
    wnids take their index from the table of 1000 for a model of 1000 classes, even when only some
    are present; other names are numbered in sorted order, as torchvision's ImageFolder numbers
    folders, where the model names no classes and has exactly as many.

    Args:
        texts: the distinct label texts.
        model: the classes they must fit.
        noun: what a text is, for error messages, such as `class folder`.
        source: where they were found, for error messages.
        whose: the same for `labels_from`, such as `class folders`.
        by: the reading that is asked for; auto chooses as above.
        listed: whether they are cells of a table: those never mix numbers and names.
        empty: texts that no image has; only the sorted order takes them into account.

    Returns:
        The label space.

    Raises:
        UserError: the texts do not fit the model, or mean one class by name and another by number.

    Example:
        >>> pets = dict(noun="class folder", source="pets", whose="class folders")
        >>> label_space({"dog", "cat"}, ModelClasses(2), **pets).indices
        {'cat': 0, 'dog': 1}
        >>> label_space({"dog", "cat"}, ModelClasses(2, ("dog", "cat")), **pets).indices
        {'cat': 1, 'dog': 0}
        >>> label_space({"10", "9"}, ModelClasses(11), **pets).indices
        {'10': 10, '9': 9}
    """
    needed = tuple(sorted(set(texts) - set(empty))) or tuple(sorted(texts))
    labels = _Labels(tuple(sorted(texts)), needed, model, noun, source, whose, listed)
    if by == "as before":
        return _as_before(labels)
    if by == "order":
        return _in_order(labels, "as --label-by order asks")
    numbers = [text for text in needed if _WHOLE_NUMBER.fullmatch(text)]
    if by == "indices":
        if len(numbers) < len(needed):
            name = min(set(needed) - set(numbers))
            raise UserError(
                f"--label-by indices: the {noun} {name} in {source} is no whole number; leave the "
                "flag out, or name all classes by their indices"
            )
        return _by_index(labels)
    if by == "names":
        return _by_name(labels)
    if len(numbers) == len(needed):
        return _by_name(labels) if _numbers_are_names(labels) else _by_index(labels)
    if listed:
        _refuse_half_numbers(labels, numbers)
    if model.names is not None:
        by_table = (
            labels.are_wnids
            and len(model.names) == len(imagenet_wnids())
            and set(labels.needed).isdisjoint(model.names)
        )
        return _in_order(labels, "") if by_table else _by_name(labels)
    if model.count is None:
        return _in_order(labels, "")
    _refuse_other_order_of_numbers(labels)
    return _in_order(labels, "the model names no classes")


def numbered_space(
    names: Sequence[str], model: ModelClasses, *, noun: str, source: object, by: LabelBy = "auto"
) -> LabelSpace:
    """Give the classes of a set that numbers them itself their index in the model.

    Args:
        names: the set's own names in the order of its numbers; the numbers, where it has no names.
        model: the classes they must fit, of which there are as many.
        noun: what they are, such as `label`.
        source: the set.
        by: names matches them with the model's names, auto too where the set has real names;
            indices and order keep the set's numbers.

    Raises:
        UserError: they are not the model's, or mean one class by name and another by number.

    Example:
        >>> numbered_space(("normal", "ill"), ModelClasses(2, ("Ill", "Normal")), noun="label",
        ...     source="a set").indices
        {'ill': 0, 'normal': 1}
    """
    whose = f"the labels of {source}"
    texts = tuple(sorted(names))
    labels = _Labels(texts, texts, model, noun, source, whose, listed=True)
    numeric = all(_WHOLE_NUMBER.fullmatch(name) for name in names)
    if by == "names" or (by == "auto" and model.names is not None and not numeric):
        return _by_name(labels)
    if by == "auto" and numeric and _numbers_are_names(labels):
        return _by_name(labels)
    indices = {name: index for index, name in enumerate(names)}
    said = f"{whose}, which are class indices{_pairs(indices) if not numeric else ''}"
    return LabelSpace(len(names), tuple(names), indices, "names", said)


# --- Indices -------------------------------------------------------------------------------------


def _numbers_are_names(labels: _Labels) -> bool:
    """Tell whether the model calls its classes by these numbers, and no index is meant.

    Raises:
        UserError: both could be meant, and they differ.
    """
    names = labels.model.names
    if names is None or any(names.count(text) != 1 for text in labels.needed):
        return False
    differing = [text for text in labels.needed if names.index(text) != int(text)]
    if not differing:
        return False
    if any(not 0 <= int(text) < len(names) for text in labels.needed):
        return True  # such as the names 1 to 10: no index is 10
    text = differing[0]
    raise UserError(
        f"the {labels.noun} {text} in {labels.source} may be the class with the index {text}, "
        f"which the model calls {names[int(text)]}, or the class {names.index(text)}, which it "
        f"calls {text}; say which by --label-by indices or --label-by names"
    )


def _by_index(labels: _Labels) -> LabelSpace:
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
        numbers = [text for text in labels.texts if _WHOLE_NUMBER.fullmatch(text)]
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


def _index(text: str, labels: _Labels) -> int:
    digits = text.lstrip("+-").lstrip("0")
    if len(digits) > 10 or int(text) >= _MOST_CLASSES:
        raise UserError(
            f"{labels.source}: label {text[:40]} is too large for a class index; class indices "
            "start at 0" + ("" if labels.listed else "; --label-by order sorts such names")
        )
    return int(text)


def _two_with_one_index(indices: Mapping[str, int]) -> tuple[str, str]:
    seen: dict[int, str] = {}
    for text, index in indices.items():
        if index in seen:
            return seen[index], text
        seen[index] = text
    raise AssertionError("no index is there twice")


def _refuse_half_numbers(labels: _Labels, numbers: Sequence[str]) -> None:
    """Refuse a table's numbers that are no whole ones, and those beside names."""
    odd = [text for text in labels.needed if text not in numbers and _is_number(text)]
    if odd:
        plain = "written otherwise than with the digits 0 to 9"
        what = "a decimal number" if re.search(r"[.eE]", odd[0]) else plain
        raise UserError(
            f"{labels.source}: label {odd[0]} is {what}; write class indices as whole numbers"
        )
    if numbers:
        name = min(set(labels.needed) - set(numbers))
        raise UserError(
            f"{labels.source} mixes class indices ({min(numbers)}) and names ({name}) in its label "
            "column; use one of the two"
        )


def _is_number(text: str) -> bool:
    """Tell whether Python or a spreadsheet takes a text for a number: 3.0, 1e3, ٣, 1_000."""
    try:
        value = float(text)
    except ValueError:
        return False
    return value - value == 0  # nan and inf are words


# --- Names ---------------------------------------------------------------------------------------


def _by_name(labels: _Labels) -> LabelSpace:
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
        loose[_loosely(name)].append(index)
    found: dict[str, int] = {}
    loosely = False
    for text in labels.texts:
        meant = exact.get(text) or loose.get(_loosely(text), [])
        if len(meant) == 1:
            found[text] = meant[0]
            loosely |= text not in exact
        elif text in labels.needed:
            _refuse_name(text, meant, names, labels)
    said = f"{labels.whose}, matched by name with the model's class names"
    said += ", whatever their case, blanks, - and _" if loosely else ""
    return LabelSpace(len(names), names, found, labels.kind, said)


def _loosely(name: str) -> str:
    """Write a name as people compare them: `Great_White shark` is `great white-shark`.

    Accents stay; only how they are written (one character or two) does not matter.
    """
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFKC", name).casefold())).strip()


def _refuse_name(
    text: str, meant: Sequence[int], names: Sequence[str], labels: _Labels
) -> NoReturn:
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
    unknown = [each for each in labels.needed if _loosely(each) not in map(_loosely, names)]
    hint = nearest(text, list(dict.fromkeys(names)))
    order = (
        "; if they stand in the model's order, --label-by order numbers them so"
        if len(labels.texts) == len(names)
        else ""
    )
    raise UserError(
        f"{counted(len(labels.needed), labels.noun)} in {labels.source} ({_some(labels.needed)}), "
        f"but {text} is no class name of the model, whose {len(names)} classes are "
        f"{_some(names)}{hint}"
        + (f" ({len(unknown)} are none)" if len(unknown) > 1 else "")
        + f"; write the names as the model has them, or {by_index}{order}"
    )


# --- Order ---------------------------------------------------------------------------------------


def _in_order(labels: _Labels, reason: str) -> LabelSpace:
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
    said += _pairs(indices, reason)
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


def _refuse_other_order_of_numbers(labels: _Labels) -> None:
    """Refuse numbers that lie beside names and would be sorted as text: 10 before 2."""
    for index, text in enumerate(labels.texts):
        if _WHOLE_NUMBER.fullmatch(text) and int(text[:12]) != index:
            raise UserError(
                f"{labels.source} mixes numbers and names ({labels.some}): as text, the "
                f"{labels.noun} {text} is class {index}; where that is meant, as by torchvision's "
                "ImageFolder, say --label-by order, else name all classes or number all"
            )


def _as_before(labels: _Labels) -> LabelSpace:
    """Read labels as versions did that knew nothing of the model's names."""
    plain = _Labels(**{**vars(labels), "model": ModelClasses(labels.model.num_classes)})
    numbers = [text for text in labels.texts if _WHOLE_NUMBER.fullmatch(text)]
    if labels.listed and len(numbers) == len(labels.texts):
        return _by_index(plain)
    return _in_order(plain, "as an earlier version did")


def _pairs(indices: Mapping[str, int], reason: str = "") -> str:
    first = [f"{name} = {index}" for name, index in list(indices.items())[:3]]
    return f" ({', '.join(first)}{', …' * (len(indices) > 3)}{'; ' * bool(reason)}{reason})"


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:3]) + (", …" if len(texts) > 3 else "")


def _and(texts: object) -> str:
    return " and ".join(texts)  # type: ignore[arg-type]
