"""The simulated world: all landscapes of one seed, and the tables sampled from them."""

from __future__ import annotations

from dataclasses import dataclass
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
    """How much of the world is made: fires a wildland, pixels a fire, parcels a county, tracts and side of a city."""

    fires: int
    pixels: int
    parcels: int
    tracts: int
    city_side: int


SIZES = {"small": Size(7, 36, 50, 70, 160), "medium": Size(9, 120, 150, 220, 256)}


@dataclass(frozen=True)
class World:
    """All landscapes of one size and seed. Nothing is computed before it is asked for.

    Attributes:
        size: ``small`` or ``medium``.
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
        return tuple(Wildland(place, self.seed, self.counts.fires) for place in WILD_PLACES)

    @cached_property
    def farmlands(self) -> tuple[Farmland, ...]:
        """One farmland a county."""
        return tuple(Farmland(place, self.seed) for place in FARM_PLACES)

    @cached_property
    def cities(self) -> tuple[City, ...]:
        """One city a metro."""
        return tuple(City(place, self.seed, self.counts.city_side, self.counts.tracts) for place in CITY_PLACES)

    def table(self, task: str) -> pd.DataFrame:
        """Return the unit table of a task, one row a unit, with labels, groups, raw columns and the decoded embedding.

        Args:
            task: ``burn-scar``, ``crop`` or ``urban``.

        Raises:
            DataError: The task is not one of these.
        """
        from rs05bench.datasets.simulated import tables

        makers = {"burn-scar": tables.burned_pixels, "crop": tables.parcels, "urban": tables.tracts}
        if task not in makers:
            raise DataError(f"no simulated task '{task}'", remedy=f"Choose one of: {', '.join(TASKS)}.")
        return makers[task](self)


def simulate(size: str = "small", seed: int = 0) -> World:
    """Return the simulated world of a size and seed.

    >>> simulate("small", seed=0).table("urban")["city"].nunique()
    6
    """
    return World(size, seed)
