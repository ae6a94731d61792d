"""Fake datasets with the real names, made once."""

from __future__ import annotations

import pytest
from torchgeo.datasets import RasterDataset

from tests.datasets.data import write_burn_scars, write_crop_chips, write_parcels, write_tracts


@pytest.fixture(scope="session")
def burn_root(tmp_path_factory):
    return write_burn_scars(tmp_path_factory.mktemp("burn"))


@pytest.fixture(scope="session")
def crop_root(tmp_path_factory):
    return write_crop_chips(tmp_path_factory.mktemp("crop"))


@pytest.fixture(scope="session")
def urban_root(tmp_path_factory):
    return write_tracts(tmp_path_factory.mktemp("urban"))


@pytest.fixture(scope="session")
def parcel_file(tmp_path_factory):
    return write_parcels(tmp_path_factory.mktemp("parcels") / "fields.gpkg")


@pytest.fixture
def imagery(crop_root):
    """Images without labels, as plain TorchGeo reads them: one crop chip in EPSG:5070."""

    class Imagery(RasterDataset):
        filename_glob = "chip_184_236_merged.tif"

    return Imagery(crop_root / "training_chips")
