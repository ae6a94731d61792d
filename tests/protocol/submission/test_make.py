"""An outsider fills in a template with plain scikit-learn and enters; results of a sweep become the same two files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from rs05bench.errors import DataError, ProtocolError, SubmissionError
from rs05bench.protocol import SplitManifest, TaskCard, draw_budget
from rs05bench.protocol.submission.make import pin, template
from rs05bench.protocol.submission.verify import check_submission, verify_submission
from tests.protocol.submission.world import fill_in, seed_of

SCRIPT = Path(__file__).parents[3] / "examples/enter/enter.py"
WITHOUT_US = "import sys, runpy; sys.modules['rs05bench'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


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
    """The script that the documentation shows, in a Python that cannot see this package."""
    task, card, manifests, labels = tiny
    out = template(task, card, manifests, tmp_path / "mine", seeds=5, labels={"cover": labels.to_dict()})
    value = [seed_of(unit) % 3 + np.random.default_rng(seed_of(unit)).normal() for unit in labels.index]
    pd.DataFrame({"unit_id": labels.index, "cover": labels.to_numpy(), "b1": value}).to_csv(tmp_path / "units.csv", index=False)
    call = [out, tmp_path / "units.csv", "--label", "cover", "--features", "b1", "--neighbours", "3"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_US, SCRIPT, *call], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    fill_in(out / "submission.yaml", slug="outsider-knn")
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
