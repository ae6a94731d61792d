"""What is done to data before any model sees them: part of a task card, pinned by hash (rule 3)."""

from __future__ import annotations

from pydantic import Field, JsonValue

from rs05bench.protocol.derived_columns import DerivedColumns
from rs05bench.protocol.strict_record import AsWritten

Number = int | float


class WeightsFile(AsWritten):
    """Weights that are kept beside the data of a task.

    Attributes:
        file: Relative to the data directory.
        sha256: Its digest; unset where any file will do.
    """

    file: str
    sha256: str | None = None


class LayerFolder(AsWritten):
    """A folder of layers for hybrid models, and which of them.

    Attributes:
        folder: Relative to the data directory.
        only: Names of layers; empty takes all.
    """

    folder: str
    only: list[str] = Field(default_factory=list)


class Preprocessing(AsWritten):
    """Fixed preprocessing of a task.

    The first group of fields is read by the package; the others state what was done before the files were written, for people, and are
    pinned with the rest.

    Attributes:
        folder: Folder of the chips, relative to the data directory.
        chips: How images and masks are named and read (`rs05bench.datasets.chip_layout.ChipLayout`).
        layers: Group column -> polygon file and its column.
        embeddings: Folder of embedding tiles for chips.
        embedding_product: What those tiles hold: a product's name or its record; None is the default product.
        extra: Folder of layers for hybrid models on chips.
        patch_size: Pixels of a side of what models are handed; 0 for whole chips.
        embedding_year_offset: Years from a unit's year to that of its annual embedding.
        weights: Encoder -> its weights, kept beside the data.
        boundary_tolerance_m: Tolerance of boundary scores, metres.
        where: Column -> values whose rows stay.
        derive: Columns made from those of the table, in this order (`rs05bench.protocol.derived_columns`).
        aggregate: How pixels became units.
        change: What stands for change.
        cloud_mask: Which mask was applied.
        composite: How images were combined.
        embedding: How embedding pixels became units.
        embedding_year: Year of the embedding, or the rule it follows.
        cell_m: Side of a grid cell, metres.
        grid_m: Side of a pixel, metres.
        image: Which image was taken.
        images_per_year: Images of a year.
        label: How labels were made.
        options: Options that a recipe was run with.
        projection: Coordinate system of the files.
        sampling: How units were drawn.
        window_px: Pixels of a side of the window around a point.
        year: Year of the data, or the rule it follows.
        notes: Anything else that was done.
    """

    folder: str = ""
    chips: dict[str, JsonValue | dict[int, str]] | None = None
    layers: dict[str, tuple[str, str]] = Field(default_factory=dict)
    embeddings: str | None = None
    embedding_product: str | None = None
    extra: str | LayerFolder | None = None
    patch_size: int = Field(default=0, ge=0)
    embedding_year_offset: int = 0
    boundary_tolerance_m: Number = Field(default=60, gt=0)
    weights: dict[str, WeightsFile | str] = Field(default_factory=dict)
    where: dict[str, JsonValue] = Field(default_factory=dict)
    derive: list[DerivedColumns] = Field(default_factory=list)
    aggregate: str | None = None
    change: str | None = None
    cloud_mask: str | None = None
    composite: str | None = None
    embedding: str | None = None
    embedding_year: int | str | None = None
    cell_m: Number | None = None
    grid_m: Number | None = None
    image: str | None = None
    images_per_year: int | None = None
    label: str | None = None
    options: dict[str, JsonValue] | None = None
    projection: str | None = None
    sampling: str | None = None
    window_px: int | None = None
    year: int | str | None = None
    notes: str | None = None
