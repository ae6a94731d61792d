"""Where the simulated landscapes lie, and what makes each of them its own: climate, soils, cover, calendar.

The places are real (so that UTM zones, MGRS tiles and distances are real); what grows, burns and stands there is not.
Coordinates are WGS84 degrees of the landscape's centre. ``zone`` is the UTM zone of the grid.
"""

# ruff: noqa: E501  (one place a line reads as the table it is)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rs05bench.datasets.simulated.randomness import generator

YEARS = (2018, 2019, 2020, 2021, 2022, 2023)
CROP_YEARS = (2019, 2020, 2021, 2022)
URBAN_YEARS = (2020, 2021, 2022, 2023)

CROPS = ("Corn", "Soybeans", "Winter Wheat", "Alfalfa", "Cotton", "Fallow/Idle Cropland")
METROS = ("Atlanta", "Chicago", "Houston", "Los Angeles", "New York", "Seattle")


@dataclass(frozen=True)
class Climate:
    """Normals of a place. Temperature in degrees C, precipitation in mm a year, Koppen-Geiger code."""

    temperature: float
    precipitation: float
    koppen: str


@dataclass(frozen=True)
class WildPlace:
    """One wildland landscape: a region (state) with its ecoregion, biome, cover mix and fire season.

    ``cover`` holds the relative weights of tree, shrub, grass and bare ground; ``green_day`` is the day of year at which grass
    is greenest; ``char_days`` and ``regrow_days`` are the e-folding times of the burn signal.
    """

    region: str
    ecoregion: str
    biome: str
    lon: float
    lat: float
    zone: int
    climate: Climate
    cover: tuple[float, float, float, float]
    elevation: float
    relief: float
    soil: float
    redness: float
    green_day: float
    green_width: float
    fire_day: float
    severity: float
    char_days: float
    regrow_days: float


@dataclass(frozen=True)
class FarmPlace:
    """One farmland landscape: a county, with the weights of its rotations and its management.

    ``rotations`` weighs (corn-soy, corn only, wheat-fallow, alfalfa, cotton, wheat-soy); ``calendar`` shifts all sowing, in days;
    ``irrigation`` is 0 (rain-fed) to 1.
    """

    county: str
    state: str
    system: str
    lon: float
    lat: float
    zone: int
    climate: Climate
    rotations: tuple[float, float, float, float, float, float]
    calendar: float
    irrigation: float
    soil: float
    redness: float
    section: int


@dataclass(frozen=True)
class CityPlace:
    """One city landscape.

    ``green_income`` says how strongly income shows as greenness, ``core_income`` whether the dense core is richer (positive) or
    poorer; ``transit`` scales public transport use. These three are what changes between cities.
    """

    metro: str
    fips: str
    lon: float
    lat: float
    zone: int
    climate: Climate
    greenness: float
    green_income: float
    core_income: float
    transit: float
    income: float
    obesity: float
    roof: float
    cores: int
    coast: str


WILD_PLACES = (
    WildPlace("CA", "klamath-mountains", "forest", -122.62, 40.32, 10, Climate(12.5, 1150, "Csb"), (5.0, 2.0, 1.0, 0.6), 1100, 420, 1.0, 0.25, 105, 45, 225, 0.62, 420, 900),
    WildPlace("OR", "great-basin", "shrubland", -118.60, 43.31, 11, Climate(8.0, 290, "BSk"), (0.5, 4.0, 2.5, 1.6), 1350, 160, 1.25, 0.05, 135, 35, 215, 0.48, 150, 500),
    WildPlace("NV", "great-basin", "shrubland", -116.90, 40.68, 11, Climate(9.2, 240, "BSk"), (0.3, 3.5, 2.0, 2.4), 1600, 240, 1.45, 0.10, 125, 32, 205, 0.44, 140, 520),
    WildPlace("ID", "northern-rockies", "forest", -115.32, 44.58, 11, Climate(4.0, 780, "Dfb"), (5.5, 1.4, 1.2, 0.5), 1900, 480, 0.9, 0.00, 165, 40, 232, 0.68, 450, 1000),
    WildPlace("MT", "northern-rockies", "forest", -113.62, 46.42, 12, Climate(4.6, 560, "Dfb"), (4.0, 1.4, 2.4, 0.6), 1700, 380, 0.95, 0.05, 160, 42, 228, 0.60, 400, 900),
    WildPlace("AZ", "mojave", "shrubland", -113.72, 35.20, 12, Climate(17.5, 260, "BWh"), (0.3, 3.0, 1.2, 3.4), 1150, 260, 1.55, 0.40, 75, 35, 182, 0.38, 110, 600),
    WildPlace("KS", "flint-hills", "grassland", -96.60, 38.40, 14, Climate(13.0, 880, "Dfa"), (0.5, 0.6, 6.0, 0.4), 410, 28, 0.8, 0.05, 165, 55, 98, 0.74, 60, 90),
    WildPlace("OK", "flint-hills", "grassland", -96.42, 36.72, 14, Climate(15.2, 980, "Cfa"), (1.4, 0.8, 5.0, 0.4), 300, 34, 0.9, 0.30, 155, 58, 88, 0.66, 55, 85),
    WildPlace("GA", "southeastern-plains", "forest", -82.62, 30.92, 17, Climate(19.6, 1290, "Cfa"), (4.6, 2.4, 1.4, 0.3), 45, 5, 0.75, 0.10, 140, 80, 118, 0.46, 95, 180),
    WildPlace("WA", "palouse", "agriculture", -117.42, 46.88, 11, Climate(9.0, 500, "Csb"), (0.3, 0.5, 5.0, 1.6), 720, 70, 1.0, 0.15, 142, 34, 222, 0.72, 70, 200),
)  # fmt: skip

FARM_PLACES = (
    FarmPlace("Madera", "California", "irrigated-west", -120.0, 37.00, 10, Climate(17.2, 290, "BSk"), (0.7, 1.4, 0.8, 2.4, 2.6, 0.4), -14, 0.95, 1.25, 0.10, 24),
    FarmPlace("Kings", "California", "irrigated-west", -119.80, 36.10, 11, Climate(17.6, 210, "BWk"), (0.5, 1.2, 1.0, 2.0, 3.2, 0.4), -18, 0.95, 1.35, 0.10, 24),
    FarmPlace("Twin Falls", "Idaho", "irrigated-west", -114.40, 42.58, 11, Climate(9.6, 260, "BSk"), (0.9, 1.8, 1.4, 3.0, 0.5, 0.6), 12, 0.90, 1.15, 0.00, 24),
    FarmPlace("Bingham", "Idaho", "irrigated-west", -112.40, 43.22, 12, Climate(7.4, 280, "BSk"), (0.8, 1.2, 2.2, 3.0, 0.4, 0.8), 16, 0.85, 1.10, 0.00, 24),
    FarmPlace("Story", "Iowa", "corn-belt", -93.50, 42.02, 15, Climate(9.4, 900, "Dfa"), (5.0, 1.4, 0.5, 0.8, 0.3, 0.6), 4, 0.05, 0.60, 0.00, 24),
    FarmPlace("Carroll", "Iowa", "corn-belt", -94.90, 42.03, 15, Climate(9.0, 850, "Dfa"), (4.4, 1.8, 0.6, 1.2, 0.3, 0.5), 6, 0.05, 0.65, 0.00, 24),
    FarmPlace("Champaign", "Illinois", "corn-belt", -88.20, 40.12, 16, Climate(11.2, 1010, "Dfa"), (5.0, 1.0, 0.5, 0.5, 0.4, 1.6), -3, 0.05, 0.55, 0.05, 24),
    FarmPlace("McLean", "Illinois", "corn-belt", -88.80, 40.48, 16, Climate(10.8, 980, "Dfa"), (5.2, 1.2, 0.4, 0.6, 0.3, 1.2), -1, 0.05, 0.58, 0.05, 24),
    FarmPlace("Thomas", "Kansas", "plains-dryland", -101.05, 39.36, 14, Climate(10.6, 480, "BSk"), (0.8, 1.6, 5.0, 0.7, 0.5, 0.8), 2, 0.25, 0.95, 0.10, 24),
    FarmPlace("Ford", "Kansas", "plains-dryland", -99.90, 37.72, 14, Climate(12.8, 560, "Cfa"), (0.9, 1.2, 5.0, 1.0, 1.0, 1.0), -6, 0.20, 0.95, 0.20, 24),
    FarmPlace("Hale", "Texas", "plains-dryland", -101.82, 34.08, 14, Climate(15.0, 500, "BSk"), (0.4, 1.4, 2.4, 0.7, 4.0, 0.4), -16, 0.40, 1.05, 0.45, 24),
    FarmPlace("Lubbock", "Texas", "plains-dryland", -101.83, 33.58, 14, Climate(15.8, 480, "BSk"), (0.3, 0.9, 2.0, 0.6, 5.0, 0.4), -18, 0.35, 1.10, 0.55, 24),
)  # fmt: skip

CITY_PLACES = (
    CityPlace("Atlanta", "13121", -84.40, 33.76, 16, Climate(17.0, 1270, "Cfa"), 0.52, 0.60, -0.15, 1.0, 11.02, 29.5, 0.95, 2, ""),
    CityPlace("Chicago", "17031", -87.70, 41.88, 16, Climate(10.4, 960, "Dfa"), 0.38, 0.55, 0.25, 1.6, 11.04, 29.0, 0.85, 1, "east"),
    CityPlace("Houston", "48201", -95.40, 29.76, 15, Climate(21.0, 1290, "Cfa"), 0.46, 0.80, -0.35, 0.7, 10.96, 30.5, 1.10, 3, ""),
    CityPlace("Los Angeles", "06037", -118.28, 34.04, 11, Climate(18.6, 370, "Csa"), 0.30, 1.00, -0.40, 0.9, 11.06, 27.0, 1.30, 3, ""),
    CityPlace("New York", "36061", -73.95, 40.78, 18, Climate(13.0, 1230, "Cfa"), 0.30, 0.35, 0.45, 2.4, 11.14, 26.5, 0.90, 1, "west"),
    CityPlace("Seattle", "53033", -122.33, 47.62, 10, Climate(11.4, 960, "Csb"), 0.48, 0.30, 0.15, 1.5, 11.18, 26.0, 0.75, 2, "west"),
)  # fmt: skip


@dataclass(frozen=True)
class Weather:
    """Anomalies of one year in one region, in standard deviations: warmth advances the season, rain greens it."""

    warmth: float
    rain: float


def weather(seed: int, region: str, year: int) -> Weather:
    """Return the year's weather in a region: half of it is shared by all regions, so a year is a shift of its own."""
    common = generator(seed, "weather", year).standard_normal(2)
    local = generator(seed, "weather", year, region).standard_normal(2)
    warmth, rain = np.sqrt(0.55) * common + np.sqrt(0.45) * local
    return Weather(float(warmth), float(rain))
