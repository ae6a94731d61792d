"""`map CELL`: the model of a result, on the manifest it was run under and on the data it was scored on, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from rs05bench.datamodules.open_data import open_source
from rs05bench.errors import DataError
from rs05bench.experiment.cell import Bench, run_cell
from rs05bench.experiment.map_cell import load_cell, options_of
from rs05bench.experiment.map_run import MapRequest, make_map
from rs05bench.experiment.one_cell import OneCell, fit_predict
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.manifest import build_manifest
from rs05bench.protocol.result import Cell
from rs05bench.report.map_page import write_map_report
from tests.experiment.test_mapping import bounds, card, world

SPLIT = "leave-side-out"
__all__ = ["world"]


@pytest.fixture(scope="module")
def frozen(world):
    """A manifest with other blocks than the card's: the data would not make it."""
    other = card().model_copy(update={"split_options": card().split_options.model_copy(update={"block_size_m": 700})})
    return build_manifest(other, open_source(card(), world).units(), SPLIT, version=3)


@pytest.fixture(scope="module")
def stored(world, frozen, tmp_path_factory) -> Path:
    """The folder of a result in a store, run under the frozen manifest."""
    bench = Bench(open_source(card(), world), {SPLIT: frozen})
    store = ResultStore(tmp_path_factory.mktemp("store"))
    store.put_card(card())
    store.put_manifest(frozen)
    cell = Cell(task="ground", target="cover", split=SPLIT, fold="n", model="alphaearth/logistic", budget="5-per-class", seed=1)
    return store.write(*run_cell(bench, cell))


def of_cell(folder: Path, world: Path, out: Path, **changes) -> MapRequest:
    kept = load_cell(folder)
    cell = kept.cell
    given = {
        "card": kept.card, "data": world, "model": cell.model, "out": out, "target": cell.target, "split": cell.split, "fold": cell.fold,
        "budget": cell.budget, "seed": cell.seed, "cell": kept, "area": bounds(5, 30, 60, 60), "years": [2023],
        "sources": [str(world / "tiles")],
    }  # fmt: skip
    return MapRequest(**{**given, **changes})


def test_a_cell_is_trained_on_its_own_manifest(world, stored, frozen, tmp_path, monkeypatch):
    import rs05bench.experiment.map_run as module

    seen = {}

    def spy(model, data, manifest, *more):
        seen.update(units=set(data.unit_ids("train")), manifest=manifest.digest)
        return train(model, data, manifest, *more)

    train = module.train_on_pixels
    monkeypatch.setattr(module, "train_on_pixels", spy)
    make_map(of_cell(stored, world, tmp_path))
    assert seen["manifest"] == frozen.digest
    assert frozen.digest != build_manifest(card(), open_source(card(), world).units(), SPLIT).digest
    rows = frozen.fold("n").set_index("unit_id")["role"].astype(str)
    assert set(rows[sorted(seen["units"])]) == {"train"}


def test_other_data_than_the_cells_are_refused(world, stored, tmp_path):
    shutil.copytree(world, tmp_path / "world")
    table = pd.read_csv(tmp_path / "world/points.csv")
    table.loc[:9, "cover"] = "town"
    table.to_csv(tmp_path / "world/points.csv", index=False)
    with pytest.raises(DataError, match=r"holds other data .* than the cell was scored on"):
        make_map(of_cell(stored, tmp_path / "world", tmp_path / "map"))
    assert not (tmp_path / "map").exists()


def test_a_card_or_manifest_that_was_changed_since_is_refused(world, stored, frozen, tmp_path):
    store = ResultStore(shutil.copytree(stored.parents[2], tmp_path / "store"))
    folder = store.folder(stored.name)
    store.put_card(card().model_copy(update={"main_metric": "accuracy"}))
    with pytest.raises(DataError, match="keeps another card"):
        load_cell(folder)
    store.put_card(card())
    shutil.rmtree(store.root / "manifests")
    store.put_manifest(build_manifest(card(), open_source(card(), world).units(), SPLIT))
    with pytest.raises(DataError, match="keeps another manifest"):
        load_cell(folder)


def test_the_cells_store_says_what_accuracy_to_expect(world, stored, tmp_path):
    result = make_map(of_cell(stored, world, tmp_path))
    scores = ResultStore(stored.parents[2]).read(stored.name).scores
    assert result.record["expected"]["elsewhere"]["mean"] == pytest.approx(scores["test_ood"]["macro_f1"])
    assert "Not known" not in write_map_report(result).read_text(encoding="utf-8")


def test_the_folder_of_fit_predict_is_a_cell(world, tmp_path):
    result = fit_predict(card(), world, tmp_path / "one", OneCell(model="alphaearth/logistic", split=SPLIT, fold="s", budget="5-per-class"))
    kept = load_cell(tmp_path / "one")
    assert kept.cell == result.cell
    assert kept.card.digest == card().digest
    assert kept.manifest.digest == result.digests["manifest"]
    drawn = make_map(of_cell(tmp_path / "one", world, tmp_path / "map"))
    assert drawn.record["expected"]["cells"] == 1
    (tmp_path / "one/card.yaml").unlink()
    with pytest.raises(DataError, match="keeps no task card"):
        load_cell(tmp_path / "one")
    with pytest.raises(DataError, match="neither a task card nor the folder of a result"):
        load_cell(tmp_path)


def test_fit_predict_writes_over_nothing(world, tmp_path):
    card().save(tmp_path / "card.yaml")
    with pytest.raises(DataError, match=r"holds card.yaml already"):
        fit_predict(card(), world, tmp_path, OneCell(model="alphaearth/logistic", split=SPLIT))


def test_a_cell_keeps_its_options_but_for_how_it_is_run():
    said = {"task": "fires", "target": "fire", "split": SPLIT, "fold": "n", "budget": "full", "seed": 0}
    cell = Cell(model="prithvi-300/lora", options={"rank": 4, "weights": "there.pt"}, **said)
    assert options_of(cell, cell.model, {}) == {"rank": 4, "weights": "there.pt"}
    assert options_of(cell, cell.model, {"weights": "here.pt", "batch": 2}) == {"rank": 4, "weights": "here.pt", "batch": 2}
    with pytest.raises(DataError, match="the option rank would make another model"):
        options_of(cell, cell.model, {"rank": 8})
    assert options_of(cell, "prithvi-300/full", {"layer_decay": 0.8}) == {"layer_decay": 0.8}


def run(*arguments: object):
    from rs05bench.cli.models import register

    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["map", *map(str, arguments)])


def test_the_command_passes_options_on(world, stored, tmp_path, monkeypatch):
    asked = []

    def catch(request, **_):
        asked.append(request)
        raise DataError("enough")

    monkeypatch.setattr("rs05bench.experiment.map_run.make_map", catch)
    card().save(tmp_path / "ground.yaml")
    run(tmp_path / "ground.yaml", "--model", "prithvi-300/lora", "--option", "weights=w.pt", "--option", "rank=4", "--out", tmp_path / "a")
    assert asked[-1].options == {"weights": "w.pt", "rank": 4}
    assert (asked[-1].budget, asked[-1].seed, asked[-1].cell) == ("full", 0, None)
    run(stored, "--data", world, "--out", tmp_path / "b")
    assert (asked[-1].budget, asked[-1].seed, asked[-1].fold) == ("5-per-class", 1, "n")
    assert asked[-1].cell.cell.model == "alphaearth/logistic"


def test_what_a_cell_says_itself_is_refused(world, stored, tmp_path):
    done = run(stored, "--data", world, "--seed", 3, "--budget", "full", "--out", tmp_path / "map")
    assert isinstance(done.exception, DataError)
    assert "--budget, --seed: the cell says that already" in str(done.exception)
