"""Baselines that see the place alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score

from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.extras import MissingExtraError
from rs05bench.models import create, model_card
from rs05bench.models.place import encode_place, harmonics, weights_file
from rs05bench.protocol import TaskCard, TaskData, build_manifest

PLACES = np.array([[-122.4, 37.8], [0.0, 0.0], [151.2, -33.9], [179.9, 66.0], [-179.9, 66.0]])


def test_harmonics_are_orthonormal_on_the_sphere():
    lat = np.degrees(np.arcsin(np.linspace(-1, 1, 400, endpoint=False) + 1 / 400))
    lon = np.arange(0.5, 360, 3.0)
    grid = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    columns = harmonics(grid)
    assert columns.shape == (len(grid), 24)
    product = columns.T.astype(float) @ columns / len(grid) * 4 * np.pi
    np.testing.assert_allclose(product - np.diag(np.diag(product)), 0, atol=1e-3)
    assert np.abs(harmonics(PLACES[3:4]) - harmonics(PLACES[4:5])).max() < 0.02  # continuous over the antimeridian


def test_geoclip_is_the_makers_own_encoder():
    try:
        weights_file()
    except MissingExtraError as error:
        pytest.skip(str(error))
    encoder = pytest.importorskip("geoclip.model.location_encoder").LocationEncoder().eval()
    with torch.inference_mode():
        theirs = encoder(torch.tensor(PLACES[:, ::-1].copy(), dtype=torch.float32)).numpy()
    ours = encode_place("geoclip", PLACES)
    assert ours.shape == (5, 512)
    # Positions are projected here in double precision, there in single.
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.9999


def test_it_is_a_floor_that_names_its_weights():
    card = model_card("geoclip/ridge")
    assert (card.tier, card.inputs, card.content, card.open_weights) == ("floor", "place", ["coordinates"], True)
    assert "geo-tagged photographs (MP-16)" in card.pretraining
    assert model_card("harmonics/ridge").tier == "floor"
    assert create("harmonics/rf").card.learner == "rf"


def test_a_union_of_a_set_and_the_place_is_the_columns_of_both(tmp_path):
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-10, 10, (2, 300))
    place = harmonics(np.column_stack([lon, lat]))
    table = pd.DataFrame({"unit_id": [f"u{i}" for i in range(300)], "lon": lon, "lat": lat, "measured": rng.normal(size=300)})
    table["y"] = place[:, 0] * 40 + table["measured"]  # neither the place nor the column tells it alone
    table["region"] = np.where(lon < 0, "west", "east")
    table.to_csv(tmp_path / "units.csv", index=False)
    card = TaskCard(
        kind="regression",
        name="sum",
        title="Sum",
        targets=["y"],
        unit=["unit_id"],
        groups=["region"],
        coordinates={"x": "lon", "y": "lat"},
        files=["units.csv"],
        features={"raw": ["measured"]},
        splits=["random"],
    )
    task = EmbeddingTable(card, tmp_path)
    manifest = build_manifest(card, task.units(), "random")
    seen = TaskData.build(task, manifest, manifest.folds[0], "full", 0)
    scores = {}
    for name in ("raw/ridge", "harmonics/ridge", "raw+harmonics/ridge"):
        found = create(name, card=card).fit(seen).predict(seen, "test_id")
        truth = table.set_index("unit_id")["y"].reindex(found.unit_ids("test_id")).to_numpy()
        scores[name] = r2_score(truth, found.y)
    assert scores["raw+harmonics/ridge"] > 0.99 > 0.9 > max(scores["raw/ridge"], scores["harmonics/ridge"])
    joined = model_card("raw+harmonics/ridge", card)
    assert (joined.tier, joined.content) == ("raw", ["coordinates", "other"])
