"""Sources and options that several builders have in common."""

from __future__ import annotations

from rs05bench.datasets.builders.record import Option, SourceFiles

ATTRIBUTION = "The AlphaEarth Foundations Satellite Embedding dataset is produced by Google and Google DeepMind."

TILES = SourceFiles(
    name="alphaearth",
    patterns=("alphaearth/**/*.tif", "alphaearth/**/*.tiff"),
    format="Tiles of the annual embedding as published (`alphaearth/<year>/<zone>/*.tiff`, 64 bands int8) or exported",
    title="AlphaEarth Satellite Embedding V1 annual",
    url="https://source.coop/tge-labs/aef",
    licence="CC BY 4.0",
    citation=ATTRIBUTION,
    required=False,
    bulk=True,
)
EMBEDDINGS = Option(
    "embeddings", "", "Where the embedding is read from where no tiles lie under `alphaearth/`: mirror, gcs, zarr or a folder."
)

VECTOR_ENDINGS = ("shp", "gpkg", "geojson", "json", "parquet")


def vector_patterns(*stems: str) -> tuple[str, ...]:
    """Globs for a layer in any of the formats, e.g. `i15_*` -> `i15_*.shp`, `i15_*.gpkg`, ..."""
    return tuple(f"{stem}.{ending}" for stem in stems for ending in VECTOR_ENDINGS)


COUNTIES = SourceFiles(
    name="counties",
    patterns=vector_patterns("counties", "tl_*_us_county", "cb_*_us_county_*"),
    format="County polygons with `GEOID` (five digits), in any CRS",
    title="US Census Bureau TIGER/Line or cartographic boundaries, counties",
    url="https://www.census.gov/geographies/mapping-files/time-series/geo/cartographic-boundary.html",
    licence="public domain (US government work)",
    citation="US Census Bureau, TIGER/Line",
)
