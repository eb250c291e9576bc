"""Property-based fuzzing: bad input ends in one kind of exception, and in no long time.

`GAXJAX_FUZZ=20 pytest tests/fuzz` draws some 70 times as many cases, and other ones each time.
"""

import contextlib
import functools
import os
import signal
from types import SimpleNamespace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gaxjax.common import UserError

__all__ = ["ANYTHING", "DRAWN", "TEXTS", "fuzz", "user_errors"]

FACTOR = float(os.environ.get("GAXJAX_FUZZ", "0.3"))
SECONDS = 60
"""Above this a case hangs: the slowest ones compile a program on a busy machine."""

DRAWN = SimpleNamespace(total=0)

_TEXTS = (
    *("", " ", "auto", "none", "all", "~", "~nobody/x", "\0", "a\nb", "\x1b[31m", "0", "-1", "²"),
    *("1e400", "nan", "inf", "٣", "../..", "/dev/zero", "x" * 300, "\ud800", "=1+1", "{}"),
)
TEXTS = st.text(max_size=12) | st.sampled_from(_TEXTS)

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.integers(),
    st.sampled_from([10**30, -(2**63), 2**32 + 3, 2**31, 2**63]),
    st.floats(),
    st.sampled_from([np.float32(0.5), np.int64(3), np.float64("nan"), np.bool_(True)]),
    st.sampled_from([np.zeros(3), np.array(2), np.array("x"), 3j, b"x", object, len, ...]),
    TEXTS,
    st.lists(TEXTS, max_size=3),
    st.lists(st.integers(-1, 3), max_size=3).map(tuple),
    st.dictionaries(TEXTS, st.integers(), max_size=2),
)
"""What people, or their mistakes, may put where a value is expected."""


class HangsError(Exception):
    """A case took longer than any may."""


@contextlib.contextmanager
def _in_time():
    def too_long(*_):
        raise HangsError(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(examples: int, *, ordinarily: int | None = None, **strategies):
    """Decorate a test that is run with so many drawn cases, times `FACTOR`; none may hang.

    Where a case is dear, `ordinarily` is their number where `GAXJAX_FUZZ` asks for no other.
    """
    if ordinarily is None or "GAXJAX_FUZZ" in os.environ:
        ordinarily = max(1, int(examples * FACTOR))

    def decorate(test):
        @functools.wraps(test)
        def counted(*args, **drawn):
            DRAWN.total += 1
            with _in_time():
                return test(*args, **drawn)

        return settings(
            max_examples=ordinarily,
            deadline=None,
            database=None,
            derandomize="GAXJAX_FUZZ" not in os.environ,  # the same cases in every ordinary run
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )(given(**strategies)(counted))

    return decorate


@contextlib.contextmanager
def user_errors():
    """Let a UserError pass that says something, in few lines and without control characters."""
    try:
        yield
    except UserError as error:
        text = str(error)
        assert text.strip(), "a UserError without words"
        assert len(text) < 6000, f"a UserError of {len(text)} characters"
