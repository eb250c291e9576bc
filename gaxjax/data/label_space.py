"""Which class a label text means: by the model's names, as an index, by ImageNet's table, in order.

Numbers are class indices and are never sorted as text; names are matched with the model's names
where it has any. Where two readings are possible and differ, the user is asked (--label-by).
"""

import re
from collections.abc import Collection, Sequence
from typing import Literal

from gaxjax.common import UserError
from gaxjax.data.label_readings import (
    WHOLE_NUMBER,
    Labels,
    LabelSpace,
    ModelClasses,
    by_index,
    by_name,
    in_order,
    pairs,
    some_of,
)
from gaxjax.data.labels import imagenet_wnids

LabelBy = Literal["auto", "names", "indices", "order", "as before"]
"""The readings a user may ask for, and the one of earlier versions, for what they stored."""


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
    labels = Labels(tuple(sorted(texts)), needed, model, noun, source, whose, listed)
    if by == "as before":
        return _as_before(labels)
    if by == "order":
        return in_order(labels, "as --label-by order asks")
    numbers = [text for text in needed if WHOLE_NUMBER.fullmatch(text)]
    if by == "indices":
        if len(numbers) < len(needed):
            name = min(set(needed) - set(numbers))
            raise UserError(
                f"--label-by indices: the {noun} {name} in {source} is no whole number; leave the "
                "flag out, or name all classes by their indices"
            )
        return by_index(labels)
    if by == "names":
        return by_name(labels)
    if len(numbers) == len(needed):
        return by_name(labels) if _numbers_are_names(labels) else by_index(labels)
    if model.names is not None and set(needed) <= set(model.names):
        return by_name(labels)
    if listed:
        _refuse_half_numbers(labels, numbers)
    if model.names is not None:
        by_table = (
            labels.are_wnids
            and len(model.names) == len(imagenet_wnids())
            and set(labels.needed).isdisjoint(model.names)
        )
        return in_order(labels, "") if by_table else by_name(labels)
    if model.count is None:
        return in_order(labels, "")
    _refuse_other_order_of_numbers(labels)
    return in_order(labels, "the model names no classes")


def say_it_alone(texts: Collection[str], model: ModelClasses, by: LabelBy = "auto") -> bool:
    """Tell whether label texts mean their classes whatever other labels the other splits have.

    Example:
        >>> say_it_alone({"3", "7"}, ModelClasses(10)), say_it_alone({"cat"}, ModelClasses(2))
        (True, False)
    """
    if by in ("order", "as before"):
        return False
    if model.names is not None:
        return True
    if all(WHOLE_NUMBER.fullmatch(text) for text in texts):
        return model.count is not None
    table = imagenet_wnids()
    return set(texts) <= set(table) and model.count in (None, len(table))


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
    labels = Labels(texts, texts, model, noun, source, whose, listed=True)
    numeric = all(WHOLE_NUMBER.fullmatch(name) for name in names)
    if by == "names" or (by == "auto" and model.names is not None and not numeric):
        return by_name(labels)
    if by == "auto" and numeric and _numbers_are_names(labels):
        return by_name(labels)
    indices = {name: index for index, name in enumerate(names)}
    said = f"{whose}, which are class indices{pairs(indices) if not numeric else ''}"
    return LabelSpace(len(names), tuple(names), indices, "names", said)


# --- Indices -------------------------------------------------------------------------------------


def _numbers_are_names(labels: Labels) -> bool:
    """Tell whether the model calls its classes by these numbers, and no index is meant.

    Raises:
        UserError: both could be meant, and they differ.
    """
    names, needed = labels.model.names, labels.needed
    if names is None:
        return False
    all_numbers = all(WHOLE_NUMBER.fullmatch(name) for name in names)
    if all_numbers and [int(name) for name in names] == list(range(len(names))):
        return False
    named = {text: names.index(text) for text in needed if text in names}
    unclear = [
        text for text in needed if named.get(text, -1 if all_numbers else int(text)) != int(text)
    ]
    if not unclear:
        return False
    if len(named) == len(needed) and any(not 0 <= int(text) < len(names) for text in needed):
        return True  # such as the names 1 to 10: no index is 10
    text = unclear[0]
    by_name = f"is the class {named[text]} by its name" if text in named else "is no class name"
    raise UserError(
        f"the {labels.noun} {text} in {labels.source} may be the class index {text}, but the model "
        f"calls its {len(names)} classes {some_of(names)}, of which {text} {by_name}; say which is "
        "meant by --label-by indices or --label-by names"
    )


def _refuse_half_numbers(labels: Labels, numbers: Sequence[str]) -> None:
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


def _refuse_other_order_of_numbers(labels: Labels) -> None:
    """Refuse numbers that would be sorted as text, 10 before 2, beside names or with a point."""
    last = float("-inf")
    for index, text in enumerate(labels.texts):
        if not _is_number(text):
            continue
        whole = WHOLE_NUMBER.fullmatch(text)
        if (whole and float(text) != index) or float(text) < last:
            raise UserError(
                f"{labels.source} has numbers that are no plain class indices ({labels.some}): as "
                f"text, the {labels.noun} {text} is class {index}; where that is meant, as by "
                "torchvision's ImageFolder, say --label-by order, else give all names or whole "
                "numbers"
            )
        last = float(text)


def _as_before(labels: Labels) -> LabelSpace:
    """Read labels as versions did that knew nothing of the model's names."""
    plain = Labels(**{**vars(labels), "model": ModelClasses(labels.model.num_classes)})
    numbers = [text for text in labels.texts if WHOLE_NUMBER.fullmatch(text)]
    if labels.listed and len(numbers) == len(labels.texts):
        return by_index(plain)
    return in_order(plain, "as an earlier version did")
