"""Maps by small networks that were really trained: kept for the next map, refused after other labels, shown what they learnt from."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.warp
import shapely
from rasterio.transform import from_origin

from rs05bench.datasets.layers import RasterSampler
from rs05bench.errors import DataError
from rs05bench.experiment.map_draw import draw
from rs05bench.experiment.map_model import fit_or_load
from rs05bench.experiment.map_run import MapRequest, make_map
from tests.datasets.layers.files import write_raster


def read(result, name: str, stem: str) -> np.ndarray:
    with rasterio.open(result.files[stem][name]) as src:
        return src.read(1)


@pytest.fixture(scope="module")
def request_of(chip_folder, tmp_path_factory):
    """A map of a piece of a simulated chip by a small U-Net, kept in a folder."""
    from rs05bench.datamodules.chipsource import chip_card

    chips = chip_folder / "hls_burn_scars"
    card = chip_card("burn-scars", chips)
    training = card.training.model_copy(update={"steps": 2, "val_every": 1})
    card = card.with_preprocessing(patch_size=32).model_copy(update={"training": training})
    folder = tmp_path_factory.mktemp("deep-map")
    with rasterio.open(next(chips.rglob("*_merged.tif"))) as chip:
        window = rasterio.windows.Window(3, 5, 60, 50)
        profile = {**chip.profile, "width": 60, "height": 50, "transform": chip.window_transform(window), "tiled": False}
        for name in ("blockxsize", "blockysize"):
            profile.pop(name, None)
        with rasterio.open(folder / "piece.tif", "w", **profile) as piece:
            piece.write(chip.read(window=window))

    def made(**changes):
        asked = {"card": card, "data": chips, "model": "raw/unet", "out": folder / "map", "keep": folder / "kept"}
        asked |= {"split": "leave-state-out", "budget": "5-fires"}
        asked |= {"options": {"accelerator": "cpu"}, "images": [folder / "piece.tif"]}
        return MapRequest(**(asked | changes))

    return made


def test_a_deep_model_is_trained_once_for_its_maps(request_of, tmp_path, monkeypatch):
    first = make_map(request_of())
    classes = read(first, "class", "piece")
    assert classes.shape == (50, 60)
    assert set(np.unique(classes)) <= {0, 1, 255}
    assert (read(first, "confidence", "piece")[classes != 255] >= 0.5 - 1e-6).all()
    assert first.record["labels_train"] == 4
    monkeypatch.setattr("rs05bench.models.chip_model.fit_network", lambda *_, **__: pytest.fail("trained again"))
    again = make_map(request_of(out=tmp_path / "again"))
    np.testing.assert_array_equal(read(again, "class", "piece"), classes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3}, "seed 0 instead of 3"),
        ({"budget": "2-fires"}, "budget '5-fires' instead of '2-fires'"),
        ({"split": None, "budget": "full"}, "split"),
    ],
)
def test_a_kept_model_of_other_labels_is_refused(request_of, tmp_path, changes, message):
    if not (request_of().keep / "model.json").is_file():
        make_map(request_of())
    with pytest.raises(DataError, match=message):
        make_map(request_of(out=tmp_path / "other", **changes))


def test_a_kept_model_of_corrected_labels_is_refused(request_of, tmp_path):
    if not (request_of().keep / "model.json").is_file():
        make_map(request_of())
    shutil.copytree(request_of().data, tmp_path / "chips")
    assert make_map(request_of(out=tmp_path / "same", data=tmp_path / "chips"))
    for path in (tmp_path / "chips").rglob("*.mask.tif"):
        with rasterio.open(path, "r+") as mask:
            values = mask.read()
            mask.write(np.where(values < 0, values, 1 - values))
    with pytest.raises(DataError, match=r"trained otherwise: data '\w{12}…' instead of '\w{12}…'"):
        make_map(request_of(out=tmp_path / "other", data=tmp_path / "chips"))


def test_a_kept_model_of_other_units_is_refused(request_of, tmp_path):
    """A frozen manifest that trains on other chips under the same names of split, fold and budget."""
    from rs05bench.datamodules.chip_datamodule import ChipDataModule
    from rs05bench.datamodules.open_data import open_source
    from rs05bench.models import create
    from rs05bench.protocol.manifest import build_manifest

    asked = request_of()
    if not (asked.keep / "model.json").is_file():
        make_map(asked)
    source = open_source(asked.card, asked.data)
    drawn = build_manifest(asked.card, source.units(), asked.split)
    roles = drawn.table["role"].astype(str)
    roles.iloc[np.flatnonzero(roles == "train")[0]] = "buffer"
    drawn = replace(drawn, table=drawn.table.assign(role=roles))
    data = ChipDataModule(source, asked.split, None, asked.budget, 0, manifest=drawn).view
    model = create("raw/unet", card=asked.card, seed=0, accelerator="cpu")
    with pytest.raises(DataError, match="manifest '"):
        fit_or_load(model, data, asked.keep, tmp_path)


@pytest.mark.parametrize("model", ["raw/logistic", "statistics/logistic"])
def test_a_learner_on_pixels_draws_what_it_predicts_of_the_chip(model, request_of, tmp_path):
    from rs05bench.datamodules.chip_datamodule import ChipDataModule
    from rs05bench.datamodules.open_data import open_source
    from rs05bench.models import create

    asked = request_of(model=model, options={}, keep=None, out=tmp_path / "map")
    data = ChipDataModule(open_source(asked.card, asked.data), asked.split, None, asked.budget, 0).view
    unit, probabilities = next(iter(create(model, card=asked.card, seed=0).fit(data).predict(data, "test_id")))
    chip = next(path for path in asked.data.rglob("*_merged.tif") if unit.replace(".v1.4", "") in path.name)
    result = make_map(replace(asked, images=[chip]))
    drawn = read(result, "class", chip.stem)
    seen = drawn != 255
    assert seen.any()
    assert (drawn[seen] == probabilities.argmax(axis=0)[seen]).all()
    np.testing.assert_allclose(read(result, "confidence", chip.stem)[seen], probabilities.max(axis=0)[seen], atol=1e-6)
    with pytest.raises(DataError, match="trained again for every map"):
        make_map(replace(asked, keep=tmp_path / "kept"))


def test_run_options_hold_for_a_kept_model(request_of, tmp_path, monkeypatch):
    if not (request_of().keep / "model.json").is_file():
        make_map(request_of())
    seen = {}

    def spy(predictor, scenes, out, **more):
        seen.update(predictor.model.options)
        return draw(predictor, scenes, out, **more)

    monkeypatch.setattr("rs05bench.experiment.map_run.draw", spy)
    options = {"accelerator": "cpu", "window": 16, "batch": 3, "cache": str(tmp_path / "cache")}
    make_map(request_of(out=tmp_path / "map", options=options))
    assert {name: seen[name] for name in options} == options


def test_what_a_map_of_chips_would_ignore_is_refused(request_of, tmp_path):
    place = shapely.box(0, 0, 1, 1)
    for changes, message in (
        ({"years": [2021]}, "reads no embedding, so --years and --from would be ignored"),
        ({"sources": [str(tmp_path)]}, "reads no embedding"),
        ({"layers": {"dem": tmp_path}}, "--layer is for tables"),
        ({"images": (), "area": place}, "raw/unet reads images"),
        ({"target": "smoke"}, "chips have one target"),
        ({"split": None}, "say nothing without --split"),
        ({"model": "hybrid/unet", "years": [2021, 2022]}, "an image is of one time, and 2 years"),
        ({"model": "alphaearth/conv1x1", "images": (), "area": place}, "needs a place, years and tiles"),
    ):
        with pytest.raises(DataError, match=message):
            make_map(request_of(out=tmp_path / "map", **changes))
    assert not (tmp_path / "map").exists()


def test_a_model_of_bands_reads_no_embedding(request_of, chip_folder, tmp_path, monkeypatch):
    from rs05bench.datamodules.pixels import PixelStore

    asked = request_of()
    card = asked.card.with_preprocessing(folder="hls_burn_scars", embeddings="alphaearth")
    monkeypatch.setattr(PixelStore, "embedding", lambda *_: pytest.fail("read an embedding"))
    make_map(request_of(card=card, data=chip_folder, out=tmp_path / "map", keep=tmp_path / "kept"))


def test_a_network_of_embeddings_needs_no_image(request_of, chip_folder, tmp_path):
    asked = request_of()
    card = asked.card.with_preprocessing(folder="hls_burn_scars", embeddings="alphaearth")
    with rasterio.open(next((chip_folder / "alphaearth/2018").rglob("*.tiff"))) as tile:
        place = shapely.box(*rasterio.warp.transform_bounds(tile.crs, 4326, *tile.bounds))
    years = {"area": place.buffer(-0.003), "years": [2018], "sources": [str(chip_folder / "alphaearth")], "images": ()}
    result = make_map(
        request_of(card=card, data=chip_folder, out=tmp_path / "map", keep=tmp_path / "kept", model="alphaearth/conv1x1", **years)
    )
    classes = read(result, "class", "2018")
    assert (classes != 255).mean() > 0.9
    assert result.record["grid"]["pixel"] == [30, 30]
    assert "AlphaEarth" in " ".join(result.record["attribution"])


def test_a_hybrid_network_sees_the_layers_it_was_trained_with(request_of, chip_folder, tmp_path):
    """The network has channels for them: a map without would not run."""
    asked = request_of()
    scene = next((chip_folder / "hls_burn_scars").rglob("*_merged.tif"))
    with rasterio.open(scene) as chip:
        west, _, _, north = rasterio.warp.transform_bounds(chip.crs, 4326, *chip.bounds)
    rows, columns = np.mgrid[:120, :120].astype(np.float32)
    write_raster(tmp_path / "layers/dem/a.tif", 100 + columns + 2 * rows, from_origin(west - 0.01, north + 0.01, 0.001, 0.001))
    card = asked.card.with_preprocessing(folder="hls_burn_scars", embeddings="alphaearth")
    card = card.with_preprocessing(extra={"folder": str(tmp_path / "layers"), "only": ["dem"]})
    seen = []
    real = RasterSampler.on_window

    def spy(self, grid):
        seen.append(values := real(self, grid))
        return values

    changes = {"card": card, "data": chip_folder, "model": "hybrid/unet", "keep": tmp_path / "kept", "images": [scene]}
    changes |= {"sources": [str(chip_folder / "alphaearth")]}
    make_map(request_of(out=tmp_path / "first", **changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RasterSampler, "on_window", spy)
        result = make_map(request_of(out=tmp_path / "again", **changes))
    assert (read(result, "class", scene.stem) != 255).any()
    assert {len(values) for values in seen} == {4}
    assert np.isfinite(seen[0]).any()
