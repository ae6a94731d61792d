"""Parcels over a raster: the polygon moves to the pixels."""

from __future__ import annotations

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import GridGeoSampler

from rs05bench.datasets.parcels import Parcels
from rs05bench.errors import DataError
from tests.datasets.data import parcels, write_parcels, write_raster


@pytest.fixture(scope="module")
def raster(crop_root):
    return crop_root / "training_chips" / "chip_184_236_merged.tif"


@pytest.fixture(scope="module")
def ds(parcel_file, raster):
    return Parcels(parcel_file, unit=["parcel"], year="season", raster=raster)


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "parquet"])
def test_every_format_gives_the_same(ds, tmp_path, suffix):
    other = Parcels(write_parcels(tmp_path / f"fields.{suffix}"), unit=["parcel"], year="season")
    assert other.unit_ids == ds.unit_ids
    assert other.labels().tolist() == ds.labels().tolist()


def test_chip_is_the_parcels_own_pixels(ds, raster):
    sample = ds.chip("p003")
    with rasterio.open(raster) as src:
        expected = src.read(window=rasterio.windows.Window(40, 15, 5, 5))
    assert sample["inside"].all()
    assert np.array_equal(sample["image"].numpy(), expected)
    assert (sample["crs"], ds.classes[sample["label"]]) == ("EPSG:5070", "Corn")


def test_pixels_count_by_their_centre_and_a_tiny_parcel_has_one(raster):
    x, y = -770_175.0, 1_936_125.0
    triangle = shapely.Polygon([(x + 300, y - 300), (x + 600, y - 300), (x + 300, y - 600)])
    tiny = shapely.box(x + 31, y - 59, x + 35, y - 55)
    frame = gpd.GeoDataFrame({"crop": ["a", "a"], "year": 2022}, geometry=[triangle, tiny], crs=5070)
    ds = Parcels(frame, raster=raster)
    assert ds.chip("row-0")["inside"].sum() == pytest.approx(50, abs=5)
    assert ds.chip("row-1")["inside"].tolist() == [[True]]


def test_parcel_outside_every_raster_is_refused(ds, raster, parcel_file):
    frame = parcels()
    frame.loc[0, "geometry"] = shapely.box(0, 0, 0.01, 0.01)
    ds = Parcels(frame, unit=["parcel"], year="season", raster=raster)
    with pytest.raises(DataError, match=r"'p000' .* lies in none of the 1 rasters"):
        ds.chip("p000")
    with pytest.raises(DataError, match="no raster was given"):
        Parcels(parcel_file, unit=["parcel"], year="season").chip("p000")


def test_each_parcel_takes_the_raster_that_holds_it(ds, raster, tmp_path):
    elsewhere = write_raster(tmp_path / "far.tif", np.ones((1, 8, 8), np.float32), "EPSG:32631", from_origin(500_000, 5_000_000, 10, 10))
    both = Parcels(ds.frame.rename(columns={"class": "crop"}), unit=["unit_id"], year=2022, raster=[elsewhere, raster])
    assert torch.equal(both.chip("p003")["image"], ds.chip("p003")["image"])


def test_units_have_their_area_and_no_label(ds):
    units = ds.units()
    assert "class" not in units.columns
    assert units["area_ha"].tolist() == pytest.approx([2.25] * 12, rel=1e-3)
    assert set(units["state"]) == {"CO"}


def test_slices_hold_class_indices(ds, imagery):
    both = imagery & Parcels(ds.frame.rename(columns={"class": "crop"}), unit=["unit_id"], year=2022)
    sample = both[next(iter(GridGeoSampler(both, size=5)))]
    assert sample["image"].shape == (18, 5, 5)
    assert sample["mask"].shape == (5, 5)
    grid = Parcels(ds.frame.rename(columns={"class": "crop"}), unit=["unit_id"], year=2022, crs="EPSG:5070", res=30)
    x, y = -770_175.0, 1_936_125.0
    mask = grid[x : x + 3000, y - 900 : y]["mask"]
    assert mask.shape == (30, 100)
    assert mask[15:20, 10:15].unique().tolist() == [ds.classes.index("Corn")]
    assert mask[15:20, 20:25].unique().tolist() == [ds.classes.index("Soybeans")]
    assert mask[0].unique().tolist() == [-1]


@pytest.mark.parametrize("workers", [0, 2])
def test_sampler_and_workers(ds, workers):
    grid = Parcels(ds.frame.rename(columns={"class": "crop"}), unit=["unit_id"], year=2022, crs="EPSG:5070", res=30)
    loader = DataLoader(grid, batch_size=2, sampler=GridGeoSampler(grid, size=5), num_workers=workers, collate_fn=stack_samples)
    assert next(iter(loader))["mask"].shape == (2, 5, 5)


def test_labels_by_vote_of_the_cropland_layer(tmp_path):
    codes = np.full((1, 20, 20), 5, np.uint8)  # soybeans
    codes[0, :, 10:] = 1  # corn
    codes[0, :4] = 0  # no data
    layer = write_raster(tmp_path / "2022_30m_cdls.tif", codes, "EPSG:5070", from_origin(0, 600, 30, 30))
    shapes = [shapely.box(0, 300, 270, 450), shapely.box(240, 300, 420, 450), shapely.box(0, 510, 90, 600), shapely.box(240, 300, 360, 450)]
    frame = gpd.GeoDataFrame({"year": 2022}, geometry=shapes, crs=5070, index=range(4))
    votes = Parcels(frame, label=None, raster=layer).majority()
    assert votes["class"].fillna("none").tolist() == ["Soybeans", "Corn", "none", "Corn"]  # equal votes: the first class in order
    assert votes["share"].tolist() == pytest.approx([1, 4 / 6, np.nan, 0.5], nan_ok=True)
    assert votes["pixels"].tolist() == [45, 30, 0, 20]


def test_vote_over_something_else_is_refused(ds):
    with pytest.raises(DataError, match="expected class codes"):
        ds.majority()


def test_parcel_without_label_is_minus_one(raster):
    frame = parcels()
    frame.loc[2, "crop"] = None
    ds = Parcels(frame, unit=["parcel"], year="season", raster=raster)
    assert ds.chip("p002")["label"] == -1
    assert ds.labels().isna().sum() == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"label": "kind"}, "column 'kind' missing"),
        ({"year": "crop"}, "must hold years"),
        ({"unit": ["crop"]}, "more than once"),
        ({"classes": ["Corn"]}, "'Alfalfa' is not among Corn"),
    ],
)
def test_wrong_tables_are_refused(parcel_file, options, says):
    with pytest.raises(DataError, match=says):
        Parcels(parcel_file, **({"unit": ["parcel"], "year": "season"} | options))


def test_plot(ds):
    figure = ds.plot(ds.chip("p003"))
    assert figure.axes[0].get_title() == "Corn: 25 pixels inside"
    plt.close("all")
