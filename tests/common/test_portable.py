"""What other systems lack is not taken for granted: they are played by taking it away."""

import subprocess
import sys

import pytest
from flax import nnx

from gaxjax import models
from gaxjax.models import checkpoint

# Windows has none of these, macOS neither the cores of a process. What the libraries that stand
# for the system use is theirs: they are imported before.
WITHOUT = """
import filelock, os, psutil, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "sched_setaffinity", "sync", "fork", "killpg", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
"""


@pytest.mark.slow
def test_the_package_imports_and_gax_ax_and_report_run_where_posix_is_missing(tmp_path):
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, input_size=16
    )
    checkpoint.save(tmp_path / "net", net, metadata)
    code = """
import gaxjax, gaxjax.cli.startup
from gaxjax.cli.main import main
folder = sys.argv[1]
source = ["--model", f"{folder}/net", "--data", "digits", "--size", "16", "--num-images", "4"]
gax = ["--include-misclassified", "--max-steps", "2", "--slots", "2"]
assert main(["gax", *source, *gax, "--output", f"{folder}/gax"]) == 0
assert main(["ax", *source, "--methods", "saliency", "--output", f"{folder}/ax"]) == 0
assert main(["report", f"{folder}/gax", f"{folder}/ax", "--output", f"{folder}/all.html"]) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "all.html").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "gax").iterdir()} >= {"run.json", "heatmaps.zarr"}
