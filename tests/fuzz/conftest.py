"""Counts the cases that the fuzzers drew, and says so at the end of the run."""

import jaxtyping
import pytest
from fuzzing import DRAWN


@pytest.fixture(autouse=True)
def _as_outside_tests():
    """Types are not checked before a function runs: the function has to."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _counted(record_property, request):
    """Let a worker's count reach the process that prints it."""
    before = DRAWN.total
    yield
    record_property("cases", DRAWN.total - before)


def pytest_terminal_summary(terminalreporter):
    """Say how many cases were drawn."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    counts = {
        report.nodeid: dict(report.user_properties)["cases"]
        for report in reports
        if "cases" in dict(getattr(report, "user_properties", ()))
    }
    if counts:
        terminalreporter.write_line(f"{sum(counts.values()):,} fuzzed cases in {len(counts)} tests")
