"""Lightning's contract: two whole epochs at any budget, missing pixels, processes, an interrupted fit, and no way to a test label."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from itertools import chain

import lightning
import numpy as np
import pytest
import torch

from rs05bench.datamodules import BurnScarDataModule
from rs05bench.datamodules.chipsource import ChipSource, chip_card
from rs05bench.datamodules.patches import BatchOrder
from rs05bench.errors import BenchError, DataError, ProtocolError
from rs05bench.models import create
from rs05bench.models.contract import Watched, check_model
from rs05bench.models.tier_module import TierModule

try:
    from torchgeo.tasks import SemanticSegmentationTask  # 0.10
except ImportError:
    from torchgeo.trainers import SemanticSegmentationTask


@pytest.fixture(scope="module")
def source(chip_folder):
    card = chip_card("burn-scars", chip_folder / "hls_burn_scars")
    training = card.training.model_copy(update={"steps": 8, "val_every": 2, "learning_rates": [1e-3]})
    return ChipSource(chip_folder / "hls_burn_scars", card.with_preprocessing(patch_size=64).model_copy(update={"training": training}))


def burn(source, budget="5-fires", fill=None, **options):
    return BurnScarDataModule(source, split="leave-state-out", fold="CA", budget=budget, fill=fill, **options)


def task():
    options = {"model": "unet", "backbone": "resnet18", "weights": None, "in_channels": 6, "task": "multiclass", "num_classes": 2}
    return SemanticSegmentationTask(**options, loss="ce", ignore_index=-1)


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(**({"accelerator": "cpu", "num_sanity_val_steps": 0} | quiet | options))


# --- epochs -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["2-fires", "5-fires", "full", "10pct-pixels"])
def test_torchgeos_task_runs_two_whole_epochs_at_every_budget(source, budget):
    dm = burn(source, budget, batch_size=16)
    expected = 2 * len(dm.train_dataloader())
    run = trainer(max_epochs=2)
    if dm.unit_ids("val"):
        run.fit(task(), dm)
        assert math.isfinite(run.callback_metrics["val_loss"])
    else:
        with pytest.warns(UserWarning, match="no validation unit"):
            run.fit(task(), dm)
    assert run.global_step == expected
    assert run.current_epoch == 2


def test_a_pass_of_another_epoch_has_another_order_and_the_same_patches(source):
    loader = burn(source, "full", batch_size=4).train_dataloader()
    passes = [[batch["unit_id"] for batch in loader] for _ in range(2)]
    assert passes[0] != passes[1]
    assert sorted(chain(*passes[0])) == sorted(chain(*passes[1]))
    loader.sampler.set_epoch(0)
    assert [batch["unit_id"] for batch in loader] == passes[0]


# --- missing pixels ---------------------------------------------------------------------------------------------------------------------


def test_missing_pixels_never_give_another_module_a_silent_nan(source):
    run = trainer(max_steps=2, limit_val_batches=0)
    with pytest.warns(UserWarning, match=r"missing pixels \(NaN\) are 0 in what SemanticSegmentationTask is shown"):
        run.fit(task(), burn(source))
    assert math.isfinite(run.callback_metrics["train_loss"])
    with pytest.warns(UserWarning, match=r"fill=nan: batches hold missing pixels"):
        trainer(max_steps=1, limit_val_batches=0).fit(task(), burn(source, fill=float("nan")))


def test_our_modules_are_shown_missing_pixels_as_nan(source, recwarn):
    dm = burn(source)
    module = create("raw/unet").module(dm)
    seen = []
    module.network.register_forward_pre_hook(lambda _, batches: seen.append(batches[0]["image"].isnan().any().item()))
    trainer(max_steps=4, limit_val_batches=0).fit(module, dm)
    assert any(seen)
    assert not [warning for warning in recwarn if "missing pixels" in str(warning.message)]


# --- processes --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fires", "replicas"), [(4, 2), (5, 2), (3, 4), (7, 3)])
def test_every_patch_of_a_fire_goes_to_one_process_in_a_pass(fires, replicas):
    groups = [f"fire-{number}" for number in range(fires) for _ in range(6)]
    orders = [BatchOrder(groups, 0, 2, groups, replicas=replicas, rank=rank) for rank in range(replicas)]
    for _ in range(3):
        passes = [list(order) for order in orders]
        assert len({len(batches) for batches in passes}) == 1
        assert len(passes[0]) == len(orders[0])
        assert sorted(position for batches in passes for batch in batches for position in batch) == list(range(6 * fires))
        whole = [batch for batches in passes for batch in batches[: fires // replicas]]
        assert all(len({groups[position] for position in batch}) == 1 for batch in whole)


@pytest.mark.parametrize(("patches", "replicas"), [(12, 2), (13, 2), (10, 3)])
def test_patches_without_groups_are_shared_out_evenly(patches, replicas):
    orders = [BatchOrder(range(patches), 0, 4, replicas=replicas, rank=rank) for rank in range(replicas)]
    passes = [list(order) for order in orders]
    assert len({len(batches) for batches in passes}) == 1
    seen = [position for batches in passes for batch in batches for position in batch]
    assert set(seen) == set(range(patches))
    assert len(seen) == -(-patches // replicas) * replicas


@pytest.mark.slow
def test_two_processes_see_each_fire_once(chip_folder, tmp_path):
    program = f"""
        import lightning, torch
        from rs05bench.datamodules import BurnScarDataModule
        class Watch(lightning.LightningModule):
            reads_missing = True
            def __init__(self):
                super().__init__(); self.weight = torch.nn.Parameter(torch.zeros(()))
            def training_step(self, batch, index):
                with open(r"{tmp_path}/seen", "a") as file:
                    file.writelines(f"{{self.global_rank}} {{unit}}\\n" for unit in sorted(set(batch["unit_id"])))
                return self.weight ** 2
            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)
        if __name__ == "__main__":
            dm = BurnScarDataModule(r"{chip_folder / "hls_burn_scars"}", split="leave-state-out", fold="CA", budget="5-fires")
            lightning.Trainer(max_epochs=1, devices=2, accelerator="cpu", strategy="ddp_fork", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, limit_val_batches=0).fit(Watch(), dm)
    """
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    dm = BurnScarDataModule(chip_folder / "hls_burn_scars", split="leave-state-out", fold="CA", budget="5-fires")
    fire = dict(zip(dm.manifest.units["unit_id"], dm.manifest.units["fire"], strict=True))
    by_rank = {rank: {fire[unit] for one, unit in seen if one == rank} for rank in "01"}
    assert not by_rank["0"] & by_rank["1"]
    assert by_rank["0"] | by_rank["1"] == {fire[unit] for unit in dm.unit_ids("train")}


# --- an interrupted fit -----------------------------------------------------------------------------------------------------------------


class Cut(Exception):
    pass


@pytest.mark.parametrize(
    ("budget", "name", "options"),
    [
        ("5-fires", "prithvi-tiny/lora@random", {"dropout": 0.2}),
        ("full", "prithvi-tiny/lora@random", {"dropout": 0.2}),
        ("full", "prithvi-tiny/frozen@random", {}),
        ("5-fires", "raw/unet", {"accumulate": 2}),
    ],
)
def test_a_resumed_fit_is_the_same_fit_to_the_bit(source, budget, name, options, tmp_path, monkeypatch):
    def model(folder):
        return create(name, seed=0, checkpoints=folder, accelerator="cpu", patience=0, **options)

    whole = model(tmp_path / "whole").fit(burn(source, budget, batch_size=16))
    inner, count = TierModule.training_step, [0]

    def step(self, batch, index):
        count[0] += 1
        if count[0] > 5 * options.get("accumulate", 1):
            raise Cut
        return inner(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(TierModule, "training_step", step)
        with pytest.raises(Cut):
            model(tmp_path / "cut").fit(burn(source, budget, batch_size=16))
    resumed = model(tmp_path / "cut").fit(burn(source, budget, batch_size=16))
    assert resumed.history_.validation == whole.history_.validation
    dm = burn(source, budget)
    for (unit, one), (other, two) in zip(whole.predict(dm, "test_ood"), resumed.predict(dm, "test_ood"), strict=True):
        assert unit == other
        assert np.array_equal(one, two)


# --- no way to a test label -------------------------------------------------------------------------------------------------------------


def cheats(view, unit):
    """Ways of reaching for the mask of a test chip; each by what it looks like."""
    return {
        "source": lambda: view.source.dataset.read(unit).labels,
        "labelled": lambda: view.labelled.chip(unit)["mask"],
        "labels of the labelled": lambda: view.labelled.read_labels(unit),
        "loader": lambda: view.predict_dataloader("test_ood").dataset[0]["mask"],
        "loader's data set": lambda: view.predict_dataloader("test_ood").dataset.dataset.chip(unit)["mask"],
        "training loader's data set": lambda: view.train_dataloader().dataset.patches.dataset.chip(unit)["mask"],
        "other chips of the training loader": lambda: view.train_dataloader().dataset.patches.pixels.image(unit),
        "test loader": lambda: view.test_dataloader(),
        "view of the view": lambda: view.view.source,
    }


def test_nothing_a_model_is_handed_leads_to_a_test_label(source):
    view = burn(source).view
    unit = view.unit_ids("test_ood")[0]
    for name, reach in cheats(view, unit).items():
        with pytest.raises((AttributeError, KeyError, DataError, ProtocolError)):
            pytest.fail(f"{name}: {reach()}")


def test_the_test_loader_names_the_scorer(source):
    for data in (burn(source), burn(source).view):
        with pytest.raises(ProtocolError, match="rs05bench score"):
            data.test_dataloader()


class Cheat:
    """A model whose predictions are the masks it can find."""

    reach = staticmethod(lambda data, unit: data.source.dataset.read(unit).labels)

    def __init__(self, *, card=None, seed=0):
        self.inner = create("raw/unet", seed=seed, steps=1, accelerator="cpu")

    @property
    def card(self):
        return self.inner.card

    def fit(self, data):
        self.inner.fit(data)
        return self

    def predict(self, data, role):
        model = self

        class Chips:
            classes = tuple(data.classes)

            def __init__(self):
                self.role = role

            def __iter__(self):
                for unit in data.unit_ids(role):
                    labels = np.clip(np.asarray(model.reach(data, unit)), 0, 1)
                    yield unit, np.eye(2, dtype=np.float32)[labels].transpose(2, 0, 1)

        return Chips()


class PrivateCheat(Cheat):
    reach = staticmethod(lambda data, unit: data._pixels.image(unit)[0] > 0)


@pytest.mark.parametrize("made", [Cheat, PrivateCheat])
def test_a_check_catches_a_model_that_reaches_for_test_masks(source, made):
    found = check_model(lambda seed: made(seed=seed), burn(source).view)
    assert any(check.status == "failed" for check in found)


def test_what_watches_a_model_is_no_way_round_it(source):
    watched = Watched(burn(source).view)
    assert watched.view is watched
    with pytest.raises(AttributeError):
        _ = watched._data
    assert watched.asked


# --- TorchGeo's habits ------------------------------------------------------------------------------------------------------------------


def test_constructors_store_and_setup_reads_once(tmp_path, source, monkeypatch):
    dm = BurnScarDataModule(tmp_path / "nowhere", split="leave-state-out")
    with pytest.raises(DataError, match="nowhere"):
        dm.setup("fit")
    opened = []
    inner = ChipSource.__init__
    monkeypatch.setattr(ChipSource, "__init__", lambda self, *given, **more: opened.append(1) or inner(self, *given, **more))
    dm = BurnScarDataModule(source.root, split="leave-state-out")
    dm.prepare_data()
    for stage in ("fit", "validate", "predict", None):
        dm.setup(stage)
    assert len(opened) == 1


def test_hyperparameters_are_plain_values(source):
    dm = BurnScarDataModule(source.root, split="leave-state-out", budget="5-fires", seed=3, fill=0.0)
    assert dict(dm.hparams) | {"root": str(source.root)} == dict(dm.hparams)
    assert dm.hparams["budget"] == "5-fires"
    assert dm.hparams["seed"] == 3
    assert all(value is None or type(value) in (str, int, float, bool) for value in dm.hparams.values())


def test_a_sample_of_a_batch_is_drawn(source):
    dm = burn(source)
    batch = next(iter(dm.val_dataloader()))
    sample = {name: batch[name][0] for name in ("image", "mask")}
    figure = dm.plot(sample | {"prediction": sample["mask"]})
    assert len(figure.axes) == 4


def test_only_knows_its_own_chips(source):
    part = source.dataset.only(source.dataset.unit_ids[:2])
    assert part.unit_ids == source.dataset.unit_ids[:2]
    assert len(part) == 2
    with pytest.raises(BenchError, match="no unit"):
        part.chip(source.dataset.unit_ids[-1])
    assert torch.equal(part.chip(part.unit_ids[0])["mask"], source.dataset.chip(part.unit_ids[0])["mask"])
