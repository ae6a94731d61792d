"""Maps: a pixel is the model's prediction of its embedding, files are what GIS programs expect, memory does not grow with the area."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from pyproj import Transformer
from typer.testing import CliRunner

from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.embeddings import decode, encode, open_source, product, read_points
from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.map_area import parse_bbox
from rs05bench.experiment.map_files import NO_CLASS, class_colours, map_panels
from rs05bench.experiment.map_frame import blocks_of, tile_frame
from rs05bench.experiment.map_predictor import PixelPredictor, train_on_pixels
from rs05bench.experiment.map_run import MapRequest, everything, make_map
from rs05bench.models import create
from rs05bench.models.applicability import Applicability
from rs05bench.protocol import TaskCard
from rs05bench.protocol.taskdata import TaskData
from rs05bench.report.map_page import write_map_report
from rs05bench.report.maps import scale_bar
from tests.embeddings.tiles import write_tile

WEST, NORTH, HEIGHT, WIDTH = 500_000.0, 4_100_000.0, 300, 400
TO_DEGREES = Transformer.from_crs("EPSG:32610", "EPSG:4326", always_xy=True)


def field(height: int, width: int, seed: int = 0, *, shift: float = 0.0) -> np.ndarray:
    """Three kinds of ground in stripes, as unit vectors with noise."""
    generator = np.random.default_rng(0)
    kinds = generator.standard_normal((3, 64))
    which = (np.arange(width) // 40 % 3)[None].repeat(height, axis=0)
    x = kinds[which] + 0.4 * np.random.default_rng(seed + 1).standard_normal((height, width, 64)) + shift
    return encode(np.moveaxis(x / np.linalg.norm(x, axis=2, keepdims=True), 2, 0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of two years (the second has an eastern tile of other ground) and a table of points on the first."""
    root = tmp_path_factory.mktemp("map")
    values = field(HEIGHT, WIDTH)
    values[:, 10:20, 30:50] = -128
    write_tile(root / "tiles/2023/10N/a.tiff", values)
    write_tile(root / "tiles/2024/10N/a.tiff", values)
    write_tile(root / "tiles/2024/10N/b.tiff", field(HEIGHT, 100, 5, shift=9.0), west=WEST + 10 * WIDTH)
    generator = np.random.default_rng(0)
    rows, columns = generator.integers(30, HEIGHT, 240), generator.integers(0, WIDTH, 240)
    lon, lat = TO_DEGREES.transform(WEST + 10 * (columns + 0.5), NORTH - 10 * (rows + 0.5))
    embedding = decode(values)[:, rows, columns].T
    table = pd.DataFrame(embedding, columns=[f"A{band:02d}" for band in range(64)])
    kind = columns // 40 % 3
    table = table.assign(
        point=[f"p{row:03d}" for row in range(240)], longitude=lon, latitude=lat, cover=np.array(["crop", "tree", "town"])[kind]
    )
    table = table.assign(
        height=kind * 10 + generator.normal(0, 0.5, 240), elevation=columns.astype(float), side=np.where(rows < 150, "n", "s")
    )
    table.to_csv(root / "points.csv", index=False)
    return root


def card(kind: str = "classification") -> TaskCard:
    classes = ["crop", "tree", "town"] if kind == "classification" else None
    return TaskCard.parse(
        {
            "kind": kind,
            "name": "ground",
            "title": "Kinds of ground",
            "targets": ["cover" if classes else "height"],
            "classes": classes,
            "unit": ["point"],
            "groups": ["side"],
            "coordinates": {"x": "longitude", "y": "latitude"},
            "files": ["points.csv"],
            "features": {"alphaearth": ["A??"], "hybrid": ["A??", "elevation"]},
            "splits": ["leave-side-out", "spatial-block"],
            "split_options": {"block_size_m": 400, "buffer_m": 30},
            "budgets": ["20-units"] if classes is None else ["5-per-class"],
            "licence": "CC0",
        }
    )


def bounds(west: int, north: int, east: int, south: int) -> shapely.Geometry:
    """A box of the tile's pixels, in degrees."""
    box = shapely.box(WEST + 10 * west, NORTH - 10 * south, WEST + 10 * east, NORTH - 10 * north)
    return shapely.transform(shapely.segmentize(box, 100), lambda x, y: TO_DEGREES.transform(x, y), interleaved=False)


def request(world: Path, out: Path, **changes) -> MapRequest:
    given = {
        "card": card(), "data": world, "model": "alphaearth/logistic", "out": out, "area": bounds(5, 5, 330, 290), "years": [2023],
        "sources": [str(world / "tiles")],
    }  # fmt: skip
    return MapRequest(**{**given, **changes})


def trained(world: Path, model: str, layers: tuple[str, ...] = ()) -> PixelPredictor:
    """The model of a map of every label."""
    table = EmbeddingTable(card(), world)
    data = TaskData.build(table, everything(table), "all", "full", 0)
    return train_on_pixels(create(model, card=card(), seed=0), data, everything(table), [product()], layers)


@pytest.fixture(scope="module")
def drawn(world: Path, tmp_path_factory: pytest.TempPathFactory):
    return make_map(request(world, tmp_path_factory.mktemp("out")))


def band(result, name: str, year: str = "2023") -> tuple[np.ndarray, rasterio.DatasetReader]:
    with rasterio.open(result.files[year][name]) as src:
        return src.read(1), src


def test_a_pixel_is_the_models_prediction_of_its_own_embedding(world, drawn):
    predictor = trained(world, "alphaearth/logistic")
    classes, src = band(drawn, "class")
    confidence, _ = band(drawn, "confidence")
    di, _ = band(drawn, "dissimilarity")
    generator = np.random.default_rng(2)
    rows, columns = generator.integers(0, src.height, 300), generator.integers(0, src.width, 300)
    x, y = src.xy(rows, columns)
    # Read by another way than the map's: points, not blocks.
    X = read_points(str(world / "tiles"), *TO_DEGREES.transform(x, y), 2023)
    seen = np.isfinite(X[:, 0]) & (classes[rows, columns] != 255)
    assert seen.sum() > 250
    probabilities = predictor.model.predict_array(X[seen])
    assert (classes[rows, columns][seen] == probabilities.argmax(axis=1)).all()
    np.testing.assert_allclose(confidence[rows, columns][seen], probabilities.max(axis=1), rtol=1e-5)
    # And the area of applicability by brute force over the training points.
    area = predictor.area
    scaled = (X[seen].astype(float) - area.mean) / area.scale * area.weights
    brute = np.array([np.sqrt(((area.points - place) ** 2).sum(axis=1)).min() for place in scaled]) / area.mean_distance
    np.testing.assert_allclose(di[rows, columns][seen], brute, rtol=1e-4)
    assert (band(drawn, "applicable")[0][rows, columns][seen] == (di[rows, columns][seen] <= area.threshold)).all()


def test_masked_pixels_and_pixels_outside_the_area_have_no_class(drawn):
    classes, src = band(drawn, "class")
    row, column = src.index(WEST + 10 * 40, NORTH - 10 * 15)
    assert classes[row, column] == 255
    assert np.isnan(band(drawn, "dissimilarity")[0][row, column])
    assert (classes != 255).mean() > 0.95


def test_only_the_polygon_is_mapped(world, tmp_path):
    triangle = shapely.Polygon([TO_DEGREES.transform(WEST + x, NORTH - y) for x, y in ((100, 400), (2900, 400), (100, 2900))])
    geopandas.GeoDataFrame(geometry=[triangle], crs=4326).to_file(tmp_path / "area.gpkg")
    from rs05bench.experiment.map_area import read_area

    result = make_map(request(world, tmp_path / "out", area=read_area(tmp_path / "area.gpkg")))
    classes, src = band(result, "class")
    inside = rasterio.features.geometry_mask([shapely.transform(triangle, lambda xy: np.column_stack(
        Transformer.from_crs(4326, 32610, always_xy=True).transform(*xy.T)))], classes.shape, src.transform, invert=True)  # fmt: skip
    assert ((classes != 255) == inside).mean() > 0.999
    assert result.record["years"]["2023"]["pixels"] == (classes != 255).sum()


def test_other_ground_lies_outside_the_area_of_applicability(world, tmp_path):
    result = make_map(request(world, tmp_path, years=[2024], area=bounds(300, 50, 495, 250)))
    applicable, src = band(result, "applicable", "2024")
    edge = src.index(WEST + 10 * WIDTH + 5, NORTH - 1000)[1]
    assert (applicable[:, :edge] == 1).mean() > 0.9
    assert (applicable[:, edge + 1 : -1] == 0).mean() > 0.9
    assert 0.3 < result.record["years"]["2024"]["share_inside"] < 0.7


def test_files_are_cogs_that_say_what_they_are(drawn):
    for name in ("class", "confidence", "dissimilarity", "applicable"):
        with rasterio.open(drawn.files["2023"][name]) as src:
            assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert src.crs.to_epsg() == 32610
            assert src.transform.a == 10
            assert "AlphaEarth Foundations" in src.tags()["ATTRIBUTION"]
            assert (src.transform.c - WEST) % 10 == 0
    with rasterio.open(drawn.files["2023"]["class"]) as src:
        assert src.tags()["CLASS_1"] == "tree"
        assert src.colormap(1)[0][:3] == (0x00, 0x72, 0xB2)


def test_the_report_says_what_is_known_and_what_is_not(drawn):
    write_map_report(drawn)
    text = (drawn.out / "report.md").read_text(encoding="utf-8")
    page = (drawn.out / "report.html").read_text(encoding="utf-8")
    for said in ("Not known: no result of this model", "10.1111/2041-210X.13650", "no label", "AlphaEarth Foundations", "CC0"):
        assert said.lower() in text.lower() or said == "no label"
        assert said in page or said == "no label"
    assert "SIMULATED" not in text
    record = json.loads((drawn.out / "map.json").read_text(encoding="utf-8"))
    hectares = sum(part["pixels"] for part in record["years"]["2023"]["classes"].values()) * 100 / 10_000
    assert hectares == pytest.approx(record["years"]["2023"]["pixels"] * 0.01)
    assert record["labels_train"] + record["labels_val"] == 240
    assert (drawn.out / "2023/preview.png").stat().st_size > 10_000


def test_pictures_have_the_colours_of_the_classes_and_the_width_of_the_ground(drawn):
    names = list(json.loads((drawn.out / "map.json").read_text(encoding="utf-8"))["years"]["2023"]["classes"])
    first, second = map_panels(drawn.files["2023"], classes=names)
    assert (first.name, second.name, second.words) == ("class", "confidence", "largest probability")
    codes, src = band(drawn, "class")
    assert first.width_m == pytest.approx(src.width * 10)
    times = first.pixels.shape[0] // src.height
    row, column = np.argwhere(codes != NO_CLASS)[0]
    colour = class_colours(len(names))[int(codes[row, column])]
    cell = first.pixels[row * times : (row + 1) * times, column * times : (column + 1) * times, :3].reshape(-1, 3)
    assert [int(colour[at : at + 2], 16) for at in (1, 3, 5)] in cell.tolist()
    assert (colour, names[int(codes[row, column])]) in first.entries
    length, words = scale_bar(0.9)
    assert (length, words) == (0.5, "500 m")
    assert scale_bar(43.0) == (20.0, "20 km")
    page = write_map_report(drawn).read_text(encoding="utf-8")
    assert page.count('class="scale"') == page.count('<div class="panel picture">') == 2


def test_a_regression_maps_values_with_the_half_width_of_their_interval(world, tmp_path):
    result = make_map(request(world, tmp_path, card=card("regression"), model="alphaearth/ridge", area=bounds(5, 30, 120, 200)))
    value, src = band(result, "value")
    kind = ((np.arange(src.width) + round((src.transform.c - WEST) / 10)) // 40 % 3) * 10
    assert np.abs(np.nanmean(value, axis=0) - kind).max() < 2
    half = band(result, "half_width90")[0]
    assert len(np.unique(half[np.isfinite(half)])) == 1
    assert np.nanmax(half) > 0


def test_a_cell_of_a_split_is_trained_on_its_fold_alone(world, tmp_path):
    result = make_map(request(world, tmp_path, split="leave-side-out", fold="n", budget="5-per-class", area=bounds(5, 30, 60, 60)))
    assert result.record["labels_train"] + result.record["labels_val"] <= 15
    assert "fold n" in result.record["trained_on"]


def test_expected_accuracy_comes_from_the_results_of_the_same_card_and_model(world, tmp_path):
    from rs05bench.experiment.cell import make_bench, run_cell
    from rs05bench.experiment.store import ResultStore
    from rs05bench.protocol.result import Cell

    bench = make_bench(card(), world, ["leave-side-out"])
    store, scores = ResultStore(tmp_path / "runs"), []
    for fold in bench.manifests["leave-side-out"].folds:
        cell = Cell(
            task="ground", target="cover", split="leave-side-out", fold=fold, model="alphaearth/logistic", budget="5-per-class", seed=0
        )
        scored, predictions = run_cell(bench, cell)
        store.write(scored, predictions)
        scores.append(scored.scores["test_ood"]["macro_f1"])
    area = bounds(5, 30, 60, 60)
    result = make_map(request(world, tmp_path / "map", runs=tmp_path / "runs", area=area))
    assert result.record["expected"]["elsewhere"]["mean"] == pytest.approx(np.mean(scores))
    assert f"macro_f1 {np.mean(scores):.2f}" in write_map_report(result).read_text(encoding="utf-8")
    other = make_map(request(world, tmp_path / "other", runs=tmp_path / "runs", model="alphaearth/knn", area=area))
    assert other.record["expected"] == {"known": False}


def test_features_no_raster_holds_are_refused_by_name(world, tmp_path):
    with pytest.raises(DataError, match=r"hybrid/rf reads the feature set 'hybrid', of which no raster holds: elevation"):
        make_map(request(world, tmp_path, model="hybrid/rf"))
    with pytest.raises(ProtocolError, match="floor/nearest cannot draw a map"):
        make_map(request(world, tmp_path, model="floor/nearest"))
    with pytest.raises(ProtocolError, match=r"alphaearth\+harmonics/logistic reads positions \(harmonics\)"):
        make_map(request(world, tmp_path, model="alphaearth+harmonics/logistic"))


def test_a_further_column_comes_from_a_raster(world, tmp_path):
    elevation = np.arange(WIDTH, dtype=np.float32)[None].repeat(HEIGHT, axis=0)
    with rasterio.open(
        tmp_path / "dem.tif", "w", driver="GTiff", height=HEIGHT, width=WIDTH, count=1, dtype="float32", crs="EPSG:32610",
        transform=rasterio.transform.from_origin(WEST, NORTH, 10, 10),
    ) as dst:  # fmt: skip
        dst.write(elevation, 1)
    area = bounds(100, 50, 160, 90)
    result = make_map(request(world, tmp_path / "out", model="hybrid/logistic", layers={"elevation": tmp_path / "dem.tif"}, area=area))
    predictor = trained(world, "hybrid/logistic", ("elevation",))
    classes, src = band(result, "class")
    column = round((src.transform.c - WEST) / 10)
    row = round((NORTH - src.transform.f) / 10)
    values = decode(field(HEIGHT, WIDTH))[:, row + 10, column + 5 : column + 50].T
    X = np.column_stack([values, np.arange(column + 5, column + 50)])[:, [*range(64), 64]]
    assert predictor.columns[-1] == "elevation"
    assert (classes[10, 5:50] == predictor.model.predict_array(X).argmax(axis=1)).all()


@pytest.fixture(scope="module")
def two_products(world, tmp_path_factory) -> tuple[Path, TaskCard]:
    """The world with a second product of three components in tiles on another grid, and a card of both."""
    root = tmp_path_factory.mktemp("two")
    record = "name: mine\ntitle: Mine\nfamily: mine\nversion: v1\ndimensions: 3\ncolumns: ['M{}']\npixel_m: 10\ndtype: float32\n"
    (root / "mine.yaml").write_text(record + "scale: {kind: none}\nlayouts: [geotiff]\nlicence: CC0\ncitation: me\n")
    values = np.random.default_rng(3).normal(size=(3, HEIGHT + 1, WIDTH + 1)).astype(np.float32)
    write_tile(root / "mine/2023/a.tif", values, west=WEST - 3, north=NORTH + 3, nodata=-9999, bottom_up=False, compress="deflate")
    table = pd.read_csv(world / "points.csv", dtype={"point": str})
    of = product(root / "mine.yaml")
    place = table["longitude"].to_numpy(), table["latitude"].to_numpy()
    mine = open_source(root / "mine", of=of).points(*place, 2023)
    table = table.assign(**{f"M{number}": mine[:, number] for number in range(3)})
    table.to_csv(root / "points.csv", index=False)
    features = {"alphaearth": ["A??"], "mine": {"product": str(root / "mine.yaml")}, "hybrid": ["A??", "elevation"]}
    both = TaskCard.parse({**card().model_dump(exclude_none=True), "features": features})
    return root, both


def test_a_union_of_products_is_mapped_from_the_tiles_of_each(world, two_products, tmp_path):
    root, both = two_products
    sources = [str(world / "tiles"), f"mine={root / 'mine'}"]
    asked = request(world, tmp_path, card=both, data=root, model="alphaearth+mine/logistic", area=bounds(5, 30, 120, 120))
    with pytest.raises(DataError, match="reads 2 products: alphaearth-v1, mine"):
        make_map(replace(asked, sources=sources[:1]))
    result = make_map(replace(asked, sources=[f"alphaearth={sources[0]}", sources[1]]))
    classes, src = band(result, "class")
    rows, columns = np.random.default_rng(0).integers(0, src.height, 200), np.random.default_rng(1).integers(0, src.width, 200)
    place = TO_DEGREES.transform(*src.xy(rows, columns))
    X = np.concatenate(
        [read_points(str(world / "tiles"), *place, 2023), open_source(root / "mine", of=root / "mine.yaml").points(*place, 2023)], axis=1
    )
    seen = classes[rows, columns] != 255
    assert seen.sum() > 150
    table = EmbeddingTable(both, root)
    data = TaskData.build(table, everything(table), "all", "full", 0)
    model = create("alphaearth+mine/logistic", card=both, seed=0).fit(data)
    assert [column[0] for column in data.columns("alphaearth+mine")] == ["A"] * 64 + ["M"] * 3
    np.testing.assert_allclose(band(result, "confidence")[0][rows, columns][seen], model.predict_array(X[seen]).max(axis=1), rtol=1e-5)
    with rasterio.open(result.files["2023"]["class"]) as written:
        assert written.tags()["PRODUCT"] == "alphaearth-v1+mine"


def test_a_source_that_no_feature_asks_for_is_refused(world, two_products, tmp_path):
    root, both = two_products
    asked = request(world, tmp_path, card=both, data=root, sources=[str(world / "tiles"), f"mine={root / 'mine'}"])
    with pytest.raises(DataError, match="alphaearth/logistic does not read mine"):
        make_map(asked)


def test_what_a_map_of_a_table_would_ignore_is_refused(world, tmp_path):
    for changes, message in (
        ({"keep": tmp_path / "kept"}, "--keep is for deep models"),
        ({"images": [tmp_path / "scene.tif"]}, "is a table"),
        ({"layers": {"slope": tmp_path / "slope.tif"}}, "reads no column slope"),
        ({"budget": "5-per-class"}, "say nothing without --split"),
    ):
        with pytest.raises(DataError, match=message):
            make_map(request(world, tmp_path / "map", **changes))


def test_a_year_or_place_without_tiles_is_named(world, tmp_path):
    with pytest.raises(DataError, match="no tile of alphaearth-v1 of 2019"):
        make_map(request(world, tmp_path, years=[2023, 2019]))
    with pytest.raises(DataError, match="not a box"):
        parse_bbox("-120,38,-121,39")
    with pytest.raises(DataError, match="not four numbers"):
        parse_bbox("-120,38,-121")
    with pytest.raises(DataError, match="place, years and tiles"):
        make_map(request(world, tmp_path, years=[]))
    assert not list(tmp_path.rglob("*.tif"))


def test_an_unfinished_map_leaves_no_file(world, tmp_path, monkeypatch):
    def interrupted(self, X):
        raise KeyboardInterrupt

    monkeypatch.setattr(Applicability, "dissimilarity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_map(request(world, tmp_path, area=bounds(5, 30, 60, 60)))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_blocks_cover_every_pixel_once():
    seen = np.zeros((700, 1300), dtype=int)
    for block in blocks_of(700, 1300, block=256, gathered=512):
        seen[block.row : block.row + block.height, block.column : block.column + block.width] += 1
    assert (seen == 1).all()


def test_tiles_of_another_zone_fill_in(world, tmp_path):
    """Ground beside the first tile, held by a tile of the neighbouring zone only."""
    from rs05bench.embeddings import TileIndex
    from rs05bench.embeddings.readers import TileReader

    edge_x, edge_y = Transformer.from_crs(4326, 32610, always_xy=True).transform(-120.001, 37.0)
    west, north = np.floor(edge_x / 10) * 10 - 1000, np.floor(edge_y / 10) * 10 + 500
    write_tile(tmp_path / "2023/10N/a.tiff", field(100, 100), west=west, north=north)
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(*TO_DEGREES.transform(west + 1000, north))
    write_tile(
        tmp_path / "2023/11N/b.tiff", field(140, 100, 7), crs="EPSG:32611", west=np.floor(x / 10) * 10, north=np.ceil(y / 10) * 10 + 200
    )
    index = TileIndex.scan(tmp_path)
    box = shapely.box(west + 200, north - 800, west + 1500, north - 200)
    area = shapely.transform(box, lambda x, y: TO_DEGREES.transform(x, y), interleaved=False)
    target = tile_frame(index, area, [2023]).target
    assert target.crs == "EPSG:32610"
    embedding = TileReader(index).read(target, 2023)
    assert np.isfinite(embedding[0]).mean() > 0.95
    assert np.isfinite(embedding[0, :, -40:]).mean() > 0.95


MEMORY = """
import resource, sys
from pathlib import Path
import tests.experiment.test_mapping as t
world, out, factor = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
from rs05bench.experiment.map_run import make_map
make_map(t.request(world, out / "warm", area=t.bounds(0, 0, 256, 256), sources=[str(out / "big")]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make_map(t.request(world, out / "map", area=t.bounds(0, 0, 256 * factor, 256 * factor), sources=[str(out / "big")]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_area(world, tmp_path):
    # Masked ground but for a little: what is read, predicted and written is the same a block, and the test stays short.
    values = np.full((64, 1536, 1536), -128, dtype=np.int8)
    values[:, ::4, ::4] = field(384, 384)
    write_tile(tmp_path / "big/2023/10N/a.tiff", values, block=256)
    del values

    def growth(factor: int) -> float:
        (tmp_path / str(factor)).mkdir()
        (tmp_path / str(factor) / "big").symlink_to(tmp_path / "big")
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(world), str(tmp_path / str(factor)), str(factor)], capture_output=True, text=True, check=True
        )
        return float(done.stdout.strip().splitlines()[-1])

    small, large = growth(3), growth(6)
    # Four times the area: decompressed blocks are kept up to a limit of 256 MiB, which neither reaches past.
    assert large < small + 200
    assert large < 450


def test_the_command_maps_and_says_where_the_report_is(world, tmp_path):
    import typer

    from rs05bench.cli.models import register

    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    card().save(tmp_path / "ground.yaml")
    west, south, east, north = bounds(5, 30, 60, 60).bounds
    arguments = ["map", str(tmp_path / "ground.yaml"), "--data", str(world), "--model", "alphaearth/logistic", "--years", "2023-2024"]
    arguments += ["--bbox", f"{west},{south},{east},{north}", "--from", str(world / "tiles"), "--out", str(tmp_path / "map")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "inside the area of applicability" in done.output
    assert (tmp_path / "map/2024/class.tif").is_file()
    assert str(tmp_path / "map/report.html") in done.output
