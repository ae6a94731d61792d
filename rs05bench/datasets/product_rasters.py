"""The products that have a dataset class of their own, as TorchGeo users look for them."""

from __future__ import annotations

from torchgeo.datasets import GoogleSatelliteEmbedding

from rs05bench.datasets.embedding_rasters import EmbeddingRasters


class AlphaEarthEmbedding(EmbeddingRasters, GoogleSatelliteEmbedding):
    """AlphaEarth annual embeddings: published tiles, exports from Earth Engine and the Zarr mosaic.

    See `EmbeddingRasters` for the arguments. TorchGeo's own class of these files neither decodes nor masks them.

    References:
        * https://arxiv.org/abs/2507.22291
        * https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_SATELLITE_EMBEDDING_V1_ANNUAL
    """

    product_name = "alphaearth-v1"


class TesseraEmbedding(EmbeddingRasters):
    """TESSERA annual embeddings: `geoemb:` Zarr stores, and the GeoTIFFs and NumPy grids that geotessera writes.

    See `EmbeddingRasters` for the arguments; `of` names another variant. A pixel whose scale is NaN or infinite is missing, and so is one
    beyond the record's range. Zone-years that a store does not list as complete are left out with a warning that names them. Where zones
    overlap, the zone a place is in counts.

    References:
        * https://arxiv.org/abs/2506.20380
        * https://github.com/ucam-eo/geotessera
    """

    product_name = "tessera-v1.1-dclimate"
