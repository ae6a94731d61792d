"""The columns of the urban indicator table.

The table behind arXiv 2604.03456 is not published. This schema is ours: the same 14 kinds of indicator, each named after a public source
it can be
filled from, so that two teams who fill it speak of the same quantity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

METROS = ("Atlanta", "Chicago", "Houston", "Los Angeles", "New York", "Seattle")
YEARS = (2020, 2021, 2022, 2023)
UNIT_COLUMNS = ("tract_id", "metro", "year")
GROUP_COLUMNS = ("income_group", "density_group", "urban_form")
LAYER = "tracts"

_POLICE = "reported incidents of the city's open police data / ACS population"
_ACS = "US Census Bureau, American Community Survey, 5-year estimates"
_PLACES = "CDC PLACES, model-based small-area estimates for adults"


@dataclass(frozen=True, slots=True)
class Indicator:
    """One column.

    Attributes:
        name: Column name.
        theme: crime, income, health or travel.
        unit: What the number counts.
        source: Where it can be taken from.
        low: Smallest possible value.
        high: Largest plausible value; beyond it the column is in other units.
        meaning: In words.
    """

    name: str
    theme: Literal["crime", "income", "health", "travel"]
    unit: str
    source: str
    low: float
    high: float
    meaning: str


INDICATORS = (
    Indicator("crime_rate", "crime", "per 1,000 residents and year", _POLICE, 0, 10_000, "all reported crimes"),
    Indicator(
        "violent_crime_rate", "crime", "per 1,000 residents and year", _POLICE, 0, 5_000, "homicide, rape, robbery, aggravated assault"
    ),
    Indicator(
        "property_crime_rate", "crime", "per 1,000 residents and year", _POLICE, 0, 10_000, "burglary, theft, motor vehicle theft, arson"
    ),
    Indicator("log_income", "income", "ln(US dollars)", f"{_ACS}, B19013", 7, 14, "natural logarithm of the median household income"),
    Indicator("poverty_pct", "income", "percent", f"{_ACS}, S1701", 0, 100, "people below the poverty line"),
    Indicator("unemployment_pct", "income", "percent", f"{_ACS}, S2301", 0, 100, "unemployed among the labour force"),
    Indicator("obesity_pct", "health", "percent", _PLACES, 0, 100, "adults with a body mass index of 30 or more"),
    Indicator("diabetes_pct", "health", "percent", _PLACES, 0, 100, "adults with diagnosed diabetes"),
    Indicator("asthma_pct", "health", "percent", _PLACES, 0, 100, "adults with current asthma"),
    Indicator("mental_health_pct", "health", "percent", _PLACES, 0, 100, "adults with 14 or more days of bad mental health a month"),
    Indicator("drive_alone_pct", "travel", "percent", f"{_ACS}, B08301", 0, 100, "workers who drive alone to work"),
    Indicator("transit_pct", "travel", "percent", f"{_ACS}, B08301", 0, 100, "workers who take public transport"),
    Indicator("walk_pct", "travel", "percent", f"{_ACS}, B08301", 0, 100, "workers who walk"),
    Indicator("bike_pct", "travel", "percent", f"{_ACS}, B08301", 0, 100, "workers who cycle"),
)
"""The 14 indicators, in the order of `UrbanIndicators.indicators`."""

NAMES = tuple(indicator.name for indicator in INDICATORS)
