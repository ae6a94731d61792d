"""Tables of census tracts as data.census.gov and the CDC give them: American Community Survey and PLACES."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.intake.sentinels import CENSUS

SPAN = 5
"""Years that a 5-year estimate gathers, its own the last."""

# ACS table -> columns read. S1701 and S2301 are subject tables, the others detailed ones.
ACS = {
    "B01003": ("B01003_001E",),
    "B19013": ("B19013_001E",),
    "S1701": ("S1701_C03_001E",),
    "S2301": ("S2301_C04_001E",),
    "B08301": ("B08301_001E", "B08301_003E", "B08301_010E", "B08301_018E", "B08301_019E"),
}
PLACES = {"OBESITY": "obesity_pct", "DIABETES": "diabetes_pct", "CASTHMA": "asthma_pct", "MHLTH": "mental_health_pct"}

_NOTHING = {"", "-", "--", "N", "(X)", "**", "***", "*****", "null", "NaN"}
_TRACT = re.compile(r"^14\d{5}US(\d{11})$")


def acs_table(path: Path) -> tuple[int, str]:
    """Vintage and table of a file by its name, e.g. `ACSDT5Y2022.B19013-Data.csv`.

    Raises:
        DataError: Not so named, or no 5-year estimate.
    """
    found = re.match(r"^ACS(?:DT|ST)(\d)Y(\d{4})\.([A-Z0-9]+)-Data", path.name)
    if found is None:
        raise DataError(
            "is not named as data.census.gov names its tables", source=path, remedy="Expected e.g. ACSDT5Y2022.B19013-Data.csv."
        )
    if found.group(1) != "5":
        raise DataError(
            f"holds {found.group(1)}-year estimates, which know no tracts", source=path, remedy="Get the 5-year table (ACSDT5Y..)."
        )
    return int(found.group(2)), found.group(3)


def refuse_overlap(years: Sequence[int], source: Path) -> None:
    """Make sure that no two vintages share a year of answers.

    Raises:
        DataError: Two of them do.
    """
    ordered = sorted(set(years))
    for early, late in itertools.pairwise(ordered):
        if late - early < SPAN:
            shared = SPAN - (late - early)
            raise DataError(
                f"the 5-year estimates of {early} ({early - SPAN + 1}-{early}) and {late} ({late - SPAN + 1}-{late}) share {shared} "
                f"year{'s' if shared > 1 else ''} of answers: the same households would train and test",
                source=source,
                remedy=f"Keep vintages {SPAN} years apart (2018 and 2023), or build one alone: --set year={late}.",
            )


def read_acs(path: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """The columns of one ACS table by tract.

    The file has a row of codes and a row of labels; missing values are words (`-`, `N`, `(X)`) or negative codes, and medians beyond the
    published range are written as `250,000+` or `2,500-`, which become the bound itself.

    Returns:
        A table indexed by the 11 digits of the tract, NaN where missing; and how many values stood at a bound.

    Raises:
        DataError: No such table, no tract in it, a tract twice, or a value that is none.
    """
    _, table = acs_table(path)
    frame = _read(path)
    wanted = ACS.get(table)
    if wanted is None:
        raise DataError(f"holds the table {table}, which is not asked for", source=path, remedy=f"Asked for are {', '.join(ACS)}.")
    if missing := [name for name in ("GEO_ID", *wanted) if name not in frame.columns]:
        raise DataError(
            f"column {', '.join(missing)} missing; it has {', '.join(map(str, frame.columns[:6]))}, … ({len(frame.columns)} in all)",
            source=path,
            remedy=f"Download the whole table {table} as CSV, with codes in the first row.",
        )
    frame = frame[~frame["GEO_ID"].isin(["Geography", "id"])]
    tracts = frame["GEO_ID"].str.extract(_TRACT, expand=False)
    if tracts.isna().any():
        wrong = frame["GEO_ID"][tracts.isna()].iloc[0]
        raise DataError(
            f"expected tracts (GEO_ID 1400000US and 11 digits), found {wrong!r}", source=path, remedy="Choose the geography 'census tract'."
        )
    if frame.empty:
        raise DataError("holds no tract", source=path, remedy="The file was cut short, or no geography was chosen.")
    if tracts.duplicated().any():
        raise DataError(f"tract {tracts[tracts.duplicated()].iloc[0]} occurs twice", source=path)
    out, bounded = {}, 0
    for name in wanted:
        out[name], at_bound = _numbers(frame[name], name, path)
        bounded += at_bound
    return pd.DataFrame(out).set_index(pd.Index(tracts, name="tract_id")), ({f"{table} at a published bound": bounded} if bounded else {})


def read_places(path: Path) -> tuple[pd.DataFrame, int]:
    """Crude prevalence of the four measures by tract, and the year of the survey they were modelled from.

    Both published forms are read: the wide one (`GIS Friendly Format`, `TractFIPS`, `OBESITY_CrudePrev`, ..) and the long one
    (`LocationName` or `LocationID`, `MeasureId`, `DataValueTypeID`, `Data_Value`, `Year`). A release stands for the survey
    two years before it.

    Raises:
        DataError: Neither form, a measure missing, not tracts, or no year.
    """
    frame = _read(path)
    lowered = {str(column).lower(): str(column) for column in frame.columns}
    if "tractfips" in lowered:
        table = _wide(frame, lowered, path)
        found = re.search(r"(20\d{2})_release", path.name)
        if found is None:
            raise DataError(
                "its name says no release, and the wide form holds no year",
                source=path,
                remedy="Name it as published: PLACES__Census_Tract_Data__GIS_Friendly_Format___2023_release.csv.",
            )
        return table, int(found.group(1)) - 2
    if "measureid" in lowered:
        return _long(frame, lowered, path)
    if "countyfips" in lowered or "stateabbr" in lowered:
        raise DataError(
            f"is not the tract table of PLACES: it has {', '.join(map(str, frame.columns[:6]))}, …",
            source=path,
            remedy="Get 'Census Tract Data'.",
        )
    raise DataError(f"is no PLACES table: expected TractFIPS or MeasureId, found {', '.join(map(str, frame.columns[:6]))}", source=path)


def _wide(frame: pd.DataFrame, lowered: dict[str, str], path: Path) -> pd.DataFrame:
    names = {measure: lowered.get(f"{measure.lower()}_crudeprev") for measure in PLACES}
    if missing := [f"{measure}_CrudePrev" for measure, column in names.items() if column is None]:
        raise DataError(
            f"column {', '.join(missing)} missing", source=path, remedy="Get the whole GIS Friendly table; adjusted rates are not the same."
        )
    table = pd.DataFrame({PLACES[measure]: _numbers(frame[column], str(column), path)[0] for measure, column in names.items()})
    return _by_tract(table, frame[lowered["tractfips"]], path)


def _long(frame: pd.DataFrame, lowered: dict[str, str], path: Path) -> tuple[pd.DataFrame, int]:
    needed = ("year", "datavaluetypeid", "data_value")
    place = next((lowered[name] for name in ("locationname", "locationid") if name in lowered and _is_tract(frame[lowered[name]])), None)
    if missing := [name for name in needed if name not in lowered]:
        raise DataError(f"column {', '.join(missing)} missing", source=path, remedy="Get the whole table of PLACES.")
    if place is None:
        raise DataError(
            "holds no tracts (11 digits in LocationName)", source=path, remedy="Get 'Census Tract Data', not counties or places."
        )
    kept = frame[frame[lowered["measureid"]].isin(list(PLACES)) & (frame[lowered["datavaluetypeid"]] == "CrdPrv")]
    if missing := sorted(set(PLACES) - set(kept[lowered["measureid"]])):
        raise DataError(
            f"measure {', '.join(missing)} has no crude prevalence (CrdPrv)", source=path, remedy="Was the table filtered, or cut short?"
        )
    years = sorted(set(kept[lowered["year"]]))
    kept = kept.assign(value=_numbers(kept[lowered["data_value"]], "Data_Value", path)[0])
    if kept.duplicated([place, lowered["measureid"]]).any():
        raise DataError(
            f"holds a tract and measure more than once (years {', '.join(years)})", source=path, remedy="Keep one release a file."
        )
    table = kept.pivot_table(index=place, columns=lowered["measureid"], values="value", dropna=False).rename(columns=PLACES)
    table.columns.name = None
    return _by_tract(table.reset_index(drop=True), pd.Series(table.index), path), int(years[-1])


def _is_tract(column: pd.Series) -> bool:
    return bool(column.str.fullmatch(r"\d{10,11}").all())


def _by_tract(table: pd.DataFrame, ids: pd.Series, path: Path) -> pd.DataFrame:
    # Some exports are of numbers: a state below 10 has then lost its zero.
    tracts = ids.reset_index(drop=True).str.strip().str.zfill(11)
    if not tracts.str.fullmatch(r"\d{11}").all():
        wrong = tracts[~tracts.str.fullmatch(r"\d{11}")].iloc[0]
        raise DataError(f"expected tract ids of 11 digits, found {wrong!r}", source=path)
    if tracts.duplicated().any():
        raise DataError(f"tract {tracts[tracts.duplicated()].iloc[0]} occurs twice", source=path)
    return table.reset_index(drop=True).set_index(pd.Index(tracts, name="tract_id"))


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", low_memory=False)
    except pd.errors.EmptyDataError:
        raise DataError("the file is empty", source=path, remedy="Download it again.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as CSV ({error})", source=path, remedy="Download it again.") from None
    return frame.loc[:, [column for column in frame.columns if not str(column).startswith("Unnamed")]]


def _numbers(column: pd.Series, name: str, path: Path) -> tuple[pd.Series, int]:
    """Numbers with NaN for what the publishers write for none, and how many stood at a published bound."""
    text = column.astype(str).str.strip()
    bound = text.str.fullmatch(r"[\d,.]+[+-]")
    plain = text.where(~bound, text.str.slice(stop=-1)).str.replace(",", "", regex=False)
    numbers = pd.to_numeric(plain.where(~text.isin(_NOTHING)), errors="coerce").astype(float)
    wrong = numbers.isna() & ~text.isin(_NOTHING)
    if wrong.any():
        raise DataError(
            f"column {name!r} holds {text[wrong].iloc[0]!r}, which is no number", source=path, remedy="Was the file edited, or cut short?"
        )
    return numbers.where(~numbers.isin(CENSUS), np.nan), int(bound.sum())
