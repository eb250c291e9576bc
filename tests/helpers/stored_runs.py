"""Small stored runs made without any model: a report reads stores, so stores are all it needs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from gaxjax.config.base import to_dict
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import AxConfig, GaxConfig
from gaxjax.config.runs import AxRunConfig, GaxRunConfig, SnapshotConfig, StoreConfig
from gaxjax.data.sources import open_images
from gaxjax.results.heatmap_array import HeatmapArray, heatmap_sha256
from gaxjax.results.part_writer import Result
from gaxjax.results.reading import read_scores
from gaxjax.results.snapshots import SNAPSHOT_SCHEMA, write_snapshots
from gaxjax.results.solution import Outcome, Solution
from gaxjax.results.store import Store

SIZE = 16
CLASSES = ("NORMAL", "PNEUMONIA")


def image_folder(folder: Path, per_class: int, classes=CLASSES, *, last_name: str = "") -> Path:
    """Class folders of random images; `last_name` names the last one of the last class."""
    random = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            stem = f"{number:05d}"
            if last_name and name == classes[-1] and number == per_class - 1:
                stem = last_name
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{stem}.png")
    return folder


MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def _store(path: Path, config, images, command: str, status: str, num_classes: int, heatmaps=1):
    session = {
        "started": "2026-01-02T03:04:05+00:00",
        "device": "1 × cpu",
        "platform": "cpu",
        "python": "3.11.0",
        "versions": {"gaxjax": "0.1.0", "jax": "0.10.0"},
        "compile_seconds": 2.5,
        "seconds": 12.25,
        "precision": "float32",
        "image_steps_per_second": 123.4,
    }
    header = {
        "command": command,
        "config": to_dict(config),
        "model": {
            "name": "resnet34",
            "fingerprint": "ab" * 32,
            "num_classes": num_classes,
            "mean": MEAN if command == "ax" else None,
            "std": STD if command == "ax" else None,
        },
        "data": {
            "name": images.name,
            "fingerprint": images.fingerprint,
            "num_images": len(images.records),
        },
        "status": status,
    }
    wanted = to_dict(config.ax) if command == "ax" else {}
    of_ax = {name: wanted[name] for name in ("methods", "layers") if wanted}
    store = Store(
        path,
        identity={"command": command} | of_ax,
        header=header,
        image_shape=(SIZE, SIZE, 3),
        heatmap_dtype=None if config.store.heatmaps == "none" else "float16",
        num_images=len(images.records),
        heatmaps_per_part=len(images.records) * heatmaps,
    )
    store.header.write(sessions=[session])
    return store


def _heatmap(random, strength=1.0):
    return (strength * np.tanh(random.normal(size=(SIZE, SIZE, 3)))).astype(np.float16)


def gax_solution(index: int, label: int, random) -> Solution:
    """Every seventh image is misclassified, every eleventh does not reach the target."""
    before = float(random.uniform(0.3, 0.9))
    if index % 7 == 6:
        return Solution(
            index, Outcome.MISCLASSIFIED, label, prediction=1 - label, probability_before=before
        )
    steps = int(random.integers(2, 30)) if index else 9
    reached = index % 11 != 10
    end = 48 + float(random.uniform(0, 4)) if reached else 20.0
    curve = np.linspace(random.uniform(-2, 2), end, steps + 1).astype(np.float32)
    return Solution(
        index,
        Outcome.REACHED if reached else Outcome.STEP_LIMIT,
        label,
        prediction=label,
        probability_before=before,
        steps=steps,
        co_score=float(curve[-1]),
        co_score_start=float(curve[0]),
        similarity_loss=1.0,
        probability_after=0.999,
        prediction_after=label,
        curve=curve,
        heatmap=_heatmap(random),
    )


def gax_run(
    path: Path,
    data: Path,
    *,
    status="complete",
    only: int | None = None,
    heatmaps="float16",
    parts=1,
    **gax,
) -> Path:
    """A GAX run over a folder's images; `only` so many are done where given, in so many parts."""
    config = GaxRunConfig(
        model=ModelConfig(model="r34.ckpt"),
        data=DataConfig(data=str(data), size=SIZE),
        gax=GaxConfig(bias=True, **gax),
        store=StoreConfig(heatmaps=heatmaps),
    )
    images = open_images(config.data)
    random = np.random.default_rng(1)
    results = [
        Result(
            record.image_id,
            record.label,
            record.label_name,
            gax_solution(index, record.label, random),
        )
        for index, record in enumerate(images.records[:only])
    ]
    each = -(-len(results) // parts)
    with _store(path, config, images, "gax", status, images.num_classes) as store:
        for start in range(0, len(results), each):
            store.commit(results[start : start + each])
    return path


AX_METHODS = (
    ("saliency", None),
    ("layer_grad_cam", "conv1"),
    ("layer_grad_cam", "layer2"),
    ("deconvolution", None),
)


def _confidence(random, right: bool) -> dict[str, float]:
    """How sure a classifier of two classes is: surer where it is right."""
    margin = float(np.abs(random.normal()) + 2 * right)
    likely = 1 / (1 + np.exp(-margin))
    return {
        "max_probability": likely,
        "entropy": float(-likely * np.log(likely) - (1 - likely) * np.log(1 - likely)),
        "logit_margin": margin,
        "logsumexp": float(random.normal() + margin),
    }


def ax_run(path: Path, data: Path, *, operations=("sum", "mult"), methods=AX_METHODS, **ax) -> Path:
    """An AX run: correct predictions (two of three images) score higher by 2 under sum.

    Deconvolution has an all-zero heatmap on every fifth image.
    """
    config = AxRunConfig(
        model=ModelConfig(model="r34.ckpt"),
        data=DataConfig(data=str(data), size=SIZE),
        ax=AxConfig(layers=("conv1", "layer2"), **ax),
    )
    images = open_images(config.data)
    random, logits = np.random.default_rng(2), np.random.default_rng(3)
    results = []
    for index, record in enumerate(images.records):
        right = index % 3 != 2
        confidence = _confidence(logits, right)
        prediction = record.label if right else 1 - record.label
        for method, layer in methods:
            heatmap = _heatmap(random)
            for operation in operations:
                common = {
                    "label": record.label,
                    "prediction": prediction,
                    "probability_before": 0.8 if right else 0.2,
                    "method": method,
                    "layer": layer,
                    "operation": operation,
                    **confidence,
                }
                score = float(random.normal() + 2 * (right and operation == "sum"))
                solution = Solution(
                    index,
                    Outcome.SCORED,
                    co_score=score,
                    co_score_predicted=score if right else -score,  # κ is (1, -1) or (-1, 1)
                    probability_after=0.7,
                    prediction_after=prediction,
                    heatmap=heatmap,
                    heatmap_scale=0.1,
                    **common,
                )
                if method == "deconvolution" and index % 5 == 4:
                    solution = Solution(index, Outcome.ZERO_HEATMAP, **common)
                results.append(Result(record.image_id, record.label, record.label_name, solution))
    with _store(path, config, images, "ax", "complete", 2, len(methods)) as store:
        store.commit(results)
    return path


def add_snapshots(path: Path, image_ids, *, every=1, left_out=None) -> None:
    """Heatmaps along the way and of the stored step: (t + 1) / 40 in the red channel at step t."""
    shape = (SIZE, SIZE, 3)
    stored = {row["image_id"]: row["steps"] for row in read_scores(path).to_pylist()}
    rows = [
        (image, step)
        for image in image_ids
        for step in sorted({*range(0, stored[image] + 1, every), stored[image]})
    ]
    heatmaps = np.zeros((len(rows), *shape), np.float16)
    heatmaps[..., 0] = [[[(step + 1) / 40]] for _, step in rows]
    array = HeatmapArray(path / "snapshots.zarr", 1, len(rows), shape, "float16")
    array.create()
    array.write_shard(0, heatmaps)
    probabilities = [[0.5 + step / 80, 0.5 - step / 80] for _, step in rows]
    about = {
        "asked": to_dict(SnapshotConfig(snapshots=len(image_ids), snapshot_every=every)),
        "class_names": {"0": CLASSES[0]},
        "left_out": left_out or {},
        "difference": 0.0,
    }
    columns = {
        "image_id": pa.array([image for image, _ in rows], pa.string()),
        "step": pa.array([step for _, step in rows], pa.int32()),
        "co_score": pa.array([5.0 * step for _, step in rows], pa.float32()),
        "row": pa.array(range(len(rows)), pa.int64()),
        "top_classes": pa.array([[1, 0]] * len(rows), pa.list_(pa.int32())),
        "top_probabilities": pa.array(probabilities, pa.list_(pa.float32())),
        "heatmap_sha256": [heatmap_sha256(heatmap) for heatmap in heatmaps],
    }
    write_snapshots(path, pa.table(columns, schema=SNAPSHOT_SCHEMA), about)
