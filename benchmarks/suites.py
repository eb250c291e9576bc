"""What each suite measures: sizes and contenders, in the order in which they are worth having."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from benchmarks.measurement import Measurement

Suite = Literal["quick", "cpu", "gpu"]

METHODS = (
    *("all", "saliency", "input_x_gradient", "layer_grad_cam"),
    *("deconvolution", "guided_backprop", "deep_lift"),
)
_OTHER_MODELS = ("squeezenet1_0", "alexnet", "resnet50", "vgg16")


def suite_measurements(suite: Suite) -> list[Measurement]:
    """Return a suite's measurements; on a CPU those of one group must stand together.

    Example:
        >>> suite_measurements("quick")[0].key
        'fixed_steps/small_resnet-32-normalized/ours/float32/1x8/16x5'
    """
    chosen = {"quick": _quick, "cpu": _cpu, "gpu": _gpu}[suite]
    measurements = list(chosen())
    keys = [measurement.key for measurement in measurements]
    assert len(set(keys)) == len(keys), "a suite measures nothing twice under one key"
    return measurements


def rehearsal(measurements: list[Measurement]) -> list[Measurement]:
    """Return the same measurements at sizes that take seconds on a CPU, in the same order.

    CUDA graphs and TF32 exist on a GPU alone and are left out.
    """
    tiny: dict[str, Measurement] = {}
    for measurement in measurements:
        if "graph" in measurement.contender or measurement.precision == "tf32":
            continue
        one = replace(
            measurement,
            model="small_resnet",
            size=32,
            slots=min(measurement.slots, 4),
            num_images=min(measurement.num_images, 8),
            max_steps=min(measurement.max_steps, 4),
            turns=1,
        )
        tiny.setdefault(one.key, one)
    return list(tiny.values())


def _quick() -> Iterator[Measurement]:
    """A minute on two cores: does everything run, and about how fast."""
    fixed = Measurement("fixed_steps", "ours", "small_resnet", 32, slots=8, num_images=16)
    for contender in ("ours", "bare", "torch-eager"):
        yield replace(fixed, contender=contender)
    yield replace(fixed, contender="released", slots=1, num_images=2)
    yield replace(fixed, workload="to_target", contender="ours", max_steps=50)


def _cpu() -> Iterator[Measurement]:
    """Two cores, about three quarters of an hour."""
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
    for model in _OTHER_MODELS:
        other = replace(fixed, model=model)
        if model in ("resnet50", "vgg16"):  # minutes a turn
            other = replace(other, max_steps=5, turns=2)
        yield other
        yield replace(other, contender="bare")
        yield replace(other, contender="released", slots=1, num_images=1)
        yield replace(other, contender="torch-eager")
        yield replace(other, contender="torch-eager", precision="bfloat16")
        yield replace(other, contender="torch-compile")

    target = Measurement(
        "to_target", "ours", "squeezenet1_0", slots=8, num_images=64, max_steps=200, turns=2
    )
    yield target
    yield replace(target, contender="torch-eager")
    yield replace(target, contender="torch-eager+refill")
    yield replace(target, contender="torch-eager+refill", precision="bfloat16")
    yield replace(target, contender="released-input-only", slots=1, num_images=8)

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
    yield Measurement("profile", "ours", "squeezenet1_0", slots=8, num_images=16, turns=1)


def _gpu() -> Iterator[Measurement]:
    """One H100, under nine minutes: what matters most comes first, in case time runs out."""
    fixed = Measurement(
        "fixed_steps",
        "ours",
        slots=256,
        num_images=512,
        max_steps=39,
        precision="bfloat16",
    )
    yield fixed
    yield replace(fixed, contender="bare")
    yield replace(fixed, contender="torch-graph")
    yield replace(fixed, contender="torch-compile")
    yield replace(fixed, contender="torch-compile-graph")
    yield replace(fixed, contender="torch-eager")
    yield replace(fixed, contender="torch-compile-reduce-overhead")
    for contender in ("released", "released-input-only"):
        yield replace(
            fixed, contender=contender, precision="float32", slots=1, num_images=1, turns=2
        )
    single = replace(fixed, num_images=256, max_steps=19, turns=2)
    yield replace(single, precision="float32")
    yield replace(single, precision="highest")
    for precision in ("tf32", "float32"):
        yield replace(single, contender="torch-graph", precision=precision)

    target = Measurement(
        "to_target",
        "ours",
        "squeezenet1_0",
        score_space="raw",
        precision="bfloat16",
        slots=256,
        num_images=4096,
        max_steps=500,
        turns=1,
    )
    yield target
    yield replace(target, contender="torch-graph+refill")
    yield replace(target, contender="torch-graph")
    yield replace(
        target, contender="released-input-only", precision="float32", slots=1, num_images=4
    )

    yield replace(fixed, workload="profile", num_images=256, turns=1)
    yield replace(fixed, workload="permutation", num_images=256, max_steps=10, turns=1)
    yield Measurement(
        "end_to_end",
        "ours",
        "squeezenet1_0",
        precision="bfloat16",
        slots=256,
        num_images=500,
        max_steps=500,
        turns=1,
    )
    for model in _OTHER_MODELS:
        other = replace(fixed, model=model, num_images=256, max_steps=19, turns=2)
        yield other
        yield replace(other, contender="bare")
        yield replace(other, contender="torch-graph")
    for slots in (1, 16, 64, 512, 1024):
        yield replace(fixed, workload="slots", slots=slots, num_images=slots, max_steps=19, turns=2)
    yield replace(fixed, contender="torch-compile-max-autotune", turns=2)
    ax = Measurement(
        "attribution", "native:all", "squeezenet1_0", slots=64, num_images=256, turns=2
    )
    yield ax
    yield replace(ax, contender="captum:all", num_images=64)
    first = Measurement(
        "first_result", "cold", "squeezenet1_0", precision="bfloat16", slots=64, num_images=64
    )
    yield replace(first, turns=1)
    yield replace(first, contender="warm", turns=1)
