"""Labels of a set that numbers its classes and names them, as Hugging Face's `ClassLabel` does."""

from collections.abc import Collection, Sequence

from gaxjax.common import UserError
from gaxjax.data.label_readings import (
    WHOLE_NUMBER,
    Labels,
    LabelSpace,
    ModelClasses,
    by_name,
    loosely,
    pairs,
)
from gaxjax.data.label_space import LabelBy, label_space
from gaxjax.data.labels import imagenet_wnids

_AGREE = 0.9  # share of the names that must be the model's own for the numbers to be


def class_label_space(
    names: Sequence[str],
    used: Collection[str],
    model: ModelClasses,
    *,
    source: str,
    by: LabelBy = "auto",
) -> LabelSpace:
    """Give the classes of such a set their index in the model.

    Wnids and numbers are read as class folders of these names are, so that the same images have the
    same labels from a folder. Else names are matched with the model's where it has any and all fit;
    the set's own numbers are taken where there are as many classes and the model names none, or
    names nearly all of them as the set does: ImageNet's `tench, Tinca tinca` is the model's tench.

    Args:
        names: in the order of the set's numbers.
        used: those that an image has.
        model: the classes they must fit.
        source: the set, for messages.
        by: indices and order take the set's numbers whatever they are called.

    Raises:
        UserError: the classes are not the model's.

    Example:
        >>> class_label_space(["dog", "cat"], {"cat"}, ModelClasses(2), source="pets").indices
        {'dog': 0, 'cat': 1}
        >>> model = ModelClasses(2, ("Cat", "Dog"))
        >>> class_label_space(["dog", "cat"], {"cat"}, model, source="pets").indices["cat"]
        0
    """
    whose = f"the labels in {source}"
    in_order = {name: index for index, name in enumerate(names)}
    if by in ("indices", "order"):
        _require_as_many(names, model, source)
        return _numbered(names, whose)
    wnids = set(names) <= set(imagenet_wnids())
    numeric = all(WHOLE_NUMBER.fullmatch(name) for name in names)
    if numeric or (wnids and model.num_classes in (None, len(imagenet_wnids()))):
        return label_space(
            set(names),
            model,
            noun="label name",
            source=source,
            whose=whose,
            by=by,
            empty=set(names) - set(used),
        )
    if model.names is None and by != "names":
        _require_as_many(names, model, source)
        return _numbered(names, whose)
    theirs = {loosely(name) for name in model.names or ()}
    if model.names is None or by == "names" or {loosely(name) for name in used} <= theirs:
        texts, needed = tuple(sorted(names)), tuple(sorted(used))
        return by_name(Labels(texts, needed, model, "label name", source, whose, listed=True))
    agreeing = [
        name for name, own in zip(names, model.names, strict=False) if _is_called(own, name)
    ]
    if len(names) == len(model.names) and len(agreeing) >= _AGREE * len(names):
        other = next(name for name in names if name not in set(agreeing))
        note = (
            f"{len(agreeing)} of {len(names)} class names are the model's own with the same index; "
            f"{in_order[other]} is {other} here, {model.names[in_order[other]]} in the model"
        )
        return _numbered(names, whose, note)
    unknown = next(name for name in sorted(used) if loosely(name) not in theirs)
    raise UserError(
        f"{source} names its classes otherwise than the model: {unknown} is none of the model's "
        f"{len(model.names)} classes ({', '.join(model.names[:3])}, …); where its numbers are the "
        "model's, say --label-by indices"
    )


def _is_called(own: str, name: str) -> bool:
    """Tell whether a model's name is one of the names that a set gives, with commas, to a class."""
    synonyms = {loosely(part) for part in (name, *name.split(","))}
    return bool(synonyms & {loosely(part) for part in (own, *own.split(","))})


def _require_as_many(names: Sequence[str], model: ModelClasses, source: str) -> None:
    if model.num_classes not in (None, len(names)):
        raise UserError(
            f"{source} has {len(names)} classes ({', '.join(names[:3])}, …), but the model has "
            f"{model.num_classes}; give a model trained on them"
        )


def _numbered(names: Sequence[str], whose: str, *notes: str) -> LabelSpace:
    indices = {name: index for index, name in enumerate(names)}
    said = f"{whose}, which are class indices{pairs(indices)}"
    return LabelSpace(len(names), tuple(names), indices, "names", said, notes)
