"""A table's data module shows the budget's labels and no others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from rs05bench.datamodules import TableDataModule
from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import TaskCard

CARD = {
    "kind": "classification",
    "name": "plots",
    "targets": ["crop"],
    "classes": ["corn", "rice"],
    "unit": ["plot"],
    "groups": ["state"],
    "coordinates": {"x": "lon", "y": "lat"},
    "files": ["plots.csv"],
    "features": {"alphaearth": ["A0?"], "raw": ["B?"]},
    "splits": ["leave-state-out"],
    "split_options": {"block_size_m": 5000, "buffer_m": 100},
    "budgets": ["5-per-class"],
    "training": {"steps": 7, "batch_size": 3},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    count = 200
    state = np.repeat(["CA", "IA", "KS", "GA"], count // 4)
    frame = pd.DataFrame({"plot": [f"p{number:03d}" for number in range(count)], "state": state})
    frame["lon"] = rng.uniform(0, 0.5, count) + pd.Series(state).map({"CA": -120.0, "IA": -93.0, "KS": -98.0, "GA": -83.0})
    frame["lat"] = 38 + rng.uniform(0, 0.5, count)
    frame["crop"] = rng.choice(["corn", "rice"], count)
    for column in ("A00", "A01", "B1"):
        frame[column] = rng.normal(size=count) + (frame["crop"] == "rice")
    frame.to_csv(tmp_path_factory.mktemp("plots") / "plots.csv", index=False)
    root = tmp_path_factory.mktemp("table")
    frame.to_csv(root / "plots.csv", index=False)
    return root


def module(folder, seed=0, **options):
    return TableDataModule(TaskCard.parse(CARD), folder, "leave-state-out", "CA", "5-per-class", seed, **options)


def test_a_budget_shows_its_labels_and_no_more(folder):
    dm = module(folder)
    labelled = [batch for loader in (dm.train_dataloader(), dm.val_dataloader()) for batch in loader]
    units = [unit for batch in labelled for unit in batch["unit_id"]]
    assert len(units) == len(set(units)) == 10 == dm.budget.labels_used
    counts = torch.bincount(torch.cat([batch["label"] for batch in labelled]))
    assert counts.tolist() == [5, 5]


def test_prediction_shows_every_unit_of_the_role_and_no_label(folder):
    dm = module(folder)
    for role in ("test_id", "test_ood"):
        batches = list(dm.predict_dataloader(role))
        assert all(set(batch) == {"unit_id", "features"} for batch in batches)
        assert [unit for batch in batches for unit in batch["unit_id"]] == [str(unit) for unit in dm.view.unit_ids(role)]
    assert len(dm.predict_dataloader()) == 2


def test_test_labels_are_refused(folder):
    with pytest.raises(ProtocolError, match="no test labels"):
        module(folder).test_dataloader()


def test_steps_batches_and_features_are_the_cards(folder):
    dm = module(folder)
    assert dm.steps == 7
    assert next(iter(dm.train_dataloader()))["features"].shape == (3, 2)
    assert next(iter(module(folder, features="raw").train_dataloader()))["features"].shape == (3, 1)


def test_the_order_of_batches_follows_the_seed(folder):
    def order(seed):
        return [unit for batch in module(folder, seed=seed).train_dataloader() for unit in batch["unit_id"]]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_any_lightning_module_trains_on_it(folder):
    import lightning

    class Linear(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def training_step(self, batch, index):
            return torch.nn.functional.cross_entropy(self.linear(batch["features"]), batch["label"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    dm = module(folder)
    trainer = lightning.Trainer(max_steps=dm.steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Linear(), dm)
    assert trainer.global_step == 7


def test_a_card_without_features_says_so(folder):
    card = TaskCard.parse({**CARD, "features": {}})
    with pytest.raises(DataError, match="feature"):
        TableDataModule(card, folder, "leave-state-out").setup()
