"""An exported cell trains with TerraTorch's own command, and builds the same network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml

from rs05bench.errors import ProtocolError
from rs05bench.models.deep import create
from rs05bench.models.networks import parameter_counts
from rs05bench.models.plan import TrainingPlan
from rs05bench.models.terratorch_export import ExportedModel, export_terratorch

FACTS = {
    "kind": "segmentation",
    "classes": ["unburnt", "burnt"],
    "targets": 1,
    "bands": ["B02", "B03", "B04", "B8A", "B11", "B12"],
    "scale": 1.0,
    "num_frames": 1,
    "image_size": 64,
    "resolution_m": 30.0,
    "extra": 0,
}
PLAN = TrainingPlan(steps=2, val_every=2)


def exported(name: str, folder: Path | str = "chips", **options) -> dict:
    model = create(name, **options)
    return yaml.safe_load(export_terratorch(model, FACTS, PLAN, train=f"{folder}/train", val=f"{folder}/val", batch_size=2))


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for unit in range(4):
            profile = {
                "driver": "GTiff",
                "height": 64,
                "width": 64,
                "crs": "EPSG:32610",
                "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 4e6),
            }
            stem = tmp_path / part / f"chip_{unit:03d}"
            with rasterio.open(f"{stem}_merged.tif", "w", count=6, dtype="float32", **profile) as file:
                file.write(generator.uniform(0, 0.5, (6, 64, 64)).astype("float32"))
            with rasterio.open(f"{stem}.mask.tif", "w", count=1, dtype="int16", **profile) as file:
                file.write(generator.integers(-1, 2, (1, 64, 64)).astype("int16"))
    return tmp_path


def run(config: dict, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "cell.yaml").write_text(yaml.safe_dump(config))
    command = [
        sys.executable,
        "-m",
        "terratorch",
        "fit",
        "--config",
        str(folder / "cell.yaml"),
        "--trainer.default_root_dir",
        str(folder / "out"),
    ]
    arguments = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": os.getcwd()}, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prithvi-tiny/lora@random", "prithvi-tiny/adapter@random"])
def test_terratorch_fit_runs_an_exported_cell(name: str, chips: Path):
    result = run(exported(name, chips), chips)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "`Trainer.fit` stopped: `max_steps=2` reached." in result.stdout + result.stderr


@pytest.mark.parametrize(
    "name", ["prithvi-tiny/decoder@random", "prithvi-tiny/lora@random", "prithvi-tiny/full@random", "terramind-tiny/lora@random"]
)
def test_terratorch_builds_the_same_network(name: str):
    from terratorch.models import EncoderDecoderFactory

    options = {"targets": ("q", "v", "o"), "rank": 4} if "lora" in name else {}
    arguments = exported(name, **options)["model"]["init_args"]
    assert arguments["model_factory"] == "EncoderDecoderFactory"
    theirs = EncoderDecoderFactory().build_model(task="segmentation", **arguments["model_args"])
    ours = create(name, **options).network(FACTS)
    if arguments["freeze_backbone"]:
        theirs.freeze_encoder()
    assert parameter_counts(theirs)[1] == parameter_counts(ours)[1]
    assert theirs(torch.rand(1, 6, 64, 64)).output.shape == (1, 2, 64, 64)


def test_statistics_and_scale_are_the_pretraining_ones():
    data = exported("prithvi-tiny/full@random")["data"]["init_args"]
    assert data["constant_scale"] == 10_000
    assert data["means"][0] == 1087.0
    assert data["output_bands"] == ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]


@pytest.mark.parametrize("name", ["prithvi-tiny/frozen@random", "prithvi-tiny/adapter@random", "raw/unet", "alphaearth/conv1x1"])
def test_what_terratorch_lacks_comes_as_our_network(name: str):
    model = exported(name)["model"]["init_args"]["model"]
    assert model["class_path"] == "rs05bench.models.terratorch_export.ExportedModel"
    network = ExportedModel(**model["init_args"]).eval()
    channels = 64 if name.startswith("alphaearth") else 6
    assert network(torch.rand(1, channels, 64, 64)).output.shape == (1, 2, 64, 64)


def test_what_cannot_be_exported_says_so():
    with pytest.raises(ProtocolError, match="two rasters"):
        exported("hybrid/unet")
    with pytest.raises(ProtocolError, match="needs the file of weights"):
        exported("prithvi-tiny/full")
