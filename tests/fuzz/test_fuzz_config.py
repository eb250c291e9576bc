"""Every config, made of anything: a config whose values have their types, or a UserError."""

import dataclasses
import json
import math
import typing

from fuzzing import ANYTHING, TEXTS, fuzz, user_errors
from hypothesis import strategies as st

from gaxjax.config import (
    AxConfig,
    AxRunConfig,
    BatchConfig,
    DataConfig,
    EngineConfig,
    FinetuneConfig,
    GaxConfig,
    GaxRunConfig,
    ModelConfig,
    SnapshotConfig,
    StoreConfig,
    from_dict,
    to_dict,
)

CONFIGS = (
    AxConfig,
    BatchConfig,
    DataConfig,
    EngineConfig,
    FinetuneConfig,
    GaxConfig,
    ModelConfig,
    SnapshotConfig,
    StoreConfig,
)
NEEDED = {DataConfig: {"data": "d"}, FinetuneConfig: {"data": "d"}, ModelConfig: {"model": "m"}}


def words_of(config_type):
    """The words that a config's own types name, which are the likeliest to get far."""
    found = set()
    for hint in typing.get_type_hints(config_type).values():
        for part in (hint, *typing.get_args(hint)):
            if typing.get_origin(part) is typing.Literal:
                found |= set(typing.get_args(part))
    return sorted(found, key=str) or ["auto"]


@st.composite
def given_values(draw):
    config_type = draw(st.sampled_from(CONFIGS))
    names = [field.name for field in dataclasses.fields(config_type)]
    value = st.one_of(ANYTHING, st.sampled_from(words_of(config_type)))
    chosen = draw(st.lists(st.sampled_from(names), max_size=4, unique=True))
    return config_type, NEEDED.get(config_type, {}) | {name: draw(value) for name in chosen}


def of_its_type(value, hint):
    """Whether a value is what a field's hint says; nothing was taken for something else."""
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint) and type(value) in map(type, typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        inner = inner[:1] * len(value) if inner[-1:] == (...,) else inner
        return isinstance(value, tuple) and all(map(of_its_type, value, inner))
    if args := typing.get_args(hint):
        return any(of_its_type(value, part) for part in args)
    return type(value) is hint or (
        isinstance(hint, type) and isinstance(value, hint) and hint not in (int, float, str)
    )


def same(a, b):
    return a == b or json.dumps(to_dict(a)) == json.dumps(to_dict(b))


@fuzz(1500, drawn=given_values())
def test_a_config_has_the_types_it_names_or_says_what_is_wrong(drawn):
    config_type, values = drawn
    with user_errors():
        config = config_type(**values)
        for name, hint in typing.get_type_hints(config_type).items():
            value = getattr(config, name)
            assert of_its_type(value, hint), (name, value, hint)
            assert not (isinstance(value, float) and math.isnan(value)), name
        assert same(from_dict(config_type, json.loads(json.dumps(to_dict(config)))), config)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@fuzz(
    400,
    config_type=st.sampled_from([GaxRunConfig, AxRunConfig]),
    room=st.sampled_from(["model", "data", "gax", "ax", "engine", "batch", "store", "preset", "x"]),
    name=st.sampled_from(["model", "data", "size", "target", "methods", "slots", "heatmaps", "y"]),
    value=JSON,
    whole=st.booleans(),
)
def test_a_stored_config_is_read_or_refused(config_type, room, name, value, whole):
    values = to_dict(config_type(model=ModelConfig(model="m"), data=DataConfig(data="d")))
    if whole or not isinstance(values.get(room), dict):
        values[room] = value
    else:
        values[room][name] = value
    with user_errors():
        assert isinstance(from_dict(config_type, values), config_type)
