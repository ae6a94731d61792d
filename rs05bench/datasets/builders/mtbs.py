"""Burn scars from MTBS perimeters on HLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.datasets.builders.record import Builder, Option, SourceFiles
from rs05bench.datasets.builders.shared_sources import TILES, vector_patterns
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.datasets.builders.job import BuildJob
    from rs05bench.protocol.card import TaskCard

HLS = SourceFiles(
    name="hls",
    patterns=("hls/**/HLS.*.tif",),
    format="HLS v2.0 granules as published: one int16 GeoTIFF a band (S30: B02 B03 B04 B8A B11 B12; L30: B02 to B07) and Fmask",
    title="Harmonized Landsat and Sentinel-2 (HLS) v2.0",
    url="https://lpdaac.usgs.gov/products/hlss30v002/",
    licence="open (NASA)",
    citation="Claverie et al. 2018, https://doi.org/10.1016/j.rse.2018.09.002",
    required=False,
    bulk=True,
)
CHIPS = SourceFiles(
    name="chips",
    patterns=("chips/**/subsetted_*_merged.tif",),
    format="Chips cut already, named as HLS Burn Scars names them: 6 bands of reflectance, float32",
    title="HLS chips of your own",
    url="https://huggingface.co/datasets/ibm-nasa-geospatial/hls_burn_scars",
    licence="open (NASA)",
    required=False,
    bulk=True,
)
CHIP_OPTIONS = (
    Option("window_days", 120, "A fire counts as burnt in images up to so many days after its ignition."),
    Option("old_days", 1095, "Scars up to so many days old are left unlabelled: they may still be seen."),
    Option("after_days", 10, "First day after ignition from which a granule is taken."),
    Option("within_days", 90, "Last day after ignition until which a granule is taken."),
    Option("hidden", 0.3, "Largest share of a chip that may be hidden by clouds or missing."),
)


def make(job: BuildJob) -> TaskCard:
    """Chips with masks, in states, biomes and years."""
    from rs05bench.datasets.builders.burn_chips import chip_card, cut_chips, given_chips, read_fires, write_masks

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
    return chip_card(job, name="mtbs-hls", title="Burn scars of MTBS perimeters on HLS", groups=groups, layers=layers, years=years)


def _biomes(job: BuildJob, footprints: list[object]) -> dict[str, list[str]]:
    import shapely

    from rs05bench.datasets.builders.burn_chips import write_regions
    from rs05bench.datasets.builders.vectors import read_layer

    if not job.files("biomes"):
        return {}
    layer = read_layer(job.file("biomes"), {"biome": ("biome", "BIOME_NAME", "NA_L1NAME", "L1_NAME")}, job=job)
    near = layer.iloc[sorted(set(layer.sindex.query(shapely.unary_union(footprints), predicate="intersects")))]
    if near.empty:
        raise DataError("no polygon meets any chip", source=job.file("biomes"), remedy="Is it of the same place?")
    write_regions(job.out / "regions.gpkg", "biome", near["biome"].astype(str).tolist(), near.geometry.tolist())
    return {"biome": ["regions.gpkg", "biome"]}


BUILDERS = (
    Builder(
        name="mtbs-hls",
        title="Burn scars: MTBS perimeters on HLS, by state, biome and year",
        task="burn-scar",
        kind="segmentation",
        summary=(
            "A chip of 512 x 512 pixels (30 m) around each fire from the first HLS granule that shows it clearly enough, or chips of your "
            "own; the "
            "perimeters of fires of the last 120 days are the scar, pixels under cloud and in scars up to three years old carry no label. "
            "Where MTBS's "
            "thematic severity lies beside (`severity/`), its non-processing mask takes labels away, and --set min_severity=2 takes out "
            "what hardly "
            "burned. The result has the layout of HLS Burn Scars."
        ),
        sources=(
            SourceFiles(
                name="perimeters",
                patterns=vector_patterns("mtbs*", "*perims*"),
                format="Polygons with `Event_ID` and `Ig_Date` (and `Incid_Type`, where it is there)",
                title="MTBS burned area boundaries",
                url="https://www.mtbs.gov/direct-download",
                licence="public domain (US government work)",
                citation="Eidenshink et al. 2007, https://doi.org/10.4996/fireecology.0301003",
            ),
            HLS,
            CHIPS,
            SourceFiles(
                name="severity",
                patterns=("severity/**/*6.tif",),
                format=(
                    "Thematic severity a fire, `<event>_..._dnbr6.tif`: 1 unburned to low, 2 low, 3 moderate, 4 high, 5 greener, 6 not "
                    "processed"
                ),
                title="MTBS thematic burn severity",
                url="https://www.mtbs.gov/product-descriptions",
                licence="public domain (US government work)",
                citation="Eidenshink et al. 2007, https://doi.org/10.4996/fireecology.0301003",
                required=False,
                bulk=True,
            ),
            SourceFiles(
                name="biomes",
                patterns=vector_patterns("biomes*", "Ecoregions*", "ecoregions*", "na_cec_eco*"),
                format="Polygons with `biome`, `BIOME_NAME` (RESOLVE) or `NA_L1NAME` (EPA level I)",
                title="Terrestrial ecoregions",
                url="https://ecoregions.appspot.com/",
                licence="CC BY 4.0 (RESOLVE 2017)",
                citation="Dinerstein et al. 2017, https://doi.org/10.1093/biosci/bix014",
                required=False,
            ),
            TILES,
        ),
        leaks=(
            "MTBS analysts drew the perimeters on images of the same satellites: a model that sees the same image is asked to draw what "
            "they drew.",
            "Perimeters hold unburned islands, which count as burnt unless the severity is given.",
            "A large fire spans several tiles and dates, and the same ground burns again: chips are grouped by tile and by fire, never "
            "split at random.",
            "Fires under 1,000 acres (500 in the east) are not in MTBS: what burned in them counts as not burned.",
        ),
        splits={
            "leave-state-out": "fires in two states or more",
            "leave-biome-out": "a biome layer",
            "leave-year-out": "two years or more",
            "until-<year>": "the same",
            "random": "sanity check only",
        },
        main_split="leave-state-out",
        make=make,
        options=(*CHIP_OPTIONS, Option("min_severity", 1, "Smallest severity class that counts as burnt, where severity is given."),
                 Option("prescribed", False, "Also prescribed fires.")),
        verified=(
            "the bits of Fmask, against an answer of the Sentinel Hub forum that quotes the HLS user guide v2.0",
            "the fields of the boundary layer against the description of the shapefile and public map services",
            "names and classes of the severity files against mtbs.gov's product descriptions (the order of the numbers as known, not "
            "looked up)",
        ),
        unverified=(
            "no published perimeter, severity or granule was read here: tests write the formats themselves",
            "band names of L30 are those of the HLS user guide v2.0 as known, not looked up again",
        ),
    ),
)  # fmt: skip
