"""Error maps: what is written is what the predictions say, opens in GIS, and needs no network."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import typer
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from rs05bench.cli.results import register
from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol import Cell, ModelCard, Result
from rs05bench.protocol.map_predictions import MapPredictions, MapPredictionWriter
from rs05bench.protocol.metrics import confusion_matrix
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.report.chip_maps import write_chip_maps
from rs05bench.report.errormaps import typical_failures, write_error_maps
from rs05bench.report.style import layer_name
from rs05bench.report.thumbnails import MISSED, TOO_MUCH, chip_pictures
from rs05bench.report.unit_errors import UnitErrors
from tests.protocol.chip_world import SIDE, THREE, TWO, ChipWorld
from tests.protocol.toy import World
from tests.report import layout


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
    for row in found.errors.table.sample(25, random_state=0).itertuples(index=False):
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
    for unit, rows in list(found.errors.table.groupby("unit_id"))[:20]:
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
    assert len(pd.read_csv(out / "toy.csv")) == len(found.errors.table)


def test_the_page_opens_offline_and_tells_the_worst_group(written):
    _, _, found, out = written
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search("https?:", page)
    assert "Typical failures by group" in page
    assert page.count("<title>") > len(found.units) / 2


def test_a_map_of_disagreement_is_not_called_one_of_errors(written):
    world, _, found, out = written
    page = (out / "index.html").read_text(encoding="utf-8")
    begin = page.index("toy-disagreement")
    section = page[begin : page.index("</figure>", begin)]
    assert "dark is wrong" not in section
    assert "share wrong" not in section
    assert "all wrong" not in section
    assert ("deviation between fits" if world.card.kind == "regression" else "share of fits with another answer") in section
    worst = found.failures[found.failures["column"] == "biome"].iloc[0]
    assert worst["error"] == found.failures.loc[found.failures["column"] == "biome", "error"].max()


def test_a_typical_failure_is_the_most_frequent_confusion():
    truth, said = [0] * 8 + [1] * 6, [1] * 5 + [0] * 3 + [2] * 2 + [1] * 4  # corn, rice, wheat
    wrong = np.array(truth) != np.array(said)
    sure = wrong & (np.arange(14) < 3)
    units = pd.DataFrame({"unit_id": [f"u{n}" for n in range(14)], "state": "s", "error": wrong.astype(float), "sure_and_wrong": sure})
    counts = csr_matrix((np.ones(14), (range(14), 3 * np.array(truth) + said)), shape=(14, 9))
    errors = UnitErrors(units, counts, ("corn", "rice", "wheat"))
    (row,) = typical_failures(units, ["state"], errors).itertuples(index=False)
    assert row.failure == "62% of corn taken for rice; 33% of rice taken for wheat"
    assert row.error == pytest.approx(7 / 14)
    assert row.sure_and_wrong == pytest.approx(3 / 14)
    assert typical_failures(units.head(1), ["state"], errors).empty


def test_units_without_positions_give_a_table_and_no_map(tmp_path):
    world = World(n=160, split_options={"block_size_m": 4000, "buffer_m": 0, "test_fraction": 0.4})
    world.units = type(world.units)(world.units.frame.assign(lon=np.nan, lat=np.nan), world.units.groups, world.units.source)
    store_of(world, tmp_path / "runs", models=("alphaearth/rf",))
    (found,) = write_error_maps(tmp_path / "runs", tmp_path / "out")
    assert found.errors.files == ["toy.csv"]
    assert 'class="plot"' not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_split_or_budget_that_is_not_there_is_an_error(written):
    out = written[3]
    with pytest.raises(DataError, match="no results of the split 'leave-year-out'"):
        write_error_maps(out.parent / "runs", out, split="leave-year-out")
    with pytest.raises(DataError, match="no results of the budget '7-units'"):
        write_error_maps(out.parent / "runs", out, budget="7-units")


def test_chips_become_cogs_of_error_confidence_and_disagreement(tmp_path):
    rasterio = pytest.importorskip("rasterio")

    truth = np.zeros((32, 32), dtype=np.int16)
    truth[:, 16:] = 1
    truth[0] = -1
    grid = Grid("EPSG:32610", 500_000, 4_000_000, 30, 30, 32, 32)
    fits = []
    for seed, right in enumerate((True, False)):
        p = np.full((32, 32), 0.1, dtype=np.float32)
        p[:, 16:] = 0.75
        if not right:
            p[16:, :4] = 0.9
        with MapPredictionWriter(tmp_path / f"fit{seed}", ["land", "burnt"]) as writer:
            writer.write("chip/a", "test_ood", np.stack([1 - p, p]), grid)
        fits.append(MapPredictions.read(tmp_path / f"fit{seed}"))
    # Twice the wrong one: its answer is the usual one.
    made = write_chip_maps([fits[0], fits[1], fits[1]], lambda unit: (truth, 30.0), "test_ood", tmp_path / "maps")
    (row,) = made.table.itertuples(index=False)
    assert row.error == pytest.approx(16 * 4 / (31 * 32))
    assert row.failure == f"{16 * 4 / (31 * 16):.0%} of land taken for burnt"
    assert sorted(made.files) == ["maps.gpkg", *(f"maps/chip-a_{name}.tif" for name in ("confidence", "disagreement", "error"))]
    assert made.counts["chip/a"].tolist() == [[31 * 16 - 64, 64], [0, 31 * 16]]
    with rasterio.open(tmp_path / "maps" / "chip-a_error.tif") as source:
        error = source.read(1)
        assert (source.crs.to_epsg(), source.transform, source.nodata) == (32610, grid.affine, 255)
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


class ChipSource:
    """What `rs05bench errors` asks of opened chips."""

    def __init__(self, world: ChipWorld) -> None:
        self.world, self.card, self.digest = world, world.card, "chips"
        self.dataset = SimpleNamespace(bands=["B02", "B03", "B04", "B8A", "B11", "B12"])

    def read_labels(self, unit: str):
        return self.world.masks[unit], (30.0, 30.0)

    @property
    def pixels(self):
        return self

    def image(self, unit: str):
        return np.random.default_rng(0).random((6, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module", params=[TWO, THREE], ids=["two classes", "three classes"])
def chips(request, tmp_path_factory):
    """Error maps of chips by the command, from a store as a sweep leaves it."""
    pytest.importorskip("rasterio")
    world, folder = ChipWorld(request.param, n=24), tmp_path_factory.mktemp("chips")
    store = ResultStore(folder / "runs")
    store.put_card(world.card)
    store.put_manifest(world.manifest("leave-state-out"))
    predicted = {}
    for number, fold in enumerate(world.manifest("leave-state-out").folds):
        for seed in (0, 1, 2):
            predictions = world.guess(folder / f"p{number}-{seed}", fold, skill=0.8, seed=seed)
            cell = Cell(task="toy", target="y", split="leave-state-out", fold=fold, model="raw/unet", budget="10-units", seed=seed)
            result = Result(
                cell=cell, digest=cell.digest(), kind="segmentation", main_metric="miou", higher_is_better=True, simulated=True,
                model=ModelCard(name="raw/unet", tier="raw", inputs="raw", learner="unet"), scores={"test_ood": {"miou": 0.5}},
                digests={"card": world.card.digest, "data": "chips"},
            )  # fmt: skip
            for unit, _, said, band in predictions.chips(["test_ood"]):
                predicted.setdefault(unit, []).append(said if band is None else band)
            store.write(result, predictions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rs05bench.datamodules.open_data.open_source", lambda card, data: ChipSource(world))
        said = CliRunner().invoke(
            _app(), ["errors", str(store.root), "--out", str(folder / "out"), "--data", str(folder)], catch_exceptions=False
        )
    assert said.exit_code == 0
    return world, predicted, folder / "out", said.output


def _app() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


def test_the_command_writes_rasters_outlines_and_a_page_of_chips(chips):
    geopandas = pytest.importorskip("geopandas")
    world, predicted, out, told = chips
    layer = geopandas.read_file(out / "toy.gpkg")
    assert set(layer["unit_id"]) == set(predicted)
    assert layer["error"].is_monotonic_decreasing
    assert layer.crs.to_epsg() == 4326
    assert not layer.geometry.is_empty.any()
    assert set(layer["state"]) == {"s0", "s1", "s2"}
    two = len(world.names) == 2
    for unit in predicted:
        assert (out / "toy" / f"{unit}_error.tif").is_file()
        assert (out / "toy" / f"{unit}_confidence.tif").is_file() is two
    assert "worst biome" in told
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search("https?:", page)
    assert page.count("data:image/png;base64,") >= 12 * (6 if two else 5)
    worst = [page.index(f"<h4>{unit}") for unit in layer["unit_id"].head(5)]
    assert worst == sorted(worst)


def test_the_error_of_three_fits_is_counted_pixel_by_pixel(chips):
    geopandas = pytest.importorskip("geopandas")
    world, predicted, out, _ = chips
    layer = geopandas.read_file(out / "toy.gpkg").set_index("unit_id")
    for unit, fits in predicted.items():
        of_two = np.mean(fits, axis=0) > 0.5
        usual = of_two if len(world.names) == 2 else np.stack([(np.stack(fits) == code).sum(0) for code in range(3)]).argmax(0)
        scored = world.masks[unit] >= 0
        assert layer.loc[unit, "error"] == pytest.approx((usual != world.masks[unit])[scored].mean())


def test_typical_failures_of_chips_pool_their_pixels():
    truth, said = np.array([0, 0, 0, 1, 1, 1, 1, 1]), np.array([0, 1, 0, 0, 0, 0, 1, 1])
    counts = csr_matrix([confusion_matrix(*pair, 2).ravel() for pair in ((truth, said), (truth[:3], truth[:3]))] + [np.zeros(4)])
    table = pd.DataFrame(
        {"unit_id": ["a", "b", "c"], "error": [0.5, 0.0, 0.0], "sure_and_wrong": [0.5, 0.0, 0.0], "state": ["x", "x", "y"]}
    )
    (row,) = typical_failures(table, ["state"], UnitErrors(table, counts, ("land", "burnt"))).itertuples(index=False)
    assert (row.group, row.units, row.worst) == ("x", 2, "a")
    assert row.error == pytest.approx(4 / 11)
    assert row.sure_and_wrong == pytest.approx(0.5 * 8 / 11)
    assert row.failure == "60% of burnt taken for land; 17% of land taken for burnt"


def test_a_picture_shows_what_was_missed_and_what_was_too_much():
    import base64

    import cv2

    truth, said = np.zeros((4, 4), np.int16), np.zeros((4, 4), np.uint8)
    truth[0], said[:, 0], truth[3, 3] = 1, 1, -1
    pictures = chip_pictures(None, truth, said, None, np.zeros((4, 4)), 2, fits=1)
    assert [picture.title for picture in pictures] == ["truth", "answer", "error"]
    png = base64.b64decode(pictures[2].uri.partition(",")[2])
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    step = pixels.shape[0] // 4

    def at(row: int, column: int) -> str:
        return "#" + bytes(pixels[row * step + step // 2, column * step + step // 2].tolist()).hex()

    assert at(0, 2) == MISSED.lower()
    assert at(2, 0) == TOO_MUCH.lower()
    assert at(3, 3) == "#ffffff"


@pytest.mark.browser
def test_the_page_is_drawn_right_at_every_width(written, chips, chromium: str):
    with layout.browser(chromium) as started:
        assert not layout.faults(started, (written[3] / "index.html").as_uri())
        assert not layout.faults(started, (chips[2] / "index.html").as_uri())


@pytest.mark.browser
def test_the_page_of_chips_can_be_used_by_everyone_and_fits_a_phone(chips, chromium: str):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        faults: list[str] = []
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("request", lambda request: faults.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        tab.goto((chips[2] / "index.html").as_uri())
        drawn = tab.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        wide = tab.evaluate("document.documentElement.scrollWidth")
        violations = Axe().run(tab).response["violations"]
        browser.close()
    assert drawn
    assert wide <= 390
    assert not faults
    assert not [(found["id"], [node["html"][:120] for node in found["nodes"][:3]]) for found in violations]
