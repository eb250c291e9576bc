"""Real images from a folder, Parquet files, tar archives and S3: the same run, bit for bit."""

import itertools
import shutil

import fsspec
import places
import pytest
from flax import nnx
from tiny_runs import tiny_model

from benchmarks.sources import lay_out
from gaxjax.config.inputs import DataConfig, ModelConfig
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig, GaxRunConfig, StoreConfig
from gaxjax.models import as_classifier, build
from gaxjax.results.heatmap_array import read_heatmap_rows
from gaxjax.results.reading import read_scores
from gaxjax.runs.gax import run_gax

IMAGES = 500


@pytest.mark.slow
@pytest.mark.data
def test_the_sample_images_have_the_same_rows_and_heatmaps_from_everywhere(
    real_data, tmp_path, monkeypatch
):
    pytest.importorskip("datasets")
    pytest.importorskip("webdataset")
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "cache"))
    for folder in itertools.islice(sorted((real_data / "data/imagenet_sample").iterdir()), IMAGES):
        shutil.copytree(folder, tmp_path / "sample" / folder.name)
    lay_out(tmp_path / "sample", tmp_path / "places", 3)
    net = build("small_resnet", num_classes=1000, rngs=nnx.Rngs(0))
    model = as_classifier(net, num_classes=1000, fingerprint="small")
    with places.s3_server() as address, tiny_model(model):
        places.use_s3(address, monkeypatch)
        system = fsspec.filesystem("s3", use_listings_cache=False)
        system.mkdir("sample")
        kinds = ("folder", "parquet", "tar")
        for kind in kinds:
            place = (tmp_path / "places" / kind).resolve()
            system.put(f"{place}/", f"sample/{kind}/", recursive=True)
        names = [str(tmp_path / "places" / kind) for kind in kinds]
        names += [f"s3://sample/{kind}" for kind in kinds]
        found = []
        for number, name in enumerate(names):
            output = tmp_path / f"run{number}"
            run_gax(configured(name), output, note=lambda _: None)
            rows = read_scores(output).sort_by("image_id")
            hashes = zip(
                *(rows[f"heatmap_{of}"].to_pylist() for of in ("row", "sha256")), strict=True
            )
            heatmaps = read_heatmap_rows(output / "heatmaps.zarr", dict(hashes))
            found.append((rows.drop_columns(["heatmap_row"]), heatmaps))
    rows, heatmaps = found[0]
    assert len(rows) == IMAGES
    assert rows["heatmap_sha256"].null_count == 0
    for other_rows, other_heatmaps in found[1:]:
        assert other_rows.equals(rows)
        assert other_heatmaps.tobytes() == heatmaps.tobytes()


def configured(data):
    return GaxRunConfig(
        model=ModelConfig(model="small_resnet"),
        data=DataConfig(data=data, size=64),
        gax=GaxConfig(target=1e9, max_steps=3, include_misclassified=True),
        engine=EngineConfig(slots=8),
        store=StoreConfig(heatmaps="float16", part_size=16),
    )
