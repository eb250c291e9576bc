"""Made-up rows of the benchmark suite."""

import statistics
from dataclasses import asdict

from benchmarks.measure.measurement import Measurement

H100 = "NVIDIA H100 80GB HBM3"


def make_row(
    workload="fixed_steps",
    contender="ours",
    rates=(15.0, 16.0, 14.0),
    *,
    device="cpu",
    session="one",
    arithmetic=None,
    error=None,
    fields=None,
    **settings,
):
    """A row whose every turn lasts two seconds, at the given image-steps per second."""
    measurement = Measurement(workload, contender, **settings)
    row = {
        "key": measurement.key,
        "suite": "gpu" if device == H100 else "cpu",
        "group": measurement.group,
        **asdict(measurement),
        "when": "2026-11-23T09:00:00+00:00",
        "commit": "abc1234",
        "session": session,
    }
    if error is not None:
        return row | {"error": error} | ({"device": device} if device else {})

    def spread(values):
        return {"median": statistics.median(values), "min": min(values), "max": max(values)}

    return (
        row
        | {
            "device": device,
            "processor": "AMD EPYC",
            "cores": 2,
            "python": "3.11.9",
            "versions": {"jax": "0.10.2", "torch": "2.15.0"},
            "weights": "random",
            "images_are": "real",
            "arithmetic": arithmetic or measurement.precision,
            "compile_seconds": 8.61,
            "turn_seconds": [2.0] * len(rates),
            "turn_image_steps": [2.0 * rate for rate in rates],
            "turn_images": [rate / 3 for rate in rates],
            "image_steps_per_s": spread(rates),
            "images_per_s": spread([rate / 6 for rate in rates]),
            "peak_device_bytes": None,
            "peak_host_bytes": 1_234_000_000,
            "flops_per_image_step": 19.17e9,
            "tflops": 0.288,
            "mfu": None,
            "score_difference": {"first": 3.1e-7, "later": 2.0e-3},
        }
        | (fields or {})
    )


def every_workload() -> list[dict]:
    rows = [
        make_row(),
        make_row(rates=(15.2, 16.1, 14.1), repeat=1),
        make_row(contender="bare", rates=(16.0, 16.5, 15.0)),
        make_row(contender="torch-eager", rates=(13.0, 13.5, 12.0)),
        make_row(contender="released", rates=(9.0, 9.2, 8.0), slots=1),
        make_row("end_to_end", model="squeezenet1_0", num_images=200, fields={
            "seconds_by_part": {"decode": 4.0, "optimise": 80.0, "store": 3.0},
            "wall_seconds": 90.0,
        }),
        make_row("images", num_images=100),
        make_row("images", num_images=1000),
        make_row("devices", devices=1, fields={"results_sha256": "a" * 64}),
        make_row("devices", devices=2, fields={"results_sha256": "a" * 64}),
        make_row("devices", devices=4, fields={"results_sha256": "b" * 64}),
        make_row("permutation", fields={"equal": 8, "differing": 0, "worst": 0.0}),
        make_row("permutation", num_images=64, fields={
            "equal": 60, "differing": 4, "worst": 3.1e-5, "rerun_differing": 2,
        }),
        make_row("device_check", "jax", fields={
            "matmul_tflops": 0.0281, "copy_gb_per_s": 2.11, "upload_gb_per_s": 0.222,
            "matmul_share_of_peak": None, "runtime": "cpu",
            "gpu": {"driver_version": "590.1", "memory.total": "81559 MiB"},
        }),
        make_row("profile", fields={
            "shares": {"convolution": 0.7, "idle": 0.3},
            "top": [{"name": "convolution.1", "share": 0.4}, {"name": "fusion.2", "share": 0.1}],
        }),
    ]  # fmt: skip
    outcomes = {"reached": 4, "step_limit": 1, "misclassified": 3}
    steps = {"steps": [3, 5, 4, 60], "outcomes": outcomes, "occupancy": 0.989}
    rows += [make_row("to_target", name, fields=steps) for name in ("ours", "torch-eager+refill")]
    rows += [
        make_row("attribution", f"{backend}:{method}")
        for backend in ("native", "captum")
        for method in ("all", "saliency")
    ]
    rows += [make_row("slots", slots=slots) for slots in (1, 4, 16)]
    parts = {"imports": 2.5, "load": 0.5, "compile": 9.0, "first_result": 1.0}
    rows += [
        make_row("first_result", name, fields={"seconds_by_part": parts})
        for name in ("cold", "warm")
    ]
    return rows
