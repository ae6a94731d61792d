"""The scorer of tables: what it keeps, and that everything it says follows from the predictions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import Predictions, Result
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.comparison import score_of_sums
from rs05bench.protocol.group_report import group_report
from rs05bench.protocol.kept import KeptSums, choose_keys
from rs05bench.protocol.metrics import Clusters, Confusion, Moments, classification_scores, regression_scores
from rs05bench.protocol.metrics.temperature import apply_temperature
from rs05bench.protocol.scored_labels import UnitLabels
from rs05bench.protocol.scoring import Scorer
from tests.protocol.toy import CLASSES, World, guess, make_result


@pytest.fixture(scope="module", params=["classification", "regression"])
def world(request):
    return World(request.param)


@pytest.fixture(scope="module")
def scored(world):
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = guess(world.card, manifest, fold, world.labels, 3, 0.6, 0.3)
    return manifest, fold, predictions, Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, world.labels)).score(predictions)


def plain_scores(world, predictions: Predictions, units) -> dict[str, float]:
    """The scores of some units straight from the metric functions."""
    row = {unit: i for i, unit in enumerate(predictions.unit_id)}
    at = [row[unit] for unit in units]
    truth = world.labels.reindex(units)
    if world.card.kind == "regression":
        return regression_scores(truth.to_numpy(), predictions.y[at], predictions.interval[at])
    return classification_scores(np.array([CLASSES.index(value) for value in truth]), predictions.probabilities[at], CLASSES)


def test_scores_of_every_ground_and_group_are_those_of_its_units(world, scored):
    manifest, fold, predictions, found = scored
    rows = manifest.fold(fold).assign(ground=lambda table: manifest.grounds().reindex(table["unit_id"]).to_numpy())
    assert found.strata
    for stratum in found.strata:
        units = rows.loc[(rows["role"].astype(str) == stratum.role) & (rows["ground"] == stratum.ground), "unit_id"]
        expected = plain_scores(world, predictions, units)
        assert stratum.units == len(units)
        for metric, value in stratum.scores.items():
            assert value == pytest.approx(expected[metric], abs=1e-9), metric
    biome = manifest.units.set_index("unit_id")["biome"]
    for role, columns in found.per_group.items():
        units = rows.loc[rows["role"].astype(str) == role, "unit_id"]
        for name, scores in columns["biome"].items():
            here = [unit for unit in units if biome[unit] == name]
            assert scores["units"] == len(here)
            assert scores[world.card.main_metric] == pytest.approx(plain_scores(world, predictions, here)[world.card.main_metric], abs=1e-9)


def test_kept_sums_give_the_scores_back_after_packing(world, scored):
    *_, found = scored
    metrics = (
        ("macro_f1", "overall_accuracy", "ece", "brier", "nll")
        if world.card.kind == "classification"
        else ("r2", "mae", "rmse", "coverage90")
    )
    for role, kept in found.sums.items():
        again = KeptSums.unpack(kept.pack())
        assert {name: list(values) for name, values in again.keys.items()} == {name: list(values) for name, values in kept.keys.items()}
        for metric in metrics:
            assert again.of(metric).evaluate(metric) == pytest.approx(found.scores[role][metric], rel=1e-8)


def test_kept_sums_split_by_block_and_group_hold_exactly_those_units(world, scored):
    manifest, fold, _, found = scored
    rows = manifest.fold(fold).merge(manifest.units[["unit_id", "biome"]], on="unit_id")
    for role, kept in found.sums.items():
        here = rows[rows["role"].astype(str) == role]
        expected = here.groupby([here["block"].astype(str), here["biome"].astype(str)]).size().to_dict()
        got = dict(zip(zip(kept.keys["block"], kept.keys["biome"], strict=True), kept.units.tolist(), strict=True))
        assert got == expected


def test_an_interval_from_kept_sums_is_that_of_the_predictions(world, scored):
    manifest, fold, predictions, found = scored

    rows = manifest.fold(fold)
    here = rows[rows["role"].astype(str) == "test_id"]
    row = {unit: i for i, unit in enumerate(predictions.unit_id)}
    at = [row[unit] for unit in here["unit_id"]]
    truth, block = world.labels.reindex(here["unit_id"]), here["block"].astype(str).to_numpy()
    if world.card.kind == "regression":
        direct, metric = Moments.of(truth.to_numpy(), predictions.y[at], clusters=Clusters.of(block)), "r2"
    else:
        codes = np.array([CLASSES.index(value) for value in truth])
        direct, metric = Confusion.of(codes, predictions.probabilities[at].argmax(1), CLASSES, clusters=Clusters.of(block)), "macro_f1"
    groups = dict(zip(block, here["region"].astype(str), strict=True))
    kept = KeptSums.unpack(found.sums["test_id"].pack()).add_up(metric, "block")
    one, other = (score_of_sums([stats], metric, groups) for stats in (direct, kept))
    ends = [(found.value, found.new_low, found.new_high) for found in (one, other)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)


def test_a_result_of_an_earlier_version_loads_and_keeps_no_sums(world, scored):
    manifest, fold, predictions, _ = scored
    record = make_result(world.card, manifest, fold, world.labels, predictions).model_dump(mode="json")
    del record["sums"], record["group_sums"], record["fairness"]
    result = Result.model_validate(record)
    assert result.kept("test_id") is None
    assert result.group_report("test_id", "biome") is None


def test_the_group_report_that_an_earlier_version_stored_is_read(world, scored):
    manifest, fold, predictions, _ = scored
    record = make_result(world.card, manifest, fold, world.labels, predictions).model_dump(mode="json")
    stored = {"metric": world.card.main_metric, "groups": {}, "worst": "steppe", "best": "forest", "gap": None}
    record["fairness"] = {"test_id": {"biome": stored}}
    del record["group_sums"]
    assert Result.model_validate(record).group_report("test_id", "biome").model_dump() == stored


def test_sums_that_were_tampered_with_are_refused():
    with pytest.raises(DataError, match="cannot be read"):
        KeptSums.unpack("bm90IHN1bXM=")


def test_the_sums_of_a_large_task_stay_small():
    big = World("regression", n=3000, states=40)
    manifest = big.manifest("leave-state-out")
    fold = manifest.folds[0]
    result = make_result(big.card, manifest, fold, big.labels, guess(big.card, manifest, fold, big.labels, 0, 0.6, 0.3))
    assert sum(len(text) for text in result.sums.values()) < 60_000


def test_above_the_declared_limit_rows_are_added_up(monkeypatch):
    world = World()
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = guess(world.card, manifest, fold, world.labels, 0, 0.6, 0.3)
    place = ["shift", "ground", "region", "block"]
    sizes = {}
    for most, columns in ((10_000, [*place, "state", "biome"]), (1, place[:3])):
        monkeypatch.setattr("rs05bench.protocol.kept.MOST_ROWS", most)
        found = Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, world.labels)).score(predictions)
        kept = found.sums["test_id"]
        assert list(kept.keys) == columns
        assert kept.of("macro_f1").evaluate("macro_f1") == pytest.approx(found.scores["test_id"]["macro_f1"])
        sizes[most] = len(kept)
    assert sizes[10_000] > sizes[1] == len(set(kept.keys["region"]))


def test_groups_that_are_not_reported_give_way_first():
    rows = pd.DataFrame(
        {"shift": "", "ground": "g", "region": "r", "block": ["a", "a", "b", "b"], "tile": list("1234"), "biome": list("xyxx")}
    )
    for most, last in ((4, ["tile", "biome"]), (3, ["biome"]), (2, [])):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rs05bench.protocol.kept.MOST_ROWS", most)
            assert choose_keys(rows, ["tile", "biome"], ["biome"]) == ["shift", "ground", "region", "block", *last]


def test_a_metric_that_sums_do_not_give_is_said_so(scored):
    *_, found = scored
    with pytest.raises(ProtocolError, match="do not give 'spearman'"):
        found.sums["test_id"].of("spearman")


def test_the_temperature_is_fitted_on_the_budget_s_validation_labels_only():
    world = World()
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = guess(world.card, manifest, fold, world.labels, 5, 0.6, 0.3)
    scorer = Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, world.labels))
    # Far too soft, so that a temperature helps on labels that did not fit it.
    predictions = dataclasses.replace(predictions, probabilities=apply_temperature(predictions.probabilities, 5.0).astype(np.float32))
    assert "ece_scaled" not in scorer.score(predictions).scores["test_id"]
    val = sorted(predictions.of_role("val").unit_id)
    budget, rest = val[: len(val) // 2], val[len(val) // 2 :]
    none = np.array([], dtype=object)
    drawn = LabelBudget("full", 0, none, np.array(budget, dtype=object), none)
    found = scorer.score(predictions, validation=drawn).scores["test_ood"]
    # Ruining what the budget does not hold changes nothing; ruining what it holds does.
    for units, changes in ((rest, False), (budget, True)):
        p = predictions.probabilities.copy()
        p[np.isin(predictions.unit_id, units)] = [1.0, 0.0, 0.0]
        other = scorer.score(dataclasses.replace(predictions, probabilities=p), validation=drawn).scores["test_ood"]
        assert (other["temperature"] != found["temperature"]) is changes
    # The scaled NLL by brute force over temperatures, in plain NumPy; its logarithm shrunk as by 20 labels that ask for none.
    rows = predictions.of_role("val")
    inside = np.isin(rows.unit_id, budget)
    logits = np.log(rows.probabilities[inside].astype(float))
    truth = np.array([CLASSES.index(world.labels[unit]) for unit in rows.unit_id[inside]])

    def loss(t: float) -> float:
        z = logits / t
        return float(-(z[np.arange(len(z)), truth] - np.log(np.exp(z).sum(1))).mean())

    grid = np.exp(np.linspace(-2, 2, 4001))
    best = grid[np.argmin([loss(t) for t in grid])]
    assert found["temperature"] == pytest.approx(best ** (len(truth) / (len(truth) + 20)), rel=2e-3)


def test_residuals_that_cluster_have_a_high_moran_and_no_map_has_none(world, scored):
    esda = pytest.importorskip("esda")
    import libpysal

    manifest, fold, predictions, found = scored
    rows = manifest.fold(fold)
    units = rows.loc[rows["role"].astype(str) == "test_id", "unit_id"]
    row = {unit: i for i, unit in enumerate(predictions.unit_id)}
    at = [row[unit] for unit in units]
    placed = manifest.units.set_index("unit_id").loc[units]
    if world.card.kind == "regression":
        error = predictions.y[at] - world.labels.reindex(units).to_numpy()
    else:
        truth = [CLASSES.index(value) for value in world.labels.reindex(units)]
        error = 1 - predictions.probabilities[at, truth].astype(float)
    lon, lat = np.radians(placed["lon"].to_numpy()), np.radians(placed["lat"].to_numpy())
    xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    weights = libpysal.weights.KNN(xyz, k=8)
    weights.transform = "r"
    assert found.scores["test_id"]["morans_i"] == pytest.approx(esda.Moran(error, weights, permutations=0).I, abs=1e-7)
    assert 0.01 <= found.scores["test_id"]["morans_p"] <= 0.5


def test_morans_i_is_left_out_without_positions_and_on_splits_that_are_no_main_result(world):
    random = world.manifest("random")
    scores = (
        Scorer.build(world.card, random, "random", UnitLabels.of(world.card, world.labels))
        .score(guess(world.card, random, "random", world.labels, 0, 0.6, 0.3))
        .scores
    )
    assert "morans_i" not in scores["test_id"]
    manifest = world.manifest("leave-state-out")
    nowhere = dataclasses.replace(manifest, units=manifest.units.assign(lon=np.nan, lat=np.nan))
    fold = manifest.folds[0]
    scores = (
        Scorer.build(world.card, nowhere, fold, UnitLabels.of(world.card, world.labels))
        .score(guess(world.card, manifest, fold, world.labels, 0, 0.6, 0.3))
        .scores
    )
    assert "morans_i" not in scores["test_id"]


def test_fairness_names_the_worst_group_and_the_gap():
    world = World(n=600)
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    biome = manifest.units.set_index("unit_id")["biome"]
    predictions = guess(world.card, manifest, fold, world.labels, 5, 0.9, 0.9)
    p = predictions.probabilities.copy()
    p[[biome[unit] == "steppe" for unit in predictions.unit_id]] = [0.2, 0.3, 0.5]
    found = make_result(world.card, manifest, fold, world.labels, dataclasses.replace(predictions, probabilities=p))
    report = found.group_report("test_id", "biome")
    assert (report.worst, report.best) == ("steppe", "forest")
    scores = found.per_group["test_id"]["biome"]
    assert report.gap.value == pytest.approx(scores["forest"]["macro_f1"] - scores["steppe"]["macro_f1"])
    assert 0 < report.gap.low < report.gap.value < report.gap.high
    assert report.gap.p == pytest.approx(1 / 200)
    assert report.groups["forest"].units == scores["forest"]["units"]


def test_groups_are_reported_alike_where_the_kept_sums_are_too_many_to_be_split_by_them(world, scored, monkeypatch):
    manifest, fold, predictions, _ = scored
    split = make_result(world.card, manifest, fold, world.labels, predictions)
    monkeypatch.setattr("rs05bench.protocol.kept.MOST_ROWS", 1)
    added_up = make_result(world.card, manifest, fold, world.labels, predictions)
    assert "biome" not in added_up.kept("test_id").keys
    for role in ("test_id", "test_ood"):
        one, other = (result.group_report(role, "biome") for result in (split, added_up))
        assert one.groups.keys() == other.groups.keys() == set(world.manifest("leave-state-out").units["biome"])
        for name, entry in one.groups.items():
            assert entry.model_dump() == pytest.approx(other.groups[name].model_dump(), nan_ok=True)
        assert one.worst == other.worst
        one_gap, other_gap = (None if report.gap is None else report.gap.model_dump() for report in (one, other))
        assert one_gap == (None if other_gap is None else pytest.approx(other_gap, nan_ok=True))


def test_blocks_are_joined_whole_where_blocks_and_groups_are_too_many(monkeypatch):
    world = World(n=600)
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = guess(world.card, manifest, fold, world.labels, 0, 0.6, 0.3)
    monkeypatch.setattr("rs05bench.protocol.kept.MOST_ROWS", 1)
    monkeypatch.setattr("rs05bench.protocol.scoring_parts.MOST_ROWS", 2 * 4)
    scored = Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, world.labels)).score(predictions)
    kept = scored.group_sums["test_id"]["biome"]
    rows = manifest.fold(fold)
    rows = rows[rows["role"].astype(str) == "test_id"].merge(manifest.units[["unit_id", "biome"]], on="unit_id")
    # A joined block is named by the first of its blocks in name order and holds all up to the next name.
    names = np.unique(kept.keys["block"].astype(str))
    assert len(names) == 4 < rows["block"].nunique()
    joined = names[np.searchsorted(names, rows["block"].astype(str).to_numpy(), side="right") - 1]
    expected = rows.groupby([joined, rows["biome"].astype(str).to_numpy()]).size().to_dict()
    assert dict(zip(zip(kept.keys["block"], kept.keys["biome"], strict=True), kept.units.tolist(), strict=True)) == expected


def test_the_gap_of_equal_groups_is_rarely_called_one():
    # Ten groups without any difference on blocks of unequal difficulty: bounds of one pair leave out zero in more than half the worlds.
    rng = np.random.default_rng(0)
    worlds, blocks, called = 100, 40, 0
    for _ in range(worlds):
        right = rng.binomial(6, np.clip(0.7 + rng.normal(0, 0.15, blocks), 0, 1), (10, blocks))
        of_group = []
        for row in right:
            counts = np.zeros((blocks, 2, 2), np.int64)
            counts[:, 1, 1], counts[:, 1, 0] = row, 6 - row
            of_group.append(Confusion(tuple(f"b{i}" for i in range(blocks)), counts, ("no", "yes")))
        gap = group_report("overall_accuracy", [f"g{i}" for i in range(10)], of_group, np.full(10, 240)).gap
        assert (gap.low > 0) == (gap.p < 0.05 + 1e-9) or abs(gap.p - 0.05) < 0.01
        called += gap.low > 0
    assert called <= 0.1 * worlds


def test_units_without_a_label_are_not_scored():
    world = World()
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    rows = manifest.fold(fold)
    tested = rows.loc[rows["role"].astype(str) == "test_id", "unit_id"].tolist()
    labels = world.labels.copy()
    labels[tested[:5]] = np.nan
    predictions = guess(world.card, manifest, fold, world.labels, 5, 0.6, 0.3)
    found = Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, labels)).score(predictions)
    assert found.scores["test_id"]["n"] == len(tested) - 5 == found.sums["test_id"].units.sum()


def test_a_missing_prediction_is_an_error():
    world = World()
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = guess(world.card, manifest, fold, world.labels, 5, 0.6, 0.3)
    short = predictions.take(np.flatnonzero(np.arange(len(predictions)) != int(np.flatnonzero(predictions.role == "test_id")[0])))
    with pytest.raises(DataError, match=r"1 of .* units of role test_id have no prediction"):
        Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, world.labels)).score(short)


def test_the_order_of_rows_changes_nothing(world, scored):
    manifest, fold, predictions, found = scored
    shuffled = predictions.take(np.random.default_rng(0).permutation(len(predictions)))
    again = Scorer.build(world.card, manifest, fold, UnitLabels.of(world.card, world.labels)).score(shuffled)
    assert again.packed() == found.packed()
    pd.testing.assert_frame_equal(pd.DataFrame(again.scores), pd.DataFrame(found.scores))
