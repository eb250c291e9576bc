"""Texts of other people reach a terminal as letters, and never as commands."""

import unicodedata

import pytest

from gaxjax.common.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\x07\x08\rb\tc", r"a\x07\x08\rb\tc"),
        ("\x9b2J", r"\x9b2J"),
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("line\u2028break", r"line\u2028break"),
        ("half \udcff", r"half \udcff"),
        ("\U000e0041tag", r"\U000e0041tag"),
    ],
)
def test_what_commands_a_terminal_is_written_out(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text", ["plain [bold] text", "Größe × 猫 🐈 👩\u200d🔬", "עברית العربية", ""]
)
def test_words_of_every_script_stay_as_they_are(text):
    assert printable(text) == text


def test_no_character_at_all_gets_through_as_a_control():
    for number in range(0x110000):
        letter = chr(number)
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
            assert printable(letter).isascii(), number


def test_a_line_break_is_kept_where_it_is_asked_for():
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"
