"""A Slurm that is not there: its commands as scripts on PATH, which do what its manual says.

`sbatch` reads the #SBATCH lines, and runs the script once for each index of the array, in Slurm's
environment; `srun` runs a command, and ends with 128 and the number where a signal ended it;
`scontrol requeue` and `squeue` take one task of the array by name. `gaxjax` notes how it was
called and ends as it is told, one ending a call.
"""

import json
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_COMMANDS = {
    "gaxjax": """
import json, os, signal, sys
from pathlib import Path
index = os.environ["SLURM_ARRAY_TASK_ID"]
with open("calls.jsonl", "a") as file:
    file.write(json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ)}) + "\\n")
endings = Path(f"endings-{index}")
ending, *others = (endings.read_text().split() if endings.exists() else []) or ["0"]
endings.write_text(" ".join(others))
print("gaxjax ends with", ending, flush=True)
if ending.startswith("shell:"):  # the signal reaches the batch shell too
    os.kill(os.getppid(), signal.Signals[ending.removeprefix("shell:")])
    sys.exit(128 + signal.Signals[ending.removeprefix("shell:")])
if ending.startswith("SIG"):
    os.kill(os.getpid(), signal.Signals[ending])
sys.exit(int(ending))
""",
    "srun": """
import os, subprocess, sys
words = sys.argv[1:]
flags = [words.pop(0) for _ in list(words) if words[0].startswith("-")]
assert flags == ["--cpus-per-task=" + os.environ["SLURM_CPUS_PER_TASK"]], flags
os.execvp(words[0], words)
""",
    "squeue": """
import os, sys
task = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
assert sys.argv[1:] == ["--noheader", f"--jobs={task}", "--format=%T"], sys.argv
print(os.environ["FAKE_STATE"])
""",
    "scontrol": """
import sys
assert sys.argv[1] == "requeue" and len(sys.argv) == 3, sys.argv
with open("requeued", "a") as file:
    file.write(sys.argv[2] + "\\n")
""",
}


@dataclass(frozen=True)
class Call:
    """One call of gaxjax: its words, and the environment it found."""

    arguments: list[str]
    environment: dict[str, str]


class FakeSlurm:
    """One, in a folder that is where jobs run.

    Args:
        folder: empty.
        state: of a job whose step has ended, as `squeue` tells it.
    """

    array_job = 4000

    def __init__(self, folder: Path, *, state: str = "RUNNING") -> None:
        self.folder, self._state = folder, state
        (folder / "bin").mkdir()
        for name, code in _COMMANDS.items():
            path = folder / "bin" / name
            path.write_text(f"#!{sys.executable} -IS\n{code}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def endings(self, index: int, *endings: str) -> None:
        """Say how the calls of one index end: a status, SIG… or shell:SIG…, and 0 after these."""
        (self.folder / f"endings-{index}").write_text(" ".join(endings))

    def sbatch(self, script: Path, *words: str, array: str | None = None) -> dict[int, int]:
        """Run a script as its #SBATCH lines say, and return the status of each index.

        Args:
            script: of bash.
            words: that follow it.
            array: as `--array` on the command line, which goes before the script's.
        """
        flags = directives(script) | ({} if array is None else {"array": array})
        first, last = map(int, flags["array"].split("-"))
        return {
            index: self._task(script, words, flags, index, last - first + 1)
            for index in range(first, last + 1)
        }

    def _task(
        self, script: Path, words: tuple[str, ...], flags: dict[str, str], index: int, count: int
    ) -> int:
        name = f"{self.array_job}_{index}"
        # Slurm's own number of the last task is that of the whole array.
        job = self.array_job if index == count - 1 else self.array_job + 1 + index
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "FAKE_STATE": self._state,
            "SLURM_JOB_ID": str(job),
            "SLURM_ARRAY_JOB_ID": str(self.array_job),
            "SLURM_ARRAY_TASK_ID": str(index),
            "SLURM_ARRAY_TASK_COUNT": str(count),
            "SLURM_ARRAY_TASK_MIN": "0",
            "SLURM_ARRAY_TASK_MAX": str(count - 1),
            "SLURM_ARRAY_TASK_STEP": "1",
            "SLURM_CPUS_PER_TASK": flags["cpus-per-task"],
        }
        log = flags["output"].replace("%x", flags["job-name"])
        log = log.replace("%A", str(self.array_job)).replace("%a", str(index))
        mode = "a" if flags.get("open-mode") == "append" else "w"
        for restart in range(5):
            before = self.requeued.count(name)
            if restart:
                environment["SLURM_RESTART_COUNT"] = str(restart)
            with open(self.folder / log, mode) as file:
                status = subprocess.run(
                    ["bash", str(script), *words],
                    cwd=self.folder,
                    env=environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=60,
                ).returncode
            if self.requeued.count(name) == before or "requeue" not in flags:
                return status
        raise AssertionError(f"task {index} is queued again and again")

    @property
    def requeued(self) -> list[str]:
        """What was queued again, as it was named."""
        path = self.folder / "requeued"
        return path.read_text().split() if path.exists() else []

    @property
    def calls(self) -> dict[int, list[Call]]:
        """The calls of gaxjax by index."""
        found: dict[int, list[Call]] = {}
        for line in (self.folder / "calls.jsonl").read_text().splitlines():
            call = Call(**json.loads(line))
            found.setdefault(int(call.environment["SLURM_ARRAY_TASK_ID"]), []).append(call)
        return found

    def log(self, index: int) -> str:
        """What one index has written."""
        [path] = self.folder.glob(f"*_{index}.log")
        return path.read_text()


def directives(script: Path) -> dict[str, str]:
    """Return the flags on the #SBATCH lines, which end where the first command stands."""
    flags = {}
    for line in script.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            [word] = shlex.split(line.removeprefix("#SBATCH "), comments=True)
            name, _, value = word.removeprefix("--").partition("=")
            flags[name] = value
    return flags
