"""Every tier on chips through the same two calls: results, costs, shared features, repeatable to the bit."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import yaml

import rs05bench as rb
from rs05bench.datamodules import BurnScarDataModule, CropDataModule
from rs05bench.datamodules.chipsource import ChipSource, chip_card
from rs05bench.errors import BenchError, DataError, ProtocolError
from rs05bench.experiment.cell import Bench, run_cell
from rs05bench.experiment.one_cell import OneCell, export_cell, fit_predict, parse_options
from rs05bench.protocol.manifest import build_manifest
from rs05bench.protocol.map_predictions import MapPredictions
from rs05bench.protocol.result import Cell, Result

SPLIT, FOLD, BUDGET = "leave-state-out", "CA", "5-fires"


def small(card, patch=64, **said):
    training = card.training.model_copy(update={"steps": 3, "val_every": 2})
    return card.with_preprocessing(patch_size=patch, **said).model_copy(update={"training": training})


@pytest.fixture(scope="module")
def bench(chip_folder):
    card = small(chip_card("burn-scars", chip_folder / "hls_burn_scars"))
    source = ChipSource(chip_folder / "hls_burn_scars", card, embeddings=chip_folder / "alphaearth")
    return Bench(source, {SPLIT: build_manifest(card, source.units(), SPLIT)})


def burn(bench, seed=0, budget=BUDGET):
    return BurnScarDataModule(bench.source, SPLIT, FOLD, budget, seed, manifest=bench.manifests[SPLIT])


def cell(model, seed=0, budget=BUDGET, fold=FOLD, **options):
    return Cell(task="hls-burn-scars", target="burn scar", split=SPLIT, fold=fold, model=model, budget=budget, seed=seed, options=options)


MODELS = ["raw/unet", "alphaearth/conv1x1", "hybrid/unet", "prithvi-tiny/frozen@random", "prithvi-tiny/lora@random"]
HEAVIER = [f"prithvi-tiny/{tier}@random" for tier in ("decoder", "adapter", "full")]


@pytest.mark.parametrize("model", [*MODELS, *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVIER)])
def test_a_tier_runs_and_says_what_it_did(bench, model):
    result = rb.run(burn(bench), model)
    for role in ("test_id", "test_ood"):
        assert all(math.isfinite(result.scores[role][name]) for name in ("miou", "ece", "brier", "area_error"))
    assert result.training.planned_steps == 3
    assert result.training.early_stopping_role == "val"
    assert result.training.batch_size == 4
    assert list(result.training.tried) == ["0.001"]
    assert 0 < result.cost.parameters_trainable <= result.cost.parameters_total
    assert result.model.random_twin is ("@random" in model)
    assert result.cell.model == model


@pytest.mark.parametrize("model", ["raw/unet", "prithvi-tiny/lora@random"])
def test_one_seed_repeats_to_the_bit_and_two_differ(bench, model):
    first, again, other = (rb.run(burn(bench, seed), model).digests["predictions"] for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.slow
def test_crops_over_three_dates_run_from_scratch_and_frozen(chip_folder):
    card = small(chip_card("crop-chips", chip_folder / "crop_chips"), patch=112)
    dm = CropDataModule(chip_folder / "crop_chips", split=SPLIT, budget="full", card=card)
    for model in ("raw/unet", "prithvi-tiny/frozen@random"):
        result = rb.run(dm, model)
        assert math.isfinite(result.scores["test_ood"]["miou"])
        assert {"f1_Corn", "ece"} <= set(result.scores["test_id"]) or "macro_f1" in result.scores["test_id"]


def test_pretrained_without_weights_says_what_to_do(bench):
    with pytest.raises(BenchError, match=r"weights|revision"):
        rb.run(burn(bench), "prithvi-tiny/lora")


def test_a_pixel_budget_is_reported_in_pixels(bench):
    result = rb.run(burn(bench, budget="10pct-pixels"), "alphaearth/conv1x1")
    counted = result.budget.labelled_pixels
    assert 0 < counted["val"] < counted["train"]
    assert counted["train"] < 0.11 * 96 * 96 * result.budget.train


def test_a_model_given_as_an_object_is_named_and_run_like_its_name(bench):
    named = rb.run(burn(bench), "alphaearth/conv1x1")
    given = rb.run(burn(bench), rb.models.create("alphaearth/conv1x1"))
    assert given.digests["predictions"] == named.digests["predictions"]
    assert given.digest == named.digest


def test_one_module_serves_models_with_and_without_embeddings(bench):
    dm = burn(bench)
    rb.run(dm, "raw/unet", steps=1)
    assert math.isfinite(rb.run(dm, "alphaearth/conv1x1", steps=1).scores["test_ood"]["miou"])


# Features


def test_frozen_cells_share_features_and_others_do_not(bench, tmp_path, monkeypatch):
    from rs05bench.models.networks import EncoderNetwork

    shared = Bench(bench.source, bench.manifests, features=tmp_path / "features")
    encoded: list[int] = []
    inner = EncoderNetwork.encode
    monkeypatch.setattr(EncoderNetwork, "encode", lambda self, batch: encoded.append(len(batch["image"])) or inner(self, batch))
    scores = [run(shared, cell("prithvi-tiny/frozen@random"))]
    first = sum(encoded)
    assert first > 0
    run(shared, cell("prithvi-tiny/frozen@random", budget="2-fires"))  # the same seed: a control of another is another network
    again = sum(encoded) - first
    assert again < first / 2, "test chips are the same, and so are their windows"
    scores.append(run(shared, cell("prithvi-tiny/frozen@random")))
    scores.append(run(bench, cell("prithvi-tiny/frozen@random")))
    assert scores[0].digests["predictions"] == scores[1].digests["predictions"] == scores[2].digests["predictions"]
    assert "cache" not in scores[0].model.options
    assert "cache" not in shared.model(cell("prithvi-tiny/lora@random")).options
    assert "cache" not in shared.model(cell("prithvi-tiny/decoder@random")).options


def run(bench, one):
    result, predictions = run_cell(bench, one)
    predictions.discard()
    return result


# Costs


@pytest.mark.slow
def test_a_cost_is_measured_alone_with_operations_counted(chip_folder, tmp_path):
    from rs05bench.experiment.store import ResultStore
    from rs05bench.experiment.workers import Job, measure_cost

    card = small(chip_card("burn-scars", chip_folder), folder="hls_burn_scars", embeddings="alphaearth")
    card.save(tmp_path / "card.yaml")
    source = ChipSource(chip_folder / "hls_burn_scars", card)
    ResultStore(tmp_path / "runs").put_manifest(build_manifest(card, source.units(), SPLIT))
    job = Job(str(tmp_path / "card.yaml"), str(chip_folder), str(tmp_path / "runs"), (SPLIT,))
    costs = {name: measure_cost(job, cell(name))[1] for name in ("alphaearth/conv1x1", "prithvi-tiny/frozen@random")}
    conv = costs["alphaearth/conv1x1"]
    # A chip of 96 pixels in nine windows of 64, each 64 channels into 2 classes; a multiply-add is two operations.
    assert conv.gflops_per_unit == pytest.approx(4 * 64 * 64 * 64 * 2 * 2 / 1e9)
    assert costs["prithvi-tiny/frozen@random"].gflops_per_unit > 10 * conv.gflops_per_unit
    assert conv.alone
    assert conv.fit_s > 0
    assert conv.predict_s_per_1000 > 0
    import torch

    if not torch.cuda.is_available():
        assert conv.peak_device_memory_mb is None
        assert conv.device_hours is None


def test_energy_is_read_where_it_can_be_and_absent_elsewhere(tmp_path):
    from rs05bench.experiment.metering import Lap, Meter, read_energy

    assert read_energy(tmp_path) == {}
    for name, value in (("intel-rapl:0", "3600000000"), ("intel-rapl:0:0", "5"), ("intel-rapl:1", "unreadable")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(value)
    assert read_energy(tmp_path) == {"intel-rapl:0": 3_600_000_000}
    assert Meter().start().energy_wh(Lap(1.0, {})) == (None, None)
    laps = Lap(1.0, {"intel-rapl:0": 1_800_000_000}), Lap(2.0, {"intel-rapl:0": 5_400_000_000})
    assert Meter().start().energy_wh(*laps) == (2.0, "processor")


def test_energy_of_a_cell_on_an_accelerator_is_of_both_or_not_known(monkeypatch):
    from rs05bench.experiment.metering import Lap, Meter

    meter = Meter().start()
    both = Lap(1.0, {"intel-rapl:0": 3_600_000_000, "GPU-1": 7_200_000_000})
    # An accelerator that stood idle does not count.
    assert meter.energy_wh(both) == (1.0, "processor")
    monkeypatch.setattr(meter, "peak_device_memory_mb", lambda: 100.0)
    assert meter.energy_wh(both) == (3.0, "processor + accelerator")
    assert meter.energy_wh(Lap(1.0, {"GPU-1": 7_200_000_000})) == (2.0, "accelerator")
    assert meter.energy_wh(Lap(1.0, {"intel-rapl:0": 3_600_000_000})) == (None, None)
    assert meter.device_hours(both, both) == 2 / 3600


def test_a_lap_begins_where_the_last_one_ended():
    from rs05bench.experiment.metering import Meter

    meter = Meter().start()
    begin = meter._began
    first, second = meter.lap(), meter.lap()
    assert first.seconds + second.seconds == pytest.approx(meter._began - begin)


# One cell from the command line


def test_fit_predict_keeps_a_result_and_maps_that_score_the_same(chip_folder, tmp_path):
    card = small(chip_card("burn-scars", chip_folder), folder="hls_burn_scars", embeddings="alphaearth")
    one = {"model": "alphaearth/conv1x1", "split": SPLIT, "fold": FOLD, "budget": BUDGET, "options": parse_options(["steps=2"])}
    result = fit_predict(card, chip_folder, tmp_path / "cell", OneCell(**one))
    kept = Result.model_validate_json((tmp_path / "cell" / "result.json").read_text())
    assert kept.scores == result.scores
    assert kept.training.planned_steps == 2
    predictions = MapPredictions.read(tmp_path / "cell" / "predictions")
    assert predictions.digest == result.digests["predictions"]
    assert set(predictions.table["role"]) == {"val", "test_id", "test_ood"}
    with pytest.raises(DataError, match="already"):
        fit_predict(card, chip_folder, tmp_path / "cell", OneCell(**one))
    with pytest.raises(DataError, match="no fold"):
        fit_predict(card, chip_folder, tmp_path / "other", OneCell(**{**one, "fold": "Atlantis"}))


@pytest.mark.slow
def test_the_command_runs_one_cell(chip_folder, run_command, tmp_path):
    card = small(chip_card("burn-scars", chip_folder), folder="hls_burn_scars")
    card.save(tmp_path / "card.yaml")
    command = ["fit-predict", tmp_path / "card.yaml", "--data", chip_folder]
    cell_options = ["--model", "prithvi-tiny/frozen@random", "--split", SPLIT, "--fold", FOLD, "--budget", BUDGET, "--option", "steps=2"]
    shown = run_command(*command, *cell_options, "--out", tmp_path / "out")
    assert "miou" in shown
    assert "random weights" in shown
    assert json.loads((tmp_path / "out" / "result.json").read_text())["cell"]["options"] == {"steps": 2}


def test_options_are_read_or_refused():
    assert parse_options(["rank=4", "decoder=fpn"]) == {"rank": 4, "decoder": "fpn"}
    with pytest.raises(DataError, match="key=value"):
        parse_options(["rank"])


# For TerraTorch


def test_an_exported_cell_holds_the_budgets_patches_and_labels(chip_folder, tmp_path, bench):
    import rasterio

    card = small(chip_card("burn-scars", chip_folder), folder="hls_burn_scars")
    path = export_cell(
        card, chip_folder, tmp_path / "export", OneCell(model="prithvi-tiny/lora@random", split=SPLIT, fold=FOLD, budget="10pct-pixels")
    )
    config = yaml.safe_load(path.read_text())
    assert config["trainer"]["max_steps"] == 3
    dm = burn(bench, budget="10pct-pixels")
    for role in ("train", "val"):
        masks = sorted((tmp_path / "export" / role).glob("*.mask.tif"))
        assert {file.name.rsplit("_", 1)[0] for file in masks} == set(dm.unit_ids(role))
        assert len(masks) == 4 * len(dm.unit_ids(role))
    file = masks[0]
    with rasterio.open(file) as mask, rasterio.open(str(file).replace(".mask.tif", "_merged.tif")) as image:
        assert image.count == 6
        assert image.transform == mask.transform
        assert 0.85 < np.mean(mask.read(1) == -1) < 0.95


def test_what_is_no_deep_chip_cell_is_not_exported(chip_folder, tmp_path):
    card = small(chip_card("burn-scars", chip_folder), folder="hls_burn_scars")
    with pytest.raises(ProtocolError, match="no deep cell"):
        export_cell(card, chip_folder, tmp_path / "export", OneCell(model="presto/full@random", split=SPLIT))


@pytest.mark.slow
def test_terratorch_trains_an_exported_cell(chip_folder, tmp_path):
    """With our own network, which its command has to find; networks of its parts are trained in tests of models."""
    card = small(chip_card("burn-scars", chip_folder), folder="hls_burn_scars", embeddings="alphaearth")
    path = export_cell(card, chip_folder, tmp_path / "export", OneCell(model="hybrid/unet", split=SPLIT, fold=FOLD, budget=BUDGET))
    command = [sys.executable, "-m", "terratorch", "fit", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "logs")]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    done = subprocess.run([*command, *quiet], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "`max_steps=3` reached" in done.stdout + done.stderr
    assert (tmp_path / "logs" / "checkpoints" / "best.ckpt").is_file()
