"""HLS Burn Scars: both layouts, every nodata habit, true zones, and nothing but errors from broken files."""

from __future__ import annotations

import shutil

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin
from torch.utils.data import DataLoader
from torchgeo.datasets import IntersectionDataset, UnionDataset, stack_samples
from torchgeo.samplers import GridGeoSampler

from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.datasets.fires import fire_ids
from rs05bench.datasets.mgrs import parse_tile
from rs05bench.errors import DataError
from rs05bench.protocol.units import UnitTable
from tests.datasets.data import BURN_CHIPS, ODD_UTM, burn_pixels, write_burn_scars, write_raster

try:  # TorchGeo 0.10 renamed it
    from torchgeo.samplers import RandomPatchSampler as RandomSampler
except ImportError:
    from torchgeo.samplers import RandomGeoSampler as RandomSampler

FIRST = "T10SEH.2018190"


@pytest.fixture(scope="module")
def ds(burn_root):
    return HLSBurnScars(burn_root)


@pytest.fixture
def copy(burn_root, tmp_path):
    return shutil.copytree(burn_root, tmp_path / "copy")


def image_of(root, unit="T10SEH.2018190"):
    return next(path for path in root.rglob(f"subsetted_*{unit}*_merged.tif") if not path.name.startswith("._"))


def rewrite(path, change):
    """Write a raster again with `change(pixels, profile)` applied."""
    with rasterio.open(path) as src:
        pixels, profile = src.read(), src.profile
    pixels, profile = change(pixels, profile)
    profile |= {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
    path.unlink()
    with rasterio.open(path, "w", **profile) as dst:
        dst.write(pixels)


# --- what is read -----------------------------------------------------------------------------------------------------------------------


def test_chip_is_native_pixels_in_the_zone_of_its_tile(ds, burn_root):
    sample = ds.chip("T13TDE.2021160")
    with rasterio.open(image_of(burn_root, "T13TDE.2021160")) as src:
        expected = src.read()
    valid = sample["valid"].numpy()
    assert sample["crs"] == "EPSG:32613"
    assert np.array_equal(sample["image"].numpy()[:, valid], expected[:, valid])
    assert sample["image"].dtype == torch.float32
    assert sample["mask"].dtype == torch.int64


@pytest.mark.parametrize("chip", BURN_CHIPS, ids=["-9999", "9999", "0", "nan", "-9999 again"])
def test_every_nodata_habit_ends_in_one_mask(ds, chip):
    sample = ds.chip(f"T{chip[0]}.{chip[1]}")
    assert (~sample["valid"]).sum() == 16
    assert not sample["valid"][:4, :4].any()
    assert (sample["image"][:, :4, :4] == 0).all()
    assert (sample["mask"][:4, :4] == -1).all()
    assert (sample["mask"][-1] == -1).all()
    assert set(sample["mask"].unique().tolist()) == {-1, 0, 1}


def test_scaled_missing_value_is_missing_and_dark_water_is_not(copy):
    def change(pixels, profile):
        pixels[:, 5, 5] = -0.9999
        pixels[2, 6, 6] = 0.0  # one band at 0 is a measurement
        return pixels, profile

    rewrite(image_of(copy), change)
    valid = HLSBurnScars(copy).chip(FIRST)["valid"]
    assert not valid[5, 5]
    assert valid[6, 6]


def test_declared_nodata_of_its_own_is_missing(copy):
    def change(pixels, profile):
        pixels[3, 8, 8] = -2.5
        return pixels, profile | {"nodata": -2.5}

    rewrite(image_of(copy), change)
    assert not HLSBurnScars(copy).chip(FIRST)["valid"][8, 8]


def test_macs_resource_forks_are_not_chips(ds, burn_root):
    assert len(list(burn_root.rglob("._*"))) == 5
    assert len(ds) == 5


def test_both_layouts_give_the_same_units_and_pixels(ds, tmp_path):
    other = HLSBurnScars(write_burn_scars(tmp_path, layout="splits"))
    assert other.unit_ids == ds.unit_ids
    assert torch.equal(other.chip(FIRST)["image"], ds.chip(FIRST)["image"])
    assert ds.units()["official"].tolist() == ["train", "val", "train", "train", "val"]
    assert other.units()["official"].tolist() == ["train", "val", "test", "train", "val"]


def test_units_say_where_when_and_in_which_groups(ds):
    units = ds.units().set_index("unit_id")
    assert units.index.is_monotonic_increasing
    row = units.loc["T13TDE.2021160"]
    assert (row["tile"], row["year"], row["date"]) == ("13TDE", 2021, pd.Timestamp(2021, 6, 9))
    assert (row["state"], row["division"]) == ("CO", "Mountain")
    x, y = gpd.GeoSeries([shapely.Point(row["lon"], row["lat"])], crs=4326).to_crs(32613).iloc[0].coords[0]
    easting, northing = parse_tile("13TDE").corner
    assert (x - easting, y - northing) == pytest.approx((20_000 + 960, 70_000 - 960), abs=0.01)
    assert units.crs == "EPSG:4326"


def test_burn_fraction_counts_labelled_pixels_only(ds):
    _, mask = burn_pixels(0, 64, "0")
    units = ds.units().set_index("unit_id")
    assert units.loc[FIRST, "burn_fraction"] == pytest.approx((mask == 1).sum() / (mask >= 0).sum())
    assert units.loc[FIRST, "labelled_fraction"] == pytest.approx(63 / 64)


def test_units_are_what_the_protocol_accepts(ds):
    frame = ds.units().rename(columns={"date": "time"})
    table = UnitTable.build(pd.DataFrame(frame.drop(columns="geometry")), groups=["tile", "fire", "state", "division"])
    assert len(table.frame) == 5


def test_own_layers_become_groups(burn_root):
    layer = gpd.GeoDataFrame({"eco": ["coast"]}, geometry=[shapely.box(-124, 37, -121, 40)], crs=4326)
    units = HLSBurnScars(burn_root, layers={"ecoregion": (layer, "eco")}).units()
    assert units["ecoregion"].tolist() == ["coast", "coast", "coast", "outside", "outside"]


# --- fires ------------------------------------------------------------------------------------------------------------------------------


def test_touching_chips_of_one_season_are_one_fire_and_another_year_is_another(ds):
    fires = ds.units().set_index("unit_id")["fire"]
    assert fires["T10SEH.2018190"] == fires["T10SEH.2018215"] == "fire-T10SEH.2018190"
    assert fires["T10SEH.2019201"] == "fire-T10SEH.2019201"
    assert fires.nunique() == 4


def squares(*rows):
    """(x in km along the 40th parallel, day)."""
    degree = 111.32 * np.cos(np.radians(40))
    shapes = [shapely.box(x / degree, 40, (x + 10) / degree, 40.1) for x, _ in rows]
    dates = [pd.Timestamp(2020, 1, 1) + pd.Timedelta(days=day) for _, day in rows]
    return gpd.GeoDataFrame({"unit_id": [f"u{n}" for n in range(len(rows))], "date": dates}, geometry=shapes, crs=4326)


def test_fires_are_chained_by_distance_and_days():
    assert len(set(fire_ids(squares((0, 0), (14, 50), (28, 100))))) == 1  # 4 km and 50 days from one to the next
    assert len(set(fire_ids(squares((0, 0), (16, 0))))) == 2  # 6 km
    assert len(set(fire_ids(squares((0, 0), (0, 91))))) == 2
    assert len(set(fire_ids(squares((0, 0), (0, 91)), days=91))) == 1
    assert len(set(fire_ids(squares((0, 0), (16, 0)), distance=7_000))) == 1


def test_fires_do_not_depend_on_row_order():
    units = squares((0, 3), (12, 0), (60, 0), (72, 9))
    shuffled = units.iloc[[2, 0, 3, 1]]
    assert fire_ids(units).to_dict() == fire_ids(shuffled).to_dict()
    assert sorted(set(fire_ids(units))) == ["fire-u1", "fire-u2"]


# --- TorchGeo ---------------------------------------------------------------------------------------------------------------------------


def test_index_is_in_wgs84_and_slicing_asks_for_a_crs(ds):
    assert ds.crs == "EPSG:4326"
    with pytest.raises(DataError, match=r"chips in 3 coordinate systems.*\n.*crs='EPSG:32610'"):
        ds[:]


def test_slice_in_a_chips_own_zone_moves_no_pixel(burn_root, ds):
    sliced = HLSBurnScars(burn_root, crs="EPSG:32613")
    query = next(q for q in GridGeoSampler(sliced, size=64) if sliced.index.cx[q[0], q[1]].unit_id.tolist() == ["T13TDE.2021160"])
    sample, native = sliced[query], ds.chip("T13TDE.2021160")
    assert torch.equal(sample["image"], native["image"])
    assert torch.equal(sample["mask"], native["mask"])
    assert torch.equal(sample["valid"], native["valid"])


def test_slice_in_another_crs_is_warped_where_asked_and_blends_no_missing_pixel(burn_root):
    sliced = HLSBurnScars(burn_root, crs="EPSG:5070", res=60)
    west, south, east, north = sliced.index.geometry.iloc[0].bounds
    sample = sliced[west - 600 : east + 600, south - 600 : north + 600]
    assert set(sample["mask"].unique().tolist()) <= {-1, 0, 1}
    values = sample["image"][:, sample["valid"]]
    assert values.numel()
    assert values.min() > 0
    assert values.max() < 0.5  # a -9999 blended in would show
    assert sample["transform"].shape == (9,)


@pytest.mark.parametrize("make", [lambda ds: RandomSampler(ds, size=32, length=6), lambda ds: GridGeoSampler(ds, size=32)])
@pytest.mark.parametrize("workers", [0, 2])
def test_samplers_and_loader_workers(burn_root, make, workers):
    ds = HLSBurnScars(burn_root, crs="EPSG:5070")
    loader = DataLoader(ds, batch_size=3, sampler=make(ds), num_workers=workers, collate_fn=stack_samples)
    batch = next(iter(loader))
    assert batch["image"].shape == (3, 6, 32, 32)
    assert batch["mask"].shape == (3, 32, 32)


def test_intersection_and_union(burn_root, tmp_path):
    base = HLSBurnScars(burn_root, crs="EPSG:5070")
    other = HLSBurnScars(write_burn_scars(tmp_path, layout="splits"))
    both = base & other
    assert isinstance(both, IntersectionDataset)
    query = next(iter(GridGeoSampler(both, size=32)))
    assert both[query]["image"].shape == (12, 32, 32)
    either = HLSBurnScars(burn_root, crs="EPSG:5070") | HLSBurnScars(tmp_path)
    assert isinstance(either, UnionDataset)
    assert either[next(iter(GridGeoSampler(either, size=32)))]["image"].shape == (6, 32, 32)


def test_place_without_chips_is_an_index_error(burn_root):
    ds = HLSBurnScars(burn_root, crs="EPSG:5070")
    with pytest.raises(IndexError):
        ds[0:300, 0:300]


def test_transforms_are_applied(burn_root):
    ds = HLSBurnScars(burn_root, transforms=lambda sample: sample | {"seen": True})
    assert ds.chip(FIRST)["seen"]


def test_plot_shows_image_mask_and_prediction(ds):
    sample = ds.chip(FIRST)
    figure = ds.plot(sample)
    assert [axis.get_title() for axis in figure.axes][-1].startswith("mask: 19.7% burn scar")
    sample["prediction"] = torch.zeros_like(sample["mask"])
    figure = ds.plot(sample, suptitle="title")
    assert len(figure.axes) == 4
    assert figure.get_suptitle() == "title"
    assert not any(axis.get_title() for axis in ds.plot(sample, show_titles=False).axes)
    plt.close("all")


def test_licence_and_citation_are_stated(ds):
    assert ds.licence == "CC-BY-4.0"
    assert "10.57967/hf/0956" in ds.citation


# --- broken files -----------------------------------------------------------------------------------------------------------------------


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["_merged", ".mask"])
def test_truncated_files_give_errors_never_numbers(copy, share, kind):
    path = image_of(copy) if kind == "_merged" else image_of(copy).with_name(image_of(copy).name.replace("_merged", ".mask"))
    cut(path, share)
    with pytest.raises(DataError, match="download it again") as caught:
        HLSBurnScars(copy).chip(FIRST)
    assert path.name in str(caught.value)


def test_wrong_files_are_named_with_what_was_expected(copy):
    path = image_of(copy)
    good = path.read_bytes()
    # Not north-up, but the right area: rows and columns swapped.
    cases = {
        r"expected 6 bands, found 5": lambda pixels, profile: (pixels[:5], profile),
        r"expected pixels of type float32 or float64, found uint8": lambda pixels, profile: (
            pixels.astype(np.uint8),
            profile | {"nodata": None},
        ),
        r"expected 64 x 64 pixels, found 64 x 32": lambda pixels, profile: (pixels[:, :, :32], profile),
        r"no coordinate reference system": lambda pixels, profile: (pixels, profile | {"crs": None}),
        r"expected north-up": lambda pixels, profile: (
            pixels,
            profile | {"transform": rasterio.Affine(0, 30, profile["transform"].c, -30, 0, profile["transform"].f)},
        ),
        r"its middle lies at easting": lambda pixels, profile: (
            pixels,
            profile | {"transform": from_origin(profile["transform"].f, profile["transform"].c, 30, 30)},
        ),
        r"no usable position": lambda pixels, profile: (pixels, profile | {"transform": rasterio.Affine.identity()}),
    }
    for message, change in cases.items():
        path.write_bytes(good)
        rewrite(path, change)
        with pytest.raises(DataError, match=message) as caught:
            HLSBurnScars(copy)
        assert path.name in str(caught.value)


def test_values_in_other_units_are_refused(copy):
    rewrite(image_of(copy), lambda pixels, profile: (np.where(pixels > -1, pixels * 10_000, pixels), profile))
    with pytest.raises(DataError, match=r"expected values from -3.2768 to 3.2768"):
        HLSBurnScars(copy).chip(FIRST)


def test_strange_mask_values_are_refused(copy):
    path = image_of(copy).with_name(image_of(copy).name.replace("_merged", ".mask"))
    rewrite(path, lambda pixels, profile: (np.where(pixels == 1, 255, pixels).astype(np.int16), profile))
    with pytest.raises(DataError, match=r"found also \[255\]"):
        HLSBurnScars(copy).chip(FIRST)
    with pytest.raises(DataError, match=r"found also \[255\]"):
        HLSBurnScars(copy).units()


def test_mask_of_another_place_is_refused(copy):
    path = image_of(copy).with_name(image_of(copy).name.replace("_merged", ".mask"))
    rewrite(path, lambda pixels, profile: (pixels, profile | {"transform": profile["transform"] @ rasterio.Affine.translation(1, 0)}))
    with pytest.raises(DataError, match="does not lie on the grid"):
        HLSBurnScars(copy)


def test_image_without_mask_is_refused(copy):
    path = image_of(copy)
    path.with_name(path.name.replace("_merged", ".mask")).unlink()
    with pytest.raises(DataError, match="1 files have no mask"):
        HLSBurnScars(copy)


def test_same_chip_twice_is_refused(copy):
    path = image_of(copy)
    shutil.copy(path, copy / path.name)
    with pytest.raises(DataError, match="shows the same chip"):
        HLSBurnScars(copy)


@pytest.mark.parametrize("name", ["subsetted_64x64_HLS.S30.T10SEH.v1.4_merged.tif", "subsetted_x.tif"])
def test_unreadable_names_are_refused(copy, name):
    (copy / name).write_bytes(b"")
    with pytest.raises(DataError, match="expected a name like"):
        HLSBurnScars(copy)


@pytest.mark.parametrize(("name", "says"), [("61SEH.2018190", "not an MGRS tile"), ("10SEH.2018400", "day of the year")])
def test_impossible_names_are_refused(tmp_path, name, says):
    image, mask = burn_pixels(0, 8, "0")
    crs, transform = ODD_UTM.format(zone=10, meridian=-123), from_origin(530_000, 4_260_000, 30, 30)
    write_raster(tmp_path / f"subsetted_8x8_HLS.S30.T{name}.v1.4_merged.tif", image, crs, transform)
    write_raster(tmp_path / f"subsetted_8x8_HLS.S30.T{name}.v1.4.mask.tif", mask, crs, transform)
    with pytest.raises(DataError, match=says):
        HLSBurnScars(tmp_path)


def test_nothing_there_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match="rs05bench download hls-burn-scars"):
        HLSBurnScars(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no chip"):
        HLSBurnScars(tmp_path)
    with pytest.raises(DataError, match="nothing to compare checksums with"):
        HLSBurnScars(write_burn_scars(tmp_path / "x"), checksum=True)


def test_unknown_unit_names_some(ds):
    with pytest.raises(DataError, match=r"no unit 'x'; there are 5, e\.g\. T10SEH"):
        ds.chip("x")


# --- real files -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_mask_is_read_in_its_zone(real, tmp_path):
    name = "subsetted_512x512_HLS.S30.T10TGS.2018285.v1.4.mask.tif"
    shutil.copy(real("hls_samples") / name, tmp_path / name)
    with rasterio.open(tmp_path / name) as src:
        expected, profile = src.read()[0], src.profile
        assert src.crs.to_epsg() is None  # the odd CRS that the name has to fix
    image = np.random.default_rng(0).uniform(0.01, 0.4, (6, 512, 512)).astype(np.float32)
    write_raster(tmp_path / name.replace(".mask", "_merged"), image, profile["crs"], profile["transform"])
    ds = HLSBurnScars(tmp_path)
    sample = ds.chip("T10TGS.2018285")
    assert sample["crs"] == "EPSG:32610"
    assert np.array_equal(sample["mask"].numpy(), expected)
    units = ds.units()
    assert units["burn_fraction"].iloc[0] == pytest.approx((expected == 1).mean())
    assert units["burn_fraction"].iloc[0] == pytest.approx(0.19, abs=0.01)
    assert units["state"].iloc[0] == "WA"
    assert units["date"].iloc[0] == pd.Timestamp(2018, 10, 12)
