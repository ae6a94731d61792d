"""Urban signals of US counties: crime, transit, income, poverty, unemployment, with density and rural-urban code as covariates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.datasets.recipes.embedding_columns import check_vectors
from rs05bench.embeddings.products import EmbeddingProduct, product
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

KM2_PER_SQUARE_MILE = 2.589988
EQUAL_AREA = 6933
RESIDENTS = "COUNTY POPULATION-AGENCIES REPORT CRIMES"
TARGETS = ("violent_crime", "property_crime", "transit_score", "log_income", "poverty_pct", "unemployment_pct")
COVARIATES = ("log_density", "rural_urban_code")


def make(job: BuildJob) -> TaskCard:
    """One row a county."""
    year, record = int(job.options["year"]), product()
    frame = _embedded(job, year, record).join(_indicators(job), how="inner").join(_signals(job))
    frame = _located(job, frame)
    frame = _with_density(job, frame)
    targets = [name for name in TARGETS if frame[name].notna().mean() >= 0.5]
    if not targets:
        raise DataError("no signal is known in half of the counties", source=job.root, remedy="See what was dropped.")
    job.write_table(frame.sort_values("county")[["county", "state", "lon", "lat", *TARGETS, *COVARIATES, *record.bands]])
    job.counts["by state"] = frame["state"].value_counts().sort_index().to_dict()
    job.counts["known"] = {name: int(frame[name].notna().sum()) for name in TARGETS}
    return job.card(
        targets=targets,
        features={record.family: [record.glob], f"{record.family}-covariates": [record.family, "covariates"]},
        tiers={f"{record.family}-covariates": "hybrid"},
        covariates=list(COVARIATES),
        preprocessing={"embedding_year": year},
    )


def _table(path: Path, key: str, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a table by the five digits of the county."""
    from rs05bench.protocol.intake.tablefile import read_tablefile

    frame = read_tablefile(path, text=[key]).frame
    if missing := [name for name in (key, *columns) if name not in frame.columns]:
        raise DataError(f"column {', '.join(missing)} missing", source=path, remedy="Give the table as it was published.")
    frame = frame.assign(**{key: frame[key].astype(str).str.strip().str.zfill(5)})
    if frame[key].duplicated().any():
        raise DataError(f"holds county {frame.loc[frame[key].duplicated(), key].iloc[0]} twice", source=path)
    return frame.set_index(key)[list(columns)].rename_axis("county")


def _embedded(job: BuildJob, year: int, record: EmbeddingProduct) -> pd.DataFrame:
    from rs05bench.protocol.intake.tablefile import read_tablefile

    path = job.file("embeddings")
    frame = read_tablefile(path, text=["GEOID"]).frame
    if missing := [name for name in ("GEOID", "year", *record.bands) if name not in frame.columns]:
        raise DataError(f"column {', '.join(missing[:4])} missing", source=path, remedy="Expected GEOID, year and the components.")
    there = sorted({int(found) for found in frame["year"]})
    if year not in there:
        raise DataError(f"holds no embedding of {year}", source=path, remedy=f"There are {', '.join(map(str, there))}: --set year=...")
    frame = frame[frame["year"] == year]
    check_vectors(frame, path, record)
    frame = frame.assign(county=frame["GEOID"].astype(str).str.zfill(5)).set_index("county")
    if frame.index.duplicated().any():
        raise DataError(f"holds county {frame.index[frame.index.duplicated()][0]} twice in {year}", source=path)
    return frame[list(record.bands)]


def _indicators(job: BuildJob) -> pd.DataFrame:
    columns = ("State", "MedHHInc", "PovertyAllAgesPct", "UnempRate2018", "RuralUrbanContinuumCode2013", "PopDensity")
    frame = _table(job.file("indicators"), "GEOID", columns)
    income = pd.to_numeric(frame["MedHHInc"], errors="coerce")
    return pd.DataFrame(
        {
            "state": frame["State"].astype(str),
            "log_income": np.log(income.where(income > 0)),
            "poverty_pct": frame["PovertyAllAgesPct"],
            "unemployment_pct": frame["UnempRate2018"],
            "rural_urban_code": frame["RuralUrbanContinuumCode2013"],
            "density": frame["PopDensity"] / KM2_PER_SQUARE_MILE,
        }
    )


def _signals(job: BuildJob) -> pd.DataFrame:
    names = {"violent_crime_per_100k": "violent_crime", "property_crime_per_100k": "property_crime", "transit_score": "transit_score"}
    return _table(job.file("signals"), "GEOID", list(names)).rename(columns=names)


def _located(job: BuildJob, frame: pd.DataFrame) -> pd.DataFrame:
    """With a point inside each county and its area; counties without an outline are dropped."""
    from rs05bench.datasets.recipes.polygon_layers import read_layer

    layer = read_layer(job.file("counties"), {"county": ("GEOID", "id")}, job=job)
    layer["county"] = layer["county"].astype(str).str.zfill(5)
    layer = layer.drop_duplicates("county").set_index("county")
    points = layer.geometry.representative_point()
    place = pd.DataFrame({"lon": points.x, "lat": points.y, "km2": layer.to_crs(EQUAL_AREA).area / 1e6})
    frame = frame.join(place).reset_index()
    return job.keep(frame, frame["lon"].notna(), "no outline of the county", "county")


def _with_density(job: BuildJob, frame: pd.DataFrame) -> pd.DataFrame:
    """Density of the indicators, else residents of the crime table over the outline's area; logarithms to base 10."""
    if job.files("population"):
        residents = _table(job.file("population"), "geog_id", [RESIDENTS])[RESIDENTS]
        counted = frame["county"].map(residents[residents > 0]) / frame["km2"]
        if filled := int((frame["density"].isna() & counted.notna()).sum()):
            job.notes.append(f"Density of {filled} counties: residents of the crime table over the area of the outline.")
        frame["density"] = frame["density"].fillna(counted)
    frame["log_density"] = np.log10(frame["density"].where(frame["density"] > 0))
    frame = job.keep(frame, frame["log_density"].notna(), "no population density", "county")
    return job.keep(frame, frame["rural_urban_code"].notna(), "no rural-urban code", "county")
