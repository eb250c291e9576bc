"""README, the pages under docs/, and the examples: what they name is there, and what runs runs."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import gaxjax
from gaxjax.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
API = (ROOT / "docs/api.md").read_text()
DOCUMENTED = re.findall(r"^::: (\S+)$", API, re.MULTILINE)


@pytest.mark.parametrize(("name", "most"), [("README.md", 120), ("CONTRIBUTING.md", 50)])
def test_what_a_newcomer_reads_first_is_short(name, most):
    assert len((ROOT / name).read_text().splitlines()) <= most


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_a_link_leads_to_a_file(path):
    targets = re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", path.read_text())
    missing = [
        target for target in targets if "://" not in target and not (path.parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_a_file_of_the_repository_that_a_page_names_is_there(path):
    folders = "gaxjax|converters|benchmarks|examples|tests|docs"
    named = re.findall(rf"(?:{folders})/[\w/]+\.\w+", path.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_every_command_has_its_section_with_its_help(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    names = sorted(re.search(r"\{([\w,]+)\}", capsys.readouterr().out)[1].split(","))
    page = (ROOT / "docs/commands.md").read_text()
    assert sorted(re.findall(r"^## (\S+)$", page, re.MULTILINE)) == names
    assert sorted(re.findall(r"^<!-- help: (\S+) -->$", page, re.MULTILINE)) == names


@pytest.mark.parametrize("path", DOCUMENTED)
def test_what_the_api_page_documents_is_there(path):
    module, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(module), name).__doc__


@pytest.mark.parametrize("name", gaxjax.__all__)
def test_the_api_page_documents_every_public_name(name):
    assert name in {path.rpartition(".")[2] for path in DOCUMENTED} or f"`gaxjax.{name}`" in API


def test_the_table_of_speeds_is_what_the_stored_rows_say(tmp_path):
    page = ROOT / "docs/speed.md"
    copy = Path(shutil.copy(page, tmp_path))
    command = [sys.executable, "-m", "benchmarks", "table", "--documents", str(copy)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert copy.read_text() == page.read_text()


@pytest.mark.slow
def test_the_network_of_ones_own_is_explained(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "examples")
    importlib.import_module("own_network").main(epochs=2, num_images=4)
    printed = capsys.readouterr().out
    assert "GAX: Solutions(4 images" in printed
    assert printed.count("sum ") == printed.count("mult ") == 3


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr(plt, "show", plt.close)
    cells = json.loads((ROOT / "examples/notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict = {}
    for source in code:
        exec(source, names)
    assert len(names["solutions"]) == len(names["images"])
    assert all((scored.co_score != 0).any() for scored in names["found"].values())
