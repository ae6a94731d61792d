"""Urban indicators: what is missing stays missing, what is wrong is named."""

from __future__ import annotations

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import GridGeoSampler

from rs05bench.datasets.urban import UrbanIndicators
from rs05bench.datasets.urban_schema import INDICATORS, METROS, NAMES
from rs05bench.errors import DataError
from rs05bench.protocol.units import UnitTable
from tests.datasets.data import tracts, write_tracts


@pytest.fixture(scope="module")
def ds(urban_root):
    return UrbanIndicators(urban_root)


def written(tmp_path, change=lambda frame: frame):
    change(tracts()).to_parquet(tmp_path / "urban.parquet")
    return tmp_path / "urban.parquet"


def test_schema_is_the_14_indicators_with_units_and_sources():
    assert len(NAMES) == len(set(NAMES)) == 14
    assert {indicator.theme for indicator in INDICATORS} == {"crime", "income", "health", "travel"}
    assert all(indicator.unit and indicator.source and indicator.low < indicator.high for indicator in INDICATORS)


@pytest.mark.parametrize("kind", ["gpkg", "parquet", "csv"])
def test_every_format_gives_the_same(ds, tmp_path, kind):
    other = UrbanIndicators(write_tracts(tmp_path, kind=kind))
    pd.testing.assert_frame_equal(other.labels(), ds.labels(), rtol=1e-12)
    assert other.unit_ids == ds.unit_ids


def test_missing_stays_missing(ds):
    frame = tracts()
    labels = ds.labels()
    assert labels.isna().sum().sum() == 2  # one blank, one of the Census Bureau's codes
    first = f"{frame['tract_id'][0]}-{frame['year'][0]}"
    second = f"{frame['tract_id'][1]}-{frame['year'][1]}"
    assert np.isnan(labels.loc[first, "obesity_pct"])
    assert np.isnan(labels.loc[second, "poverty_pct"])
    sample = ds.chip(first)
    assert sample["valid"].tolist() == [name != "obesity_pct" for name in NAMES]
    assert torch.isnan(sample["label"][NAMES.index("obesity_pct")])


def test_units_hold_groups_and_no_indicator(ds):
    units = ds.units()
    assert not set(NAMES) & set(units.columns)
    row = units.set_index("unit_id").loc["06037000100-2020"] if "06037000100-2020" in set(units["unit_id"]) else units.iloc[0]
    assert (row["metro"], row["county"], row["state"], row["place"]) == ("Los Angeles", "06037", "CA", "06037000100")
    assert set(units["metro"]) == set(METROS)
    table = UnitTable.build(
        pd.DataFrame(units.drop(columns="geometry")), groups=["metro", "income_group", "density_group", "urban_form", "state"]
    )
    assert table.frame["place"].nunique() == 24


def test_embeddings_join_by_unit_by_tract_and_year_by_tract_and_by_function(ds, tmp_path):
    units = ds.units()
    by_unit = pd.DataFrame({"unit_id": units["unit_id"], "A00": np.arange(len(units), dtype=float)})
    expected = pd.Series(np.arange(len(units), dtype=float), index=units["unit_id"])
    assert ds.features(by_unit.sample(frac=1, random_state=0))["A00"].to_dict() == expected.to_dict()
    assert ds.features(by_unit.set_index("unit_id"))["A00"].to_dict() == expected.to_dict()
    by_year = units[["tract_id", "year"]].assign(A00=expected.to_numpy())
    by_year.to_csv(tmp_path / "e.csv", index=False)
    assert ds.features(tmp_path / "e.csv")["A00"].to_dict() == expected.to_dict()
    by_year.to_parquet(tmp_path / "e.parquet")
    assert ds.features(tmp_path / "e.parquet")["A00"].to_dict() == expected.to_dict()
    by_tract = pd.DataFrame({"tract_id": units["tract_id"].unique(), "A00": 1.0})
    assert ds.features(by_tract)["A00"].eq(1).all()

    def sizes(polygons):
        assert polygons.crs == "EPSG:4326"
        return pd.DataFrame({"unit_id": polygons["unit_id"], "A00": polygons.geometry.bounds["minx"]})

    assert ds.features(sizes)["A00"].tolist() == units.geometry.bounds["minx"].tolist()


def test_tract_without_embedding_is_nan_not_dropped(ds):
    table = pd.DataFrame({"unit_id": ds.unit_ids[:3], "A00": [1.0, 2.0, 3.0]})
    found = ds.features(table)
    assert len(found) == len(ds)
    assert found["A00"].notna().sum() == 3


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pd.DataFrame({"A00": [1.0]}), "expected a column unit_id"),
        (pd.DataFrame({"unit_id": ["x", "x"], "A00": [1.0, 2.0]}), "more than once"),
        (pd.DataFrame({"unit_id": ["x"], "A00": [1.0]}), "not one unit in common"),
        (pd.DataFrame({"unit_id": ["06037000100-2020"], "A00": ["a"]}), "no numeric column"),
    ],
)
def test_tables_that_cannot_be_joined_are_refused(ds, table, says):
    with pytest.raises(DataError, match=says):
        ds.features(table)


def test_table_has_units_labels_and_features_side_by_side(ds):
    embeddings = pd.DataFrame({"unit_id": ds.unit_ids, "A00": 0.5})
    table = ds.table(embeddings)
    assert list(table["unit_id"]) == ds.unit_ids
    assert {*NAMES, "A00", "metro", "geometry"} <= set(table.columns)


def test_polygons_are_laid_on_a_grid(ds):
    shape = ds.frame.geometry.iloc[0]
    west, south, east, north = shape.bounds
    sample = ds[west:east:0.002, south:north:0.002, pd.Timestamp(2020, 3, 1) : pd.Timestamp(2020, 4, 1)]
    assert sample["mask"].shape == (14, 10, 10)
    expected = torch.from_numpy(ds.labels().loc[ds.frame["unit_id"].iloc[0]].to_numpy(dtype=np.float32))
    assert torch.equal(sample["mask"][:, 5, 5], expected)
    far = ds[west - 0.004 : west + 0.002 : 0.001, south:north:0.001]
    assert torch.isnan(far["mask"][:, :, 0]).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_sampler_and_workers(urban_root, workers):
    ds = UrbanIndicators(urban_root, crs="EPSG:5070", res=100)
    loader = DataLoader(ds, batch_size=2, sampler=GridGeoSampler(ds, size=8), num_workers=workers, collate_fn=stack_samples)
    assert next(iter(loader))["mask"].shape == (2, 14, 8, 8)


def test_units_load_in_batches(ds):
    batch = next(iter(DataLoader([ds.chip(unit) for unit in ds.unit_ids[:4]], batch_size=4)))
    assert batch["label"].shape == (4, 14)


def test_combines_with_imagery(imagery, tmp_path):
    x, y = -770_175.0, 1_936_125.0
    frame = tracts(years=(2022,)).iloc[:1].copy()
    frame["geometry"] = gpd.GeoSeries([shapely.box(x, y - 3000, x + 3000, y)], crs=5070).to_crs(4326).to_numpy()
    frame.to_parquet(tmp_path / "u.parquet")
    both = imagery & UrbanIndicators(tmp_path)
    sample = both[next(iter(GridGeoSampler(both, size=16)))]
    assert sample["image"].shape == (18, 16, 16)
    assert sample["mask"].shape == (14, 16, 16)


def test_plot_has_units_and_hatches_what_is_missing(ds):
    figure = ds.plot_map("obesity_pct", 2020)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "Atlanta: 4 tracts, 1 missing"
    assert figure.axes[-1].get_xlabel() == "adults with a body mass index of 30 or more (percent); hatched: missing"
    with pytest.raises(DataError, match="no indicator 'x'"):
        ds.plot_map("x")
    with pytest.raises(DataError, match="no year 1999"):
        ds.plot_map("obesity_pct", 1999)
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns=["walk_pct", "year"]), "columns 'year', 'walk_pct' missing"),
        (lambda f: f.assign(tract_id=f["tract_id"].astype("int64")), "lose their leading zero"),
        (lambda f: f.assign(tract_id=f["tract_id"].str.lstrip("0")), "expected tract ids of 11 digits"),
        (lambda f: f.assign(metro="Boston"), "found also Boston"),
        (lambda f: f.assign(year=20), "must hold years"),
        (lambda f: f.assign(year=2020), "more than once"),
        (lambda f: f.assign(obesity_pct=-999.0), "'obesity_pct' must lie between 0 and 100, found -999"),
        (lambda f: f.assign(log_income=65_000.0), "'log_income' must lie between 7 and 14, found 65000"),
        (lambda f: f.assign(bike_pct="few"), "'few', which is not a number"),
        (lambda f: f.assign(income_group=""), "'income_group' is blank"),
        (lambda f: f.set_crs(None, allow_override=True), "no coordinate reference system"),
        (lambda f: f.set_geometry(f.geometry.centroid), "expected polygons"),
    ],
)
@pytest.mark.filterwarnings("ignore:Geometry is in a geographic CRS")
def test_wrong_tables_are_refused(tmp_path, change, says):
    with pytest.raises(DataError, match=says) as caught:
        UrbanIndicators(written(tmp_path, change))
    assert "urban.parquet" in str(caught.value)


def test_other_metros_are_allowed_on_request(tmp_path):
    ds = UrbanIndicators(written(tmp_path, lambda f: f.assign(metro="Boston")), metros=None)
    assert set(ds.units()["metro"]) == {"Boston"}


def test_indicators_can_be_chosen(urban_root):
    ds = UrbanIndicators(urban_root, indicators=["transit_pct"])
    assert ds.labels().columns.tolist() == ["transit_pct"]
    with pytest.raises(DataError, match="no indicator named 'x'"):
        UrbanIndicators(urban_root, indicators=["x"])


def test_nothing_or_two_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="neither a file nor a folder"):
        UrbanIndicators(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no table"):
        UrbanIndicators(tmp_path)
    tracts().to_parquet(tmp_path / "a.parquet")
    tracts().to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="holds 2 tables"):
        UrbanIndicators(tmp_path)


def test_csv_needs_its_polygons(tmp_path):
    write_tracts(tmp_path, kind="csv")
    shapes = gpd.read_file(tmp_path / "tracts.geojson")
    shapes.iloc[1:].to_file(tmp_path / "tracts.geojson", driver="GeoJSON")
    with pytest.raises(DataError, match="1 tracts have no polygon"):
        UrbanIndicators(tmp_path)
    (tmp_path / "tracts.geojson").unlink()
    with pytest.raises(DataError, match="needs one polygon file"):
        UrbanIndicators(tmp_path)


@pytest.mark.real
def test_real_polygons_carry_the_schema(real, tmp_path):
    """County polygons under tract-like ids: real shapes, invented numbers."""
    counties = gpd.read_file(real("aef_counties") / "counties.geojson").set_index("id")
    frame = tracts(years=(2021,), per_metro=1)
    frame["geometry"] = counties.geometry.loc[[tract[:5] for tract in frame["tract_id"]]].to_numpy()
    frame.set_crs(4326, allow_override=True).to_file(tmp_path / "u.gpkg", layer="tracts")
    units = UrbanIndicators(tmp_path).units()
    assert sorted(units["state"]) == ["CA", "GA", "IL", "NY", "TX", "WA"]
    inside = [shape.contains(shapely.Point(lon, lat)) for shape, lon, lat in zip(units.geometry, units["lon"], units["lat"], strict=True)]
    assert all(inside)
