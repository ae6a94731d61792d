"""How splits are drawn on a task card."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SplitOptions(BaseModel):
    """How splits are drawn on this card.

    Attributes:
        block_size_m: Side of a spatial block, metres.
        buffer_m: Units nearer than this to a test unit are used by nobody, metres (great-circle).
        test_fraction: Share of each region's units in its fixed test blocks.
        val_fraction: Share of validation blocks where no whole group can be spared.
        max_folds: More groups than this are gathered into this many balanced folds.
        block_days: Length of a block in time where a group is one place, days.
        buffer_days: Units nearer in time than this to a test unit of the same place are used by nobody, days.
        seed: Seed of every hash that draws blocks and folds.
        block_by: Group column whose values are the blocks (a tile, a fire, a field) instead of spatial squares.
        region: Group column whose values are the regions of splits that move none (`random`, `spatial-block`, `leave-year-out`).
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    block_size_m: float = Field(default=10_000.0, gt=0)
    buffer_m: float = Field(default=1_000.0, ge=0)
    test_fraction: float = Field(default=0.3, gt=0, lt=1)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    max_folds: int = Field(default=10, ge=2)
    block_days: float = Field(default=30.0, gt=0)
    buffer_days: float = Field(default=10.0, ge=0)
    seed: int = 0
    block_by: str | None = None
    region: str | None = None
