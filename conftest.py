"""Shapes and types are checked at run time under test; warnings are errors (pyproject.toml)."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

# Before torch is imported: its threads spin while they wait, and starve the other test workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Many tests compile the same programs. A worker's own folder: JAX writes into it file by file, and
# another worker might read half of one.
if "PYTEST_XDIST_WORKER" in os.environ:
    _compiled = tempfile.mkdtemp(prefix="gaxjax-tests-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compiled)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import pytest
from jaxtyping import install_import_hook

install_import_hook(["gaxjax", "converters"], "beartype.beartype")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights; tests that need it skip where it is not given."""
    folder = os.environ.get("GAXJAX_TEST_DATA")
    if not folder:
        pytest.skip("GAXJAX_TEST_DATA is not set: no real images and weights here")
    return Path(folder)


@pytest.fixture(scope="session")
def _examples(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    import docstrings

    folder = tmp_path_factory.mktemp("examples")
    docstrings.make_folder(folder)
    return folder, docstrings.names(folder)


@pytest.fixture(autouse=True)
def _example(request, doctest_namespace, monkeypatch):
    """Run a docstring's example in a folder with the files, and with the arrays, that it names."""
    if isinstance(request.node, pytest.DoctestItem):
        folder, names = request.getfixturevalue("_examples")
        monkeypatch.chdir(folder)
        doctest_namespace.update(names)
