"""A cell's digest covers what its result rests on; a card pins its whole schedule without making earlier results stale."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import pytest

from rs05bench.experiment import cell_files
from rs05bench.experiment.cell import Bench, features_folder, make_bench, run_cell
from rs05bench.models import create
from rs05bench.models.backbones import BandWarning, ScaleWarning
from rs05bench.models.plan import training_of
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Cell

PLAIN = {"kind": "segmentation", "name": "chips", "targets": ["t"], "classes": ["a", "b"], "splits": ["random"]}


def test_a_card_declares_the_schedule_that_every_tier_is_trained_by():
    class Data:
        card = TaskCard.parse({**PLAIN, "training": {"class_weights": "balanced", "accumulate": 2, "weight_decay": 0.1}})
        steps = 5

    made = training_of(Data(), {"warmup": 0.5})
    assert (made.class_weights, made.accumulate, made.weight_decay, made.warmup, made.steps) == ("balanced", 2, 0.1, 0.5, 5)


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


KNN = Cell(task="tiny", target="crop", split="leave-state-out", fold="ia", model="raw/knn", budget="5-per-class", seed=0)


def test_a_digest_covers_the_files_a_cell_names_and_is_as_ever_for_the_others(tiny, tmp_path, monkeypatch):
    # The digest of this cell before files were covered.
    assert KNN.digest(card="a", manifest="b", data="c") == "a77d202d35e30e6441fe936ec190f23fa8550c7a7b26183598be29a4855d8f0a"
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    rests_on = {"card": bench.card.digest, "manifest": bench.manifests["leave-state-out"].digest, "data": bench.source.digest}
    monkeypatch.chdir(tmp_path)
    Path("linear").touch()  # a word among the options that happens to be a file
    for options in ({}, {"rank": 4, "head": "linear", "weights": "absent.pt", "cache": str(tmp_path), "name": "a\0b.pt"}):
        cell = KNN.model_copy(update={"options": options})
        assert bench.digest(cell) == cell.digest(**rests_on)
    for name, cell in {
        "model.py": KNN.model_copy(update={"model": "model.py:Model"}),
        "weights.pt": KNN.model_copy(update={"options": {"weights": "weights.pt"}}),
    }.items():
        digests = []
        for text in ("one", "two!", "one"):
            Path(name).write_text(text)
            digests.append(bench.digest(cell))
        assert digests[0] == digests[2] != digests[1]
        key = "code" if name == "model.py" else "option.weights"
        assert digests[0] == cell.digest(**rests_on, **{key: hashlib.sha256(b"one").hexdigest()})


def test_a_file_is_read_once_while_it_stays_the_same(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    cell = KNN.model_copy(update={"options": {"weights": str(path)}})
    before = cell_files._sha256.cache_info().misses
    first = [cell_files.file_digests(cell) for _ in range(3)]
    assert cell_files._sha256.cache_info().misses == before + 1
    assert first[0] == first[1] == first[2]
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 0))
    assert cell_files.file_digests(cell) != first[0]


class Doubting:
    """A model that warns of its data, as encoders do."""

    def __init__(self, inner):
        self.inner, self.card = inner, inner.card

    def fit(self, data):
        for _ in range(2):
            warnings.warn("the scale looks odd", ScaleWarning, stacklevel=1)
        warnings.warn("old", RuntimeWarning, stacklevel=1)
        self.inner.fit(data)
        return self

    def predict(self, data, role):
        warnings.warn("a band stands in", BandWarning, stacklevel=1)
        return self.inner.predict(data, role)


def test_a_result_keeps_what_was_warned_of_the_data_and_its_digest_does_not(tiny):
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    plain, _ = run_cell(bench, KNN)
    assert "warnings" not in plain.training.model_fields_set
    for _ in range(2):  # Python would show them once a process
        with pytest.warns() as shown:
            told, _ = run_cell(bench, KNN, model=Doubting(create("raw/knn", card=bench.card)))
        assert told.training.warnings == ["the scale looks odd", "a band stands in"]
        assert [str(entry.message) for entry in shown] == ["the scale looks odd", "old", "a band stands in"]
    assert told.digest == plain.digest
    assert told.digests == plain.digests
    assert told.rests_on() == {name: plain.digests[name] for name in ("card", "manifest", "data")}


def test_a_result_names_the_accelerator_it_ran_on(tiny, monkeypatch):
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    monkeypatch.setattr("rs05bench.experiment.cell.hardware_name", lambda: "a processor")
    assert run_cell(bench, KNN)[0].cost.hardware == "a processor"
    monkeypatch.setattr("rs05bench.experiment.cell.device_name", lambda: "an accelerator")
    assert run_cell(bench, KNN)[0].cost.hardware == "a processor + an accelerator"


@pytest.mark.parametrize(
    ("model", "shared"), [("presto/frozen@random", True), ("prithvi-tiny/frozen@random", True), ("presto/lora@random", False)]
)
def test_frozen_cells_of_tables_and_chips_share_features(model, shared, tiny, tmp_path):
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    bench.features = tmp_path
    made = bench.model(KNN.model_copy(update={"model": model}))
    assert made.options.cache == (str(tmp_path) if shared else None)
    assert "cache" not in made.card.options


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
