"""Units of data sets as they were published: identifiers, coordinates, dates, groups; never a label or a pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.datasets.mgrs import parse_tile
from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.units import UnitTable

# Counties that were renamed with a new code while their outline stayed.
FORMER_GEOID = {"02158": "02270", "46102": "46113"}
UNRECORDED = "unrecorded"


def wildfire_events(root: Path, card: TaskCard, split: str) -> UnitTable:
    """The US/Canada wildfire events of arXiv 2605.04989, a unit a fire.

    A Canadian fire is known to its province only, so the province is its place and the place never lies on both sides. In the published
    splits, which part provinces as they are, each fire is its own place.
    """
    path = root / "events.csv"
    events = _table(path, ["event_id", "country", "state", "year", "ignition_date", "lat", "lon", "biome_group"])
    published = split.startswith("official")
    events["biome"] = events.pop("biome_group").fillna(UNRECORDED)
    if split == "leave-biome-out":
        events = events[events["biome"] != UNRECORDED]
    located = events["lat"].notna()
    province = events["country"] + "-" + events["state"]
    events["place"] = events["event_id"].where(located | published, province)
    events["state"] = province
    frame = events.rename(columns={"event_id": "unit_id", "ignition_date": "time"}).reset_index(drop=True)
    if published:
        frame["official"] = _published_events(root / "spatiotemporal_splits.json", f"split{split.partition('-')[2]}", frame["unit_id"])
    return UnitTable.build(frame, groups=card.groups, source=path.name)


def crop_chip_list(root: Path, card: TaskCard, split: str) -> UnitTable:
    """The chips of the multi-temporal crop set that were published, a unit a chip, at the centre of its footprint."""
    import geopandas as gpd

    from rs05bench.datasets.geography import OUTSIDE, locate, us_states

    path = root / "chip_tracker.csv"
    tracker = _table(path, ["chip_id", "tile", "first_image_date"]).set_index("chip_id")
    footprints = _polygons(root / "chip_bbox_5070.geojson").set_index("id")
    parts = [
        pd.DataFrame({"unit_id": "chip_" + _table(root / f"{name}_ids.csv", ["ids"])["ids"], "official": role})
        for name, role in (("train", "train"), ("val", "test"))
    ]
    frame = pd.concat(parts, ignore_index=True)
    for name, known in ((path.name, tracker.index), ("chip_bbox_5070.geojson", footprints.index)):
        if lost := sorted(set(frame["unit_id"]) - set(known)):
            raise DataError(f"holds no row for {len(lost)} published chips, e.g. {lost[0]!r}", source=root / name)
    centres = footprints.loc[frame["unit_id"]].geometry.centroid.to_crs(4326)
    points = gpd.GeoDataFrame(frame[["unit_id"]].copy(), geometry=centres.to_numpy(), crs=4326)
    frame["lon"], frame["lat"] = centres.x.to_numpy(), centres.y.to_numpy()
    frame["state"] = locate(points, us_states(), "state", source="states").to_numpy()
    climate = dict(zip(us_states()["state"], us_states()["climate_region"], strict=True))
    frame["region"] = frame["state"].map(climate).fillna(OUTSIDE)
    frame["tile"] = [parse_tile(str(name)).name for name in tracker.loc[frame["unit_id"], "tile"]]
    frame["time"] = tracker.loc[frame["unit_id"], "first_image_date"].to_numpy()
    frame["year"] = 2022
    return UnitTable.build(frame, groups=card.groups, source=path.name)


def counties(root: Path, card: TaskCard, split: str) -> UnitTable:
    """US counties, a unit a county and year, at a point inside their polygon."""
    from rs05bench.datasets.geography import us_states

    path = root / "embeddings.parquet"
    try:
        frame = pd.read_parquet(path, columns=["GEOID", "year"])
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read for its columns GEOID and year: {error}", source=path) from error
    polygons = _polygons(root / "counties.geojson").set_index("id")
    geoid = frame["GEOID"].astype(str).str.zfill(5)
    code = geoid.where(geoid.isin(polygons.index), geoid.map(FORMER_GEOID))
    if code.isna().any():
        raise DataError(f"holds no polygon for {geoid[code.isna()].nunique()} counties, e.g. {geoid[code.isna()].iloc[0]!r}", source=root)
    inside = polygons.to_crs(4326).geometry.representative_point()
    frame["lon"], frame["lat"] = inside.x.loc[code].to_numpy(), inside.y.loc[code].to_numpy()
    states = us_states().set_index("state_fips")
    for column in ("state", "division"):
        frame[column] = geoid.str[:2].map(states[column])
    frame["unit_id"], frame["place"] = geoid + "_" + frame["year"].astype(str), geoid
    return UnitTable.build(frame.drop(columns="GEOID"), groups=card.groups, source=path.name)


def table_units(root: Path, card: TaskCard, split: str) -> UnitTable:
    """The units of a table that `EmbeddingTable` reads under its card."""
    from rs05bench.datasets.embedding_table import EmbeddingTable

    return EmbeddingTable(card, root).units()


def _published_events(path: Path, part: str, ids: pd.Series) -> np.ndarray:
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))["spatio_temporal"][part]
        train, test = set(lists["source_ids"]), set(lists["target_ids"])
    except FileNotFoundError as error:
        raise DataError("no such file", source=path, remedy="The published split file lies beside events.csv.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"does not hold spatio_temporal.{part} with source_ids and target_ids: {error}", source=path) from error
    return np.where(ids.isin(test), "test", np.where(ids.isin(train), "train", ""))


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        # Identifiers keep their zeros, and 'NA' is no missing value but may be a name.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except FileNotFoundError as error:
        raise DataError("no such file", source=path, remedy="Give the folder of the published files with --data.") from error
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read as CSV: {error}", source=path) from error
    if missing := [name for name in columns if name not in frame.columns]:
        raise DataError(f"columns {missing} are missing (found {list(frame.columns)[:12]})", source=path)
    return frame[columns].astype(object)


def _polygons(path: Path) -> Any:
    from rs05bench.datasets.geography import read_polygons

    frame = read_polygons(path)
    if "id" not in frame.columns:
        raise DataError(f"its features have no 'id' (found {list(frame.columns)})", source=path)
    return frame
