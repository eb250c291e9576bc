"""Progress in a log: something at once, something while it compiles, and never endless seconds."""

import io
import time

import pytest
from rich.console import Console

from gaxjax.common import progress
from gaxjax.common.progress import RunProgress, Timed, time_left


class Counting(Timed):
    """Has done as many images as it was told."""

    done: int | None = 0

    @property
    def images_done(self):
        return self.done

    def describe(self):
        return "9 a second \x1b[2J"


@pytest.fixture
def log():
    return Console(file=io.StringIO(), width=200)


def lines(log: Console) -> list[str]:
    return log.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((90, 10, 2.0), "about 18 s left"),
        ((90, 0, 2.0), "time left unknown"),
        ((90, 10, 0.0), "time left unknown"),
        ((90, 10, float("nan")), "time left unknown"),
        ((90, 10, float("inf")), "time left unknown"),
        ((90, -3, 2.0), "time left unknown"),
        ((-1, 10, 2.0), "about 0 s left"),
    ],
)
def test_the_time_left_is_a_number_of_seconds_or_unknown(figures, said):
    assert time_left(*figures) == said


@pytest.mark.parametrize("done", [0, 1, None])
@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_plain_line_holds_no_endless_seconds_and_no_escapes(done, seconds, log, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)
    stats = Counting(seconds=seconds)
    stats.done = done
    with RunProgress("GAX", 10, console=log) as shown:
        shown.advance(stats, count=0)
    text = log.file.getvalue()
    assert "\x1b" not in text
    assert " inf" not in text
    assert " nan" not in text
    assert "of 10 images · 9 a second \\x1b[2J · " in text


def test_a_log_tells_of_compiling_at_once_and_again_until_the_first_result(log, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.05)
    with RunProgress("GAX", 2, console=log) as shown:
        assert lines(log) == ["GAX: compiling …"]
        until = time.monotonic() + 5
        while len(lines(log)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert lines(log)[1].startswith("GAX: compiling … ")
        shown.advance(Counting())
        said = len(lines(log))
        time.sleep(0.2)
        assert len(lines(log)) == said
    assert lines(log)[-1] == "1 of 2 images"
