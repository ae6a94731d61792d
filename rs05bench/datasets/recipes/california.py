"""California tomato and irrigated cropland: the state's field polygons (DWR, Land IQ) with the embedding of their year."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.datasets.recipes.embedding_columns import embed, feature_sets
from rs05bench.errors import DataError
from rs05bench.protocol.hashing import text_digest

if TYPE_CHECKING:
    from pathlib import Path

    import geopandas as gpd
    import pandas as pd

    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

TOMATO = ("T15", "T26")  # processing and market tomatoes in DWR's standard legend
# DWR standard land use legend, first letter of the code; idle and unclassified fallow changed their letters between editions.
CLASSES = {
    "C": "citrus and subtropical",
    "D": "deciduous fruits and nuts",
    "F": "field crops",
    "G": "grain and hay",
    "I": "idle",
    "X": "idle",
    "P": "pasture and alfalfa",
    "R": "rice",
    "T": "other truck crops",
    "V": "vineyards",
    "YP": "young perennials",
}
VALLEYS = {
    "Sacramento Valley": ["Butte", "Colusa", "Glenn", "Placer", "Sacramento", "Shasta", "Solano", "Sutter", "Tehama", "Yolo", "Yuba"],
    "San Joaquin Valley": ["Fresno", "Kern", "Kings", "Madera", "Merced", "San Joaquin", "Stanislaus", "Tulare"],
}


def make(job: BuildJob) -> TaskCard:
    """One row a field and year."""
    import pandas as pd

    target = str(job.options["target"])
    paths = job.files("fields")
    units = pd.concat([_fields(job, path, target, done, len(paths)) for done, path in enumerate(paths)], ignore_index=True)
    units = job.keep(units, ~units.duplicated(["place", "year"]), "the same ground and year twice", "field_id")
    frame = embed(job, _sample(job, units), "polygons")
    found = set(frame["crop"])
    if len(found) < 2:
        raise DataError(f"all {len(frame)} fields are {found.pop()!r}", source=job.root, remedy="Give more counties, or another target.")
    job.write_table(frame.sort_values("field_id"))
    job.counts["by county"] = frame["county"].value_counts().sort_index().to_dict()
    job.counts["by year"] = {str(year): int(count) for year, count in frame["year"].value_counts().sort_index().items()}
    job.counts["by class"] = frame["crop"].value_counts().sort_index().to_dict()
    features, tiers = feature_sets(job, frame)
    return job.card(
        name=f"california-{target}",
        words={"what": {"crop": "Crop", "tomato": "Tomato", "irrigated": "Irrigation"}[target]},
        classes=sorted(found),
        features={**features, "shape": ["area_ha"]},
        tiers={**tiers, "shape": "raw"},
        split_options={"buffer_m": float(job.options["block_m"]) / 10},
        preprocessing={"options": dict(job.options)},
    )


def _fields(job: BuildJob, path: Path, target: str, done: int, total: int) -> gpd.GeoDataFrame:
    from pyproj import Geod

    from rs05bench.datasets.recipes.polygon_layers import read_layer, year_in_name

    job.progress(path.name, done, total)
    # MAIN_CROP came with the 2019 edition; before, the main season's crop is the second of the three.
    needed = {"code": ("MAIN_CROP", "CROPTYP2"), "county": ("COUNTY",)}
    if target == "irrigated":
        needed["status"] = ("IRR_TYP2PA",)
    optional = {"uid": ("UniqueID",), "multiuse": ("MULTIUSE",), "year": ("year",)}
    frame = read_layer(path, needed, optional, job=job)
    year = year_in_name(path)
    if "year" not in frame:
        if year is None:
            raise DataError(
                "its name says no year, and it has no column 'year'",
                source=path,
                remedy="Name it as published, e.g. i15_Crop_Mapping_2020.shp.",
            )
        frame["year"] = year
    rows = frame["uid"].astype(str) if "uid" in frame else frame.index.astype(str)
    frame["field_id"] = (
        frame["year"].astype(int).astype(str) + "-" + path.stem + "-" + rows
        if "uid" not in frame
        else (frame["year"].astype(int).astype(str) + "-" + rows)
    )
    if frame["field_id"].duplicated().any():
        twice = frame["field_id"][frame["field_id"].duplicated()].iloc[0]
        raise DataError(f"UniqueID occurs twice in one year, e.g. {twice!r}", source=path, remedy="Give each edition once.")
    code = frame["code"].fillna("").astype(str).str.strip().str.rstrip("*")
    if not code.str.match(r"^[A-Z]{1,2}\d{0,2}$").any():
        raise DataError(
            f"its crop codes are not DWR's, e.g. {', '.join(map(repr, frame['code'].unique()[:4]))}",
            source=path,
            remedy="Expected codes such as T15 or D12 in MAIN_CROP or CROPTYP2 (2016 and later).",
        )
    frame["class"] = _classes(code)
    frame = job.keep(frame, frame["class"].notna(), "no crop: urban, native or not mapped", "field_id")
    if "multiuse" in frame and job.options["single"]:
        frame = job.keep(
            frame, frame["multiuse"].fillna("S").astype(str).str.strip().isin(("S", "", "*")), "several crops a year", "field_id"
        )
    frame["county"] = frame["county"].fillna("").astype(str).str.strip().str.rstrip("*").str.title()
    frame = job.keep(frame, frame["county"] != "", "no county", "field_id")
    geod = Geod(ellps="GRS80")
    frame["area_ha"] = [abs(geod.geometry_area_perimeter(shape)[0]) / 10_000 for shape in frame.geometry]
    frame = job.keep(frame, frame["area_ha"] >= float(job.options["min_ha"]), f"smaller than {job.options['min_ha']} ha", "field_id")
    if frame.empty:
        raise DataError("no field is left", source=path, remedy="See what was dropped: urban, several crops, too small?")
    return _placed(_labelled(frame, code, target))


def _classes(code: pd.Series) -> pd.Series:
    letters = code.str.extract(r"^([A-Z]{1,2})", expand=False)
    return letters.map(CLASSES).where(~code.isin(TOMATO), "tomato")


def _labelled(frame: gpd.GeoDataFrame, code: pd.Series, target: str) -> gpd.GeoDataFrame:
    frame["dwr_code"] = code.loc[frame.index]
    if target == "crop":
        frame["crop"] = frame["class"]
    elif target == "tomato":
        frame["crop"] = (frame["class"] == "tomato").map({True: "tomato", False: "other"})
    else:
        # DWR: every field is presumed irrigated unless 'n' says otherwise; the code is about the land, also when it lies fallow.
        status = frame["status"].fillna("*").astype(str).str.strip().str.lower()
        frame["crop"] = (status == "n").map({True: "not irrigated", False: "irrigated"})
    frame["region"] = frame["county"].map({county: name for name, members in VALLEYS.items() for county in members}).fillna("elsewhere")
    return frame


def _placed(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    inside = frame.geometry.representative_point()
    frame["lon"], frame["lat"] = inside.x, inside.y
    # Editions draw field boundaries again: a place is a square of 100 m, not a UniqueID.
    metres = inside.to_crs(3310)
    frame["place"] = (metres.x // 100).astype(int).astype(str) + "_" + (metres.y // 100).astype(int).astype(str)
    kept = ["field_id", "place", "year", "county", "region", "crop", "dwr_code", "area_ha", "lon", "lat", "geometry"]
    return frame[kept]


def _sample(job: BuildJob, units: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """At most `per_class` fields of a class in a county and year, by hash of their place, so that editions keep the same ground."""
    most = int(job.options["per_class"])
    if most <= 0:
        return units
    order = units["place"].map(text_digest)
    rank = order.groupby([units["county"], units["year"], units["crop"]]).rank(method="first")
    job.drop(f"beyond {most} of its class in its county and year (--set per_class)", int((rank > most).sum()))
    return units[rank <= most].reset_index(drop=True)
