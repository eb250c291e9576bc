"""Which slice of the images a process does, by a flag or by what its queue says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gaxjax.common import UserError

__all__ = ["Slice", "chosen_slice"]


@dataclass(frozen=True)
class Slice:
    """Slice `index` of `count`, from 0."""

    index: int
    count: int

    def bounds(self, num_images: int) -> tuple[int, int]:
        """Return where it begins and ends in a list of images; all slices together are the list.

        Example:
            >>> [Slice(i, 3).bounds(10) for i in range(3)]
            [(0, 3), (3, 6), (6, 10)]
        """
        begins, ends = (each * num_images // self.count for each in (self.index, self.index + 1))
        return begins, ends


def chosen_slice(shard: str | None, environment: Mapping[str, str] = os.environ) -> Slice | None:
    """Return the slice that --shard asks for; None where it asks for none.

    `auto` is a task of a Slurm array, whose variables say how many there are
    (https://slurm.schedmd.com/job_array.html); `auto/n` also a pod of a Kubernetes indexed job with
    n completions (https://kubernetes.io/docs/concepts/workloads/controllers/job/).

    Args:
        shard: as in `SpreadConfig`.
        environment: of the process.

    Raises:
        UserError: the environment says nothing, or a slice that there is not.

    Example:
        >>> chosen_slice("3/8")
        Slice(index=3, count=8)
        >>> chosen_slice("auto/8", {"JOB_COMPLETION_INDEX": "3"})
        Slice(index=3, count=8)
    """
    if shard is None:
        return None
    first, _, count = shard.partition("/")
    if first != "auto":
        return Slice(int(first), int(count))
    if "SLURM_ARRAY_TASK_ID" in environment:
        index, there = _of_slurm(environment)
        if count and int(count) != there:
            raise UserError(
                f"--shard {shard} says {count} slices, but the Slurm array has {there} tasks: give "
                "--shard auto"
            )
        return Slice(index, there)
    if "JOB_COMPLETION_INDEX" not in environment:
        raise UserError(
            f"--shard {shard} goes by SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX, and neither is "
            "set: give the slice itself, such as --shard 0/8"
        )
    if not count:
        raise UserError(
            "--shard auto: a Kubernetes job does not tell its pods how many there are: give "
            "--shard auto/8 for 8 completions"
        )
    index = _whole(environment, "JOB_COMPLETION_INDEX")
    if index >= int(count):
        raise UserError(
            f"--shard {shard}: JOB_COMPLETION_INDEX is {index}, but {count} slices have the "
            f"numbers 0 to {int(count) - 1}: give the job's completions"
        )
    return Slice(index, int(count))


def _of_slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return which task of how many of an array this is; ids may begin and step as they like."""
    task = _whole(environment, "SLURM_ARRAY_TASK_ID")
    first = _whole(environment, "SLURM_ARRAY_TASK_MIN", task)
    last = _whole(environment, "SLURM_ARRAY_TASK_MAX", task)
    step = max(1, _whole(environment, "SLURM_ARRAY_TASK_STEP", 1))
    count = _whole(environment, "SLURM_ARRAY_TASK_COUNT", (last - first) // step + 1)
    index, rest = divmod(task - first, step)
    if rest or not 0 <= index < count or (last - first) // step + 1 != count:
        raise UserError(
            f"--shard auto: task {task} of the Slurm array {first}-{last}, {count} tasks, is none "
            "of evenly spaced ones: submit it as --array=0-7"
        )
    return index, count


def _whole(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit():
        raise UserError(f"--shard auto: {name} is {text!r}, no whole number: give --shard 0/8")
    return int(text)
