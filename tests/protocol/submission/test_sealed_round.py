"""A sealed round from end to end, as maintainers and a team type it: the labels of the last year do not exist until after the sealing."""

from __future__ import annotations

import datetime
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from rs05bench.cli import _register, app
from rs05bench.protocol.submission import Round, Verdict
from tests.protocol.submission.world import fill_in

SCRIPT = Path(__file__).parents[3] / "examples/enter/enter.py"
TODAY = datetime.datetime.now(datetime.UTC).date()
CROPS = ["corn", "rice", "wheat"]
CARD = {
    "kind": "classification",
    "name": "next-crops",
    "targets": ["crop"],
    "classes": CROPS,
    "unit": ["plot", "year"],
    "place": ["plot"],
    "groups": ["state"],
    "year": "year",
    "coordinates": {"x": "lon", "y": "lat"},
    "files": ["plots.csv"],
    "features": {"raw": ["b1"]},
    "splits": ["until-2025"],
    "split_options": {"block_size_m": 5000, "buffer_m": 500},
    "budgets": ["20-units", "50-units"],
    "overlap": "none",
}


def run(*arguments: object, fails: bool = False) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (done.exit_code != 0) == fails, done.output or done.exception
    return done.output


def make_plots(folder: Path, *, revealed: bool) -> None:
    """Plots of three years; the crops of 2026 are blank until they are revealed."""
    rng = np.random.default_rng(0)
    plots = pd.DataFrame({"plot": [f"p{number:03d}" for number in range(240)], "state": np.repeat(["ia", "il", "mn", "wi"], 60)})
    plots["lon"] = np.repeat([-93.0, -89.0, -94.0, -90.0], 60) + rng.uniform(0, 0.6, 240)
    plots["lat"] = np.repeat([42.0, 40.0, 46.0, 44.0], 60) + rng.uniform(0, 0.6, 240)
    table = pd.concat([plots.assign(year=year) for year in (2024, 2025, 2026)])
    which = rng.integers(0, 3, len(table))
    table["b1"] = which + rng.normal(0, 0.5, len(table))
    table["crop"] = np.array(CROPS, dtype=object)[which]
    if not revealed:
        table.loc[table["year"] == 2026, "crop"] = None
    folder.mkdir()
    table.to_csv(folder / "plots.csv", index=False)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """The round up to the sealing: a board without labels, a team's predictions, its digest in the round's file."""
    _register()
    root = tmp_path_factory.mktemp("round")
    make_plots(root / "units", revealed=False)
    make_plots(root / "data", revealed=True)
    (root / "card.yaml").write_text(yaml.safe_dump(CARD))
    card = ("--card-file", "card.yaml", "--board", root / "board")
    frozen = ("--task", "next-crops", "--splits", "until-2025", "--budgets", "20-units,50-units", *card)
    (root / "board").mkdir()
    run("manifest", "build", root / "card.yaml", "--data", root / "units", "--unlabelled", "--out", root / "frozen/manifests")
    run("leaderboard", "freeze", root / "frozen", *frozen, "--sealed")

    run("submit", "template", "next-crops", "--board", root / "board", "--out", root / "mine")
    (root / "shown.parquet").write_bytes((root / "mine/labels.parquet").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        call = [SCRIPT, root / "mine", root / "units/plots.csv", "--unit", "plot,year", "--label", "crop", "--features", "b1"]
        patch.setattr(sys, "argv", [*map(str, call), "--neighbours", "5"])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    fill_in(root / "mine/submission.yaml", slug="a-team")

    week = datetime.timedelta(days=7)
    opened = Round(
        name="crops-2026", title="Crops of 2026", tasks=["next-crops"], opens=TODAY - week, closes=TODAY + week, labels="The next CDL"
    )
    opened.save(root / "round.yaml")
    run("leaderboard", "seal", root / "mine", "--round", root / "round.yaml", "--board", root / "board")
    return root, frozen


def test_no_label_of_the_test_year_is_in_what_a_team_gets(sealed):
    root, _ = sealed
    shown = pd.read_parquet(root / "shown.parquet")
    asked = pd.read_parquet(root / "mine/predictions.parquet")
    assert set(shown["unit_id"].str[-4:]) == {"2024", "2025"}
    assert set(asked.loc[asked["role"] == "test_ood", "unit_id"].str[-4:]) == {"2026"}


def test_nothing_is_scored_before_the_labels_are_published(sealed):
    root, _ = sealed
    told = run("leaderboard", "verify", root / "mine", "--board", root / "board", "--round", root / "round.yaml", fails=True)
    assert "the labels of round crops-2026 do not exist yet" in told


@pytest.fixture(scope="module")
def revealed(sealed):
    """The labels are published the day after: the board takes their digest, the round the day."""
    root, frozen = sealed
    run("labels", "build", root / "card.yaml", "--data", root / "data", "--out", root / "frozen/labels")
    run("leaderboard", "freeze", root / "frozen", *frozen)
    run("leaderboard", "truth", "next-crops", "--data", root / "data", "--out", root / "truth", "--board", root / "board")
    after = Round.load(root / "round.yaml").model_copy(update={"labels_published": TODAY + datetime.timedelta(days=1)})
    after.save(root / "published.yaml")
    return root, frozen


def verify(root: Path, folder: Path, round_file: str = "published.yaml", *, fails: bool = False) -> Verdict:
    call = ("--board", root / "board", "--truth", root / "truth", "--round", root / round_file, "--out", root / "verdict.json")
    run("leaderboard", "verify", folder, *call, fails=fails)
    return Verdict.model_validate_json((root / "verdict.json").read_text())


def test_what_was_sealed_is_scored_with_the_revealed_labels(revealed):
    root, _ = revealed
    verdict = verify(root, root / "mine")
    assert (verdict.outcome, verdict.rankable) == ("accepted", ["next-crops/crop/until-2025"])
    cell = next(cell for cell in verdict.cells if (cell.budget, cell.seed) == ("50-units", 0))
    asked = pd.read_parquet(root / "mine/predictions.parquet")
    here = asked[(asked["budget"] == "50-units") & (asked["seed"] == 0) & (asked["role"] == "test_ood")]
    truth = pd.read_csv(root / "data/plots.csv")
    crops = dict(zip(truth["plot"] + "_" + truth["year"].astype(str), truth["crop"], strict=True))
    answers = here[[f"p_{crop}" for crop in CROPS]].to_numpy().argmax(1)
    right = f1_score([crops[unit] for unit in here["unit_id"]], [CROPS[answer] for answer in answers], average="macro")
    assert cell.scores["test_ood"]["macro_f1"] == pytest.approx(right, abs=1e-6)


def test_a_prediction_changed_after_the_sealing_is_refused(revealed, tmp_path):
    root, _ = revealed
    changed = tmp_path / "mine"
    changed.mkdir()
    (changed / "submission.yaml").write_bytes((root / "mine/submission.yaml").read_bytes())
    rows = pd.read_parquet(root / "mine/predictions.parquet")
    rows.loc[0, [f"p_{crop}" for crop in CROPS]] = [0.2, 0.3, 0.5]
    rows.to_parquet(changed / "predictions.parquet", index=False)
    assert "its digest is" in verify(root, changed, fails=True).faults[0]


def test_what_was_registered_on_the_day_of_the_labels_is_refused(revealed):
    root, _ = revealed
    late = Round.load(root / "published.yaml").model_copy(update={"labels_published": TODAY})
    late.save(root / "late.yaml")
    assert "the labels were published on" in verify(root, root / "mine", "late.yaml", fails=True).faults[0]


def test_revealed_labels_are_frozen_and_no_others_take_their_place(revealed):
    root, frozen = revealed
    run("leaderboard", "freeze", root / "frozen", *frozen)
    table = root / "frozen/labels"
    other = next(path for path in table.rglob("*.parquet"))
    labels = pd.read_parquet(other)
    labels.loc[0, "crop"] = next(crop for crop in CROPS if crop != labels.loc[0, "crop"])
    labels.to_parquet(other, index=False)
    done = CliRunner().invoke(app, [str(part) for part in ("leaderboard", "freeze", root / "frozen", *frozen)])
    assert "frozen with another labels" in str(done.exception)
