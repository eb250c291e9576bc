"""Command lines of any words: understood, or refused with status 2 and no traceback."""

import dataclasses

import pytest
from fuzzing import TEXTS, fuzz, user_errors
from hypothesis import strategies as st

from gaxjax.cli.command import Command
from gaxjax.cli.main import COMMANDS, main, parse


def _flags(config_type):
    for field in dataclasses.fields(config_type):
        hint = field.type if isinstance(field.type, type) else None
        if dataclasses.is_dataclass(hint):
            yield from _flags(hint)
        else:
            yield "--" + field.name.replace("_", "-")


FLAGS = {command.__name__.lower(): sorted(set(_flags(command))) for command in COMMANDS}
VALUES = TEXTS | st.sampled_from(
    (
        *("1", "0.5", "digits", "default", "paper", "saliency", "float16", "sum", "-0", "True"),
        *("9" * 20, "None", "[]", "resnet34", "nowhere.pth", "nowhere.ckpt", "0.5,0.5,0.5"),
    )
)


@st.composite
def lines(draw):
    name = draw(st.sampled_from(sorted(FLAGS)))
    words = [name]
    for _ in range(draw(st.integers(0, 4))):
        flag = draw(st.sampled_from(FLAGS[name]))
        words += draw(
            st.sampled_from(
                [lambda f, v: [f, v], lambda f, v: [f"{f}={v}"], lambda f, v: [f], lambda f, v: [v]]
            )
        )(flag, draw(VALUES))
    if draw(st.integers(0, 8)) == 0:
        words[0] = draw(TEXTS)
    return words


def refused_by_parser(understand):
    """Whether the parser itself refused the words (or showed its help), else what they gave."""
    try:
        return understand()
    except SystemExit as stop:
        return stop.code in (0, 2)


@fuzz(40, words=lines())
def test_a_command_line_is_understood_or_refused(words):
    with user_errors():
        assert refused_by_parser(lambda: isinstance(parse(words), Command))


PATHS = st.text(max_size=20) | st.sampled_from(
    (
        *("", ".", "..", "/", "~", "~nobody/x", "a\0b", "x" * 5000, "\udcff", "a\nb", "-", "*"),
        *("/dev/null", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/etc/passwd/x"),
        *("http://x/y", "s3://b/k"),
    )
)


@fuzz(
    40,
    command=st.sampled_from(
        ["evaluate", "gax", "ax", "verify", "statistics", "report", "view", "convert"]
    ),
    first=PATHS,
    second=PATHS,
    third=PATHS,
)
def test_a_command_of_impossible_paths_ends_with_status_2(empty, command, first, second, third):
    words = {
        "evaluate": ["--model", first, "--data", second],
        "gax": ["--model", first, "--data", second, "--output", third],
        "ax": ["--model", first, "--data", second, "--output", third],
        "verify": [first],
        "statistics": [first],
        "report": [first, "--output", second],
        "view": [first, second],
        "convert": [first, "--output", second],
    }[command]
    assert refused_by_parser(lambda: main([command, *words]) == 2)
    assert not list(empty.iterdir()), "something was left behind"


@pytest.fixture
def empty(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(folder)
    return folder
