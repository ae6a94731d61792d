"""Shallow learners on the features of a frozen encoder of chips."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.deep import catalogue, create
from rs05bench.models.learners import LEARNERS

CPU = {"accelerator": "cpu"}


@pytest.mark.parametrize("learner", ["logistic", "centroid", "rf"])
def test_a_segmentation_is_learnt_on_pixels_and_predicted_for_every_one(learner: str, chips: Callable):
    data = chips()
    model = create(f"prithvi-tiny/frozen-{learner}@random", **CPU).fit(data)
    found = dict(model.predict_chips(data, "test_id"))
    assert sorted(found) == ["u6", "u7"]
    for probabilities in found.values():
        assert probabilities.shape == (2, 32, 32)
        assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert model.card.tier == "frozen"
    assert model.card.parameters_total > model.card.parameters_trainable > 0
    assert model.training_record.grid == [dict(entry) for entry in LEARNERS[learner].grid]
    assert model.training_record.encoder == "random:0"


def test_tokens_are_classified_as_scikit_learn_classifies_them(chips: Callable):
    data = chips()
    model = create("prithvi-tiny/frozen-logistic@random", **CPU).fit(data)
    # The pixels of every chip in plain code: 16 px a token, 2 x 2 tokens a chip, 256 pixels by a generator of its own.
    network, rows, labels = model.network_, [], []
    with torch.no_grad():
        for batch in data.train_dataloader():
            for unit, features, mask in zip(batch["unit_id"], network.encode(batch)[-1].numpy(), batch["mask"].numpy(), strict=True):
                start = int.from_bytes(hashlib.blake2b(f"0\x1fpixels of a learner\x1f{unit}".encode(), digest_size=8).digest(), "big")
                chosen = np.sort(np.random.default_rng(start).choice(mask.size, 256, replace=False))
                for pixel in chosen:
                    row, column = divmod(int(pixel), 32)
                    rows.append(features[:, row // 16, column // 16])
                    labels.append(mask[row, column])
    scaler = StandardScaler().fit(np.array(rows, dtype=float))
    reference = LogisticRegression(**model.learnt_.choice.parameters, tol=1e-8, max_iter=5000).fit(
        scaler.transform(np.array(rows, dtype=float)), labels
    )
    batch = next(iter(data.predict_dataloader("test_id")))
    with torch.no_grad():
        tokens = network.encode(batch)[-1]
    expected = reference.predict_proba(scaler.transform(tokens.permute(0, 2, 3, 1).reshape(-1, tokens.shape[1]).numpy().astype(float)))
    found = model.network_.head([tokens], tokens.shape[-2:]).exp().permute(0, 2, 3, 1).reshape(-1, 2).numpy()
    assert np.allclose(found, expected, atol=5e-3)


def test_chips_with_one_label_go_through_the_mean_of_their_tokens(chips: Callable):
    data = chips(kind="regression")
    y = create("prithvi-tiny/frozen-ridge@random", **CPU).fit(data).predict(data, "test_id").y
    assert np.isfinite(y).all()
    assert len(y) == 2


def test_a_control_is_another_network_for_every_seed(chips: Callable):
    data = chips()
    one, two = (
        dict(create("prithvi-tiny/frozen-logistic@random", seed=seed, **CPU).fit(data).predict_chips(data, "test_id")) for seed in (0, 1)
    )
    assert not np.allclose(one["u6"], two["u6"], atol=1e-3)


def test_what_it_cannot_do_is_said(chips: Callable, tmp_path):
    with pytest.raises(ProtocolError, match="does classification only"):
        create("prithvi-tiny/frozen-logistic@random", **CPU).fit(chips(kind="regression"))
    with pytest.raises(DataError, match="does not know the option steps"):
        create("prithvi-tiny/frozen-logistic@random", steps=3)
    with pytest.raises(ProtocolError, match="cannot be saved"):
        create("prithvi-tiny/frozen-logistic@random", **CPU).save(tmp_path)


def test_every_encoder_has_them():
    assert {"prithvi-300/frozen-logistic", "prithvi-300/frozen-rf", "clay/frozen-ridge@random", "presto/frozen-ridge"} <= set(catalogue())
