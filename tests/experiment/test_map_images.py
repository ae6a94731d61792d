"""Maps of images: every pixel is the network's, missing pixels stay missing, and other images than the training chips are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer

from rs05bench.datamodules.patches import Shown
from rs05bench.datasets.chip_image import ImageFormat
from rs05bench.embeddings.readers import TileReader
from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.map_draw import MapResult, draw
from rs05bench.experiment.map_frame import image_frame, tile_frame
from rs05bench.experiment.map_model import fit_or_load
from rs05bench.experiment.map_predictor import NetworkPredictor, pixel_area
from rs05bench.experiment.map_scene import ImageRequest, NetworkReads, Scene, image_scenes
from rs05bench.models.applicability import Applicability
from rs05bench.models.sliding_windows import sliding_window
from rs05bench.protocol.preprocessing import Preprocessing
from tests.embeddings.tiles import vectors, write_tile

BANDS = ["B02", "B8A"]


class PerPixel:
    """Stands for a network: the class is whether the second band is larger than the first (embedding: whether A00 is positive)."""

    def __init__(self, inputs: str = "raw") -> None:
        self.card = SimpleNamespace(name=f"{inputs}/per-pixel", inputs=inputs)
        self.options, self.facts_ = {}, SimpleNamespace(image_size=32)

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
    card = SimpleNamespace(name="fires", title="Fires", simulated=True, class_names=None, preprocessing=Preprocessing())
    shown = {"shown": Shown(), "layers": [], "format": ImageFormat(BANDS, 1, 1.0, (-9999.0, 9999.0), (0.0,), (-100.0, 100.0))}
    return SimpleNamespace(card=card, target="fire", classes=("no", "yes"), bands=BANDS, num_frames=1, resolution_m=30.0, **shown)


def draw_images(model, data, area, images, out, *, index=None, year=None, within=None, block=512) -> MapResult:
    """Draws a stand-in for a network over images, as `make_map` does."""
    reads = NetworkReads.of(model.card.name, model.card.inputs)
    sources = [] if index is None else [TileReader(index)]
    return draw(NetworkPredictor(model, data, area, block), image_scenes(images, ImageRequest(reads, data, sources, year, within, 16)), out)


def draw_tiles(model, data, area, index, within, years, out, *, block=512) -> MapResult:
    """Draws a stand-in for a network of embeddings over tiles, as `make_map` does."""
    frame = tile_frame(index, within, years, metres=data.resolution_m, margin=16)
    scenes = [Scene(str(year), frame, sources=[TileReader(index)], year=year) for year in years]
    return draw(NetworkPredictor(model, data, area, block), scenes, out)


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
    from rs05bench.embeddings import TileIndex, decode

    values = vectors(90, 130)
    write_tile(tmp_path / "tiles/2021/10N/a.tiff", values)
    image(tmp_path / "scene.tif")
    area = Applicability.fit(np.random.default_rng(0).normal(size=(100, 64)))
    index = TileIndex.scan(tmp_path / "tiles")
    result = draw_images(PerPixel("alphaearth"), data, area, [tmp_path / "scene.tif"], tmp_path / "out", index=index, year=2021)
    assert (read(result, "class") == (decode(values)[0] > 0)).all()
    with pytest.raises(DataError, match="reads an embedding, and no tiles"):
        draw_images(PerPixel("alphaearth"), data, area, [tmp_path / "scene.tif"], tmp_path / "out", year=2021)


def piece(top: int, left: int, bottom: int, right: int) -> shapely.Geometry:
    """A box of pixels of `image`, in degrees."""
    box = shapely.box(500_000 + 10 * left, 4_100_000 - 10 * bottom, 500_000 + 10 * right, 4_100_000 - 10 * top)
    move = Transformer.from_crs("EPSG:32610", "EPSG:4326", always_xy=True)
    return shapely.transform(shapely.segmentize(box, 20), lambda x, y: move.transform(x, y), interleaved=False)


def test_an_image_is_cut_to_the_area(tmp_path, data, area):
    values = image(tmp_path / "scene.tif")
    triangle = piece(30, 40, 70, 100).difference(piece(30, 40, 50, 60))
    result = draw_images(PerPixel(), data, area, [tmp_path / "scene.tif"], tmp_path / "out", within=triangle, block=16)
    classes, confidence = read(result, "class"), read(result, "confidence")
    with rasterio.open(result.files["scene"]["class"]) as src:
        row, column = round((4_100_000 - src.transform.f) / 10), round((src.transform.c - 500_000) / 10)
    assert (28 <= row <= 30, 38 <= column <= 40, classes.shape[0] <= 44, classes.shape[1] <= 64) == (True,) * 4
    truth = (values[1] > values[0])[row : row + classes.shape[0], column : column + classes.shape[1]]
    drawn = classes != 255
    assert drawn.sum() == result.record["years"]["scene"]["pixels"] == 40 * 60 - 20 * 20
    assert (classes[drawn] == truth[drawn]).all()
    assert np.isnan(confidence[~drawn]).all()
    assert not drawn[30 - row : 50 - row, 40 - column : 60 - column].any()
    far = shapely.box(20, 0, 21, 1)
    with pytest.raises(DataError, match="does not meet the area"):
        draw_images(PerPixel(), data, area, [tmp_path / "scene.tif"], tmp_path / "far", within=far)
    assert not (tmp_path / "far").exists()


def test_a_network_sees_beyond_the_area(tmp_path):
    from rs05bench.embeddings import Grid

    whole = Grid("EPSG:32610", 500_000, 4_100_000, 10, 10, 90, 130)
    seen, frame = image_frame(whole, piece(30, 40, 50, 60), margin=16, source=tmp_path)
    drawn = frame.drawn
    assert drawn.row == 16
    assert drawn.column == 16
    assert seen.height - drawn.height == 32
    assert frame.grid.north - frame.target.north == 160
    # But not beyond the image.
    seen, frame = image_frame(whole, piece(5, 40, 90, 60), margin=16, source=tmp_path)
    assert (seen.row, frame.drawn.row, seen.row + seen.height) == (0, frame.drawn.row, 90)


def test_a_network_of_embeddings_is_drawn_from_tiles_at_the_pixel_of_its_chips(tmp_path, data):
    from rs05bench.embeddings import TileIndex, decode, pool

    values = {year: vectors(90, 120, seed=year) for year in (2021, 2022)}
    for year, tile in values.items():
        write_tile(tmp_path / f"tiles/{year}/10N/a.tiff", tile)
    area = Applicability.fit(np.random.default_rng(0).normal(size=(100, 64)))
    index = TileIndex.scan(tmp_path / "tiles")
    drawn = draw_tiles(PerPixel("alphaearth"), data, area, index, piece(0, 0, 90, 120), [2021, 2022], tmp_path / "out", block=32)
    assert sorted(drawn.files) == ["2021", "2022"]
    for year, tile in values.items():
        with rasterio.open(drawn.files[str(year)]["class"]) as src:
            assert src.res == (30, 30)
            assert src.tags()["YEAR"] == str(year)
            assert "AlphaEarth" in src.tags()["ATTRIBUTION"]
            row, column = (4_100_000 - src.transform.f) / 10, (src.transform.c - 500_000) / 10
            classes = src.read(1)
        # The grid begins where the area does, which a projection there and back moves by less than a pixel.
        padded = np.pad(tile, ((0, 0), (3, 3), (3, 3)), constant_values=-128)
        top, left = round(row) + 3, round(column) + 3
        part = padded[:, top : top + 3 * (classes.shape[0] - 1), left : left + 3 * (classes.shape[1] - 1)]
        expected = pool(part, 3)[0]
        expected = decode(expected) if expected.dtype == np.int8 else expected
        shown = classes[:-1, :-1]
        known = shown != 255
        assert known.mean() > 0.9
        assert (shown[known] == (expected[known] > 0)).mean() > 0.99
    with pytest.raises(DataError, match="no tile of alphaearth-v1 of 2019"):
        draw_tiles(PerPixel("alphaearth"), data, area, index, piece(0, 0, 90, 120), [2021, 2019], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_year_of_an_image_is_shifted_as_that_of_its_training_chips(tmp_path, data):
    from rs05bench.embeddings import TileIndex

    scene = tmp_path / "subsetted_HLS.S30.T10SEH.2021190.v1.4_merged.tif"
    image(scene)
    for year in (2020, 2021):
        write_tile(tmp_path / f"tiles/{year}/10N/a.tiff", vectors(90, 130, seed=year))
    data.shown.year_offset = -1
    area = Applicability.fit(np.random.default_rng(0).normal(size=(100, 64)))
    index, model = TileIndex.scan(tmp_path / "tiles"), PerPixel("alphaearth")
    drawn = {
        name: draw_images(model, data, area, [scene], tmp_path / name, index=index, **said).files[scene.stem]["class"]
        for name, said in (("shifted", {}), ("before", {"year": 2020}), ("same", {"year": 2021}))
    }
    shown = {name: rasterio.open(path).read(1) for name, path in drawn.items()}
    assert (shown["shifted"] == shown["before"]).all()
    assert (shown["shifted"] != shown["same"]).any()
    with pytest.raises(DataError, match="no tile of alphaearth-v1 of 2017 meets the image"):
        draw_images(model, data, area, [scene], tmp_path / "none", index=index, year=2017)


@pytest.mark.parametrize(
    ("changes", "message"), [({"bands": 3}, "has 3 bands; B02, B8A were expected"), ({"crs": None}, "coordinate reference system")]
)
def test_other_images_than_the_training_chips_are_refused(tmp_path, data, area, changes, message):
    image(tmp_path / "scene.tif", **changes)
    with pytest.raises(DataError, match=message):
        draw_images(PerPixel(), data, area, [tmp_path / "scene.tif"], tmp_path / "out")


@pytest.mark.parametrize("name", ["floor/nearest", "harmonics/logistic"])
def test_a_model_that_sees_no_image_draws_none(name, tmp_path, data):
    from rs05bench.models import create
    from tests.models.deep.test_chip_baselines import BURNT

    with pytest.raises(ProtocolError, match=f"{name} draws no map of images: it sees none"):
        fit_or_load(create(name, card=BURNT), data, None, tmp_path)


def test_models_of_tables_and_saved_models_of_another_name_are_refused(tmp_path, data):
    from rs05bench.models.registry import create

    with pytest.raises(ProtocolError, match="alphaearth/knn draws no map of images"):
        fit_or_load(create("alphaearth/knn"), data, None, tmp_path)
    (tmp_path / "model.json").write_text('{"name": "raw/segformer"}')
    with pytest.raises(DataError, match="holds the model 'raw/segformer', not 'raw/unet'"):
        fit_or_load(create("raw/unet"), data, None, tmp_path)


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


def test_the_area_is_drawn_from_two_thousand_pixels_of_all_patches():
    import torch

    generator = torch.Generator().manual_seed(0)
    batches = [
        {
            "image": torch.rand(5, 2, 8, 8, generator=generator),
            "mask": torch.ones(5, 8, 8),
            "unit_id": [f"{number}-{row}" for row in range(5)],
        }
        for number in range(300)
    ]

    class Loader(list):
        dataset = range(1500)

    data = SimpleNamespace(train_dataloader=lambda: Loader(batches))
    found = pixel_area(data, "raw")
    assert len(found.points) == 2000
    drawn = {tuple(point) for point in (found.points * found.scale + found.mean).astype(np.float32).round(4)}
    patches = [batch["image"][row].reshape(2, -1).T.numpy().round(4) for batch in batches for row in range(5)]
    # Two of each patch were drawn, and a third of all left out: some of nearly every one stay.
    assert np.mean([any(tuple(pixel) in drawn for pixel in patch) for patch in patches]) > 0.8
    assert (pixel_area(data, "raw").points == found.points).all()
