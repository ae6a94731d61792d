"""A city: cores and suburbs, greenness, income, tracts, and fourteen indicators that follow from them differently in each city."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.simulated.landscape import Base, LandscapeTerrain, grid_around, make_terrain
from rs05bench.datasets.simulated.places import URBAN_YEARS, CityPlace, weather
from rs05bench.datasets.simulated.randomness import FloatArray, generator, smooth_field
from rs05bench.datasets.simulated.spectra import mix

if TYPE_CHECKING:
    import pandas as pd
    from shapely import Polygon

INDICATORS = (
    "crime_rate",
    "violent_crime_rate",
    "property_crime_rate",
    "log_income",
    "poverty_pct",
    "unemployment_pct",
    "obesity_pct",
    "diabetes_pct",
    "asthma_pct",
    "mental_health_pct",
    "drive_alone_pct",
    "transit_pct",
    "walk_pct",
    "bike_pct",
)


class City(Base):
    """One city landscape.

    Args:
        place: Its facts.
        seed: The world's seed.
        side: Rows and columns.
        tracts: How many neighbourhoods.
    """

    def __init__(self, place: CityPlace, seed: int, side: int = 144, tracts: int = 70) -> None:
        self.place, self.seed, self._tract_count = place, seed, tracts
        self.name, self.climate = f"city-{place.metro}", place.climate
        self.grid = grid_around(place.lon, place.lat, place.zone, side)

    @cached_property
    def terrain(self) -> LandscapeTerrain:
        """Static rasters."""
        return make_terrain(self.seed, self.name, self.grid, 60.0, 12.0, 0.02)

    @cached_property
    def density(self) -> FloatArray:
        """Built density, 0-1, highest at the cores."""
        rng = generator(self.seed, "density", self.name)
        side = self.grid.width
        rows, cols = np.mgrid[0:side, 0:side] / side
        near = np.zeros((side, side))
        for i in range(self.place.cores):
            row, col = rng.uniform(0.3, 0.7, 2) if self.place.cores == 1 else rng.uniform(0.15, 0.85, 2)
            near = np.maximum(near, np.exp(-np.hypot(rows - row, cols - col) / (0.22 if i == 0 else 0.15)) * (1.0 if i == 0 else 0.75))
        level = -2.3 + 4.2 * near + 0.6 * smooth_field(rng, (side, side), 9, rough=0.4) + 0.15 * np.log(self.place.transit + 0.3)
        return (1 / (1 + np.exp(-level))).astype(np.float32)

    @cached_property
    def wealth(self) -> FloatArray:
        """Relative income, mean 0, standard deviation about 1."""
        rng = generator(self.seed, "wealth", self.name)
        field = smooth_field(rng, (self.grid.height, self.grid.width), 13, rough=0.25)
        core = (self.density - self.density.mean()) / self.density.std()
        return (0.85 * field + self.place.core_income * core).astype(np.float32)

    @cached_property
    def age(self) -> FloatArray:
        """Share of old housing stock, 0-1; older roofs are darker."""
        rng = generator(self.seed, "age", self.name)
        return (1 / (1 + np.exp(-1.5 * smooth_field(rng, (self.grid.height, self.grid.width), 16)))).astype(np.float32)

    @cached_property
    def _green(self) -> FloatArray:
        rng = generator(self.seed, "green", self.name)
        patch = smooth_field(rng, (self.grid.height, self.grid.width), 4)
        level = self.place.greenness - 0.34 * (self.density - 0.4) + 0.16 * self.place.green_income * self.wealth + 0.05 * patch
        return np.clip(level, 0.02, 0.9).astype(np.float32)

    @cached_property
    def tract_shapes(self) -> tuple[Polygon, ...]:
        """Tract polygons in UTM metres: a Voronoi diagram whose seeds crowd where the city is dense."""
        import shapely

        rng = generator(self.seed, "tracts", self.name)
        odds = (0.15 + self.density).ravel().astype(np.float64)
        picks = rng.choice(odds.size, size=self._tract_count * 3, replace=False, p=odds / odds.sum())
        rows, cols = np.divmod(picks, self.grid.width)
        kept: list[int] = []
        apart = 0.45 * self.grid.width / np.sqrt(self._tract_count)
        for i in range(len(picks)):
            if len(kept) < self._tract_count and all(np.hypot(rows[i] - rows[k], cols[i] - cols[k]) > apart for k in kept):
                kept.append(i)
        x, y = self.grid.xy(rows[kept], cols[kept])
        grid = self.grid
        box = shapely.box(grid.west, grid.north - grid.height * 30, grid.west + grid.width * 30, grid.north)
        cells = shapely.voronoi_polygons(shapely.multipoints(np.column_stack([x, y])), extend_to=box)
        shapes = [shapely.set_precision(shapely.intersection(cell, box), 0.1) for cell in cells.geoms]
        shapes.sort(key=lambda shape: (-round(shape.centroid.y), round(shape.centroid.x)))
        return tuple(shapes)

    @cached_property
    def tract_number(self) -> NDArray[np.int32]:
        """Number of the tract a pixel belongs to."""
        from rasterio.features import rasterize
        from rasterio.transform import from_origin

        shapes = [(shape, i) for i, shape in enumerate(self.tract_shapes)]
        transform = from_origin(self.grid.west, self.grid.north, 30, 30)
        return np.asarray(rasterize(shapes, out_shape=(self.grid.height, self.grid.width), transform=transform, fill=-1, dtype="int32"))

    def indicators(self) -> pd.DataFrame:
        """Return one row a tract and year: ``tract_id``, ``year``, ``population``, the three groups and the fourteen indicators."""
        import pandas as pd

        numbers, known = self.tract_number.ravel(), self.tract_number.ravel() >= 0
        n = len(self.tract_shapes)
        count = np.maximum(np.bincount(numbers[known], minlength=n), 1)
        density, wealth, age, green = (
            np.bincount(numbers[known], weights=field.ravel()[known], minlength=n) / count
            for field in (self.density, self.wealth, self.age, self._green)
        )
        rng = generator(self.seed, "indicators", self.name)
        own = rng.standard_normal((n, len(INDICATORS) + 1))
        place = self.place
        # How strongly each indicator hangs on its causes is the city's own affair: region shift in the labels.
        local = 1 + 0.22 * rng.standard_normal(6)
        offset = rng.standard_normal(len(INDICATORS))
        frames = []
        for year in URBAN_YEARS:
            rng_year = generator(self.seed, "indicators", self.name, year)
            now = rng_year.standard_normal((n, len(INDICATORS)))
            since = year - 2020
            noise = 0.75 * own[:, :-1] + 0.45 * now
            pandemic = 1 - 0.28 * (since <= 1)
            rich = wealth
            log_income = place.income + 0.30 * local[0] * rich + 0.035 * since + 0.11 * noise[:, 3]
            transit = place.transit * pandemic * (1.2 + 11 * density**1.3) * local[1] - 0.9 * rich + 1.2 * noise[:, 11]
            walk = 1.0 + 13 * density**2 * local[2] + 1.0 * noise[:, 12]
            bike = 0.7 + 1.6 * density * (place.climate.temperature < 14) + 0.4 * offset[13] + 0.6 * noise[:, 13]
            home = 6 + 7 * (since >= 1) + 2.0 * rich
            obesity = place.obesity - 4.2 * local[3] * rich - 5.5 * (density - 0.4) + 2.2 * (age - 0.5) + 0.35 * since + 1.5 * noise[:, 6]
            poverty = 14 - 6.0 * local[0] * rich + 5 * density + 2.2 * noise[:, 4] + 2 * offset[4]
            crime = 3.2 + 0.8 * density - 0.35 * local[4] * rich + 0.35 * offset[0] + 0.30 * noise[:, 0]
            violent = np.exp(crime - 1.7 - 0.15 * rich + 0.15 * noise[:, 1])
            property_ = np.exp(crime + 0.10 * noise[:, 2])
            frames.append(
                pd.DataFrame(
                    {
                        "tract_number": np.arange(n),
                        "year": year,
                        "population": np.round(1200 + 5200 * density + 300 * own[:, -1] ** 2).astype(int),
                        "density": density,
                        "wealth": wealth,
                        "crime_rate": violent + property_,
                        "violent_crime_rate": violent,
                        "property_crime_rate": property_,
                        "log_income": log_income,
                        "poverty_pct": np.clip(poverty, 0.5, 70),
                        "unemployment_pct": np.clip(5.5 - 1.6 * rich + 3.0 * (since == 0) + noise[:, 5] + offset[5], 0.3, 35),
                        "obesity_pct": np.clip(obesity, 8, 60),
                        "diabetes_pct": np.clip(0.34 * obesity + 0.8 * offset[7] + 0.8 * noise[:, 7], 2, 30),
                        "asthma_pct": np.clip(9.8 - 0.7 * rich + 0.8 * age + offset[8] * 0.6 + 0.5 * noise[:, 8], 4, 20),
                        "mental_health_pct": np.clip(15 - 1.6 * rich - 2.0 * green + 1.0 * (since >= 1) + 0.9 * noise[:, 9], 5, 35),
                        "transit_pct": np.clip(transit, 0.0, 75),
                        "walk_pct": np.clip(walk, 0, 40),
                        "bike_pct": np.clip(bike, 0, 15),
                        "drive_alone_pct": np.clip(
                            100 - np.clip(transit, 0, 75) - np.clip(walk, 0, 40) - np.clip(bike, 0, 15) - home - 8 + 1.2 * noise[:, 10],
                            4,
                            92,
                        ),
                    }
                )
            )
        table = pd.concat(frames, ignore_index=True)
        table["tract_id"] = [f"{self.place.fips}{number + 1:04d}00" for number in table["tract_number"]]
        table["metro"] = self.place.metro
        return table

    def reflectance(self, year: int, day: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return true reflectance (n, 6) of pixels on a day of a year."""
        sky = weather(self.seed, self.place.metro, year)
        density, age, green = self.density[rows, cols], self.age[rows, cols], self._green[rows, cols]
        amplitude = np.clip((20 - self.climate.temperature) / 14, 0.05, 0.8)
        season = 1 - amplitude * (0.5 - 0.5 * np.cos(2 * np.pi * (day - 195) / 365))
        leaf = green * np.clip(season + 0.05 * sky.rain, 0.1, 1.1)
        built = np.clip(0.18 + 0.8 * density + 0.02 * (year - 2020) * (density < 0.35), 0, 1) * (1 - 0.75 * green)
        water = self.terrain.is_water[rows, cols]
        land = (~water).astype(np.float32)
        shares = {
            "leaf": land * leaf,
            "dry": land * (green - leaf).clip(0) * 0.7,
            "soil": land * (0.12 + 0.10 * (1 - density)),
            "roof": land * built,
            "char": land * density * 0.18,  # streets and deep shade of tall buildings
            "water": water.astype(np.float32),
        }
        reflect = mix({k: np.asarray(v, dtype=np.float32) for k, v in shares.items()}, np.ones(density.shape, dtype=np.float32), 0.1)
        roof = (self.place.roof * (1.18 - 0.36 * age)).astype(np.float32)
        return (reflect * (1 + built[:, None] * (roof - 1)[:, None] * land[:, None])).astype(np.float32)

    def structure(self, year: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return canopy and building height, shape (n, 2)."""
        return np.stack([0.6 * self._green[rows, cols], 0.1 + self.density[rows, cols] ** 1.5], axis=1).astype(np.float32)
