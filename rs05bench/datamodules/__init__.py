"""Lightning data modules that show exactly what a manifest and a budget allow.

Names are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rs05bench.datamodules.chips import BurnScarDataModule, ChipDataModule, CropDataModule
    from rs05bench.datamodules.polygons import CropParcelDataModule, UrbanDataModule
    from rs05bench.datamodules.table import TableDataModule

_HOME = {
    "BurnScarDataModule": "chips",
    "ChipDataModule": "chips",
    "CropDataModule": "chips",
    "CropParcelDataModule": "polygons",
    "TableDataModule": "table",
    "UrbanDataModule": "polygons",
}

__all__ = ["BurnScarDataModule", "ChipDataModule", "CropDataModule", "CropParcelDataModule", "TableDataModule", "UrbanDataModule"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
