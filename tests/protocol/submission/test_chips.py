"""Maps of several classes are scored at pixels nobody chose."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
from sklearn.metrics import jaccard_score

from tests.protocol.submission.world import mask_of, write_parquet, write_submission


@pytest.fixture(scope="module")
def classes(world, tmp_path_factory):
    """A submission of maps of three classes."""
    return write_submission(tmp_path_factory.mktemp("classes") / "s", world.root, world.board, "cover-simulated", slug="unet-cover")


@pytest.mark.slow
def test_the_scores_of_maps_are_those_of_scikit_learn(classes, verify):
    verdict = verify(classes)
    assert verdict.outcome == "accepted", verdict.faults
    assert verdict.simulated
    assert verdict.rankable == []
    assert set(verdict.unranked.values()) == {"simulated results never rank"}
    cell = verdict.cells[0]
    frame = pd.read_parquet(classes / "predictions.parquet")
    here = (frame["fold"] == cell.fold) & (frame["budget"] == cell.budget) & (frame["seed"] == cell.seed) & (frame["role"] == "test_ood")
    truth, guess = [], []
    for unit, file in frame.loc[here, ["unit_id", "map"]].itertuples(index=False):
        mask = mask_of(unit, 3)
        with rasterio.open(classes / file) as source:
            band = source.read(1)
        truth.append(mask[mask >= 0])
        guess.append(band[mask >= 0])
    expected = jaccard_score(np.concatenate(truth), np.concatenate(guess), average="macro")
    assert cell.scores["test_ood"]["miou"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f[f["pixel"] != 3], "holds other pixels"),
        (lambda f: pd.concat([f, f.iloc[[0]]]), "a pixel of a chip occurs twice"),
        (lambda f: f.assign(p_soil=2.0), "sum to 1"),
        (lambda f: f.drop(columns="p_soil"), "lacks columns"),
    ],
)
def test_pixels_of_ones_own_choice_are_refused(classes, tmp_path, verify, change, words):
    spoilt = shutil.copytree(classes, tmp_path / "spoilt")
    write_parquet(spoilt / "samples.parquet", change(pd.read_parquet(spoilt / "samples.parquet")))
    verdict = verify(spoilt)
    assert verdict.outcome == "refused"
    assert any(words in fault for fault in verdict.faults), verdict.faults


@pytest.mark.slow
def test_a_map_may_not_be_a_list_of_other_files(maps, verify):
    first = pd.read_parquet(maps / "predictions.parquet")["map"].iloc[0]
    (maps / first).write_text("<VRTDataset rasterXSize='16' rasterYSize='16'></VRTDataset>")
    verdict = verify(maps)
    assert any("is not a TIFF" in fault for fault in verdict.faults)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nodata": 0.5}, "0.5 as no data"),
        ({"scales": (0.5,)}, "a scale or an offset"),
        ({"offsets": (1.0,)}, "a scale or an offset"),
    ],
)
def test_what_a_map_states_and_scoring_does_not_apply_is_refused(maps, verify, change, words):
    first = maps / pd.read_parquet(maps / "predictions.parquet")["map"].iloc[0]
    with rasterio.open(first, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as chip:
        for name, value in change.items():
            setattr(chip, name, value)
    assert any(words in fault for fault in verify(maps).faults)
