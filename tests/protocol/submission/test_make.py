"""An outsider fills in a template with plain scikit-learn and enters; results of a sweep become the same two files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.neighbors import KNeighborsClassifier

from rs05bench.errors import DataError, ProtocolError, SubmissionError
from rs05bench.protocol import SplitManifest, TaskCard, draw_budget
from rs05bench.protocol.submission.make import pin, template
from rs05bench.protocol.submission.verify import check_submission, verify_submission
from tests.protocol.submission.world import CLASSES, seed_of, write_parquet


@pytest.fixture
def tiny(world):
    truth = world.root / "truth"
    card = TaskCard.load(truth / "cards" / "tiny.yaml")
    manifests = {"leave-region-out": SplitManifest.load(truth / "manifests" / "tiny" / "leave-region-out@v1.parquet")}
    labels = pd.read_parquet(truth / "labels" / "labels.parquet").set_index("unit_id")["cover"]
    return world.board.task("tiny"), card, manifests, labels


def test_the_template_lists_every_row_and_the_labels_of_every_budget(tiny, tmp_path):
    task, card, manifests, labels = tiny
    out = template(task, card, manifests, tmp_path / "mine", seeds=5, labels={"cover": labels.to_dict()})
    rows, shown = pd.read_parquet(out / "predictions.parquet"), pd.read_parquet(out / "labels.parquet")
    split = task.splits["leave-region-out"]
    assert len(rows) == sum(fold.units for fold in split.folds.values()) * len(split.budgets) * 5
    fold = next(iter(split.folds))
    here = shown[(shown["fold"] == fold) & (shown["budget"] == "4-per-class") & (shown["seed"] == 2)]
    drawn = draw_budget(card, manifests["leave-region-out"], fold, "4-per-class", 2, labels.to_dict())
    assert set(here.loc[here["role"] == "train", "unit_id"]) == set(drawn.train)
    assert set(here.loc[here["role"] == "val", "unit_id"]) == set(drawn.val)
    with pytest.raises(DataError, match="already exists"):
        template(task, card, manifests, tmp_path / "mine", seeds=5, labels={"cover": labels.to_dict()})


def test_budgets_drawn_by_label_need_the_labels(tiny, tmp_path):
    task, card, manifests, _ = tiny
    with pytest.raises((ProtocolError, DataError)):
        template(task, card, manifests, tmp_path / "mine", seeds=5)


def test_the_template_is_never_accepted_unedited(tiny, world, tmp_path):
    task, card, manifests, labels = tiny
    out = template(task, card, manifests, tmp_path / "mine", seeds=5, labels={"cover": labels.to_dict()})
    verdict = check_submission(out, world.root / "board")
    assert verdict.outcome == "refused"
    assert any("what the template asks for" in fault for fault in verdict.faults)
    assert any("labels.parquet" in fault for fault in verdict.faults)


def test_an_outsider_enters_with_scikit_learn_alone(tiny, world, tmp_path):
    """No call of this package but the commands: labels.parquet states what may be used, predictions.parquet what to predict."""
    task, card, manifests, labels = tiny
    out = template(task, card, manifests, tmp_path / "mine", seeds=5, labels={"cover": labels.to_dict()})
    rows, shown = pd.read_parquet(out / "predictions.parquet"), pd.read_parquet(out / "labels.parquet")
    cell = ["split", "fold", "budget", "seed"]
    features = {unit: [seed_of(unit) % 3 + np.random.default_rng(seed_of(unit)).normal()] for unit in labels.index}
    for key, part in rows.groupby(cell):
        may_use = shown.set_index(cell).loc[[key], "unit_id"]
        model = KNeighborsClassifier(3).fit([features[unit] for unit in may_use], labels[may_use])
        p = pd.DataFrame(0.0, index=part.index, columns=[f"p_{name}" for name in CLASSES])
        p[[f"p_{name}" for name in model.classes_]] = model.predict_proba([features[unit] for unit in part["unit_id"]])
        rows.loc[part.index, p.columns] = p
    write_parquet(out / "predictions.parquet", rows)
    (out / "labels.parquet").unlink()
    record = yaml.safe_load((out / "submission.yaml").read_text())
    record |= {
        "slug": "outsider-knn",
        "title": "Nearest neighbours",
        "overlap": "None.",
        "licence": "CC-BY-4.0",
        "code": "https://example.org",
    }
    record["authors"] = [{"name": "An Outsider"}]
    record["model"] = {"name": "raw/knn", "tier": "raw", "inputs": "raw", "learner": "knn", "licence": "MIT", "open_weights": True}
    record["hardware"] = [{"name": "A laptop", "kind": "cpu"}]
    record["environment"] = {"python": "R 4.4"}
    record["statement"] = dict.fromkeys(record["statement"], True)
    for cost in record["costs"]:
        cost |= {"fit_s": 0.1, "predict_s": 0.1, "predict_s_per_1000": 1.0, "peak_memory_mb": 50.0, "hardware": "A laptop"}
    (out / "submission.yaml").write_text(yaml.safe_dump(record))
    verdict = verify_submission(out, world.root / "board", truth=world.root / "truth")
    assert verdict.outcome == "accepted", verdict.faults
    assert verdict.rankable == ["tiny/cover/leave-region-out"]


def test_a_pin_needs_an_address_and_a_commit(sent):
    with pytest.raises(SubmissionError, match="revision"):
        pin(sent, "hf://datasets/team/predictions")
    with pytest.raises(SubmissionError):
        pin(sent, "ftp://example.org/x")
    made = pin(sent, "hf://datasets/team/predictions", "a" * 40)
    assert yaml.safe_load((sent / "submission.yaml").read_text())["predictions"]["sha256"] == made.sha256
