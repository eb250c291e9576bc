import os
import subprocess
import sys
from pathlib import Path

import pytest

from gaxjax.common.clash import refuse_foreign_converters

SCRIPT = """
from gaxjax.common.clash import refuse_foreign_converters
from gaxjax.common.errors import UserError
try:
    refuse_foreign_converters()
except UserError as error:
    print(error)
"""


def said_in(folder: Path) -> str:
    """Return what is said in a folder, where Python looks for packages first."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.check_output(command, cwd=folder, env=environment, text=True)


@pytest.mark.parametrize("intruder", ["converters.py", "converters/__init__.py"])
def test_another_package_named_converters_is_named_with_the_mend(tmp_path, intruder):
    (tmp_path / intruder).parent.mkdir(exist_ok=True)
    (tmp_path / intruder).write_text("convert = str.upper\n")
    message = said_in(tmp_path)
    assert f"{tmp_path / intruder} is not gaxjax's" in message
    assert "rename it" in message
    assert "Traceback" not in message


def test_a_folder_without_code_named_converters_does_not_hide_ours(tmp_path):
    (tmp_path / "converters").mkdir()
    assert said_in(tmp_path) == ""


def test_our_own_converters_are_let_in():
    refuse_foreign_converters()
