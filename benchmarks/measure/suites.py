"""What each suite measures: sizes and contenders, in the order in which they are worth having."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from benchmarks.measure.measurement import Measurement

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


def rehearsal(measurements: list[Measurement], *, on_gpu: bool = False) -> list[Measurement]:
    """Return the same measurements at sizes that take seconds, in the same order.

    CUDA graphs and TF32 exist on a GPU alone; elsewhere the same code runs without them.
    """
    most_slots, most_images = (16, 32) if on_gpu else (4, 8)
    tiny: dict[str, Measurement] = {}
    for measurement in measurements:
        contender, precision = measurement.contender, measurement.precision
        if not on_gpu:
            contender = contender.replace("torch-compile-graph", "torch-compile")
            contender = contender.replace("torch-graph", "torch-eager")
            precision = "float32" if precision == "tf32" else precision
        one = replace(
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


def _gpu() -> Iterator[Measurement]:
    """One H100: what matters most comes first.

    What is left when the time is over is measured by the same command again.
    """
    fixed = Measurement(
        "fixed_steps", "ours", slots=256, num_images=512, max_steps=39, precision="bfloat16"
    )
    yield fixed
    for contender in ("torch-graph", "torch-compile-graph", "bare", "torch-eager"):
        yield replace(fixed, contender=contender)
    one_image = replace(fixed, precision="tf32", slots=1, num_images=1, turns=2)
    for contender in ("released", "released-input-only"):
        yield replace(one_image, contender=contender)

    target = Measurement(
        "to_target",
        "ours",
        "squeezenet1_0",
        score_space="raw",
        precision="bfloat16",
        slots=256,
        num_images=2000,
        max_steps=500,
        turns=1,
        warm_up_turns=0,  # minutes, and preparing has run the code
    )
    yield target
    yield replace(target, contender="torch-graph+refill")
    yield replace(target, contender="torch-graph", num_images=1000)
    yield replace(target, contender="released-input-only", precision="tf32", slots=1, num_images=20)

    yield replace(fixed, workload="profile", turns=1)
    yield replace(fixed, workload="permutation", max_steps=10, turns=1)
    many = replace(fixed, workload="slots", max_steps=19, turns=2)
    for slots in (1024, 64):
        yield replace(many, slots=slots, num_images=2 * slots)

    exact = replace(fixed, turns=2)
    yield replace(exact, precision="float32")
    yield replace(exact, precision="highest")
    yield replace(exact, contender="torch-graph", precision="tf32")
    yield replace(exact, contender="torch-graph", precision="float32")
    for model in _OTHER_MODELS:
        slots = 128 if model == "vgg16" else 256
        other = replace(
            fixed, model=model, slots=slots, num_images=2 * slots, max_steps=19, turns=2
        )
        yield other
        yield replace(other, contender="torch-graph")

    yield replace(target, workload="end_to_end", score_space="normalized", num_images=500)
    yield replace(fixed, contender="torch-compile-reduce-overhead")
    for slots in (16, 256, 512):
        yield replace(many, slots=slots, num_images=max(8, 2 * slots))
    first = Measurement(
        "first_result",
        "cold",
        "squeezenet1_0",
        precision="bfloat16",
        slots=64,
        num_images=64,
        turns=1,
        warm_up_turns=0,
    )
    yield first
    yield replace(first, contender="warm")
    ax = Measurement(
        *("attribution", "native:all", "squeezenet1_0"),
        precision="highest",
        slots=64,
        num_images=256,
        turns=2,
    )
    yield ax
    yield replace(ax, contender="captum:all", num_images=64)
    yield replace(fixed, contender="torch-compile-max-autotune", turns=2)
