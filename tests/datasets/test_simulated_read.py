"""The readers of the real files read the simulated ones, and nothing in them knows which is which."""

from __future__ import annotations

import runpy

import numpy as np
import pytest

from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.datasets.cdl_crop import CDLCrop
from rs05bench.datasets.parcels import Parcels
from rs05bench.datasets.simulated.benchmark_files import write_files
from rs05bench.datasets.urban import UrbanIndicators

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("simulated"), "tiny", layout="splits", nodata=float("nan"))


def test_burn_scars_with_their_regions(simulated):
    regions = simulated["regions"] / "regions.gpkg"
    ds = HLSBurnScars(simulated["hls_burn_scars"], layers={"state": (regions, "state"), "biome": (regions, "biome")})
    units = ds.units()
    assert len(units) == 6
    # A state can be held out only where another tile of it trains.
    assert (units.groupby("state")["tile"].nunique() == 2).all()
    assert units["burn_fraction"].between(0.001, 0.9).all()
    assert not units[["state", "biome", "division"]].eq("outside").any().any()
    sample = ds.chip(ds.unit_ids[0])
    assert sample["image"].shape == (6, 512, 512)
    assert (~sample["valid"]).any()
    burnt, land = (sample["image"][3][(sample["mask"] == value) & sample["valid"]].mean() for value in (1, 0))
    assert burnt < land  # near infrared falls where it burnt: bands and mask lie on each other


def test_example_of_plain_torchgeo_runs(simulated, repository, capsys):
    runpy.run_path(str(repository / "examples" / "plain_torchgeo.py"))["main"](simulated["hls_burn_scars"])
    assert "image (2, 6, 256, 256), mask (2, 256, 256)" in capsys.readouterr().out


def test_crop_chips(simulated):
    ds = CDLCrop(simulated["crop_chips"])
    units = ds.units()
    assert units["first_date"].notna().all()
    assert not units["state"].eq("outside").any()
    sample = ds.chip(ds.unit_ids[0])
    assert sample["image"].shape == (3, 6, 224, 224)
    assert (sample["mask"] >= 0).any()


def test_parcels(simulated):
    ds = Parcels(simulated["parcels"] / "parcels.gpkg", unit=["parcel_id", "year"])
    assert set(ds.classes) <= set(CDLCrop.classes)
    assert np.isfinite(ds.units()["area_ha"]).all()


def test_urban_indicators_keep_their_gaps(simulated):
    ds = UrbanIndicators(simulated["urban"])
    missing = ds.labels().isna().mean()
    assert missing["asthma_pct"] > 0
    assert missing["log_income"] == 0
    assert not ds.units()["state"].eq("outside").any()
