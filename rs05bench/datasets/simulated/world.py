"""The simulated world: all landscapes of one seed, and the tables sampled from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from rs05bench.datasets.simulated.city import City
from rs05bench.datasets.simulated.farmland import Farmland
from rs05bench.datasets.simulated.places import CITY_PLACES, FARM_PLACES, WILD_PLACES
from rs05bench.datasets.simulated.wildland import Wildland
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

TASKS = ("burn-scar", "crop", "urban")


@dataclass(frozen=True)
class Size:
    """How much of the world is made.

    Attributes:
        fires: Fires a wildland.
        pixels: Sampled pixels a fire.
        parcels: Labelled parcels a county.
        tracts: Tracts a city.
        city_side: Side of a city, pixels.
        farm_window: Side of the window of a county that carries labels (and, in files, embeddings), pixels.
        every: Every how many-th place is there at all.
    """

    fires: int
    pixels: int
    parcels: int
    tracts: int
    city_side: int
    farm_window: int
    every: int = 1


SIZES = {"tiny": Size(4, 24, 16, 24, 96, 88, every=4), "small": Size(7, 36, 50, 70, 144, 136), "medium": Size(9, 120, 150, 220, 256, 288)}


SOUTHWARD = ("OK",)
"""States of which a degree north of the wildland is another state."""


@dataclass(frozen=True)
class World:
    """All landscapes of one size and seed. Nothing is computed before it is asked for.

    Attributes:
        size: ``tiny`` (three regions, for tests), ``small`` or ``medium``.
        seed: Everything random follows from it.
    """

    size: str = "small"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise DataError(f"no simulated size '{self.size}'", remedy=f"Choose one of: {', '.join(SIZES)}.")
        if self.seed < 0:
            raise DataError(f"the seed must not be negative, found {self.seed}")

    @property
    def counts(self) -> Size:
        """The numbers behind the size's name."""
        return SIZES[self.size]

    @cached_property
    def wildlands(self) -> tuple[Wildland, ...]:
        """One wildland a region."""
        return tuple(Wildland(place, self.seed, self.counts.fires) for place in WILD_PLACES[:: self.counts.every])

    @cached_property
    def chip_lands(self) -> tuple[Wildland, ...]:
        """Where chips of burn scars are: every wildland and another one a degree away, in the next tile of the same state.

        A state can be held out only where each has two places: one that is tested while the other trains.
        """
        lands = []
        for wild in self.wildlands:
            place = wild.place
            away = replace(place, lat=place.lat + (-1.0 if place.region in SOUTHWARD else 1.0))
            lands += [wild, Wildland(away, self.seed, self.counts.fires, name=f"{wild.name}-away")]
        return tuple(lands)

    @cached_property
    def farmlands(self) -> tuple[Farmland, ...]:
        """One farmland a county."""
        return tuple(Farmland(place, self.seed, self.counts.farm_window) for place in FARM_PLACES[:: self.counts.every])

    @cached_property
    def cities(self) -> tuple[City, ...]:
        """One city a metro."""
        return tuple(City(place, self.seed, self.counts.city_side, self.counts.tracts) for place in CITY_PLACES[:: self.counts.every])

    def table(self, task: str) -> pd.DataFrame:
        """Return the unit table of a task, one row a unit, with labels, groups, raw columns and the decoded embedding.

        Args:
            task: ``burn-scar``, ``crop`` or ``urban``.

        Raises:
            DataError: The task is not one of these.
        """
        from rs05bench.datasets.simulated import sampled_tables

        makers = {"burn-scar": sampled_tables.burned_pixels, "crop": sampled_tables.parcels, "urban": sampled_tables.tracts}
        if task not in makers:
            raise DataError(f"no simulated task '{task}'", remedy=f"Choose one of: {', '.join(TASKS)}.")
        return makers[task](self)


def simulate(size: str = "small", seed: int = 0) -> World:
    """Return the simulated world of a size and seed.

    >>> simulate("small", seed=0).table("urban")["city"].nunique()
    6
    """
    return World(size, seed)
