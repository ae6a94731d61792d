"""Freezes the splits of HLS Burn Scars from the list of its files, without a pixel: tile, date and published part stand in their names.

    python tools/freeze_burn_scars.py chips.csv [OUT]

`chips.csv` has the columns `chip_id` (T10SEH.2018190), `mgrs_tile`, `date` and `published_split`. A chip's place is the centre of its
tile, so chips of one tile are never parted (in `leave-tile-out` the in-domain test is other fires of a tile that trains; a held-out tile
is held out whole); chips of one tile at most 90 days apart are one fire.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from rs05bench.datasets.geography import add_groups
from rs05bench.datasets.mgrs import centre_of
from rs05bench.protocol import TaskCard, UnitTable, build_manifest
from rs05bench.protocol.audit import with_verdict

FIRE_DAYS = 90
SPLITS = ("leave-tile-out", "leave-state-out", "leave-climate-region-out", "leave-year-out", "until-2020", "official")
CARD: dict[str, Any] = {
    "kind": "segmentation",
    "name": "hls-burn-scars",
    "title": "HLS Burn Scars, 804 chips of the contiguous United States, 2018-2021",
    "targets": ["burn scar"],
    "classes": ["not burned", "burn scar"],
    "unit": ["unit_id"],
    "groups": ["state", "tile", "fire", "climate_region"],
    "coordinates": {"x": "lon", "y": "lat"},
    "year": "year",
    "time": "date",
    "files": ["**/*.tif"],
    "reader": "burn-scars",
    "splits": list(SPLITS),
    "split_options": {"block_by": "tile", "buffer_m": 1000, "test_fraction": 0.3, "max_folds": 5, "region": "state"},
    "official": {"column": "official", "train": ["train"], "test": ["val"]},
    "budgets": ["1-fires", "5-fires", "10-fires", "25-fires", "50-fires", "1pct-pixels", "5pct-pixels", "10pct-pixels", "full"],
    "licence": "CC-BY-4.0",
    "citation": "Phillips et al. 2023, HLS Foundation Burnscars Dataset, https://doi.org/10.57967/hf/0956",
    "source": "ibm-nasa-geospatial/hls_burn_scars",
}


def units_of(index: Path) -> pd.DataFrame:
    """The chips of the list with tile, fire, state, climate region, year and published part."""
    chips = pd.read_csv(index, dtype=str).rename(columns={"chip_id": "unit_id", "mgrs_tile": "tile"}).sort_values("unit_id")
    chips["date"] = pd.to_datetime(chips["date"])
    chips["year"] = chips["date"].dt.year
    places = [centre_of(tile) for tile in chips["tile"]]
    chips["lon"], chips["lat"] = [lon for lon, _ in places], [lat for _, lat in places]
    located = gpd.GeoDataFrame(chips, geometry=gpd.points_from_xy(chips["lon"], chips["lat"]), crs=4326)
    units = pd.DataFrame(add_groups(located, {}).drop(columns="geometry"))
    ordered = units.sort_values(["tile", "date"])
    starts = ordered.groupby("tile")["date"].diff().gt(pd.Timedelta(days=FIRE_DAYS)) | ~ordered["tile"].duplicated()
    units["fire"] = "fire-" + ordered["unit_id"].where(starts).ffill()
    units["place"] = units["unit_id"]
    units["official"] = units["published_split"].map({"training": "train", "validation": "test"})
    return units.rename(columns={"date": "time"})


def main(index: Path, out: Path) -> None:
    """Writes every split, and prints its digest."""
    units = units_of(index)
    for split in SPLITS:
        # A tile is one place: inside it, only fires can be set aside as its in-domain test. Every other split moves tiles whole.
        options = {**CARD["split_options"], "block_by": "fire" if split == "leave-tile-out" else "tile"}
        card = TaskCard.parse({**CARD, "split_options": options})
        table = UnitTable.build(units, groups=card.groups, source=index.name)
        manifest = with_verdict(build_manifest(card, table, split))
        manifest.save(out)
        print(f"{manifest.digest}  {manifest.name}  {len(manifest.folds)} folds")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("rs05bench/protocol/manifests/hls-burn-scars"))
