"""Multi-temporal crop chips, and the Cropland Data Layer with their 13 classes."""

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
from torchgeo.datasets import CDL, stack_samples
from torchgeo.samplers import GridGeoSampler

from rs05bench.datasets.cdl_classes import CDL_CODES, CDL_TABLE, CROP_CLASSES, CROP_COLOURS, crop_class
from rs05bench.datasets.cdl_crop import CDL13, CDLCrop
from rs05bench.errors import DataError
from tests.datasets.data import CROP_CHIPS, CROP_DATES, write_crop_chips, write_raster

FIRST = "chip_184_236"


@pytest.fixture(scope="module")
def ds(crop_root):
    return CDLCrop(crop_root)


@pytest.fixture
def copy(crop_root, tmp_path):
    return shutil.copytree(crop_root, tmp_path / "copy")


def test_chip_is_three_dates_of_six_bands_in_native_pixels(ds, crop_root):
    sample = ds.chip(FIRST)
    with rasterio.open(crop_root / "training_chips" / f"{FIRST}_merged.tif") as src:
        expected = src.read()
    assert sample["image"].shape == (3, 6, 224, 224)
    assert sample["crs"] == "EPSG:5070"
    inner = (..., slice(10, 200), slice(10, 200))
    assert np.array_equal(sample["image"].numpy()[inner], expected.reshape(3, 6, 224, 224)[inner])
    assert sample["date"] == ",".join(CROP_DATES)


def test_zero_is_no_label_and_classes_count_from_zero(ds, crop_root):
    with rasterio.open(crop_root / "training_chips" / f"{FIRST}.mask.tif") as src:
        expected = src.read()[0].astype(int)
    mask = ds.chip(FIRST)["mask"].numpy()
    assert (mask[0] == -1).all()
    assert np.array_equal(mask[1:200], expected[1:200] - 1)
    assert (mask.min(), mask.max()) == (-1, 12)
    assert len(ds.classes) == 13


def test_date_without_data_is_missing_for_that_date_only(ds):
    sample = ds.chip(FIRST)
    assert sample["valid"].shape == (3, 224, 224)
    assert (~sample["valid"]).sum(dim=(1, 2)).tolist() == [4, 9 + 4, 4]
    assert (sample["mask"][:3, 1:3][1:] >= 0).all()  # two dates are still there: the label stays
    assert (sample["mask"][-2:, -2:] == -1).all()  # no date at all: nobody is scored there


def test_bright_cloud_of_one_band_is_not_missing(copy):
    path = copy / "training_chips" / f"{FIRST}_merged.tif"
    with rasterio.open(path, "r+") as dst:
        pixels = dst.read()
        pixels[0, 50, 50] = 9999
        pixels[:6, 51, 51] = 9999
        pixels[3, 52, 52] = -9999
        dst.write(pixels)
    valid = CDLCrop(copy).chip(FIRST)["valid"][0]
    assert [valid[n, n].item() for n in (50, 51, 52)] == [True, False, False]


@pytest.mark.parametrize("table", ["chips_df.csv", "chip_tracker.csv", ""])
def test_units_take_dates_and_tiles_from_either_table_or_compute_them(tmp_path, table):
    units = CDLCrop(write_crop_chips(tmp_path, table=table)).units().set_index("unit_id")
    assert units["state"].to_dict() == {"chip_085_328": "ND", FIRST: "CO", "chip_273_471": "AL"}
    assert units["year"].tolist() == [2022] * 3
    assert units["official"].to_dict() == {"chip_085_328": "val", FIRST: "train", "chip_273_471": "train"}
    if table:
        assert units["first_date"].tolist() == [pd.Timestamp(CROP_DATES[0])] * 3
        assert units["last_date"].tolist() == [pd.Timestamp(CROP_DATES[2])] * 3
    else:
        assert units["first_date"].isna().all()
    assert set(units["tile_source"]) == {"table" if table == "chip_tracker.csv" else "nearest"}
    assert units["tile"].to_dict() == {name: tile for name, _, _, tile in CROP_CHIPS}


def test_mirrors_layout_is_read_too(crop_root, tmp_path):
    for folder in ("training_chips", "validation_chips"):
        for path in (crop_root / folder).glob("chip_*"):
            target = tmp_path / ("hls" if path.name.endswith("_merged.tif") else "masks")
            target.mkdir(exist_ok=True)
            shutil.copy(path, target)
    (tmp_path / "training_data.txt").write_text("chip_184_236\nchip_273_471\n")
    (tmp_path / "validation_data.txt").write_text("085_328\n")
    units = CDLCrop(tmp_path).units().set_index("unit_id")
    assert units["official"].to_dict() == {"chip_085_328": "val", FIRST: "train", "chip_273_471": "train"}


def test_slices_in_the_chips_own_crs_move_no_pixel(crop_root, ds):
    sliced = CDLCrop(crop_root, crs="EPSG:5070")
    queries = list(GridGeoSampler(sliced, size=224))
    assert len(queries) == 3
    for query, unit in zip(queries, ds.unit_ids, strict=True):
        for key in ("image", "mask", "valid"):
            assert torch.equal(sliced[query][key], ds.chip(unit)[key])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader(crop_root, workers):
    ds = CDLCrop(crop_root, crs="EPSG:5070")
    batch = next(iter(DataLoader(ds, batch_size=2, sampler=GridGeoSampler(ds, size=112), num_workers=workers, collate_fn=stack_samples)))
    assert batch["image"].shape == (2, 3, 6, 112, 112)


def test_slice_asks_for_a_crs(ds):
    with pytest.raises(DataError, match=r"CDLCrop\(root, crs='EPSG:5070', res=30\)"):
        ds[:]


def test_plot(ds):
    sample = ds.chip(FIRST)
    sample["prediction"] = sample["mask"]
    titles = [axis.get_title() for axis in ds.plot(sample).axes]
    assert titles == [*CROP_DATES, "mask", "prediction"]
    plt.close("all")


# --- classes ----------------------------------------------------------------------------------------------------------------------------


def test_every_class_has_its_codes_and_the_rest_is_other():
    for value, name in enumerate(CROP_CLASSES[:-1], start=1):
        assert (crop_class(np.array(CDL_CODES[name])) == value).all()
    assert crop_class(np.array([3, 23, 26, 54, 75, 254])).tolist() == [13] * 6
    assert crop_class(np.array([0, 81, 255])).tolist() == [0, 0, 0]
    assert len(set(CROP_COLOURS)) == 13


def test_table_covers_every_code_torchgeo_knows():
    codes = getattr(CDL, "valid_classes", None) or CDL.cmap.keys()
    assert all(1 <= CDL_TABLE[code] <= 13 for code in codes if code not in (0, 81, 255))


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    root = tmp_path_factory.mktemp("cdl")
    codes = np.array([[1, 5, 176, 26], [0, 111, 61, 2]], np.uint8).repeat(8, 0).repeat(8, 1)[None]
    write_raster(root / "2022_30m_cdls.tif", codes, "EPSG:5070", from_origin(-770_175, 1_936_125, 30, 30))
    return root


def test_torchgeos_layer_with_the_13_classes(layer):
    ds = CDL13(layer, transforms=lambda sample: sample | {"largest": int(sample["mask"].max())})
    sample = ds[:]
    assert sample["mask"][::8, ::8].tolist() == [[2, 3, 0, 12], [-1, 6, 9, 10]]
    assert sample["largest"] == 12  # transforms see the classes, not the codes
    assert len(ds.plot(sample).axes) == 1
    plt.close("all")


def test_imagery_and_the_layer_combine(layer, crop_root):
    both = CDLCrop(crop_root, crs="EPSG:5070") & CDL13(layer)
    sample = both[next(iter(GridGeoSampler(both, size=16)))]
    assert sample["image"].shape == (3, 6, 16, 16)


def test_classes_of_torchgeo_are_refused(layer):
    with pytest.raises(DataError, match="own 13 classes"):
        CDL13(layer, classes=[0, 1])


# --- broken files -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.001, 0.4, 0.99])
@pytest.mark.parametrize("kind", ["_merged", ".mask"])
def test_truncated_files_give_errors_never_numbers(copy, share, kind):
    path = copy / "training_chips" / f"{FIRST}{kind}.tif"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match="download it again"):
        CDLCrop(copy).chip(FIRST)


def test_raw_cdl_mask_is_refused_with_the_way_out(copy):
    with rasterio.open(copy / "training_chips" / f"{FIRST}.mask.tif", "r+") as dst:
        pixels = dst.read()
        pixels[0, 9, 9] = 176
        dst.write(pixels)
    with pytest.raises(DataError, match=r"found 0 to 176\n.*crop_class"):
        CDLCrop(copy).chip(FIRST)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.drop(columns="chip_id"), "column 'chip_id' is missing"),
        (lambda table: table.drop(columns="last_img_date"), "expected the dates in"),
        (lambda table: table.assign(first_img_date="spring"), "not a date"),
        (lambda table: pd.concat([table, table]), "occurs more than once"),
    ],
)
def test_broken_table_is_refused(copy, change, says):
    change(pd.read_csv(copy / "chips_df.csv")).to_csv(copy / "chips_df.csv")
    with pytest.raises(DataError, match=says):
        CDLCrop(copy)


@pytest.mark.parametrize(
    ("bands", "dtype", "crs", "size", "says"),
    [
        (6, np.int16, "EPSG:5070", 224, "expected 18 bands, found 6"),
        (18, np.uint8, "EPSG:5070", 224, "expected pixels of type"),
        (18, np.int16, None, 224, "no coordinate reference system"),
        (18, np.int16, "EPSG:4326", 224, "expected a projected CRS"),
        (18, np.int16, "EPSG:5070", 112, "expected 224 x 224 pixels"),
    ],
)
def test_wrong_files_are_refused(tmp_path, bands, dtype, crs, size, says):
    transform = from_origin(-770_175, 1_936_125, 30, 30)
    write_raster(tmp_path / "chip_1_1_merged.tif", np.ones((bands, size, size), dtype), crs, transform)
    write_raster(tmp_path / "chip_1_1.mask.tif", np.ones((1, size, size), np.uint8), crs, transform)
    with pytest.raises(DataError, match=says) as caught:
        CDLCrop(tmp_path)
    assert "chip_1_1_merged.tif" in str(caught.value)


def test_nothing_there_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match="rs05bench download multi-temporal-crop"):
        CDLCrop(tmp_path)


@pytest.mark.real
def test_real_tracker_and_footprints_give_real_units(real, tmp_path):
    tracker = pd.read_csv(real("hls_crop_chips") / "chip_tracker.csv")
    shapes = gpd.read_file(real("hls_crop_chips") / "chip_bbox_5070.geojson").set_index("id").geometry
    chosen = tracker.iloc[[0, 1, 2, 3]]
    chips = [
        (row.chip_id, (shapes[row.chip_id].bounds[0], shapes[row.chip_id].bounds[3]), "training_chips", row.tile)
        for row in chosen.itertuples()
    ]
    write_crop_chips(tmp_path, table="", chips=chips)
    shutil.copy(real("hls_crop_chips") / "chip_tracker.csv", tmp_path)
    ds = CDLCrop(tmp_path, layers={"county": (real("aef_counties") / "counties.geojson", "id")})
    units = ds.units().set_index("unit_id")
    for row in chosen.itertuples():
        found = units.loc[row.chip_id]
        assert found["tile"] == row.tile
        assert (found["lon"], found["lat"]) == pytest.approx((row.chip_x, row.chip_y), abs=1e-3)
        assert found["first_date"] == pd.Timestamp(row.first_image_date)
        assert len(found["county"]) == 5
        assert shapely.box(-125, 24, -66, 50).covers(units.geometry[row.chip_id])
