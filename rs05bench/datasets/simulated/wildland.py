"""Wildland that grows, dries and burns: cover, fires with severity, regrowth, and clearings that are not fires."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.simulated.landscape import Base, LandscapeTerrain, grid_around, make_terrain
from rs05bench.datasets.simulated.places import YEARS, WildPlace, weather
from rs05bench.datasets.simulated.randomness import FloatArray, generator, smooth_field
from rs05bench.datasets.simulated.spectra import illuminate, mix

SIDE = 512  # pixels; one HLS burn-scar chip
_CELLS = 3  # fires are kept apart by a 3 x 3 lattice


@dataclass(frozen=True)
class Fire:
    """One fire: ignition, and the rows and columns of the window around it (half-open)."""

    name: str
    number: int
    year: int
    day: int
    rows: tuple[int, int]
    cols: tuple[int, int]


class Wildland(Base):
    """One wildland landscape of 512 x 512 pixels.

    Args:
        place: Its facts.
        seed: The world's seed.
        fires: How many fires it has over the years, at most nine.
        name: Its name, from which its randomness follows too; default that of its region.
    """

    def __init__(self, place: WildPlace, seed: int, fires: int = 7, name: str = "") -> None:
        self.place, self.seed = place, seed
        self.name, self.climate = name or f"wild-{place.region}", place.climate
        self.grid = grid_around(place.lon, place.lat, place.zone, SIDE)
        self._count = fires

    @cached_property
    def terrain(self) -> LandscapeTerrain:
        """Static rasters."""
        return make_terrain(self.seed, self.name, self.grid, self.place.elevation, self.place.relief, 0.015)

    @cached_property
    def cover(self) -> FloatArray:
        """Shares of tree, shrub, grass and bare ground, shape (4, rows, cols)."""
        rng = generator(self.seed, "cover", self.name)
        shape = (self.grid.height, self.grid.width)
        logits = np.log(np.array(self.place.cover))[:, None, None] + np.stack(
            [0.9 * smooth_field(rng, shape, 14, rough=0.5) for _ in range(4)]
        )
        high = (self.terrain.elevation - self.place.elevation) / max(self.place.relief, 1.0)
        logits[0] += 0.35 * high
        logits[2] -= 0.25 * high
        shares = np.exp(logits)
        return (shares / shares.sum(axis=0)).astype(np.float32)

    @cached_property
    def _mottling(self) -> float:
        """How much soils differ within the place: where lava lies beside playa, dark ground is no sign of fire."""
        return float(generator(self.seed, "mottling", self.place.region).uniform(0.10, 0.60))

    @cached_property
    def soil(self) -> FloatArray:
        """Soil brightness factor."""
        rng = generator(self.seed, "soil", self.name)
        return (self.place.soil * np.exp(self._mottling * smooth_field(rng, (self.grid.height, self.grid.width), 20, rough=0.4))).astype(
            np.float32
        )

    @cached_property
    def clearings(self) -> NDArray[np.int16]:
        """Year in which ground was cleared or ploughed without fire, 0 where never."""
        rng = generator(self.seed, "clearings", self.name)
        shape = (self.grid.height, self.grid.width)
        field, when = smooth_field(rng, shape, 5), smooth_field(rng, shape, 30)
        years = np.array(YEARS)[np.clip(((when + 1.6) / 3.2 * len(YEARS)).astype(int), 0, len(YEARS) - 1)]
        return np.where(field > 1.05, years, 0).astype(np.int16)

    @cached_property
    def fires(self) -> tuple[Fire, ...]:
        """The fires, in the order of their numbers (from 1)."""
        return self._burn[0]

    @property
    def fire_number(self) -> NDArray[np.int16]:
        """Number of the fire that burned a pixel, 0 where none did."""
        return self._burn[1]

    @property
    def severity(self) -> FloatArray:
        """Severity of that fire, 0-1."""
        return self._burn[2]

    @cached_property
    def _burn(self) -> tuple[tuple[Fire, ...], NDArray[np.int16], FloatArray]:
        rng = generator(self.seed, "fires", self.name)
        shape = (self.grid.height, self.grid.width)
        number, severity = np.zeros(shape, dtype=np.int16), np.zeros(shape, dtype=np.float32)
        ragged = smooth_field(rng, shape, 9, rough=0.35)
        patches = smooth_field(rng, shape, 7, rough=0.5)
        cells = rng.permutation(_CELLS * _CELLS)[: self._count]
        years = [YEARS[(i + int(rng.integers(0, 2)) * 3) % len(YEARS)] for i in range(self._count)]
        rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]]
        side, fires = shape[0] // _CELLS, []
        for i, cell in enumerate(cells):
            radius = rng.uniform(36, 58)
            row = (cell // _CELLS + 0.5) * side + rng.uniform(-0.1, 0.1) * side
            col = (cell % _CELLS + 0.5) * side + rng.uniform(-0.1, 0.1) * side
            stretch, turn = rng.uniform(1.0, 1.6), rng.uniform(0, np.pi)
            along = (rows - row) * np.cos(turn) + (cols - col) * np.sin(turn)
            across = -(rows - row) * np.sin(turn) + (cols - col) * np.cos(turn)
            inside = np.hypot(along / stretch, across) / radius + 0.22 * ragged < 0.95
            inside &= (np.abs(rows - row) < 0.48 * side) & (np.abs(cols - col) < 0.48 * side) & ~self.terrain.is_water & (number == 0)
            level = self.place.severity + 0.10 + 0.12 * rng.standard_normal()
            severe = 1 / (1 + np.exp(-(np.log(max(level, 0.15) / max(1 - level, 0.12)) + 1.1 * patches)))
            number[inside] = i + 1
            severity[inside] = severe[inside]
            day = int(np.clip(self.place.fire_day + 18 * rng.standard_normal(), 40, 300))
            reach = int(radius * 1.5)
            window = [(max(int(c) - reach, 0), min(int(c) + reach, n)) for c, n in ((row, shape[0]), (col, shape[1]))]
            fires.append(Fire(f"{self.place.region}-{years[i]}-{i + 1:02d}", i + 1, years[i], day, window[0], window[1]))
        # Islands the fire went around: nothing burned there, so nothing is labelled there.
        islands = severity < 0.15
        number[islands], severity[islands] = 0, 0.0
        return tuple(fires), number, severity.astype(np.float32)

    def burn(self, year: int, day: int, rows: NDArray[Any], cols: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Return the share of char and the share of vegetation missing, each (n,), on a day."""
        ignition = np.array([1e6, *((fire.year - 2000) * 365.0 + fire.day for fire in self.fires)])
        since = (year - 2000) * 365.0 + day - ignition[self.fire_number[rows, cols]]
        severity = self.severity[rows, cols] * (since >= 0)
        since = np.maximum(since, 0.0)
        char = severity * np.exp(-since / self.place.char_days)
        missing = severity * np.exp(-since / self.place.regrow_days)
        return char.astype(np.float32), missing.astype(np.float32)

    @cached_property
    def _ash(self) -> float:
        """Share of pale ash among what a fire leaves here: some fuels burn black, some burn white."""
        return float(generator(self.seed, "ash", self.place.region).beta(0.5, 0.6))

    def _cleared(self, year: int, day: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        when = self.clearings[rows, cols].astype(np.float64)
        since = (year - when) * 365.0 + day - (self.place.fire_day - 5)
        return ((when > 0) * (since >= 0) * np.exp(-np.maximum(since, 0) / 260.0)).astype(np.float32)

    def reflectance(self, year: int, day: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return true reflectance (n, 6) of pixels on a day of a year."""
        sky = weather(self.seed, self.place.region, year)
        tree, shrub, grass, bare = self.cover[:, rows, cols]
        peak = self.place.green_day - 7 * sky.warmth
        green = np.exp(-0.5 * ((day - peak) / self.place.green_width) ** 2) * (1 + 0.22 * sky.rain)
        grass_green = np.clip(0.10 + 0.85 * green, 0.02, 1.0)
        shrub_green = np.clip(0.50 + 0.18 * green + 0.05 * sky.rain, 0.1, 1.0)
        char, missing = self.burn(year, day, rows, cols)
        cleared = self._cleared(year, day, rows, cols)
        alive = (1 - missing) * (1 - 0.85 * cleared)
        water = self.terrain.is_water[rows, cols].astype(np.float32)
        exposed = (1 - alive) * (tree + shrub + grass)
        ash = self._ash
        dry_litter = (1 - char) * 0.35
        land = {
            "needle": tree * alive * 0.85,
            "leaf": (tree * 0.15 + grass * grass_green) * alive,
            "shrub": shrub * alive * shrub_green,
            "dry": (shrub * (1 - shrub_green) * 0.6 + grass * (1 - grass_green)) * alive + exposed * dry_litter,
            "soil": bare + shrub * (1 - shrub_green) * 0.4 * alive + exposed * (1 - char) * 0.65,
            "char": exposed * char * (1 - ash),
            "ash": exposed * char * ash,
        }
        shares = {name: np.asarray(share * (1 - water), dtype=np.float32) for name, share in land.items()} | {"water": water}
        moist = 1 - 0.10 * np.clip(sky.rain, -2, 2)
        bright = mix(shares, self.soil[rows, cols] * np.float32(moist), self.place.redness)
        terrain = self.terrain
        return illuminate(bright, terrain.slope[rows, cols], terrain.aspect[rows, cols], self.place.lat, day)

    def structure(self, year: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return canopy height after half of the year's losses, and zeros for buildings, shape (n, 2)."""
        _, missing = self.burn(year, 274, rows, cols)
        canopy = self.cover[0][rows, cols] * (1 - 0.7 * missing) * (1 - self._cleared(year, 274, rows, cols))
        return np.stack([canopy, np.zeros_like(canopy)], axis=1).astype(np.float32)
