"""Sen4Map: the HDF5 layout that TerraTorch reads, monthly medians of clear pixels, codes grouped, countries held out."""

from __future__ import annotations

import ast
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rs05bench.datasets.recipes import build
from rs05bench.datasets.recipes.sen4map import CROPS, LAND_COVER, group_of
from rs05bench.errors import DataError

h5py = pytest.importorskip("h5py")
BANDS = ("SCL", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
CODES = ("B11", "C10", "E20", "A11")
COUNTRIES = ("AT", "PT", "FI")
MONTHS = ("01", "01", "01", "06", "09")


def values(number: int) -> np.ndarray:
    """(5 dates, 8 x 8): in January 1000, 3000 and, under a cloud, 9000; 500 in June; nothing clear in September."""
    data = np.zeros((5, 8, 8), dtype=[(band, "uint16") for band in BANDS])
    data["SCL"] = 4
    data["SCL"][2], data["SCL"][4] = 9, 8
    for band in BANDS[1:]:
        data[band][:] = np.array([1000, 3000, 9000, 500, 700])[:, None, None]
    data["B8"][:, :3] = 60_000  # the rim, which is not the surveyed spot
    data["B8"][3, 3:6, 3:6] = 1500 + 10 * (number % 7)
    return data


def write(path: Path, numbers: range, *, attributes: bool = True, leave: str = "", compound: bool = True) -> None:
    with h5py.File(path, "w") as file:
        for number in numbers:
            data, key = values(number), f"{40_000_000 + number}"
            if compound:
                item = file.create_dataset(key, data=data)
            else:
                item = file.create_group(key)
                for band in BANDS:
                    item[band] = data[band]
            found = {"lc1": CODES[number % 4], "nuts0": COUNTRIES[number // 4 % 3]}
            for name, value in found.items():
                if name != leave and (attributes or name == "lc1"):
                    item.attrs[name] = value
            item.attrs.create(
                "Image_ID", data=np.array([f"2018{month}05T101112" for month in MONTHS], dtype=object), dtype=h5py.string_dtype()
            )


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sen4map")
    write(root / "train.h5", range(72))
    write(root / "test.h5", range(72, 120), compound=False)
    return root


@pytest.fixture
def root(template, tmp_path) -> Path:
    return shutil.copytree(template, tmp_path / "root")


def lucas(path: Path, count: int = 120) -> None:
    numbers = range(count)
    frame = {
        "POINT_ID": [str(40_000_000 + number) for number in numbers],
        "NUTS0": [COUNTRIES[number // 4 % 3] for number in numbers],
        "TH_LAT": [40 + 5 * (number // 4 % 3) + 0.05 * (number // 12) for number in numbers],
        "TH_LONG": [10 + 0.3 * (number % 4) for number in numbers],
    }
    pd.DataFrame(frame).to_csv(path, index=False)


def test_samples_become_monthly_medians_of_the_clear_middle(template, tmp_path):
    built = build("sen4map", template, tmp_path / "out")
    frame = pd.read_parquet(built.folder / "units.parquet").set_index("sample_id")
    assert len(frame) == 120
    one = frame.loc["40000005"]
    assert one["B02_m01"] == pytest.approx(0.2)  # the cloudy 9000 is not in it
    assert one["B08_m06"] == pytest.approx(0.155)
    assert one["NDVI_m06"] == pytest.approx((0.155 - 0.05) / (0.155 + 0.05))
    assert "B02_m09" not in frame  # nobody ever saw September
    assert one["label"] == "broadleaved woodland"
    assert set(built.card.splits) == {"leave-country-out", "leave-country-out+5", "official", "random"} | (
        {"within-country"} & set(built.card.splits)
    )
    assert built.card.official.train == ["train"]
    assert "no year can be held out" in built.card.notes


def test_the_lucas_table_gives_places(root, tmp_path):
    lucas(root / "EU_2018_20200213.CSV")
    built = build("sen4map", root, tmp_path / "out")
    frame = pd.read_parquet(built.folder / "units.parquet").set_index("sample_id")
    assert frame.loc["40000005", ["lon", "lat", "country"]].tolist() == [10.3, 45.0, "PT"]
    assert "spatial-block" in built.card.splits


@pytest.mark.parametrize(
    ("code", "land_cover", "crop"),
    [
        ("A11", "artificial", None),
        ("A22", "bare", None),
        ("B16", "cropland", "cereals"),
        ("B53", "grassland", "fodder crops"),
        ("B55", "grassland", "grassland"),
        ("B75", "cropland", "woodland and shrubland"),
        ("C10", "broadleaved woodland", "woodland and shrubland"),
        ("C33", "coniferous and mixed woodland", "woodland and shrubland"),
        ("CXX5", "coniferous and mixed woodland", "woodland and shrubland"),
        ("F40", "bare", "bare"),
        ("H23", "wetland", None),
        ("8", None, None),
    ],
)
def test_codes_are_grouped(code, land_cover, crop):
    assert (group_of(code, LAND_COVER), group_of(code, CROPS)) == (land_cover, crop)


def test_the_grouping_is_that_of_the_reference_reader():
    spec = importlib.util.find_spec("terratorch")
    if spec is None:
        pytest.skip("TerraTorch is not installed")
    source = ast.parse((Path(spec.origin).parent / "datasets/sen4map.py").read_text())  # importing it takes half a minute
    reader = next(item for item in source.body if isinstance(item, ast.ClassDef))
    maps = {item.targets[0].id: ast.literal_eval(item.value) for item in reader.body if isinstance(item, ast.Assign)}
    for theirs, ours in ((maps["land_cover_classification_map"], LAND_COVER), (maps["crop_classification_map"], CROPS)):
        pairs = {(number, group_of(code, ours)) for code, number in theirs.items() if code}
        assert None not in {name for _, name in pairs}
        assert len(pairs) == len({number for number, _ in pairs}) == len({name for _, name in pairs})


def test_crops_leave_out_what_is_none(root, tmp_path):
    built = build("sen4map", root, tmp_path / "out", options={"target": "crops"})
    assert {item["reason"]: item["count"] for item in built.dropped} == {"LC1 code that is no class of crops": 30}


def test_wrong_files_are_refused(root, tmp_path):
    def refused(said: str) -> None:
        with pytest.raises(DataError, match=said):
            build("sen4map", root, tmp_path / "out")

    write(root / "val.h5", range(200, 204), leave="lc1")
    refused(r"val.h5:40000200: attribute lc1 missing; it has Image_ID, nuts0")
    with h5py.File(root / "val.h5", "w") as file:
        item = file.create_dataset("1", data=np.zeros((5, 8, 8), dtype=[("SCL", "u1"), ("B2", "u2")]))
        item.attrs["lc1"] = "B11"
    refused(r"val.h5:1: band B3, B4, .* missing; it has B2, SCL")
    (root / "val.h5").write_bytes((root / "train.h5").read_bytes()[:5000])
    refused(r"val.h5: cannot be read as HDF5")
    (root / "val.h5").unlink()
    lucas(root / "EU_2018_20200213.CSV", 3)
    frame = pd.read_csv(root / "EU_2018_20200213.CSV")
    frame.assign(POINT_ID=1).to_csv(root / "EU_2018_20200213.CSV", index=False)
    refused(r"none of 120 samples has its point in the table, e.g. sample '400000")
    frame.drop(columns="NUTS0").to_csv(root / "EU_2018_20200213.CSV", index=False)
    refused(r"column NUTS0 missing; it has POINT_ID, TH_LAT, TH_LONG")


def test_without_countries_and_places_only_the_published_split_is_left(root, tmp_path):
    for path in root.glob("*.h5"):
        path.unlink()
    write(root / "train.h5", range(60), attributes=False)
    write(root / "test.h5", range(60, 90), attributes=False)
    built = build("sen4map", root, tmp_path / "out")
    assert set(built.card.splits) <= {"official", "random"}
    assert built.splits_left_out["leave-country-out"] == "the sources say no country"
    assert any("No coordinates" in note for note in built.notes)
