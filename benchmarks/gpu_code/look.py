"""python -m benchmarks gpu-code: a program's kernels on a GPU that is not here.

Times are rooflines: kernel by kernel the larger of bytes over bandwidth and operations over a share
of the peak. cuDNN chooses no algorithm without a device, so the share is a guess, and its scratch
memory, launch gaps and clocks are unknown.
"""

import importlib.metadata
import os
import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.gpu_code.hlo import Kernel, Program
from benchmarks.gpu_code.targets import TARGETS, Target, TargetName
from benchmarks.measure.machine import commit, version
from benchmarks.measure.rows import Row, append_row, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.common import UserError

SHARE = 0.6
"""Of the peak, what convolutions are taken to reach."""

_LARGE_COPY = 1e7  # bytes

Executable = Literal["step", "refill", "baseline", "rescore", "ax", "ax-score"]


@dataclass(frozen=True)
class GpuCode:
    """See what XLA makes of a program for a GPU that need not be here; needs gaxjax[gpu-code].

    Attributes:
        model: Architecture, with random weights; or the folder of a checkpoint.
        size: Height and width of the images.
        slots: Images side by side.
        precision: bfloat16, float32 (TF32 on a GPU) or highest; of ax highest or float32.
        executable: step, refill (the smallest), baseline and rescore are GAX's; ax makes the six
            methods' heatmaps and ax-score scores one.
        target: The GPU.
        largest: How many kernels to name.
        dump: Keep XLA's files (HLO, PTX, the launch sequence) in this folder.
        output: File of rows; benchmarks/results/gpu_code.jsonl by default.
        dry: Write no row.
    """

    model: str = "resnet34"
    size: int = 256
    slots: int = 256
    precision: Literal["bfloat16", "float32", "highest"] = "bfloat16"
    executable: Executable = "step"
    target: TargetName = "h100"
    largest: int = 12
    dump: Path | None = None
    output: Path = BENCHMARKS / "results" / "gpu_code.jsonl"
    dry: bool = False


def look(command: GpuCode) -> Row:
    """Compile, print what came out, and append its row.

    Raises:
        UserError: no such model, or the plugin that compiles for GPUs is not installed.
    """
    target = TARGETS[command.target]
    with tempfile.TemporaryDirectory() as temporary:
        dump = (command.dump or Path(temporary)).absolute()
        compiled = _compiled(command, target, dump)
        program, memory = Program(compiled.as_text()), compiled.memory_analysis()
        row = _row(command, program, target, memory)
        _print(program, target, row, command)
        _print_issue(dump, target)
    if not command.dry:
        append_row(rounded(row), command.output)
    return row


def _compiled(command: GpuCode, target: Target, dump: Path) -> Any:
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text "
        "--xla_dump_hlo_module_re=mapped"
    )
    import jax

    jax.config.update("jax_platforms", "cpu")  # the GPU is described, not looked for
    jax.config.update("jax_enable_compilation_cache", False)  # what is found there dumps nothing
    from jax.experimental import topologies

    try:
        described = topologies.get_topology_desc(
            platform="cuda", target_config=target.description, topology="1x1x1"
        )
    except Exception as error:  # of a plugin that is not there
        raise UserError(
            "gpu-code needs XLA's plugin for NVIDIA GPUs, of the version of jaxlib "
            f"({importlib.metadata.version('jaxlib')}): pip install 'gaxjax[gpu-code]'"
        ) from error
    return compile_for(command, list(described.devices))


def compile_for(command: GpuCode, devices: list[Any]) -> Any:
    """Compile a command's executable for devices that may only be described."""
    import jax
    import numpy as np
    from flax import nnx

    from gaxjax.ax.objective import AxObjective, wanted_of
    from gaxjax.ax.plan import AxPlan
    from gaxjax.config import AxConfig, GaxConfig
    from gaxjax.gax import make_objective
    from gaxjax.gax.program import Plan
    from gaxjax.gax.slots import refill_sizes
    from gaxjax.models import as_classifier, build, checkpoint, fold_batch_norm

    num_classes = 1000
    if Path(command.model).is_dir():
        network, metadata = checkpoint.load(command.model)
        num_classes = metadata.num_classes
    else:
        network = build(command.model, num_classes=num_classes, rngs=nnx.Rngs(0))
    image = jax.ShapeDtypeStruct((command.size, command.size, 3), np.uint8)
    normalization: Any = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    if command.executable.startswith("ax"):
        classifier = as_classifier(network, num_classes=num_classes, **normalization)
        config = AxConfig()
        wanted = wanted_of(config, classifier, image)
        plan = AxPlan(
            AxObjective(classifier, config, wanted, _arithmetic(command), np.dtype(np.float16)),
            devices=devices,
            batch_size=command.slots,
            image=image,
        )
        return plan.explain() if command.executable == "ax" else plan.score("sum")
    folded = fold_batch_norm(network)
    classifier = as_classifier(folded, num_classes=num_classes, **normalization)
    objective = make_objective(classifier, GaxConfig(), command.precision, devices[0])
    most = refill_sizes(command.slots, devices[0].platform)[0]
    return Plan(
        objective,
        devices=devices,
        slots=command.slots,
        drain=False,
        image=image,
        heatmap_dtype=np.float16,
    ).compiled(command.executable, most=most)


def _row(command: GpuCode, program: Program, target: Target, memory: Any) -> Row:
    once = [kernel for kernel in program.kernels if not kernel.in_loop]
    precision = _arithmetic(command)
    milliseconds = roofline(once, target, precision) * 1e3
    images = command.slots // 4 if command.executable == "rescore" else command.slots
    forward = [k for k in once if k.is_convolution and "Backward" not in k.kind and k.flops]
    mib = 2**20 * command.slots
    made_at, model = commit(), Path(command.model).name.removesuffix(".ckpt")
    program_key = f"{command.executable}/{model}-{command.size}/{precision}"
    return {
        "workload": "gpu_code",
        "suite": "gpu_code",
        "key": f"{program_key}/{command.slots}/{command.target}/{made_at}",
        "device": f"{command.target}, described",
        "target": command.target,
        "model": model,
        "size": command.size,
        "executable": command.executable,
        "precision": precision,
        "slots": command.slots,
        "images": images,
        "kernels": len(once),
        "gigabytes": sum(kernel.moved for kernel in once) / 1e9,
        "gigabytes_besides_convolutions": sum(k.moved for k in once if not k.flops) / 1e9,
        "teraflop": sum(kernel.flops for kernel in once) / 1e12,
        "milliseconds_at_60_percent": milliseconds,
        "images_per_s_at_60_percent": images / milliseconds * 1e3,
        "forward_convolutions": len(forward),
        "with_activation": sum("activation relu" in kernel.kind for kernel in forward),
        "with_side_input": sum("side input" in kernel.kind for kernel in forward),
        "transposes": sum(kernel.kind == "transpose" for kernel in once),
        "large_copies": sum(k.is_copy and k.moved > _LARGE_COPY for k in program.kernels),
        "loops_that_wait": sum(loop.turns is None for loop in program.loops),
        "temporary_mib_per_slot": memory.temp_size_in_bytes / mib,
        "argument_mib_per_slot": memory.argument_size_in_bytes / mib,
        "versions": {
            name: version(name) for name in ("jax", "jaxlib", "jax-cuda13-pjrt") if version(name)
        },
        "commit": made_at,
    }


def roofline(kernels: list[Kernel], target: Target, precision: str, share: float = SHARE) -> float:
    """Return the seconds that kernels take if each runs at the limit of bytes or operations."""
    peak = target.peak[precision] * share
    return sum(max(k.moved / target.bandwidth, k.flops / peak) for k in kernels)


def _arithmetic(command: GpuCode) -> str:
    if command.executable in ("baseline", "rescore", "ax-score"):
        return "highest"
    is_ax = command.executable == "ax"
    return "highest" if is_ax and command.precision == "bfloat16" else command.precision


def _print(program: Program, target: Target, row: Row, command: GpuCode) -> None:
    print(
        f"{row['executable']} of {row['model']}, {row['images']} images of {row['size']} × "
        f"{row['size']}, {row['precision']}, for {row['target']}\n"
    )
    kinds: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in program.kernels:
        kinds["in loops: " * kernel.in_loop + kernel.kind].append(kernel)
    print(f"{'kind':62} kernels       GB      ms  TFLOP  ms at {SHARE:.0%}")
    for kind, members in sorted(kinds.items(), key=lambda item: -sum(k.moved for k in item[1])):
        moved, work = sum(k.moved for k in members), sum(k.flops for k in members)
        peak = target.peak[row["precision"]] * SHARE
        line = f"{kind[:62]:62} {len(members):7} {moved / 1e9:8.3f} "
        line += f"{moved / target.bandwidth * 1e3:7.3f}"
        print(line + (f" {work / 1e12:6.3f} {work / peak * 1e3:9.3f}" if work else ""))
    once = [kernel for kernel in program.kernels if not kernel.in_loop]
    print(
        f"outside loops: {row['kernels']} kernels, {row['teraflop']:.3f} TFLOP, "
        f"{row['gigabytes']:.2f} GB, {row['gigabytes_besides_convolutions']:.2f} GB of it not in "
        "convolutions"
    )
    for share in (1, SHARE, 0.4):
        seconds = roofline(once, target, row["precision"], share)
        print(
            f"roofline, convolutions at {share:4.0%} of the peak: {seconds * 1e3:7.3f} ms, "
            f"{row['images'] / seconds:,.0f} images/s"
        )
    print(
        f"forward convolutions: {row['forward_convolutions']}, with their activation "
        f"{row['with_activation']}, with a side input {row['with_side_input']}\n"
        f"transposes: {row['transposes']}; copies of 10 MB and more: {row['large_copies']}\n"
        f"MiB a slot: temporaries {row['temporary_mib_per_slot']:.2f}, arguments "
        f"{row['argument_mib_per_slot']:.2f}"
    )
    for loop in program.loops:
        turns = f"{loop.turns} turns" if loop.turns else "the host waits at each turn"
        print(f"loop {loop.name}: {turns}")
    print(f"\nlargest kernels but convolutions:\n{'GB':>7}  kernel, result, source")
    others = sorted((k for k in program.kernels if not k.flops), key=lambda k: -k.moved)
    for kernel in others[: command.largest]:
        where = "in a loop: " * kernel.in_loop
        print(
            f"{kernel.moved / 1e9:7.3f}  {where}{kernel.name} {kernel.shape[:60]} {kernel.source}"
        )


def _print_issue(dump: Path, target: Target) -> None:
    """Print kernels by the time to issue their instructions, once in every warp.

    Too much where warps skip branches, too little where a kernel loops: it points at kernels that
    compute addresses rather than move bytes, many loads of 1 or 2 bytes being the sign.
    """
    files = list(dump.glob("*thunk_sequence_after*"))
    if not files:
        return
    thunks = max((file.read_text() for file in files), key=len)
    code = {}
    for file in dump.glob("*.ptx"):
        for name, body in re.findall(r"\.entry (\w+)\(.*?\n\{(.*?)\n\}", file.read_text(), re.S):
            small = len(re.findall(r"ld\.global(?:\.nc)?\.b(?:8|16)\b", body))
            code[name] = len(re.findall(r"^\s+(?:@!?%p\d+ )?[a-z]", body, re.MULTILINE)), small
    found: dict[str, float] = defaultdict(float)
    for name, grid, block in re.findall(r"\] (\w+) grid: \[(\d+), .*?threads: \[(\d+)", thunks):
        found[name] += code.get(name, (0, 0))[0] * int(grid) * int(block) / 32 / target.issue
    print("\nissue time, if every instruction of a kernel runs once in every warp:")
    for name, seconds in sorted(found.items(), key=lambda item: -item[1])[:6]:
        lines, small = code.get(name, (0, 0))
        print(
            f"{seconds * 1e3:7.3f} ms  {name}: {lines} PTX lines, {small} loads of 1 or 2 bytes"
            if lines
            else f"unknown  {name}: this version of XLA dumps no PTX"
        )
