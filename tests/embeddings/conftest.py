"""Two zones, two years, tiles that meet and overlap: small enough for every test to read real files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.embeddings.tiles import vectors, write_tile

SIZE = 160  # two and a half blocks of 64: the last ones are cut


@dataclass(frozen=True)
class Tile:
    """A written tile and its true values, north up."""

    path: Path
    values: np.ndarray
    crs: str
    west: float
    north: float

    def lonlat(self, row: np.ndarray | float, column: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Degrees of pixel positions (0.5 is a pixel's centre)."""
        from pyproj import Transformer

        change = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        return change.transform(self.west + 10 * np.asarray(column, float), self.north - 10 * np.asarray(row, float))


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`2023/10N` and `2024/10N` hold a west and an east tile that meet; all bottom-up, as published."""
    root = tmp_path_factory.mktemp("aef") / "annual"
    for year in (2023, 2024):
        for name, west in (("west-0000000000-0000000000", 500_000.0), ("east-0000000000-0000008192", 500_000.0 + 10 * SIZE)):
            write_tile(root / str(year) / "10N" / f"{name}.tiff", _values(year, name), west=west)
    return root


def _values(year: int, name: str) -> np.ndarray:
    values = vectors(SIZE, SIZE, seed=year * 2 + len(name) % 2 + (name[0] == "e"))
    values[:, 20:30, 40:60] = -128
    return values


@pytest.fixture(scope="session")
def west(archive: Path) -> Tile:
    """The western tile of 2024."""
    path = next(archive.glob("2024/10N/west*"))
    return Tile(path, _values(2024, path.stem), "EPSG:32610", 500_000.0, 4_100_000.0)


@pytest.fixture(scope="session")
def east(archive: Path) -> Tile:
    """The eastern tile of 2024; its first column follows the western tile's last."""
    path = next(archive.glob("2024/10N/east*"))
    return Tile(path, _values(2024, path.stem), "EPSG:32610", 500_000.0 + 10 * SIZE, 4_100_000.0)


@pytest.fixture(scope="session")
def border(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tile]:
    """Tiles of zones 10 and 11 that overlap at 120 degrees west, where they say different things."""
    from pyproj import Transformer

    root = tmp_path_factory.mktemp("border") / "annual"
    tiles = {}
    for zone, epsg, seed in (("10N", 32610, 1), ("11N", 32611, 2)):
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(-120.0, 38.0)
        west, north = round(x / 10) * 10.0 - 800, round(y / 10) * 10.0 + 800
        values = vectors(SIZE, SIZE, seed)
        if zone == "10N":
            values[:, 100:110, :] = -128  # masked right up to the border
        path = write_tile(root / "2024" / zone / "x.tiff", values, crs=f"EPSG:{epsg}", west=west, north=north)
        tiles[zone] = Tile(path, values, f"EPSG:{epsg}", west, north)
    return tiles
