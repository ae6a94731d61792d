"""Simulated twins of the hybrid layers, in the real formats: terrain, climate zones, roads, water, urban areas, points and buildings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.datasets.simulated.landscape import PIXEL, Base
from rs05bench.datasets.simulated.randomness import generator
from rs05bench.datasets.simulated.shapes import to_lonlat
from rs05bench.datasets.simulated.vector_files import _write as write_gpkg
from rs05bench.protocol.pixel_grid import Grid

if TYPE_CHECKING:
    import geopandas as gpd

    from rs05bench.datasets.simulated.world import World

_ARC_SECOND = 1 / 3600
_DENSE = 0.45  # built density from which a city counts as urban area
_TOWN = 6  # side of a market town in open country, pixels


def write_layers(out: str | Path, size: str = "small", seed: int = 0) -> dict[str, Path]:
    """Write every layer of the catalogue for all landscapes of a world, so that `open_layers(out)` reads them.

    Args:
        out: Folder to write to; made if absent.
        size: `tiny`, `small` or `medium`.
        seed: The world's seed.

    Returns:
        The folder of each layer.

    Raises:
        DataError: Unknown size.
    """
    from rs05bench.datasets.simulated.world import simulate

    world, root = simulate(size, seed), Path(out)
    places: list[Any] = [*world.wildlands, *world.farmlands, *world.cities]
    folders = {name: root / name for name in ("dem", "climate", "road", "water", "urban", "poi", "buildings")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for place in places:
        _write_dem(folders["dem"], place)
    _write_climate(folders["climate"] / "koppen_geiger_0p1.tif", places)
    coverage = _frame([to_lonlat(_box(place.grid), place.grid) for place in places], landscape=[place.name for place in places])
    for name, made in (("road", _roads), ("water", _water), ("urban", _urban)):
        shapes = [(shape, place.name) for place in places for shape in made(place)]
        frame = _frame([shape for shape, _ in shapes], landscape=[owner for _, owner in shapes])
        write_gpkg(folders[name] / f"{name}.gpkg", frame, name)
        write_gpkg(folders[name] / "coverage.gpkg", coverage, "coverage")
    cities = _frame([to_lonlat(_box(city.grid), city.grid) for city in world.cities], landscape=[city.name for city in world.cities])
    _write_city_things(folders["poi"], folders["buildings"], world)
    for name in ("poi", "buildings"):
        write_gpkg(folders[name] / "coverage.gpkg", cities, "coverage")
    record = {"simulated": True, "size": size, "seed": seed, "landscapes": len(places)}
    (root / "SIMULATED.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folders


def _write_dem(folder: Path, place: Base) -> Path:
    """The elevation on the grid of arc seconds that the published tiles lie on, cut to the landscape, named after its degree."""
    import rasterio
    from pyproj import Transformer
    from rasterio.transform import from_origin
    from rasterio.warp import Resampling, reproject

    grid = place.grid
    corners = np.array([[0, 0], [0, grid.width], [grid.height, 0], [grid.height, grid.width]], dtype=np.float64)
    to = Transformer.from_crs(grid.crs, 4326, always_xy=True)
    lon, lat = to.transform(grid.west + corners[:, 1] * PIXEL, grid.north - corners[:, 0] * PIXEL)
    west, east = np.floor(min(lon) * 3600) - 0.5, np.ceil(max(lon) * 3600) + 0.5
    south, north = np.floor(min(lat) * 3600) - 0.5, np.ceil(max(lat) * 3600) + 0.5
    target = np.full((round(north - south), round(east - west)), -32767.0, dtype=np.float32)
    transform = from_origin(west * _ARC_SECOND, north * _ARC_SECOND, _ARC_SECOND, _ARC_SECOND)
    reproject(
        place.terrain.elevation,  # type: ignore[attr-defined]
        target,
        src_transform=from_origin(grid.west, grid.north, PIXEL, PIXEL),
        src_crs=grid.crs,
        dst_transform=transform,
        dst_crs="EPSG:4326",
        dst_nodata=-32767.0,
        resampling=Resampling.bilinear,
    )
    middle = grid.lonlat(np.array([grid.height // 2]), np.array([grid.width // 2]))
    name = f"Copernicus_DSM_COG_10_{_degree(middle[1][0], 'NS', 2)}_00_{_degree(middle[0][0], 'EW', 3)}_00_DEM"
    path = folder / f"{name}_{place.name.replace(' ', '-')}.tif"
    options = {"driver": "GTiff", "dtype": "float32", "count": 1, "crs": "EPSG:4326", "nodata": -32767.0, "compress": "deflate"}
    with rasterio.open(path, "w", height=target.shape[0], width=target.shape[1], transform=transform, **options) as dst:
        dst.write(target, 1)
        dst.update_tags(SIMULATED="YES")
    return path


def _degree(value: float, letters: str, digits: int) -> str:
    whole = int(np.floor(value))
    return f"{letters[0] if whole >= 0 else letters[1]}{abs(whole):0{digits}d}"


def _write_climate(path: Path, places: Sequence[Base]) -> Path:
    """A world of 0.1 degree in the published codes; only the landscapes' surroundings hold a zone."""
    import rasterio
    from rasterio.transform import from_origin

    from rs05bench.datasets.layers.layer_sources import RasterSampling, find_source

    sampler = find_source("climate").sampler
    assert isinstance(sampler, RasterSampling)
    code_of = {name: code for code, name in sampler.classes.items()}
    codes = np.zeros((1800, 3600), dtype=np.uint8)
    for place in places:
        lon, lat = (v[0] for v in place.grid.lonlat(np.array([place.grid.height // 2]), np.array([place.grid.width // 2])))
        row, col = int((90 - lat) * 10), int((lon + 180) * 10)
        codes[row - 1 : row + 2, col - 1 : col + 2] = code_of[place.climate.koppen]
    options = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": "EPSG:4326", "compress": "deflate", "height": 1800, "width": 3600}
    with rasterio.open(path, "w", transform=from_origin(-180, 90, 0.1, 0.1), **options) as dst:
        dst.write(codes, 1)
        dst.update_tags(SIMULATED="YES")
    return path


def _roads(place: Any) -> list[Any]:
    """Lines through the centres of neighbouring road pixels."""
    import shapely

    road = place.terrain.road == 0
    segments = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = road[: road.shape[0] - down, max(-right, 0) : road.shape[1] - max(right, 0)]
        there = road[down:, max(right, 0) : road.shape[1] + min(right, 0)]
        rows, cols = np.nonzero(here & there)
        cols = cols + max(-right, 0)
        start, end = place.grid.xy(rows, cols), place.grid.xy(rows + down, cols + right)
        segments.append(np.stack([np.column_stack(start), np.column_stack(end)], axis=1))
    # A pixel that touches no other is a road of a metre.
    rows, cols = np.nonzero(road & (_neighbours(road) == 0))
    x, y = place.grid.xy(rows, cols)
    segments.append(np.stack([np.column_stack([x - 0.5, y]), np.column_stack([x + 0.5, y])], axis=1))
    lines = shapely.linestrings(np.concatenate(segments))
    return _lonlats(shapely.get_parts(shapely.line_merge(shapely.multilinestrings(lines))), place.grid)


def _neighbours(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    padded = np.pad(mask, 1).astype(np.int64)
    height, width = mask.shape
    return sum(padded[r : r + height, c : c + width] for r in range(3) for c in range(3)) - mask


def _lonlats(shapes: Any, grid: Grid) -> list[Any]:
    """All shapes of a landscape at once: a projection a shape would take longer than everything else."""
    return list(to_lonlat(np.asarray(shapes, dtype=object), grid))


def _water(place: Any) -> list[Any]:
    return _outlines(place.terrain.is_water, place.grid)


def _urban(place: Any) -> list[Any]:
    """The dense part of a city; in open country one market town where two roads cross."""
    if hasattr(place, "density"):
        return _outlines(place.density > _DENSE, place.grid)
    rng = generator(place.seed, "town", place.name)
    grid: Grid = place.grid
    row, col = rng.integers(0, grid.height - _TOWN), rng.integers(0, grid.width - _TOWN)
    mask = np.zeros((grid.height, grid.width), dtype=bool)
    mask[row : row + _TOWN, col : col + _TOWN] = True
    return _outlines(mask, grid)


def _outlines(mask: np.ndarray[Any, Any], grid: Grid) -> list[Any]:
    from rasterio.features import shapes
    from rasterio.transform import from_origin
    from shapely.geometry import shape

    found = shapes(mask.astype(np.uint8), mask=mask, transform=from_origin(grid.west, grid.north, PIXEL, PIXEL))
    return _lonlats([shape(outline) for outline, _ in found], grid)


def _write_city_things(poi: Path, buildings: Path, world: World) -> None:
    """Points of interest and square footprints, the more the denser the city, as GeoParquet."""
    import shapely

    kinds = ("restaurant", "school", "shop", "clinic", "park")
    points: list[Any] = []
    roofs: list[Any] = []
    categories: list[str] = []
    for city in world.cities:
        grid = city.grid
        land = ~city.terrain.is_water.ravel()
        for what, a_pixel in (("poi", 0.03), ("buildings", 0.12)):
            rng = generator(city.seed, what, city.name)
            odds = city.density.ravel().astype(np.float64) ** 1.5 * land
            count = int(a_pixel * odds.size)
            rows, cols = np.divmod(rng.choice(odds.size, count, p=odds / odds.sum()), grid.width)
            x, y = grid.xy(rows, cols)
            x, y = x + rng.uniform(-12, 12, count), y + rng.uniform(-12, 12, count)
            if what == "poi":
                categories += [kinds[i] for i in rng.integers(0, len(kinds), count)]
                points += _lonlats(shapely.points(x, y), grid)
            else:
                half = rng.uniform(3, 9, count)
                roofs += _lonlats(shapely.box(x - half, y - half, x + half, y + half), grid)
    _frame(points, id=[f"sim-{i:06d}" for i in range(len(points))], category=categories).to_parquet(poi / "places.parquet")
    _frame(roofs, id=[f"sim-{i:06d}" for i in range(len(roofs))]).to_parquet(buildings / "buildings.parquet")


def _box(grid: Grid) -> Any:
    import shapely

    return shapely.box(grid.west, grid.north - grid.height * PIXEL, grid.west + grid.width * PIXEL, grid.north)


def _frame(shapes: Sequence[Any], **columns: Any) -> gpd.GeoDataFrame:
    import geopandas as gpd

    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs="EPSG:4326")
