"""Farmland: sections split into parcels, rotations over the years, and crops that green up and ripen on their own calendars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.simulated.landscape import Base, LandscapeTerrain, grid_around, make_terrain
from rs05bench.datasets.simulated.places import CROPS, YEARS, FarmPlace, weather
from rs05bench.datasets.simulated.randomness import FloatArray, generator, smooth_field
from rs05bench.datasets.simulated.spectra import illuminate, mix

SIDE = 288  # pixels; a 224-pixel Albers chip fits inside, turned
_CORN, _SOY, _WHEAT, _ALFALFA, _COTTON, _FALLOW = range(len(CROPS))
_ROTATIONS: tuple[tuple[int, ...], ...] = ((_CORN, _SOY), (_CORN,), (_WHEAT, _FALLOW), (_ALFALFA,), (_COTTON,), (_WHEAT, _SOY))

# Day of half green-up, its pace, day of half senescence, its pace, greatest cover; per crop, at 40 degrees north.
_CALENDAR = np.array(
    [
        (166, 9, 262, 11, 0.92),
        (180, 10, 258, 9, 0.88),
        (84, 14, 172, 8, 0.82),
        (104, 12, 290, 15, 0.80),
        (186, 13, 284, 13, 0.74),
        (140, 30, 250, 30, 0.16),
    ]
)


@dataclass(frozen=True)
class Parcel:
    """One parcel: its number in the landscape, and its corners in pixel coordinates (row0, row1, col0, col1), half-open."""

    number: int
    rows: tuple[int, int]
    cols: tuple[int, int]
    round: bool


class Farmland(Base):
    """One county of 288 x 288 pixels.

    Args:
        place: Its facts.
        seed: The world's seed.
        window: Side of the central square whose parcels carry labels, in pixels.
    """

    def __init__(self, place: FarmPlace, seed: int, window: int = SIDE) -> None:
        self.place, self.seed = place, seed
        first = (SIDE - window) // 4 * 2  # even, as the embedding's cells need
        self.window = (first, first + window, first, first + window)
        self.name, self.climate = f"farm-{place.state}-{place.county}", place.climate
        self.grid = grid_around(place.lon, place.lat, place.zone, SIDE)

    @cached_property
    def terrain(self) -> LandscapeTerrain:
        """Static rasters."""
        return make_terrain(self.seed, self.name, self.grid, 300.0, 9.0, 0.01)

    @cached_property
    def soil(self) -> FloatArray:
        """Soil brightness factor."""
        rng = generator(self.seed, "soil", self.name)
        return (self.place.soil * np.exp(0.14 * smooth_field(rng, (SIDE, SIDE), 18, rough=0.4))).astype(np.float32)

    @cached_property
    def parcels(self) -> tuple[Parcel, ...]:
        """The parcels: each section of about 800 m whole, halved or quartered, with a road of two pixels around it."""
        rng = generator(self.seed, "parcels", self.name)
        step, parcels = self.place.section, list[Parcel]()
        for top in range(1, SIDE - step, step):
            for left in range(1, SIDE - step, step):
                style = int(rng.choice(4, p=(0.12, 0.26, 0.26, 0.36)))
                cut_r, cut_c = (int(step // 2 + rng.integers(-2, 3)) for _ in range(2))
                tall = [(0, step)] if style in (0, 1) else [(0, cut_r), (cut_r, step)]
                wide = [(0, step)] if style in (0, 2) else [(0, cut_c), (cut_c, step)]
                for r0, r1 in tall:
                    for c0, c1 in wide:
                        pivot = self.place.irrigation > 0.15 and len(tall) == len(wide) and rng.random() < 0.4
                        number = len(parcels)
                        parcels.append(Parcel(number, (top + r0 + 1, top + r1 - 1), (left + c0 + 1, left + c1 - 1), bool(pivot)))
        return tuple(parcels)

    @cached_property
    def parcel_number(self) -> NDArray[np.int32]:
        """Number of the parcel a pixel belongs to, -1 between parcels."""
        numbers = np.full((SIDE, SIDE), -1, dtype=np.int32)
        for parcel in self.parcels:
            (r0, r1), (c0, c1) = parcel.rows, parcel.cols
            inside = np.ones((r1 - r0, c1 - c0), dtype=bool)
            if parcel.round:
                rows, cols = np.mgrid[r0:r1, c0:c1]
                row, col = (r0 + r1 - 1) / 2, (c0 + c1 - 1) / 2
                inside = np.hypot(rows - row, cols - col) <= min(r1 - r0, c1 - c0) / 2
            numbers[r0:r1, c0:c1][inside] = parcel.number
        return np.where(self.terrain.is_water, -1, numbers).astype(np.int32)

    @cached_property
    def crops(self) -> NDArray[np.int64]:
        """Index of the crop of each parcel in each year, shape (years, parcels)."""
        rng = generator(self.seed, "rotation", self.name)
        n = len(self.parcels)
        rows, cols = self._centres()
        belt = smooth_field(rng, (SIDE, SIDE), 40)[rows, cols]
        tilt = np.array([0.7, 0.4, -0.6, -0.2, 0.3, -0.5])
        logits = np.log(np.array(self.place.rotations))[None, :] + belt[:, None] * tilt[None, :] + rng.gumbel(size=(n, 6))
        kind, phase = logits.argmax(axis=1), rng.integers(0, 2, n)
        crops = np.zeros((len(YEARS), n), dtype=np.int64)
        broken = rng.random((len(YEARS), n)) < 0.10
        other = rng.integers(0, len(CROPS), (len(YEARS), n))
        for i in range(len(YEARS)):
            planned = np.array([_ROTATIONS[k][(i + p) % len(_ROTATIONS[k])] for k, p in zip(kind, phase, strict=True)])
            crops[i] = np.where(broken[i], other[i], planned)
        return crops

    def _centres(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = np.array([(p.rows[0] + p.rows[1]) // 2 for p in self.parcels])
        cols = np.array([(p.cols[0] + p.cols[1]) // 2 for p in self.parcels])
        return rows, cols

    @cached_property
    def _management(self) -> tuple[FloatArray, FloatArray]:
        """Delay in days and vigour of each parcel in each year, (years, parcels) each."""
        rng = generator(self.seed, "management", self.name)
        n = len(self.parcels)
        delay = 6 * rng.standard_normal(n)[None, :] + 6 * rng.standard_normal((len(YEARS), n))
        vigour = 1 + 0.08 * rng.standard_normal(n)[None, :] + 0.07 * rng.standard_normal((len(YEARS), n))
        return delay.astype(np.float32), vigour.astype(np.float32)

    @cached_property
    def _habits(self) -> FloatArray:
        """Each crop's own delay here (varieties and habits of the state and the county), in days: no other place has them."""
        state = generator(self.seed, "habits", self.place.state).standard_normal(len(CROPS))
        county = generator(self.seed, "habits", self.name).standard_normal(len(CROPS))
        return (7 * state + 3 * county).astype(np.float32)

    @cached_property
    def natural(self) -> NDArray[np.int8]:
        """What stands between the parcels: 0 grass, 1 trees, 2 roads and yards."""
        rng = generator(self.seed, "natural", self.name)
        field = smooth_field(rng, (SIDE, SIDE), 6)
        kind = np.where(field > 0.9, 1, np.where(field < -0.7, 2, 0))
        return np.where(self.terrain.road < 20, 2, kind).astype(np.int8)

    def greenness(self, year: int, day: int, parcels: NDArray[Any]) -> FloatArray:
        """Return the green cover (0-1) of parcels on a day of a year."""
        sky = weather(self.seed, self.place.state, year)
        i = YEARS.index(year)
        crop = self.crops[i, parcels]
        up, up_pace, down, down_pace, most = _CALENDAR[crop].T
        delay, vigour = self._management
        shift = self.place.calendar + self._habits[crop] + delay[i, parcels] - 5 * sky.warmth
        dry = 1 + (1 - self.place.irrigation) * (0.14 * sky.rain - 0.10 * (self.climate.precipitation < 600))
        rise = 1 / (1 + np.exp(-(day - up - shift) / up_pace))
        fall = 1 / (1 + np.exp(-(day - down - 0.7 * shift) / down_pace))
        green = most * vigour[i, parcels] * dry * (rise - fall)
        # Alfalfa is cut about every 35 days; each parcel has its own rhythm.
        rhythm = 2 * np.pi * (day + 35 * ((parcels * 0.618) % 1)) / 35
        green = np.where(crop == _ALFALFA, green * (0.80 + 0.22 * np.cos(rhythm)), green)
        return np.clip(green, 0.02, 0.98).astype(np.float32)

    def reflectance(self, year: int, day: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return true reflectance (n, 6) of pixels on a day of a year."""
        sky = weather(self.seed, self.place.state, year)
        number = self.parcel_number[rows, cols]
        planted = number >= 0
        parcel = np.maximum(number, 0)
        crop = self.crops[YEARS.index(year), parcel]
        green = self.greenness(year, day, parcel)
        natural = self.natural[rows, cols]
        season = np.exp(-0.5 * ((day - 175 - self.place.calendar) / 62) ** 2) * (0.75 + 0.1 * sky.rain)
        water = self.terrain.is_water[rows, cols]
        ripe = np.where((crop == _WHEAT) & (day > 150) & (day < 230), 0.45, np.where(day > 265, 0.30, 0.12)).astype(np.float32)
        # Broad leaves of cotton and soy are brighter in the near infrared, wet ones darker in the short-wave: shrub stands for the first.
        broad = np.where((crop == _SOY) | (crop == _ALFALFA), 0.0, np.where(crop == _COTTON, 0.30, 0.14)).astype(np.float32)
        grass, trees, built = ((natural == k) & ~planted & ~water for k in range(3))
        shares = {
            "leaf": planted * green * (1 - broad) + grass * season + trees * (0.25 + 0.55 * season),
            "shrub": planted * green * broad,
            "needle": trees * 0.10,
            "dry": planted * (1 - green) * ripe + grass * (1 - season),
            "soil": planted * (1 - green) * (1 - ripe) + built * 0.3 + trees * 0.1,
            "roof": built * 0.7,
            "water": water.astype(np.float32),
        }
        wet = 1 - 0.10 * np.clip(sky.rain, -2, 2) - 0.12 * self.place.irrigation * (130 < day < 260)
        bright = mix(
            {k: np.asarray(v, dtype=np.float32) for k, v in shares.items()}, self.soil[rows, cols] * np.float32(wet), self.place.redness
        )
        terrain = self.terrain
        return illuminate(bright, terrain.slope[rows, cols], terrain.aspect[rows, cols], self.place.lat, day)

    def structure(self, year: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return canopy height (trees, tall crops) and building height, shape (n, 2)."""
        number = self.parcel_number[rows, cols]
        crop = self.crops[YEARS.index(year), np.maximum(number, 0)]
        natural = np.where(number >= 0, -1, self.natural[rows, cols])
        canopy = np.where(natural == 1, 0.6, np.where((number >= 0) & (crop == _CORN), 0.12, 0.04))
        return np.stack([canopy, 0.08 * (natural == 2)], axis=1).astype(np.float32)
