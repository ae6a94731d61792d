"""Lightning data modules that show exactly what a manifest and a budget allow.

Names are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench.datamodules.chip_datamodule import BurnScarDataModule, ChipDataModule, CropDataModule
    from rs05bench.datamodules.polygon_datamodule import CropParcelDataModule, UrbanDataModule
    from rs05bench.datamodules.table_datamodule import TableDataModule

_HOME = {
    "BurnScarDataModule": "chip_datamodule",
    "ChipDataModule": "chip_datamodule",
    "CropDataModule": "chip_datamodule",
    "CropParcelDataModule": "polygon_datamodule",
    "TableDataModule": "table_datamodule",
    "UrbanDataModule": "polygon_datamodule",
}

__all__ = [
    "BurnScarDataModule",
    "ChipDataModule",
    "CropDataModule",
    "CropParcelDataModule",
    "TableDataModule",
    "UrbanDataModule",
]

__getattr__, __dir__ = first_use(__name__, _HOME)
