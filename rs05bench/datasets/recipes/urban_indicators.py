"""The six-metro indicators from census and health surveys, in the schema of `urban_schema`, with the embedding over each tract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.datasets.recipes.embedding_columns import embed, embedding_of, feature_sets
from rs05bench.datasets.urban_schema import INDICATORS, NAMES
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd

    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

COUNTIES = {
    "Atlanta": ("13121", "13089"),  # Fulton, DeKalb
    "Chicago": ("17031",),  # Cook
    "Houston": ("48201",),  # Harris
    "Los Angeles": ("06037",),
    "New York": ("36005", "36047", "36061", "36081", "36085"),  # the five boroughs
    "Seattle": ("53033",),  # King
}
"""Core counties of each metro: our choice, as the paper's neighbourhoods are not published."""

CRIME = ("crime_rate", "violent_crime_rate", "property_crime_rate")
_FORMS = ((10_000.0, "core"), (3_000.0, "inner"), (0.0, "suburb"))  # residents a square kilometre


def make(job: BuildJob) -> TaskCard:
    """One row a tract and vintage."""
    from rs05bench.datasets.recipes.urban_cells import join_layers

    table = _surveys(job)
    units = _located(job, table)
    units = _groups(units)
    _in_range(units, job)
    units.drop(columns=["county", "lon", "lat", "area_km2"]).to_parquet(job.out / "tracts.parquet", index=False)
    units = units.rename(columns={"metro": "city"})
    frame = embed(job, units, "polygons")
    targets = [name for name in ("log_income", *NAMES) if frame[name].notna().mean() >= 0.5]
    targets = list(dict.fromkeys(targets))
    if not targets:
        raise DataError("no indicator is known in half of the tracts", source=job.root, remedy="See what was dropped.")
    if without := [name for name in NAMES if name not in targets]:
        job.notes.append(f"No target: {', '.join(without)} (known in less than half of the tracts, or no source).")
    features, tiers = feature_sets(job, frame)
    if columns := join_layers(job, units, frame, "tract_id", ("urban",)):
        features |= {"layers": columns, "hybrid": [embedding_of(job).family, "layers"]}
        tiers |= {"layers": "raw"}
    job.write_table(frame.sort_values(["tract_id", "year"]))
    job.counts["by city"] = frame["city"].value_counts().sort_index().to_dict()
    job.counts["by year"] = {str(year): int(count) for year, count in frame["year"].value_counts().sort_index().items()}
    return job.card(targets=targets, features=features, tiers=tiers, never_features=[*NAMES, "population", "area_km2", "pixels", "covered"])


def _surveys(job: BuildJob) -> pd.DataFrame:
    """Census, health and police columns by tract and year, tracts of the metros only."""
    from rs05bench.datasets.recipes.census_files import ACS, acs_table, read_acs, refuse_overlap

    by_year: dict[int, dict[str, list[pd.DataFrame]]] = {}
    chosen = int(job.options["year"])
    paths = [path for path in job.files("acs") if not chosen or acs_table(path)[0] == chosen]
    if not paths:
        there = ", ".join(map(str, sorted({acs_table(path)[0] for path in job.files("acs")})))
        raise DataError(f"no table is of {chosen}; there are vintages of {there}", source=job.root)
    refuse_overlap([acs_table(path)[0] for path in paths], job.root)
    early = [path for path in paths if acs_table(path)[0] < 2017]
    if early:
        raise DataError("is of before 2017, when the embedding begins", source=early[0], remedy="Give a vintage of 2017 or later.")
    for done, path in enumerate(paths):
        job.progress(path.name, done, len(paths))
        year, table = acs_table(path)
        frame, bounded = read_acs(path)
        job.notes += [f"{year}: {count} values of {what} stand for 'that or beyond'." for what, count in bounded.items()]
        by_year.setdefault(year, {}).setdefault(table, []).append(frame)
    parts = []
    for year, tables in sorted(by_year.items()):
        if lost := [name for name in ACS if name not in tables]:
            raise DataError(
                f"the vintage {year} lacks the table{'s' if len(lost) > 1 else ''} {', '.join(lost)}",
                source=job.root,
                remedy="Download all five for the same tracts: " + ", ".join(ACS) + ".",
            )
        joined = [pd.concat(frames) for frames in tables.values()]
        for name, frame in zip(tables, joined, strict=True):
            if frame.index.duplicated().any():
                raise DataError(f"tract {frame.index[frame.index.duplicated()][0]} is in two files of {name} {year}", source=job.root)
        whole = pd.concat(joined, axis=1, join="outer")
        partial = int(sum(len(whole) - len(frame) for frame in joined))
        if partial > 0.1 * len(whole) * len(joined):
            raise DataError(
                f"the tables of {year} hold different tracts (they share {len(pd.concat(joined, axis=1, join='inner'))} of {len(whole)})",
                source=job.root,
                remedy="Download all five for the same counties.",
            )
        parts.append(_indicators(whole, year))
    table = _metros(job, pd.concat(parts, ignore_index=True))
    return _with_crime(job, _with_places(job, table))


def _indicators(acs: pd.DataFrame, year: int) -> pd.DataFrame:
    workers = acs["B08301_001E"].where(acs["B08301_001E"] > 0)
    values = {
        "year": year,
        "population": acs["B01003_001E"],
        "log_income": np.log(acs["B19013_001E"].where(acs["B19013_001E"] > 0)),
        "poverty_pct": acs["S1701_C03_001E"],
        "unemployment_pct": acs["S2301_C04_001E"],
        "drive_alone_pct": 100 * acs["B08301_003E"] / workers,
        "transit_pct": 100 * acs["B08301_010E"] / workers,
        "bike_pct": 100 * acs["B08301_018E"] / workers,
        "walk_pct": 100 * acs["B08301_019E"] / workers,
    }
    return pd.DataFrame(values, index=acs.index).reset_index()


def _metros(job: BuildJob, table: pd.DataFrame) -> pd.DataFrame:
    county = table["tract_id"].str.slice(stop=5)
    table["county"] = county
    table["metro"] = county.map({code: metro for metro, codes in COUNTIES.items() for code in codes})
    if table["metro"].isna().all():
        raise DataError(
            f"no tract lies in the six metros (counties found: {', '.join(sorted(set(county))[:6])})",
            source=job.root,
            remedy="Expected counties such as " + ", ".join(f"{codes[0]} ({metro})" for metro, codes in COUNTIES.items()) + ".",
        )
    table = job.keep(table, table["metro"].notna(), "tract outside of the six metros' core counties", "tract_id")
    table = job.keep(table, table["population"] > 0, "nobody lives there", "tract_id")
    if absent := sorted(set(COUNTIES) - set(table["metro"])):
        job.notes.append(f"No tract of {', '.join(absent)}.")
    return table.reset_index(drop=True)


def _with_places(job: BuildJob, table: pd.DataFrame) -> pd.DataFrame:
    """The health columns of the survey year nearest to each vintage, at most two years off."""
    from rs05bench.datasets.recipes.census_files import PLACES, read_places

    for name in PLACES.values():
        table[name] = np.nan
    surveys = [(*read_places(path), path) for path in job.files("places")]
    for year in sorted(table["year"].unique()):
        near = sorted((abs(survey - year), survey, number) for number, (_, survey, _) in enumerate(surveys) if abs(survey - year) <= 2)
        if not near:
            job.notes.append(f"{year}: no PLACES release within two years; the health indicators are blank.")
            continue
        health, survey, path = surveys[near[0][2]]
        rows = table["year"] == year
        found = table.loc[rows, "tract_id"].isin(health.index)
        if found.mean() < 0.5:
            raise DataError(
                f"holds {found.mean():.0%} of the {int(rows.sum())} tracts of {year}",
                source=path,
                remedy=(
                    "PLACES up to the 2023 release is drawn on the tracts of 2010, ACS from 2020 on those of 2020: give a release on "
                    "the same tracts."
                ),
            )
        for name in PLACES.values():
            table.loc[rows, name] = table.loc[rows, "tract_id"].map(health[name])
        job.notes.append(
            f"{year}: health from the survey of {survey} ({path.name}), known in {int(found.sum())} of {int(rows.sum())} tracts."
        )
    return table


def _with_crime(job: BuildJob, table: pd.DataFrame) -> pd.DataFrame:
    paths = job.files("crime")
    for name in CRIME:
        table[name] = np.nan
    if not paths:
        return table
    path = job.file("crime")
    crime = pd.read_csv(path, dtype={"tract_id": str})
    if missing := [name for name in ("tract_id", "year", *CRIME) if name not in crime.columns]:
        raise DataError(
            f"column {', '.join(missing)} missing", source=path, remedy="Rates per 1,000 residents and year, one row a tract and year."
        )
    if crime.duplicated(["tract_id", "year"]).any():
        raise DataError("holds a tract and year twice", source=path)
    joined = table[["tract_id", "year"]].merge(crime, on=["tract_id", "year"], how="left")
    if joined[list(CRIME)].isna().all().all():
        raise DataError("has no tract and year in common with the census tables", source=path, remedy="Compare tract_id and year.")
    for name in CRIME:
        table[name] = pd.to_numeric(joined[name], errors="coerce").to_numpy()
    return table


def _located(job: BuildJob, table: pd.DataFrame) -> gpd.GeoDataFrame:
    """Tracts with their polygon; most of each vintage must have one."""
    import geopandas as gpd
    from pyproj import Geod

    from rs05bench.datasets.recipes.polygon_layers import read_layer

    paths = job.files("tracts")
    layers = [read_layer(path, {"tract_id": ("GEOID", "GEOID20", "GEOID10")}, job=job) for path in paths]
    layer = pd.concat(layers, ignore_index=True)
    layer["tract_id"] = layer["tract_id"].astype(str)
    wrong = ~layer["tract_id"].str.fullmatch(r"\d{11}")
    if wrong.any():
        raise DataError(
            f"expected tracts (GEOID of 11 digits), found {layer.loc[wrong, 'tract_id'].iloc[0]!r}",
            source=paths[0],
            remedy="Get tracts (tl_YEAR_STATE_tract), not block groups or counties, with GEOID as text.",
        )
    layer = layer.drop_duplicates("tract_id").set_index("tract_id")
    known = table["tract_id"].isin(layer.index)
    for year, share in known.groupby(table["year"]).mean().items():
        if share < 0.5:
            raise DataError(
                f"holds a polygon of {share:.0%} of the tracts of {year}",
                source=paths[0],
                remedy="Boundaries changed in 2020: take tracts of 2020 or later for vintages from 2020 on, of 2010-2019 for earlier ones.",
            )
    table = job.keep(table, known, "no polygon (boundaries of another year?)", "tract_id").reset_index(drop=True)
    units = gpd.GeoDataFrame(table, geometry=layer.geometry.loc[table["tract_id"]].to_numpy(), crs=4326)
    inside = units.geometry.representative_point()
    units["lon"], units["lat"] = inside.x, inside.y
    geod = Geod(ellps="GRS80")
    units["area_km2"] = [abs(geod.geometry_area_perimeter(shape)[0]) / 1e6 for shape in units.geometry]
    return units


def _groups(units: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    density = units["population"] / units["area_km2"]
    units["income_group"] = _thirds(units["log_income"], units)
    units["density_group"] = _thirds(density, units)
    units["urban_form"] = np.select([density >= bound for bound, _ in _FORMS], [name for _, name in _FORMS], "suburb")
    return units


def _thirds(values: pd.Series, units: pd.DataFrame) -> pd.Series:
    """low, middle, high within metro and year; `unknown` where there is no number."""
    rank = values.groupby([units["metro"], units["year"]]).rank(pct=True)
    names = np.select([rank.isna(), rank <= 1 / 3, rank <= 2 / 3], ["unknown", "low", "middle"], "high")
    return pd.Series(names, index=values.index)


def _in_range(units: pd.DataFrame, job: BuildJob) -> None:
    for indicator in INDICATORS:
        values = units[indicator.name]
        wrong = (values < indicator.low) | (values > indicator.high)
        if wrong.any():
            row = units[wrong].iloc[0]
            raise DataError(
                f"{indicator.name} of tract {row['tract_id']} is {row[indicator.name]:g}, expected {indicator.low:g} to {indicator.high:g} "
                f"{indicator.unit} ({indicator.source})",
                source=job.root,
                remedy="Is a column in other units, or a code for missing?",
            )
