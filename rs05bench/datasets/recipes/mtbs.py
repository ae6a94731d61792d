"""Burn scars from MTBS perimeters on HLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard


def make(job: BuildJob) -> TaskCard:
    """Chips with masks, in states, biomes and years."""
    from rs05bench.datasets.recipes.burn_chips import chip_card, cut_chips, given_chips, read_fires, write_masks

    fires = read_fires(job, "perimeters")
    folder = job.out / "chips" / "data"
    scenes = given_chips(job, job.files("chips"), folder)
    if job.files("hls"):
        scenes += cut_chips(job, job.files("hls"), fires, folder)
    elif not scenes:
        raise DataError("neither HLS granules (hls/) nor chips (chips/) are there", source=job.root, remedy="Fetch one of them.")
    if not scenes:
        raise DataError("no granule shows a fire clearly enough in time", source=job.root / "hls", remedy="Fetch those after each fire.")
    write_masks(job, scenes, fires)
    layers = _biomes(job, [scene.footprint for scene in scenes])
    job.counts["fires in the perimeters"] = len(fires)
    years = [scene.date.year for scene in scenes]
    groups = ["state", *layers, "tile", "fire"]
    return chip_card(job, groups=groups, layers=layers, years=years)


def _biomes(job: BuildJob, footprints: list[object]) -> dict[str, list[str]]:
    import shapely

    from rs05bench.datasets.recipes.burn_chips import write_regions
    from rs05bench.datasets.recipes.polygon_layers import read_layer

    if not job.files("biomes"):
        return {}
    layer = read_layer(job.file("biomes"), {"biome": ("biome", "BIOME_NAME", "NA_L1NAME", "L1_NAME")}, job=job)
    near = layer.iloc[sorted(set(layer.sindex.query(shapely.unary_union(footprints), predicate="intersects")))]
    if near.empty:
        raise DataError("no polygon meets any chip", source=job.file("biomes"), remedy="Is it of the same place?")
    write_regions(job.out / "regions.gpkg", "biome", near["biome"].astype(str).tolist(), near.geometry.tolist())
    return {"biome": ["regions.gpkg", "biome"]}
