"""Processes killed without warning, at every call of a commit and at any instant, and resumed.

`python tests/faults/killer.py --kills 300` prints the whole table.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from killer import kill_commands
from looking import FAULTS

HERE = Path(__file__).parent

COMMIT = {
    (call, kind) for call in ("open", "write", "fsync", "rename") for kind in ("shard", "part")
}
HEADER = {(call, "header") for call in ("open", "write", "fsync", "rename")}


def run_commits(*arguments: str, broken: str = "") -> dict:
    """Kill the store alone, in a process without JAX; `broken` is done to it before."""
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import commits; {broken}\ncommits.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)["store"] | {"stderr": done.stderr}


def require_no_fault(told: dict) -> None:
    assert {fault: told[fault] for fault in FAULTS} == dict.fromkeys(FAULTS, 0)


@pytest.mark.parametrize(
    "every", [5, pytest.param(1, marks=pytest.mark.slow, id="at each of all calls")]
)
def test_a_store_killed_at_a_call_loses_doubles_and_spoils_nothing(every):
    told = run_commits("--every", str(every))
    require_no_fault(told)
    assert told["kills"] >= 120 // every
    hit = {(each["call"], each["file"]) for each in told["hits"]}
    assert hit >= COMMIT | HEADER


@pytest.mark.slow
def test_a_store_that_writes_in_place_is_caught():
    """The kills can tell: without the temporary file, half a part is there after one."""
    told = run_commits(
        *("--every", "11"),
        broken="import contextlib, gaxjax.results.sealed as sealed; "
        "sealed.replacing = contextlib.nullcontext",
    )
    assert told["unreadable"] > 0
    assert told["refused"] > 0


def test_a_process_dies_halfway_through_a_write(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from calls import Calls, Death
folder = Path({str(tmp_path)!r})
Calls(folder, Death("write", "header", 2, "half")).install()
(folder / "run.json").write_bytes(b"first")
(folder / "run.json").write_bytes(b"0123456789")
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert (tmp_path / "run.json").read_bytes() == b"01234"


def test_a_killed_gax_run_resumes_to_the_same_bits(tmp_path):
    told = kill_commands(tmp_path, 1, ["gax"]).to_dict()["gax"]
    require_no_fault(told)
    assert (told["kills"], told["finished"] > 0) == (1, True)


@pytest.mark.slow
def test_three_hundred_kills_of_gax_ax_and_finetune_lose_nothing(tmp_path):
    table = kill_commands(tmp_path, 300)
    print(table.to_markdown())
    assert table.kills >= 300
    for told in table.to_dict().values():
        require_no_fault(told)
