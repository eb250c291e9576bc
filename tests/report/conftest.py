"""Stored runs of GAX and AX, and their page, made once for all tests of the report."""

import pytest
import stored_runs

from gaxjax.report.figures import figure
from gaxjax.report.page import write_report
from gaxjax.results.reading import read_scores


@pytest.fixture(scope="session", autouse=True)
def _coarse():
    """Draw fewer pixels, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure, "_DPI", 90)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return stored_runs.image_folder(tmp_path_factory.mktemp("images") / "xray", 30)


@pytest.fixture(scope="session")
def gax(data, tmp_path_factory):
    run = stored_runs.gax_run(tmp_path_factory.mktemp("gax") / "gax-run", data)
    ids = [row["image_id"] for row in read_scores(run).to_pylist() if row["outcome"] == "reached"]
    stored_runs.add_snapshots(run, ids[:3])
    return run


@pytest.fixture(scope="session")
def ax(data, tmp_path_factory):
    return stored_runs.ax_run(tmp_path_factory.mktemp("ax") / "ax-run", data)


@pytest.fixture(scope="session")
def written(gax, ax, tmp_path_factory):
    return write_report([gax, ax], tmp_path_factory.mktemp("out") / "report.html")


@pytest.fixture(scope="session")
def page(written):
    return written.page.read_text()
