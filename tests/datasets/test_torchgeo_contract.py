"""What TorchGeo's users may rely on of every data set of chips and polygons: splits, windows, files, errors, pictures."""

from __future__ import annotations

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin
from torchgeo.datasets import (
    DatasetNotFoundError,
    GeoDataset,
    random_bbox_assignment,
    random_bbox_splitting,
    random_grid_cell_assignment,
    roi_split,
)
from torchgeo.samplers import GridGeoSampler

from rs05bench.datasets.alphaearth import AlphaEarthEmbedding
from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.datasets.cdl_crop import CDLCrop
from rs05bench.datasets.mgrs import parse_tile
from rs05bench.datasets.parcels import Parcels
from rs05bench.datasets.urban import UrbanIndicators
from rs05bench.errors import DataError
from tests.datasets.data import ODD_UTM, write_raster
from tests.embeddings.tiles import vectors, write_tile

ALBERS = {"crs": "EPSG:5070", "res": 30}


@pytest.fixture(params=["burn", "crop"])
def chips(request, burn_root, crop_root):
    return HLSBurnScars(burn_root, **ALBERS) if request.param == "burn" else CDLCrop(crop_root, **ALBERS)


def halves(dataset):
    return random_bbox_assignment(dataset, [0.5, 0.5], generator=torch.Generator().manual_seed(0))


class World(GeoDataset):
    """A data set over the whole map, in another CRS, whose samples are empty."""

    def __init__(self):
        times = pd.IntervalIndex.from_tuples([(pd.Timestamp(1990, 1, 1), pd.Timestamp(2040, 1, 1))], closed="both", name="datetime")
        self.index = gpd.GeoDataFrame(index=times, geometry=[shapely.box(-2e7, -1e7, 2e7, 1.5e7)], crs=3857)
        self._res = (30.0, 30.0)

    def __getitem__(self, index):
        return {"world": torch.zeros(1)}


# --- splits -----------------------------------------------------------------------------------------------------------------------------


def test_a_split_keeps_its_chips_when_the_crs_is_set(chips):
    for part in halves(chips):
        kept = part.index["unit_id"].tolist()
        part.crs = "EPSG:3857"
        assert part.index["unit_id"].tolist() == kept
        assert part.crs == "EPSG:3857"
        assert len(part.files) == len(kept)


@pytest.mark.parametrize("join", [lambda a, b: a & b, lambda a, b: a | b], ids=["and", "or"])
def test_a_split_keeps_its_chips_when_joined(chips, join):
    train, test = halves(chips)
    world = World()
    joined = join(world, train)
    column = "unit_id" if "unit_id" in joined.index else next(name for name in joined.index if name.startswith("unit_id"))
    found = set(joined.index[column].dropna())
    assert found == set(train.index["unit_id"])
    assert not found & set(test.index["unit_id"])


def test_a_clipped_footprint_stays_clipped_in_another_crs(chips):
    west, south, east, north = chips.index.total_bounds
    part = roi_split(chips, [shapely.box(west, south, (west + east) / 2, north)])[0]
    expected = part.index.to_crs(3857)
    part.crs = 3857
    difference = part.index.geometry.reset_index(drop=True).symmetric_difference(expected.geometry.reset_index(drop=True)).area
    # Edges get more points on the way: by less than a hundredth of the footprint.
    assert (difference < 0.01 * expected.area.to_numpy()).all()


def test_a_half_of_a_chip_never_shows_the_other_half(burn_root):
    whole = HLSBurnScars(burn_root, crs="EPSG:32613")
    parts = random_bbox_splitting(whole, [0.5, 0.5], generator=torch.Generator().manual_seed(0))
    unit = "T13TDE.2021160"
    bounds = whole.index.geometry[(whole.index["unit_id"] == unit).to_numpy()].iloc[0].bounds
    window = slice(bounds[0], bounds[2]), slice(bounds[1], bounds[3])
    full = whole[window]["valid"]
    seen = [part[window]["valid"] for part in parts]
    assert not (seen[0] & seen[1]).any()
    assert torch.equal(seen[0] | seen[1], full)


def test_a_whole_footprint_is_exact_again_in_the_chips_own_crs(burn_root):
    ds = HLSBurnScars(burn_root, crs="EPSG:5070")
    ds.crs = "EPSG:32613"
    own = HLSBurnScars(burn_root, crs="EPSG:32613")
    assert ds.index.geometry.iloc[-1].equals_exact(own.index.geometry.iloc[-1], 0.0)


def test_a_splitter_that_drops_the_column_of_chips_is_named(burn_root, tmp_path):
    write_tile(tmp_path / "2020/x.tif", vectors(64, 64))
    for dataset in (HLSBurnScars(burn_root, crs="EPSG:5070"), AlphaEarthEmbedding(tmp_path, crs="native")):
        part = random_grid_cell_assignment(dataset, [0.5, 0.5], grid_size=2)[0]
        with pytest.raises(DataError, match=r"lost its column '(unit_id|filepath)' .*random_grid_cell_assignment"):
            part[0:30:10, 0:30:10]


# --- windows ----------------------------------------------------------------------------------------------------------------------------


def test_every_window_of_a_grid_is_readable_and_empty_where_nothing_is(chips):
    shown = [chips[window] for window in GridGeoSampler(chips, size=48)]
    assert all(sample["image"].shape[-2:] == (48, 48) for sample in shown)
    empty = [sample for sample in shown if not sample["valid"].any()]
    assert all((sample["mask"] == -1).all() for sample in empty)


def test_every_window_over_polygons_is_readable(parcel_file, urban_root):
    for ds in (
        Parcels(parcel_file, unit=["parcel"], year="season", **ALBERS),
        UrbanIndicators(urban_root, **ALBERS),
    ):
        ds.index = ds.index.iloc[:2]
        for window in GridGeoSampler(ds, size=8):
            assert ds[window]["mask"].shape[-2:] == (8, 8)


def test_between_chips_is_empty_and_outside_all_of_them_an_error(burn_root):
    ds = HLSBurnScars(burn_root, crs="EPSG:5070")
    x, y, t = ds.bounds
    middle = (x.start + x.stop) / 2, (y.start + y.stop) / 2
    sample = ds[middle[0] : middle[0] + 300, middle[1] : middle[1] + 300]
    assert not sample["valid"].any()
    for window in ((slice(x.stop + 3000, x.stop + 6000), y), (x, y, slice(t.stop + pd.Timedelta("9D"), t.stop + pd.Timedelta("10D")))):
        with pytest.raises(IndexError):
            ds[window]


def test_image_and_label_of_a_pixel_are_of_one_chip(tmp_path):
    """Of two dates, the first clear without a label and the second burnt, no pixel has the image of one and the label of the other."""
    corner = parse_tile("10TEK").corner
    transform, crs = from_origin(corner[0] + 30_000, corner[1] + 60_000, 30, 30), ODD_UTM.format(zone=10, meridian=-123)
    for date, value, label in (("2019200", 0.10, -1), ("2020200", 0.50, 1)):
        image = np.full((6, 16, 16), value, np.float32)
        if date == "2019200":
            image[:, :4] = -9999  # there the second date is all there is
        stem = f"subsetted_16x16_HLS.S30.T10TEK.{date}.v1.4"
        write_raster(tmp_path / f"{stem}_merged.tif", image, crs, transform)
        write_raster(tmp_path / f"{stem}.mask.tif", np.full((1, 16, 16), label, np.int16), crs, transform)
    sample = HLSBurnScars(tmp_path, crs="EPSG:32610", res=30)[:]
    image, mask = sample["image"][0].numpy(), sample["mask"].numpy()
    assert (image[:4] == np.float32(0.5)).all()
    assert (mask[:4] == 1).all()
    assert (image[4:] == np.float32(0.1)).all()
    assert (mask[4:] == -1).all()


# --- files, types, errors, pictures -----------------------------------------------------------------------------------------------------


def test_files_are_the_images_of_the_index(chips):
    assert chips.files == sorted(chips.index["filepath"])
    assert all(path.endswith("_merged.tif") for path in chips.files)
    assert chips.dtype == torch.float32


@pytest.mark.parametrize("make", [HLSBurnScars, CDLCrop, Parcels, UrbanIndicators])
def test_a_data_set_that_is_not_there_is_torchgeos_error_too(make, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetNotFoundError) as caught:
            make(folder)
        assert isinstance(caught.value, DataError)
        assert isinstance(caught.value, FileNotFoundError)
        assert str(folder) in str(caught.value)


def test_a_crs_may_be_a_number(burn_root, parcel_file):
    assert HLSBurnScars(burn_root, crs=32613).crs == "EPSG:32613"
    assert Parcels(parcel_file, unit=["parcel"], year="season", crs=5070).crs == "EPSG:5070"


def test_slices_of_polygons_are_drawn(parcel_file, urban_root):
    parcels = Parcels(parcel_file, unit=["parcel"], year="season", **ALBERS)
    sample = parcels[:]
    figure = parcels.plot(sample | {"prediction": sample["mask"]}, suptitle="both")
    assert [axis.get_title() for axis in figure.axes] == ["mask", "prediction"]
    tracts = UrbanIndicators(urban_root, **ALBERS, indicators=["obesity_pct", "walk_pct"])
    assert [axis.get_title() for axis in tracts.plot(tracts[next(iter(GridGeoSampler(tracts, size=64)))]).axes][:2] == [
        "obesity_pct",
        "walk_pct",
    ]
    plt.close("all")


def test_a_parcel_of_a_bottom_up_raster_is_that_of_its_north_up_twin(parcel_file, tmp_path):
    bounds = Parcels(parcel_file, unit=["parcel"], year="season").frame.to_crs(32613).total_bounds
    west, north = np.floor(bounds[0] / 10) * 10 - 50, np.ceil(bounds[3] / 10) * 10 + 50
    rows, columns = int((north - bounds[1]) / 10) + 20, int((bounds[2] - west) / 10) + 20
    pixels = np.random.default_rng(0).normal(size=(2, rows, columns)).astype(np.float32)
    up = write_raster(tmp_path / "up.tif", pixels, "EPSG:32613", from_origin(west, north, 10, 10))
    down = write_raster(tmp_path / "down.tif", pixels[:, ::-1].copy(), "EPSG:32613", rasterio.Affine(10, 0, west, 0, 10, north - rows * 10))
    one, other = (Parcels(parcel_file, unit=["parcel"], year="season", raster=path).chip("p003") for path in (up, down))
    for key in ("image", "inside", "transform"):
        assert torch.equal(one[key], other[key]), key
