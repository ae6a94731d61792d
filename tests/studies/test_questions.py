"""Studies: every record is whole, comparisons are those of `compare`, and no sentence is printed under other numbers than its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rs05bench.datamodules.open_data import open_source
from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.compared_sides import Side
from rs05bench.protocol.comparison import differences
from rs05bench.protocol.inference.estimate import Estimate
from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.taskdata import TaskData
from studies.questions.__main__ import main, run_study
from studies.questions.fits import curves, schedule
from studies.questions.page import Row, digest_of, write_page
from studies.questions.record import Says, load_study, study_names
from studies.questions.setting import CARDS, Setting
from tests.protocol.toy import World


@pytest.mark.parametrize("name", study_names())
def test_a_record_names_cards_and_points_that_exist(name):
    study = load_study(name)
    own = (study.folder / "cells.py").is_file()
    cards = {TaskCard.load(CARDS / f"{grid.card}.yaml").name: grid for grid in study.grids}
    for contrast in study.contrasts:
        if contrast.task not in cards:
            assert own
            continue
        grids = [grid for grid in study.grids if TaskCard.load(CARDS / f"{grid.card}.yaml").name == contrast.task]
        for _, *sides in contrast.rows("target"):
            for point, role in sides:
                assert role in ("test_id", "test_ood")
                assert own or any(
                    point.split in grid.splits
                    and point.model in grid.models
                    and point.budget in grid.budgets
                    and point.options == str(sorted((grid.options or {}).items()))
                    for grid in grids
                ), (point, "is in no grid")


def test_an_unknown_study_is_refused_with_those_there_are(capsys):
    assert main(["nothing"]) == 2
    assert "small-area" in capsys.readouterr().err


def test_absent_data_are_named(tmp_path):
    with pytest.raises(DataError, match="'aef_landcover' is not in the folder"):
        run_study(load_study("small-area"), Setting(tmp_path / "runs", tmp_path), tmp_path)


def effect(value: float, low: float, high: float, p: float) -> Estimate:
    return Estimate(value, low, high, 0.95, 0.01, "groups", 5, p=p, p_holm=p)


def test_sentences_are_printed_under_their_own_numbers_only(tmp_path):
    rows = [Row("a, b", 0.7, 0.5, effect(0.2, 0.1, 0.3, 0.01), "macro_f1"), Row("c, d", 0.5, 0.5, effect(0.0, -0.1, 0.1, 0.9), "macro_f1")]
    study = load_study("small-area").model_copy(update={"says": Says(digest=digest_of(rows), sentences=["Local labels win."])})
    text = write_page(study, rows, [], [], tmp_path, quick=False).read_text()
    assert "Local labels win." in text
    assert "| a, b | macro_f1 | .70 | .50 | +.20 [+.10, +.30] | .04 | 0.01 | 5 groups | higher |" in text
    assert "no significant difference |" in text
    assert len(pd.read_csv(tmp_path / "small-area.csv")) == 2
    other = [replace(rows[0], effect=effect(0.25, 0.1, 0.4, 0.01)), rows[1]]
    text = write_page(study, other, [], [], tmp_path, quick=False).read_text()
    assert "Local labels win." not in text
    assert "newer than the sentences" in text


@pytest.mark.slow
def test_a_simulated_study_runs_and_is_called_so(tmp_path):
    study = load_study("change-features")
    page, rows = run_study(study, Setting(tmp_path / "runs", tmp_path, quick=True), tmp_path / "docs")
    text = page.read_text()
    assert "says nothing about the Earth" in text
    assert "A trial of the steps" in text
    assert rows
    pool = Pool.of(ResultStore(tmp_path / "runs").results())
    made = next(iter(study.contrasts)).rows("label")[0]
    (direct,) = differences(pool, [(Side.score(*made[1]), Side.score(*made[2]))])
    shown = next(row for row in rows if row.label == made[0])
    assert shown.effect.value == pytest.approx(direct.effect.value)
    assert (page.parent / "change-features.png").stat().st_size > 5000


@pytest.mark.real
@pytest.mark.slow
def test_labels_asked_for_are_counted_and_none_is_a_test_label(real, tmp_path):
    from importlib import util

    path = load_study("active-learning").folder / "cells.py"
    spec = util.spec_from_file_location("asked", path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    setting = Setting(tmp_path / "runs", real("aef_landcover").parent, quick=True)
    bench = setting.bench(CARDS / "aef_landcover.yaml", setting.data("aef_landcover"), [module.SPLIT])
    manifest = bench.manifest(module.SPLIT)
    fold = manifest.folds[0]
    roles = manifest.fold(fold).set_index("unit_id")["role"].astype(str)
    for strategy in module.PICKS:
        stations = module.acquire(bench, fold, 0, strategy)
        for count, budget in stations.items():
            assert budget.labels_used == count
            assert set(roles.loc[[*budget.train, *budget.val]]) <= {"train", "val"}
        assert set(stations[20].train) < set(stations[40].train)
    hidden = roles.index[roles == "test_id"][:1].to_numpy(dtype=object)
    stolen = replace(stations[20], train=np.concatenate([stations[20].train, hidden]))
    source = open_source(bench.card, setting.data("aef_landcover"))
    with pytest.raises(ProtocolError, match="test role"):
        TaskData.build(source, manifest, fold, stolen, 0)


def test_the_study_of_intervals_for_a_new_region_still_reads_what_a_comparison_gives():
    from studies.new_groups import coverage, verdicts

    held = coverage(4, 3, 0.0, 0.3)
    assert set(held) == {"difference", "significant", "score", "new region", "new score"}
    assert held["significant"] == pytest.approx(1 - held["difference"])
    # Noise is ahead of the majority by macro-F1 in every world, and two of them differ beyond chance in most.
    assert verdicts("noise", 3)["H1"] == {"undecided": 3}
    assert verdicts("skill", 2)["noise"]["counts"] == 0


def test_a_fit_without_validation_labels_has_no_curve_and_says_that_nobody_looked(tmp_path):
    (result, *_), _ = World(n=100).results(seeds=(0,))
    looked = {
        "learning_rate": 0.1,
        "tried": {"0.1": 0.3},
        "curves": {"0.1": [(1, 0.5), (2, 0.3)]},
        "note": "the fit had not converged",
        "best_step": 2,
    }
    fits = [
        result.model_copy(update={"training": type(result.training).model_validate(record)})
        for record in (looked, {"learning_rate": 0.1, "tried": {"0.1": None}, "best_step": 2})
    ]
    assert [schedule([fit])[1]["last look was the best"].item() for fit in fits] == [1, "no validation labels"]
    assert curves(fits[:1], tmp_path / "a.png")
    assert not curves(fits[1:], tmp_path / "b.png")
