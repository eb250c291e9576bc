"""What one H100 measures, in three stages; in each, what matters most comes first.

benchmarks/README.md has how long each may take.
"""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.measure.measurement import OTHER_MODELS, Measurement

_FIXED = Measurement(
    "fixed_steps", "ours", slots=256, num_images=512, max_steps=39, precision="bfloat16"
)
_FASTEST_TORCH = ("torch-compile-graph", "torch-graph")  # by expectation, best first
_ALL_IMAGES = 10_000


def _steps() -> Iterator[Measurement]:
    """Whether the GPU computes; ResNet34's steps in bfloat16, ours and torch's; the same bits."""
    check = Measurement("device_check", "jax", "small_resnet", 32, precision="bfloat16")
    check = replace(check, slots=1, num_images=1, max_steps=0, most_seconds=90)
    yield check
    yield replace(check, contender="torch")
    wider = replace(_FIXED, slots=512, num_images=1024, turns=2)
    for contender in ("ours", *_FASTEST_TORCH):
        yield replace(_FIXED, contender=contender)
    yield replace(_FIXED, workload="permutation", max_steps=10, turns=1)
    for contender in ("ours", *_FASTEST_TORCH):
        yield replace(wider, contender=contender)
    for fixed in (_FIXED, wider):
        yield replace(fixed, contender="bare")
    for fixed in (_FIXED, wider):
        tuned = replace(fixed, contender="torch-compile-max-autotune", turns=2)
        yield replace(tuned, most_seconds=100)  # it may well try kernels for longer


def _images() -> Iterator[Measurement]:
    """Images to the target with real weights, and from JPEG files to a verified store."""
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
        warm_up_turns=0,  # preparing has run the code
    )
    yield target
    yield replace(target, contender="torch-graph+refill")
    run = replace(
        target,
        workload="end_to_end",
        score_space="normalized",
        num_images=_ALL_IMAGES,
        most_seconds=240,
    )
    yield replace(run, model="resnet34", slots=512, max_steps=39)
    yield run
    yield replace(target, contender="torch-compile-graph+refill")
    for contender in ("released", "released-input-only"):
        yield replace(target, contender=contender, precision="tf32", slots=1, num_images=20)
    yield replace(target, contender="torch-graph", num_images=1000)


def _rest() -> Iterator[Measurement]:
    """More slots, where the time goes, other precisions and networks, AX, first results."""
    for contender in ("released", "released-input-only"):
        yield replace(_FIXED, contender=contender, precision="tf32", slots=1, num_images=1, turns=2)
    many = replace(_FIXED, workload="slots", max_steps=19, turns=2)
    for slots in (1024, 64, 2048):
        yield replace(many, slots=slots, num_images=2 * slots)
    yield replace(_FIXED, workload="profile", turns=1)

    exact = replace(_FIXED, turns=2)
    yield replace(exact, precision="float32")
    yield replace(exact, precision="highest")
    yield replace(exact, contender="torch-graph", precision="tf32")
    yield replace(exact, contender="torch-graph", precision="float32")
    for model in OTHER_MODELS:
        slots = 128 if model == "vgg16" else 256
        other = replace(
            _FIXED, model=model, slots=slots, num_images=2 * slots, max_steps=19, turns=2
        )
        yield other
        yield replace(other, contender="torch-graph")

    ax = Measurement(
        *("attribution", "native:all", "squeezenet1_0"),
        precision="highest",
        slots=64,
        num_images=256,
        turns=2,
    )
    yield ax
    yield replace(ax, contender="captum:all", num_images=64)
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
    for slots in (512, 256, 128, 16):
        yield replace(many, slots=slots, num_images=2 * slots)
    yield replace(_FIXED, contender="torch-eager")
    yield replace(_FIXED, contender="torch-compile-reduce-overhead")


GPU_STAGES = (_steps, _images, _rest)
