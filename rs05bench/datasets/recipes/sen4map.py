"""Sen4Map: Sentinel-2 time series of 2018 at LUCAS survey points, land cover or crops, by country."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rs05bench.datasets.recipes.embedding_columns import can_embed, embed, embedding_of
from rs05bench.errors import DataError
from rs05bench.extras import require

if TYPE_CHECKING:
    from pathlib import Path

    import h5py  # type: ignore[import-untyped]
    import pandas as pd

    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

BANDS = {
    "B2": "B02",
    "B3": "B03",
    "B4": "B04",
    "B5": "B05",
    "B6": "B06",
    "B7": "B07",
    "B8": "B08",
    "B8A": "B8A",
    "B11": "B11",
    "B12": "B12",
}
# Sen2Cor scene classes that show the ground: dark area, vegetation, bare, water, unclassified, snow.
CLEAR = (2, 4, 5, 6, 7, 11)
YEAR = 2018
# LUCAS land cover code (LC1) by its longest prefix here; the grouping is Sen4Map's, the names are ours. None: not part of the task.
LAND_COVER: dict[str, str | None] = {
    "A": "artificial", "A22": "bare", "F": "bare", "E": "grassland", "B": "cropland", "B5": "grassland", "C1": "broadleaved woodland",
    "C2": "coniferous and mixed woodland", "C3": "coniferous and mixed woodland", "CXX": "coniferous and mixed woodland",
    "D": "shrubland", "G": "water", "H": "wetland",
}  # fmt: skip
CROPS: dict[str, str | None] = {
    "B1": "cereals", "B2": "root crops", "B3": "industrial crops", "B4": "pulses, vegetables and flowers", "B5": "fodder crops",
    "B55": "grassland", "E": "grassland", "F": "bare", "B7": "woodland and shrubland", "B8": "woodland and shrubland",
    "C": "woodland and shrubland", "D": "woodland and shrubland",
}  # fmt: skip


def make(job: BuildJob) -> TaskCard:
    """One row a survey point."""
    import pandas as pd

    target = str(job.options["target"])
    paths = job.files("samples")
    rows: list[dict[str, Any]] = []
    for done, path in enumerate(paths):
        rows += _read(job, path, done, len(paths))
    frame = pd.DataFrame(rows)
    frame = job.keep(frame, ~frame["sample_id"].duplicated(), "the same sample in two files", "sample_id")
    frame = _located(job, frame)
    frame["label"] = frame["lc1"].map(lambda code: group_of(code, LAND_COVER if target == "land-cover" else CROPS))
    frame = job.keep(frame, frame["label"].notna(), f"LC1 code that is no class of {target}", "lc1")
    frame = job.keep(frame, frame.filter(regex=r"^B").notna().any(axis=1), "no clear observation", "sample_id")
    if "country" in frame:
        frame = job.keep(frame, frame["country"].notna() & (frame["country"] != ""), "no country", "sample_id")
    if frame["label"].nunique() < 2:
        raise DataError(f"fewer than two classes are left of {len(rows)} samples", source=job.root, remedy="Check the attribute lc1.")
    features: dict[str, list[str]] = {"raw": ["B*_m[01][0-9]", "NDVI_m[01][0-9]"]}
    located = "lon" in frame and bool(frame["lon"].notna().all())
    if located and can_embed(job):
        frame, record = _embedded(job, frame), embedding_of(job)
        features |= {record.family: [record.glob], "hybrid": [record.family, "raw"]}
    elif not located:
        frame = frame.drop(columns=[name for name in ("lon", "lat") if name in frame])
        job.notes.append("No coordinates: no spatial blocks, no buffers, no embedding. Give the LUCAS 2018 table beside the HDF5 files.")
    frame = frame.loc[:, frame.notna().any()]
    job.write_table(frame.sort_values("sample_id"))
    groups = [name for name in ("country",) if name in frame]
    parts = sorted(set(frame["official"]) - {""})
    job.counts |= {"by class": frame["label"].value_counts().sort_index().to_dict(), "by file": frame["official"].value_counts().to_dict()}
    if groups:
        job.counts["by country"] = frame["country"].value_counts().sort_index().to_dict()
    there: dict[str, object] = {"coordinates": {"x": "lon", "y": "lat"}} if located else {}
    if {"train", "test"} <= set(parts):
        there["official"] = {"column": "official", "train": ["train"], "val": ["val"] if "val" in parts else [], "test": ["test"]}
    return job.card(
        name=f"sen4map-{target}",
        words={"what": "Land cover" if target == "land-cover" else "Crops"},
        classes=sorted(set(frame["label"])),
        groups=groups,
        features=features,
        splits=[split for split in job.splits if (split != "official" or "official" in there) and (split != "spatial-block" or located)],
        split_options={"buffer_m": 1_000 if located else 0, "region": groups[0] if groups else None},
        preprocessing={"window_px": 2 * int(job.options["window"]) + 1, "year": YEAR},
        **there,
    )


def group_of(code: str, groups: dict[str, str | None]) -> str | None:
    """The class of an LC1 code: that of its longest prefix in `groups`."""
    return next((groups[code[:length]] for length in range(len(code), 0, -1) if code[:length] in groups), None)


def _read(job: BuildJob, path: Path, done: int, total: int) -> list[dict[str, Any]]:
    h5py: Any = require("h5py", purpose=f"reading {path.name}")
    official = next((part for part in ("train", "val", "test") if part in path.stem.lower()), "")
    rows = []
    try:
        with h5py.File(path, "r") as file:
            keys = sorted(file)
            if not keys:
                raise DataError("holds no sample", source=path, remedy="Fetch it again.")
            for number, key in enumerate(keys):
                if number % 500 == 0:
                    job.progress(f"{path.name} ({done + 1} of {total})", number, len(keys))
                rows.append({"sample_id": key, "official": official, **_sample(file[key], f"{path}:{key}", int(job.options["window"]))})
    except OSError as error:
        raise DataError(f"cannot be read as HDF5 ({error})", source=path, remedy="It was cut short: fetch it again.") from None
    return rows


def _sample(item: h5py.Dataset | h5py.Group, source: str, reach: int) -> dict[str, Any]:
    import h5py
    import numpy as np

    fields = set(item.dtype.names or ()) if isinstance(item, h5py.Dataset) else set(item)
    if missing := [name for name in ("SCL", *BANDS) if name not in fields]:
        raise DataError(
            f"band {', '.join(missing)} missing; it has {', '.join(sorted(fields)) or 'no band'}",
            source=source,
            remedy="Expected the published layout: SCL and B2 to B12 as fields of one array a sample.",
        )
    if missing := [name for name in ("lc1", "Image_ID") if name not in item.attrs]:
        raise DataError(f"attribute {', '.join(missing)} missing; it has {', '.join(sorted(item.attrs))}", source=source)
    shape = item.shape if isinstance(item, h5py.Dataset) else item["SCL"].shape
    if len(shape) != 3 or min(shape[1:]) < 2 * reach + 1:
        raise DataError(f"expected (dates, rows, columns), found {shape}", source=source)
    names = [_text(name) for name in np.atleast_1d(item.attrs["Image_ID"])]
    if len(names) != shape[0]:
        raise DataError(f"{shape[0]} dates, but {len(names)} names in Image_ID", source=source)
    row, column = shape[1] // 2, shape[2] // 2
    window = (slice(None), slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
    block = item[window] if isinstance(item, h5py.Dataset) else {name: item[name][window] for name in ("SCL", *BANDS)}
    found: dict[str, Any] = {"lc1": _text(item.attrs["lc1"]).strip().upper()}
    found |= _composites(block, [_month(name, source) for name in names])
    return found | _attributes(item.attrs)


def _composites(block: Any, months: list[int]) -> dict[str, float]:
    """`B02_m01` ... `NDVI_m12`: medians over the clear pixels of the window in each month, NaN where there are none."""
    import numpy as np

    clear = np.isin(block["SCL"], CLEAR)
    values: dict[str, float] = {}
    for month in range(1, 13):
        seen = clear & (np.array(months) == month)[:, None, None]
        medians = {ours: float(np.median(block[theirs][seen])) / 1e4 if seen.any() else float("nan") for theirs, ours in BANDS.items()}
        values |= {f"{band}_m{month:02d}": value for band, value in medians.items()}
        total = medians["B08"] + medians["B04"]
        values[f"NDVI_m{month:02d}"] = (medians["B08"] - medians["B04"]) / total if total else float("nan")
    return values


def _month(name: str, source: str) -> int:
    match = re.search(rf"{YEAR}(0[1-9]|1[0-2])", name)
    if match is None:
        raise DataError(f"Image_ID {name!r} names no month of {YEAR}", source=source)
    return int(match[1])


def _attributes(attributes: Any) -> dict[str, Any]:
    """Country and position, where the sample has them under one of the names that LUCAS or readers of Sen4Map use."""
    low = {str(name).lower(): name for name in attributes}
    found: dict[str, Any] = {}
    if "nuts0" in low:
        found["country"] = _text(attributes[low["nuts0"]]).strip().upper()
    for x, y in (("th_long", "th_lat"), ("gps_long", "gps_lat"), ("lon", "lat")):
        if x in low and y in low:
            found["lon"], found["lat"] = float(attributes[low[x]]), float(attributes[low[y]])
            break
    return found


def _located(job: BuildJob, frame: pd.DataFrame) -> pd.DataFrame:
    """Country and position from the LUCAS table, where it is given; the point is the number of eight digits in the sample's name."""
    import pandas as pd

    if not job.files("lucas"):
        return frame
    path = job.file("lucas")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)  # NA is no country code, but blanks must stay text
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read as CSV ({error})", source=path) from None
    table.columns = table.columns.str.upper()
    if missing := [name for name in ("POINT_ID", "NUTS0", "TH_LAT", "TH_LONG") if name not in table]:
        raise DataError(f"column {', '.join(missing)} missing; it has {', '.join(table.columns[:10])}", source=path)
    table = table.drop_duplicates("POINT_ID").set_index("POINT_ID")
    point = frame["sample_id"].str.extract(r"(?<!\d)(\d{8})(?!\d)", expand=False)
    known = point.isin(table.index)
    if not known.any():
        raise DataError(
            f"none of {len(frame)} samples has its point in the table, e.g. sample {frame['sample_id'].iloc[0]!r}",
            source=path,
            remedy="Expected the eight digits of POINT_ID in the sample's name.",
        )
    frame = job.keep(frame.assign(point_id=point), known, "no row in the LUCAS table", "sample_id")
    rows = table.loc[frame["point_id"]]
    return frame.assign(
        country=rows["NUTS0"].to_numpy(), lon=pd.to_numeric(rows["TH_LONG"]).to_numpy(), lat=pd.to_numeric(rows["TH_LAT"]).to_numpy()
    )


def _embedded(job: BuildJob, frame: pd.DataFrame) -> pd.DataFrame:
    import geopandas as gpd

    points = gpd.GeoDataFrame(frame.assign(year=YEAR), geometry=gpd.points_from_xy(frame["lon"], frame["lat"]), crs=4326)
    return embed(job, points, "points").drop(columns="year")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
