"""Write the whole simulated benchmark in the real file formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rs05bench.datasets.simulated import chip_files, embedding_tiles, vector_files
from rs05bench.datasets.simulated.landscape import Base
from rs05bench.datasets.simulated.places import CROP_YEARS, URBAN_YEARS
from rs05bench.datasets.simulated.world import simulate

# Burn chips, years of farmland embeddings, years of city embeddings.
_EXTENT: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "tiny": (6, (2021, 2022), (2021, 2022)),
    "small": (20, (2021, 2022), (2021, 2022)),
    "medium": (40, CROP_YEARS, URBAN_YEARS),
}

Progress = Callable[[str, int, int], None]


def write_files(
    out: str | Path,
    size: str = "small",
    seed: int = 0,
    *,
    layout: Literal["training", "splits"] = "training",
    nodata: float = -9999.0,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the landscapes as the public data sets are written, so that the readers of those read these.

    =================== ==========================================================================================
    ``hls_burn_scars``  512 x 512 chips and masks of ``layout``
    ``crop_chips``      224 x 224 x 18 chips and masks of 2022, ``chips_df.csv``
    ``parcels``         ``parcels.gpkg``: the parcels of the crop table, four years
    ``urban``           ``tracts.gpkg``: the tracts of the urban table, four years, fourteen indicators
    ``alphaearth``      ``{year}/{zone}/*.tiff``, ``aef_index.parquet``; the small size covers each burn chip's own fire (not the
                        whole chip), the labelled window of each county in 2021 and 2022, and the cities in 2021 and 2022
    ``regions``         ``regions.gpkg``: state, ecoregion and biome of every burn chip
    =================== ==========================================================================================

    ``SIMULATED.json`` beside them records size and seed; every raster carries the tag ``SIMULATED=YES``. The same arguments on the same
    versions of GDAL give the same bytes.

    Args:
        out: Folder to write to; made if absent.
        size: ``tiny`` (about 23 MB, for tests), ``small`` (about 120 MB) or ``medium`` (many times that).
        seed: The world's seed.
        layout: Layout of the burn chips.
        nodata: What missing pixels of the burn chips hold.
        progress: Called with what is being written, the number done and the number in all.

    Returns:
        The folder of each data set.

    Raises:
        DataError: Unknown size, layout or nodata.
    """
    world, root = simulate(size, seed), Path(out)
    chip_count, farm_years, city_years = _EXTENT[size]
    folders = {name: root / name for name in ("hls_burn_scars", "crop_chips", "parcels", "urban", "alphaearth", "regions")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)

    chips = chip_files.burn_chips(world.chip_lands, chip_count)
    covered: list[tuple[Base, int, embedding_tiles.Window | None]] = [
        (chip.wild, chip.fire.year, _around(chip) if size != "medium" else None) for chip in chips
    ]
    covered = list(dict.fromkeys(covered))  # two chips of one year share what covers all of their landscape
    covered += [(farm, year, farm.window) for farm in world.farmlands for year in farm_years]
    covered += [(city, year, None) for city in world.cities for year in city_years]
    total = 5 + len(covered)

    def tell(what: str, done: int) -> None:
        if progress is not None:
            progress(what, done, total)

    tell("burn chips", 0)
    chip_files.write_burn_chips(folders["hls_burn_scars"], chips, layout=layout, nodata=nodata)
    tell("crop chips", 1)
    chip_files.write_crop_chips(folders["crop_chips"], list(world.farmlands))
    tell("parcels", 2)
    vector_files.write_parcels(folders["parcels"] / "parcels.gpkg", world)
    tell("tracts", 3)
    vector_files.write_tracts(folders["urban"] / "tracts.gpkg", world)
    tell("regions", 4)
    vector_files.write_regions(folders["regions"] / "regions.gpkg", world)
    tiles = []
    for done, (landscape, year, window) in enumerate(covered, start=5):
        tell(f"embedding {year} {landscape.name}", done)
        tiles += embedding_tiles.write_landscape(folders["alphaearth"], landscape, year, window)
    embedding_tiles.write_index(folders["alphaearth"], tiles)
    tell("done", total)
    record = {"simulated": True, "size": size, "seed": seed, "layout": layout, "tiles": len(tiles), "burn_chips": len(chips)}
    (root / "SIMULATED.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folders


def _around(chip: chip_files.BurnChip) -> embedding_tiles.Window:
    """Return the even window of a landscape around a chip's own fire."""
    (r0, r1), (c0, c1) = chip.fire.rows, chip.fire.cols
    return r0 // 2 * 2, (r1 + 1) // 2 * 2, c0 // 2 * 2, (c1 + 1) // 2 * 2
