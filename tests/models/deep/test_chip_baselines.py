"""Baselines of a chip task without a network: what they compute is checked against scikit-learn and plain NumPy on the same chips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models import create, list_models, model_card
from rs05bench.models.chip_baselines import source_of
from rs05bench.protocol import TaskCard

BURNT = TaskCard(
    kind="segmentation",
    name="burnt",
    title="Burnt",
    targets=["label"],
    classes=["unburnt", "burnt"],
    splits=["random"],
    budgets=["full"],
    reader="chips",
)


@pytest.fixture
def card() -> TaskCard:
    return BURNT


@pytest.fixture
def placed(chips: Callable):
    """Chips with positions: the units to train on are west, all others east."""
    data = chips()
    for number, sample in enumerate(data.samples):
        sample["location"] = torch.tensor([float(number % 3), -100.0 if number < 4 else 100.0])
    return data


def maps(model, data) -> dict[str, np.ndarray]:
    return dict(model.predict_chips(data, "test_id"))


def test_a_pixel_is_classified_by_its_bands_and_indices(card, placed):
    model = create("raw/logistic", card=card).fit(placed)
    assert model.learnt_.choice.losses, "the entry is judged on the validation chips"
    with torch.no_grad():
        image = placed.samples[6]["image"]
    nir, red, swir1, swir2, green = (image[at] for at in (3, 2, 4, 5, 1))

    def index(a, b):
        return (a - b) / (a + b)

    # NDVI, NBR, NDWI and NDBI by their definitions.
    by_hand = torch.stack([*image, index(nir, red), index(nir, swir2), index(green, nir), index(swir1, nir)])
    found = source_of("raw", placed)({"image": image[None]})[0]
    assert torch.allclose(found, by_hand, atol=1e-5)
    # The label is a bright near infrared, which a pixel shows by itself.
    assert ((maps(model, placed)["u6"][1] > 0.5) == placed.samples[6]["mask"].numpy()).mean() > 0.97


def test_a_pixel_learner_is_scikit_learns(card, placed):
    model = create("raw/logistic", card=card).fit(placed)
    X = np.concatenate([source_of("raw", placed)({"image": placed.samples[at]["image"][None]})[0].flatten(1).T for at in range(4)])
    y = np.concatenate([placed.samples[at]["mask"].numpy().ravel() for at in range(4)])
    # The model learns from 256 pixels of each chip; with all of them the fit is nearly the same.
    scaler = StandardScaler().fit(X)
    reference = LogisticRegression(**model.learnt_.choice.parameters, max_iter=5000).fit(scaler.transform(X), y)
    pixels = source_of("raw", placed)({"image": placed.samples[6]["image"][None]})[0].flatten(1).T
    expected = reference.predict_proba(scaler.transform(pixels))[:, 1].reshape(32, 32)
    assert np.abs(maps(model, placed)["u6"][1] - expected).mean() < 0.05


def test_statistics_are_those_of_the_image_and_one_answer_for_it(card, placed):
    model = create("statistics/logistic", card=card).fit(placed)
    found = source_of("statistics", placed)({"image": placed.samples[6]["image"][None]})[0, :, 0, 0].numpy()
    image = placed.samples[6]["image"].flatten(1).numpy()
    assert np.allclose(found, np.concatenate([image.mean(1), image.std(1), image.min(1), image.max(1)]), atol=1e-6)
    for probabilities in maps(model, placed).values():
        assert probabilities.shape == (2, 32, 32)
        assert np.ptp(probabilities[1]) == 0


def test_statistics_of_an_image_without_data_are_missing():
    class Data:
        bands, scale = ["RED"], 2.0

    image = torch.full((1, 1, 2, 2), torch.nan)
    assert source_of("statistics", Data())({"image": image}).isnan().all()
    image[0, 0, 0, 0] = 6.0
    assert source_of("statistics", Data())({"image": image}).flatten().tolist() == [3.0, 0.0, 3.0, 3.0]


def test_majority_gives_the_frequencies_of_the_labelled_pixels(card, placed):
    placed.samples[0]["mask"][:] = -1
    share = np.mean([placed.samples[at]["mask"].numpy().mean() for at in (1, 2, 3)])
    model = create("floor/majority", card=card).fit(placed)
    assert np.allclose(maps(model, placed)["u7"][1], share, atol=1e-6)


def test_nearest_answers_with_the_chips_around(card, placed):
    for at in (0, 3):
        placed.samples[at]["mask"][:] = 1
    for at in (1, 2):
        placed.samples[at]["mask"][:] = 0
    placed.samples[6]["location"] = placed.samples[0]["location"] = torch.tensor([40.0, -100.0])
    placed.val = False
    model = create("floor/nearest", card=card).fit(placed)
    # Five neighbours are asked for and four are there.
    assert model.choice_.parameters == {"k": 5}
    assert np.allclose(maps(model, placed)["u6"][1], 0.5)
    placed.val = True
    for at in (4, 5):
        placed.samples[at]["mask"][:], placed.samples[at]["location"] = 1, torch.tensor([40.1, -100.0])
    model = create("floor/nearest", card=card).fit(placed)
    assert model.choice_.parameters == {"k": 1}
    assert np.allclose(maps(model, placed)["u6"][1], 1.0)


def test_a_learner_on_the_place_sees_no_image(card, placed):
    model = create("harmonics/logistic", card=card).fit(placed)
    before = maps(model, placed)["u6"]
    placed.samples[6]["image"] = placed.samples[6]["image"] * 7
    assert np.array_equal(maps(model, placed)["u6"], before)
    assert model.card.tier == "floor"


@pytest.mark.parametrize("name", ["raw/logistic", "raw/knn", "raw/lightgbm"])
def test_missing_pixels_and_missing_validation_are_no_obstacle(card, placed, name):
    placed.val = False
    for sample in placed.samples:
        sample["image"][:, :2] = torch.nan
    found = maps(create(name, card=card).fit(placed), placed)["u6"]
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_a_card_says_what_the_bands_are(card, placed):
    placed.bands = ["VV", "VH", "B04", "B8A", "B11", "B12"]
    assert create("raw/centroid", card=card).fit(placed).card.content == ["optical", "radar"]
    assert model_card("statistics/rf", card).tier == "raw"


def test_chip_tasks_list_their_baselines(card):
    names = {item.card.name for item in list_models(card)}
    assert {"floor/majority", "floor/nearest", "raw/logistic", "statistics/rf", "harmonics/logistic", "raw/unet"} <= names
    assert not {"raw/ridge", "floor/mean", "alphaearth/logistic"} & names
    with_tiles = card.with_preprocessing(embeddings="alphaearth")
    assert "alphaearth/logistic" in {item.card.name for item in list_models(with_tiles)}


def test_what_cannot_be_is_said(card, placed):
    with pytest.raises(DataError, match="is not for chips"):
        create("floor/mean", card=card)
    with pytest.raises(ProtocolError, match="takes no options"):
        create("raw/logistic", card=card, C=1.0)
    with pytest.raises(ProtocolError, match="before it was fitted"):
        create("raw/logistic", card=card).predict(placed, "test_id")
    for at in range(4):
        placed.samples[at]["mask"][:] = -1
    for name in ("raw/logistic", "floor/majority", "floor/nearest"):
        with pytest.raises(ProtocolError, match="no label to learn from"):
            create(name, card=card).fit(placed)
