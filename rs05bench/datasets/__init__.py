"""Datasets that read the real files as they are in the wild and list their units for the protocol.

Names are imported when first used: TorchGeo takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench.datasets.burn_scars import HLSBurnScars
    from rs05bench.datasets.cdl_crop import CDL13, CDLCrop
    from rs05bench.datasets.chip_folder import ChipFolder
    from rs05bench.datasets.chip_layout import ChipLayout
    from rs05bench.datasets.embedding_rasters import EmbeddingRasters
    from rs05bench.datasets.embedding_table import EmbeddingTable
    from rs05bench.datasets.parcels import Parcels
    from rs05bench.datasets.product_rasters import AlphaEarthEmbedding, TesseraEmbedding
    from rs05bench.datasets.urban import UrbanIndicators

_HOME = {
    "AlphaEarthEmbedding": "product_rasters",
    "CDL13": "cdl_crop",
    "CDLCrop": "cdl_crop",
    "EmbeddingRasters": "embedding_rasters",
    "EmbeddingTable": "embedding_table",
    "ChipFolder": "chip_folder",
    "ChipLayout": "chip_layout",
    "HLSBurnScars": "burn_scars",
    "Parcels": "parcels",
    "TesseraEmbedding": "product_rasters",
    "UrbanIndicators": "urban",
}

__all__ = [
    "CDL13",
    "AlphaEarthEmbedding",
    "CDLCrop",
    "ChipFolder",
    "ChipLayout",
    "EmbeddingRasters",
    "EmbeddingTable",
    "HLSBurnScars",
    "Parcels",
    "TesseraEmbedding",
    "UrbanIndicators",
]

__getattr__, __dir__ = first_use(__name__, _HOME)
