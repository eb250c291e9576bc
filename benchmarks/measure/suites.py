"""What each suite measures: sizes and contenders, in the order in which they are worth having."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from benchmarks.measure.gpu_stages import GPU_STAGES
from benchmarks.measure.measurement import IMPORTED_MODELS, OTHER_MODELS, Measurement
from gaxjax.common import UserError

Suite = Literal["quick", "cpu", "gpu"]
Stage = Literal[1, 2, 3]

METHODS = (
    *("all", "saliency", "input_x_gradient", "layer_grad_cam"),
    *("deconvolution", "guided_backprop", "deep_lift"),
)


def suite_stages(suite: Suite, stage: Stage | None = None) -> dict[str, list[Measurement]]:
    """Return a suite's measurements by the name of their stage; only the gpu suite has several.

    On a CPU those of one group stand together.

    Raises:
        UserError: a stage of a suite that has none.

    Example:
        >>> suite_stages("quick")["suite quick"][0].key
        'fixed_steps/small_resnet-32-normalized/ours/float32/1x8/16x5'
    """
    if suite == "gpu":
        stages = {
            f"stage {number}": list(measurements())
            for number, measurements in enumerate(GPU_STAGES, start=1)
        }
    elif stage is not None:
        raise UserError(f"--stage is of --suite gpu; the suite {suite} has no stages")
    else:
        stages = {f"suite {suite}": list({"quick": _quick, "cpu": _cpu}[suite]())}
    keys = [one.key for measurements in stages.values() for one in measurements]
    assert len(set(keys)) == len(keys), "a suite measures nothing twice under one key"
    return {name: stages[name] for name in stages if stage is None or name == f"stage {stage}"}


def rehearsal(
    stages: dict[str, list[Measurement]], *, on_gpu: bool = False
) -> dict[str, list[Measurement]]:
    """Return the same measurements at sizes that take seconds, in the same order.

    What is the same at such a size is measured once. CUDA graphs and TF32 exist on a GPU alone;
    elsewhere the same code runs without them.
    """
    known: set[str] = set()
    tiny: dict[str, list[Measurement]] = {name: [] for name in stages}
    for name, measurements in stages.items():
        for measurement in measurements:
            one = _tiny(measurement, on_gpu=on_gpu)
            if one.key not in known:
                known.add(one.key)
                tiny[name].append(one)
    return tiny


def _tiny(measurement: Measurement, *, on_gpu: bool) -> Measurement:
    most_slots, most_images = (16, 32) if on_gpu else (4, 8)
    contender, precision = measurement.contender, measurement.precision
    if not on_gpu:
        contender = contender.replace("torch-compile-graph", "torch-compile")
        contender = contender.replace("torch-graph", "torch-eager")
        precision = "float32" if precision == "tf32" else precision
    return replace(
        measurement,
        contender=contender,
        precision=precision,
        model="small_resnet",
        size=32,
        slots=min(measurement.slots, most_slots),
        num_images=min(measurement.num_images, most_images),
        max_steps=min(measurement.max_steps, 4),
        turns=1,
    )


def _quick() -> Iterator[Measurement]:
    """A minute on two cores: does everything run, and about how fast."""
    fixed = Measurement("fixed_steps", "ours", "small_resnet", 32, slots=8, num_images=16)
    for contender in ("ours", "bare", "torch-eager"):
        yield replace(fixed, contender=contender)
    yield replace(fixed, contender="released", slots=1, num_images=2)
    yield replace(fixed, workload="to_target", contender="ours", max_steps=50)


def _cpu() -> Iterator[Measurement]:
    """Two cores, a good hour."""
    fixed = Measurement("fixed_steps", "ours", slots=8, num_images=8, max_steps=11)
    yield fixed
    yield replace(fixed, repeat=1)
    yield replace(fixed, contender="bare")
    yield replace(fixed, precision="bfloat16")
    for contender in ("released", "released-input-only"):
        yield replace(fixed, contender=contender, slots=1, num_images=1)
    for contender in ("torch-eager", "torch-compile"):
        for precision in ("float32", "bfloat16"):
            yield replace(fixed, contender=contender, precision=precision)
    yield replace(fixed, contender="torch-compile-max-autotune")
    # As many steps as an image takes in the paper, and images in a row: what the engine costs.
    steady = replace(fixed, num_images=32, max_steps=39, turns=3, warm_up_turns=0)
    yield steady
    yield replace(steady, contender="bare")
    for model in OTHER_MODELS:
        other = replace(fixed, model=model)
        if model in ("resnet50", "vgg16"):  # minutes a turn
            other = replace(other, max_steps=5, turns=2)
        yield other
        yield replace(other, contender="bare")
        yield replace(other, contender="released", slots=1, num_images=1)
        yield replace(other, contender="torch-eager")
        yield replace(other, contender="torch-eager", precision="bfloat16")
        yield replace(other, contender="torch-compile")

    for model in IMPORTED_MODELS:
        imported = replace(fixed, model=model, size=224, slots=4, num_images=4, max_steps=19)
        yield imported
        for contender in ("torch-eager", "torch-compile"):
            yield replace(imported, contender=contender)

    target = Measurement(
        "to_target", "ours", "squeezenet1_0", slots=8, num_images=64, max_steps=200, turns=2
    )
    yield target
    yield replace(target, contender="torch-eager")
    yield replace(target, contender="torch-eager+refill")
    yield replace(target, contender="torch-eager+refill", precision="bfloat16")
    for contender in ("released", "released-input-only"):
        yield replace(target, contender=contender, slots=1)

    run = Measurement("end_to_end", "ours", "squeezenet1_0", slots=16, num_images=200, turns=2)
    yield replace(run, max_steps=200)

    ax = Measurement(
        "attribution", "native:all", "squeezenet1_0", slots=8, num_images=8, precision="highest"
    )
    for method in METHODS:
        for backend in ("native", "captum"):
            yield replace(ax, contender=f"{backend}:{method}")

    small = Measurement("slots", "ours", "small_resnet", 32, max_steps=4, turns=2)
    for slots in (1, 4, 16, 64, 256, 1024):
        yield replace(small, slots=slots, num_images=max(64, 2 * slots))
    many = replace(small, workload="images", slots=256, turns=1)
    for num_images in (100, 1_000, 10_000, 100_000):
        yield replace(many, num_images=num_images)
    for devices in (1, 2, 4):
        yield replace(small, workload="devices", devices=devices, slots=8, num_images=128)
    yield replace(small, workload="permutation", slots=8, num_images=64)
    first = Measurement("first_result", "cold", "squeezenet1_0", slots=8, num_images=8, turns=2)
    yield first
    yield replace(first, contender="warm")
    for model in ("resnet34", "squeezenet1_0"):
        yield Measurement("profile", "ours", model, slots=8, num_images=16, turns=1)
