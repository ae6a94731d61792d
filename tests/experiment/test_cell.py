"""A cell's digest covers what its result rests on; a card pins its whole schedule without making earlier results stale."""

from __future__ import annotations

import pytest

from rs05bench.experiment.cell import Bench, features_folder, make_bench, run_cell
from rs05bench.models.plan import TrainingPlan
from rs05bench.protocol.card import TaskCard, Training
from rs05bench.protocol.result import Cell

PLAIN = {"kind": "segmentation", "name": "chips", "targets": ["t"], "classes": ["a", "b"], "splits": ["random"]}


def test_a_card_declares_the_schedule_that_every_tier_is_trained_by():
    usual = Training()
    plan = TrainingPlan()
    for name in ("class_weights", "accumulate", "weight_decay", "warmup", "precision", "steps", "patience", "val_every"):
        assert getattr(usual, name) == getattr(plan, name), name

    class Data:
        card = TaskCard.parse({**PLAIN, "training": {"class_weights": "balanced", "accumulate": 2, "weight_decay": 0.1}})
        steps = 5

    made = TrainingPlan.of(Data())
    assert (made.class_weights, made.accumulate, made.weight_decay, made.steps) == ("balanced", 2, 0.1, 5)


def test_fields_that_cards_got_later_change_a_digest_only_where_they_say_something_else():
    plain = TaskCard.parse(PLAIN)
    # The digest of this card before those fields were there.
    assert plain.digest == "f8d8c74b1573de91a4fe2aff1320dc526f415168c9fb0c1db87ef81468292400"
    assert TaskCard.parse({**PLAIN, "training": {"accumulate": 1, "precision": "auto"}}).digest == plain.digest
    for changed in ({"accumulate": 2}, {"class_weights": "balanced"}, {"precision": "32-true"}, {"warmup": 0.0}, {"weight_decay": 0.0}):
        assert TaskCard.parse({**PLAIN, "training": changed}).digest != plain.digest


def test_a_digest_covers_card_manifest_data_and_options(tiny):
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    fold = bench.manifests["leave-state-out"].folds[0]
    cell = Cell(task="tiny", target="crop", split="leave-state-out", fold=fold, model="raw/knn", budget="5-per-class", seed=0)
    same = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    assert bench.digest(cell) == same.digest(cell)
    other = Bench(bench.source, {"leave-state-out": bench.manifests["leave-state-out"]})
    changed = bench.card.model_copy(update={"never_features": ["nothing"]})
    other.source = _Source(bench.source, changed)
    assert other.digest(cell) != bench.digest(cell)
    for field, value in {"seed": 1, "budget": "10-per-class", "options": {"x": 1}, "model": "raw/rf"}.items():
        assert bench.digest(cell.model_copy(update={field: value})) != bench.digest(cell)


class _Source:
    def __init__(self, inner, card):
        self.inner, self.card, self.digest = inner, card, inner.digest


def test_a_table_cell_repeats_but_for_its_cost(tiny):
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    fold = bench.manifests["leave-state-out"].folds[0]
    cell = Cell(task="tiny", target="crop", split="leave-state-out", fold=fold, model="alphaearth/logistic", budget="10-per-class", seed=0)
    first, again = (run_cell(bench, cell)[0].model_dump(exclude={"cost"}) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("cache", [None, "elsewhere"])
def test_features_lie_in_the_store_or_in_the_cache_that_was_named(tmp_path, monkeypatch, cache):
    monkeypatch.delenv("RS05BENCH_CACHE", raising=False)
    if cache:
        monkeypatch.setenv("RS05BENCH_CACHE", str(tmp_path / cache))
    assert features_folder(tmp_path / "runs") == tmp_path / (cache or "runs") / "features"
