"""Error maps: what is written is what the predictions say, opens in GIS, and needs no network."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.rasters import RasterPredictions, RasterWriter
from rs05bench.report.errormaps import layer_name, typical_failures, write_chip_maps, write_error_maps
from tests.protocol.toy import World


def store_of(world: World, folder, models=("alphaearth/rf", "raw/rf")) -> dict:
    """A store as a sweep leaves it, with the predictions behind every cell."""
    store = ResultStore(folder)
    store.put_card(world.card)
    store.put_manifest(world.manifest("leave-state-out"))
    store.put_labels("data", pd.DataFrame({"y": world.labels}))
    kept = {}
    for model in models:
        tier, home = ("embedding", 0.8) if model.startswith("alpha") else ("raw", 0.3)
        results, behind = world.results(model=model, tier=tier, at_home=home, elsewhere=home - 0.1)
        for result in results:
            result = result.model_copy(update={"digests": {"data": "data", "card": world.card.digest}})
            predictions = behind[result.cell.fold, result.cell.seed]
            store.write(result, predictions)
            kept[model, result.cell.fold, result.cell.seed] = predictions
    return kept


@pytest.fixture(scope="module", params=["classification", "regression"])
def written(request, tmp_path_factory):
    world = World(request.param, n=160)
    folder = tmp_path_factory.mktemp("errors")
    kept = store_of(world, folder / "runs")
    (found,) = write_error_maps(folder / "runs", folder / "out")
    return world, kept, found, folder / "out"


def test_the_error_of_a_unit_is_that_of_its_held_out_predictions(written):
    world, kept, found, _ = written
    assert found.role == "test_ood"
    assert found.best == "alphaearth/rf"
    state = world.manifest("leave-state-out").units.set_index("unit_id")["state"]
    for row in found.units.sample(25, random_state=0).itertuples(index=False):
        given = []
        for seed in (0, 1):
            part = kept[row.model, state[row.unit_id], seed].of_role("test_ood")
            at = int(np.flatnonzero(part.unit_id == row.unit_id)[0])
            given.append(part.y[at] if part.y is not None else part.classes[part.probabilities[at].argmax()])
        truth = world.labels[row.unit_id]
        assert row.fits == 2
        if world.card.kind == "regression":
            assert row.error == pytest.approx(np.mean(np.abs(np.array(given) - truth)))
            assert row.seeds_disagree == pytest.approx(np.std(given))
            assert row.confidence == pytest.approx(8)
        else:
            assert row.error == np.mean([answer != truth for answer in given])
            assert row.seeds_disagree == (0.5 if given[0] != given[1] else 0)
            assert row.truth == truth


def test_disagreement_of_models_is_counted_over_models(written):
    world, _, found, _ = written
    for unit, rows in list(found.units.groupby("unit_id"))[:20]:
        assert len(rows) == 2, unit
        answers = rows["predicted"].tolist()
        expected = np.std(answers) if world.card.kind == "regression" else (0.5 if answers[0] != answers[1] else 0.0)
        assert rows["models_disagree"].tolist() == pytest.approx([expected, expected])


def test_the_geopackage_has_a_layer_a_model_at_the_right_places(written):
    geopandas = pytest.importorskip("geopandas")
    world, _, found, out = written
    layer = geopandas.read_file(out / "toy.gpkg", layer=layer_name("alphaearth/rf"))
    rows = found.units[found.units["model"] == "alphaearth/rf"].set_index("unit_id")
    assert layer.crs.to_epsg() == 4326
    assert len(layer) == len(rows)
    units = world.manifest("leave-state-out").units.set_index("unit_id")
    for row in layer.sample(10, random_state=0).itertuples(index=False):
        assert (row.geometry.x, row.geometry.y) == pytest.approx((units.loc[row.unit_id, "lon"], units.loc[row.unit_id, "lat"]))
        assert row.error == pytest.approx(rows.loc[row.unit_id, "error"])
    assert len(pd.read_csv(out / "toy.csv")) == len(found.units)


def test_the_page_opens_offline_and_tells_the_worst_group(written):
    _, _, found, out = written
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "http" not in page
    assert "<script" not in page
    assert "Typical failures by group" in page
    assert page.count("<circle") >= len(found.units) / 2
    worst = found.failures[found.failures["column"] == "biome"].iloc[0]
    assert worst["error"] == found.failures.loc[found.failures["column"] == "biome", "error"].max()


def test_a_typical_failure_is_the_most_frequent_confusion():
    units = pd.DataFrame(
        {
            "state": "s",
            "truth": ["corn"] * 8 + ["rice"] * 6,
            "predicted": ["rice"] * 5 + ["corn"] * 3 + ["wheat"] * 2 + ["rice"] * 4,
            "error": [1.0] * 5 + [0.0] * 3 + [1.0] * 2 + [0.0] * 4,
            "confidence": [0.9] * 3 + [0.5] * 11,
        }
    )
    (row,) = typical_failures(units, ["state"]).itertuples(index=False)
    assert row.failure == "corn taken for rice (5 of 8); rice taken for wheat (2 of 6)"
    assert row.error == pytest.approx(7 / 14)
    assert row.sure_and_wrong == pytest.approx(3 / 14)
    assert typical_failures(units.head(5), ["state"]).empty


def test_units_without_positions_give_a_table_and_no_map(tmp_path):
    world = World(n=160, split_options={"block_size_m": 4000, "buffer_m": 0, "test_fraction": 0.4})
    world.units = type(world.units)(world.units.frame.assign(lon=np.nan, lat=np.nan), world.units.groups, world.units.source)
    store_of(world, tmp_path / "runs", models=("alphaearth/rf",))
    (found,) = write_error_maps(tmp_path / "runs", tmp_path / "out")
    assert found.files == ["toy.csv"]
    assert "<circle" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_split_or_budget_that_is_not_there_is_an_error(written):
    out = written[3]
    with pytest.raises(DataError, match="no results of the split 'leave-year-out'"):
        write_error_maps(out.parent / "runs", out, split="leave-year-out")
    with pytest.raises(DataError, match="no results of the budget '7-units'"):
        write_error_maps(out.parent / "runs", out, budget="7-units")


def test_chips_become_cogs_of_error_confidence_and_disagreement(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from rasterio.transform import from_origin

    truth = np.zeros((32, 32), dtype=np.int16)
    truth[:, 16:] = 1
    truth[0] = -1
    transform = from_origin(500_000, 4_000_000, 30, 30)
    fits = []
    for seed, right in enumerate((True, False)):
        p = np.full((32, 32), 0.1, dtype=np.float32)
        p[:, 16:] = 0.75
        if not right:
            p[16:, :4] = 0.9
        with RasterWriter(tmp_path / f"fit{seed}", ["land", "burnt"]) as writer:
            writer.write("chip/a", "test_ood", np.stack([1 - p, p]), crs="EPSG:32610", transform=transform)
        fits.append(RasterPredictions.load(tmp_path / f"fit{seed}"))
    # Twice the wrong one: its answer is the usual one.
    table, files = write_chip_maps([fits[0], fits[1], fits[1]], lambda unit: (truth, 30.0), "test_ood", tmp_path / "maps")
    (row,) = table.itertuples(index=False)
    assert row.error == pytest.approx(16 * 4 / (31 * 32))
    assert sorted(files) == [f"maps/chip-a_{name}.tif" for name in ("confidence", "disagreement", "error")]
    with rasterio.open(tmp_path / "maps" / "chip-a_error.tif") as source:
        error = source.read(1)
        assert (source.crs.to_epsg(), source.transform, source.nodata) == (32610, transform, 255)
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert set(np.unique(error[0])) == {255}
    assert (error[16:, :4] == 2).all()
    assert (error[1:16] == 0).all()
    with rasterio.open(tmp_path / "maps" / "chip-a_disagreement.tif") as source:
        assert source.read(1)[20, 0] == pytest.approx(1 / 3)
        assert source.read(1)[20, 20] == 0
    with rasterio.open(tmp_path / "maps" / "chip-a_confidence.tif") as source:
        assert source.read(1)[20, 20] == pytest.approx(0.75, abs=1e-3)
        assert source.read(1)[2, 2] == pytest.approx(0.9, abs=1e-3)
