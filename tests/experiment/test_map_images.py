"""Maps of images: every pixel is the network's, missing pixels stay missing, and other images than the training chips are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.map_images import draw_images, fit_or_load, pixel_area
from rs05bench.experiment.map_run import MapRequest, make_map
from rs05bench.models.applicability import Applicability
from rs05bench.models.inference import sliding_window
from tests.datasets.alphaearth.tiles import vectors, write_tile

BANDS = ["B02", "B8A"]


class PerPixel:
    """Stands for a network: the class is whether the second band is larger than the first (embedding: whether A00 is positive)."""

    def __init__(self, inputs: str = "raw") -> None:
        self.card = SimpleNamespace(name=f"{inputs}/per-pixel", inputs=inputs)

    def predict_scene(self, read, height, width, *, block):
        def predict(windows):
            arrays = [read(window) for window in windows]
            if self.card.inputs == "alphaearth":
                score = np.stack([array["embedding"][0] > 0 for array in arrays])
            else:
                score = np.stack([array["image"][-1] > array["image"][0] for array in arrays])
            return np.stack([1.0 - score * 0.75 - 0.125, score * 0.75 + 0.125], axis=1).astype(np.float32)

        yield from sliding_window(predict, height, width, window=32, stride=16, classes=2, block=block)


@pytest.fixture
def data() -> SimpleNamespace:
    card = SimpleNamespace(name="fires", title="Fires", simulated=True, class_names=None)
    return SimpleNamespace(card=card, classes=("no", "yes"), bands=BANDS, num_frames=1, source=SimpleNamespace(dataset=None))


@pytest.fixture
def area() -> Applicability:
    return Applicability.fit(np.random.default_rng(0).uniform(0, 1, (200, 2)))


def image(path: Path, *, bands: int = 2, far: bool = False, crs: str | None = "EPSG:32610") -> np.ndarray:
    values = np.random.default_rng(1).uniform(0, 1, (bands, 90, 130)).astype(np.float32) + 50 * far
    values[:, 10:20, 30:60] = -9999
    transform = rasterio.transform.from_origin(500_000, 4_100_000, 10, 10)
    with rasterio.open(
        path, "w", driver="GTiff", height=90, width=130, count=bands, dtype="float32", crs=crs, transform=transform, nodata=-9999
    ) as dst:
        dst.write(values)
    return values


def read(result, name: str, stem: str = "scene") -> np.ndarray:
    with rasterio.open(result.files[stem][name]) as src:
        return src.read(1)


def test_every_pixel_is_the_networks_and_missing_ones_stay_missing(tmp_path, data, area):
    values = image(tmp_path / "scene.tif")
    result = draw_images(PerPixel(), data, area, [tmp_path / "scene.tif"], tmp_path / "out", block=64)
    classes, confidence, di = (read(result, name) for name in ("class", "confidence", "dissimilarity"))
    missing = values[0] == -9999
    assert (classes[missing] == 255).all()
    assert np.isnan(confidence[missing]).all()
    assert (classes[~missing] == (values[1] > values[0])[~missing]).all()
    np.testing.assert_allclose(confidence[~missing], 0.875, rtol=1e-5)
    np.testing.assert_allclose(di[~missing], area.dissimilarity(values[:, ~missing].T), rtol=1e-5)
    assert result.record["years"]["scene"]["pixels"] == (~missing).sum()
    with rasterio.open(result.files["scene"]["class"]) as src:
        assert src.tags()["SIMULATED"] == "yes"
        assert src.transform.c == 500_000


def test_spectra_the_network_never_saw_lie_outside(tmp_path, data, area):
    image(tmp_path / "near.tif")
    image(tmp_path / "far.tif", far=True)
    result = draw_images(PerPixel(), data, area, [tmp_path / "near.tif", tmp_path / "far.tif"], tmp_path / "out")
    assert result.record["years"]["near"]["share_inside"] > 0.9
    assert result.record["years"]["far"]["share_inside"] == 0


def test_the_embedding_of_an_images_ground_is_read_from_tiles(tmp_path, data):
    from rs05bench.datasets.alphaearth import TileIndex, decode

    values = vectors(90, 130)
    write_tile(tmp_path / "tiles/2021/10N/a.tiff", values)
    image(tmp_path / "scene.tif")
    area = Applicability.fit(np.random.default_rng(0).normal(size=(100, 64)))
    index = TileIndex.scan(tmp_path / "tiles")
    result = draw_images(PerPixel("alphaearth"), data, area, [tmp_path / "scene.tif"], tmp_path / "out", index=index, year=2021)
    assert (read(result, "class") == (decode(values)[0] > 0)).all()
    with pytest.raises(DataError, match="reads AlphaEarth, and no tiles"):
        draw_images(PerPixel("alphaearth"), data, area, [tmp_path / "scene.tif"], tmp_path / "out", year=2021)


@pytest.mark.parametrize(
    ("changes", "message"), [({"bands": 3}, "has 3 bands; B02, B8A were expected"), ({"crs": None}, "coordinate reference system")]
)
def test_other_images_than_the_training_chips_are_refused(tmp_path, data, area, changes, message):
    image(tmp_path / "scene.tif", **changes)
    with pytest.raises(DataError, match=message):
        draw_images(PerPixel(), data, area, [tmp_path / "scene.tif"], tmp_path / "out")


def test_models_of_tables_and_saved_models_of_another_name_are_refused(tmp_path, data):
    from rs05bench.models.registry import create

    with pytest.raises(ProtocolError, match="predicts no images"):
        fit_or_load(create("alphaearth/knn"), data, None)
    (tmp_path / "model.json").write_text('{"name": "raw/segformer"}')
    with pytest.raises(DataError, match="holds the model 'raw/segformer', not 'raw/per-pixel'"):
        fit_or_load(PerPixel(), data, tmp_path)


def test_the_area_is_drawn_from_labelled_pixels_of_the_budget():
    import torch

    values = torch.zeros(2, 2, 8, 8)
    values[:, 0] = torch.arange(64.0).reshape(8, 8)
    values[1] += 1000
    mask = torch.full((2, 8, 8), -1)
    mask[:, :4] = 1  # the lower half has no label

    class Loader(list):
        dataset = (0, 1)

    data = SimpleNamespace(train_dataloader=lambda: Loader([{"image": values, "mask": mask, "unit_id": ["a", "b"]}]))
    found = pixel_area(data, "raw")
    assert len(found.points) == 64
    seen = np.column_stack([np.arange(64.0), np.zeros(64)])
    assert (found.dissimilarity(seen[:32]) == 0).all()
    assert (found.dissimilarity(seen[40:]) > 0).all()


@pytest.fixture(scope="module")
def request_of(chip_folder, tmp_path_factory):
    """A map of a piece of a simulated chip by a small U-Net, kept in a folder."""
    from rs05bench.datamodules.chipsource import chip_card

    chips = chip_folder / "hls_burn_scars"
    card = chip_card("burn-scars", chips)
    training = card.training.model_copy(update={"steps": 2, "val_every": 1})
    card = card.model_copy(update={"training": training, "preprocessing": {**card.preprocessing, "patch_size": 32}})
    folder = tmp_path_factory.mktemp("deep-map")
    with rasterio.open(next(chips.rglob("*_merged.tif"))) as chip:
        window = rasterio.windows.Window(3, 5, 60, 50)
        profile = {**chip.profile, "width": 60, "height": 50, "transform": chip.window_transform(window), "tiled": False}
        for name in ("blockxsize", "blockysize"):
            profile.pop(name, None)
        with rasterio.open(folder / "piece.tif", "w", **profile) as piece:
            piece.write(chip.read(window=window))

    def made(**changes):
        asked = {"model": "raw/unet", "out": folder / "map", "keep": folder / "kept", "split": "leave-state-out", "budget": "5-fires"}
        asked |= {"options": {"accelerator": "cpu"}, "images": [folder / "piece.tif"]}
        return MapRequest(card=card, data=chips, **(asked | changes))

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
    [({"seed": 3}, "seed 0 instead of 3"), ({"budget": "2-fires"}, "budget '5-fires' instead of '2-fires'"), ({"split": None}, "split")],
)
def test_a_kept_model_of_other_labels_is_refused(request_of, tmp_path, changes, message):
    if not (request_of().keep / "model.json").is_file():
        make_map(request_of())
    with pytest.raises(DataError, match=message):
        make_map(request_of(out=tmp_path / "other", **changes))
