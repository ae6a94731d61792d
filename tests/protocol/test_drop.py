"""The drop on the same ground, groups, shifts and adaptation: from kept sums, against a count by hand from the predictions."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score

from rs05bench.protocol.adaptation_curve import adaptation_curve
from rs05bench.protocol.drop import drop_estimates, group_table, matched_drops, mean_drop, raw_drop, shift_table, worst_group
from rs05bench.protocol.pooling import Pool
from tests.protocol.toy import World


@pytest.fixture(scope="module")
def world():
    return World(n=400)


@pytest.fixture(scope="module")
def run(world):
    return world.results()


def answers_of(world, behind, split, role):
    """seed -> ground -> unit -> predictions of every fold that tests it: plain dictionaries, no code of the package."""
    manifest = world.manifest(split)
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    state = manifest.units.set_index("unit_id")["state"]
    for (_, seed), predictions in behind.items():
        for i in np.flatnonzero(predictions.role == role):
            unit = predictions.unit_id[i]
            answer = predictions.y[i] if predictions.y is not None else predictions.classes[predictions.probabilities[i].argmax()]
            found[seed][state[unit]][unit].append(answer)
    return found


def weighted_f1(world, answers):
    """Macro-F1 over units, each of weight one, shared among the folds that test it."""
    truth, said, weight = [], [], []
    for unit, given in answers.items():
        for answer in given:
            truth.append(world.labels[unit])
            said.append(answer)
            weight.append(1 / len(given))
    return f1_score(truth, said, average="macro", sample_weight=weight)


def test_the_pooled_drop_is_that_of_a_count_by_hand(world, run):
    results, behind = run
    (found,) = drop_estimates(results)
    home, held = (answers_of(world, behind, "leave-state-out", role) for role in ("test_id", "test_ood"))
    scores = {}
    for side, name in ((home, "home"), (held, "held")):
        scores[name] = np.mean([weighted_f1(world, {u: a for units in side[seed].values() for u, a in units.items()}) for seed in (0, 1)])
    assert found.at_home == pytest.approx(scores["home"])
    assert found.held_out == pytest.approx(scores["held"])
    assert found.drop.value == pytest.approx(scores["home"] - scores["held"])
    assert found.relative == pytest.approx((scores["home"] - scores["held"]) / scores["home"])
    assert found.drop.low < found.drop.value < found.drop.high
    assert found.drop.n_seeds == 2
    assert found.shift == "region"
    assert set(found.digests) == {result.digest for result in results}


def test_the_drop_of_every_ground_is_that_of_a_count_by_hand(world, run):
    results, behind = run
    (found,) = drop_estimates(results)
    home, held = (answers_of(world, behind, "leave-state-out", role) for role in ("test_id", "test_ood"))
    assert {entry.ground for entry in found.grounds} == {"s0", "s1", "s2", "s3"}
    for entry in found.grounds:
        at_home = np.mean([weighted_f1(world, home[seed][entry.ground]) for seed in (0, 1)])
        away = np.mean([weighted_f1(world, held[seed][entry.ground]) for seed in (0, 1)])
        assert (entry.at_home, entry.held_out, entry.drop.value) == pytest.approx((at_home, away, at_home - away))
        assert entry.units == len(held[0][entry.ground])
    assert found.worst == min(found.grounds, key=lambda entry: entry.held_out).ground


def test_drops_of_an_error_are_turned_so_that_positive_is_worse():
    world = World("regression", n=300)
    results, _ = world.results(at_home=0.8, elsewhere=0.2)
    (r2,) = drop_estimates(results)
    (mae,) = drop_estimates(results, "mae")
    assert r2.drop.value > 0 < mae.drop.value
    assert mae.held_out > mae.at_home
    assert mae.worst == max(mae.grounds, key=lambda entry: entry.held_out).ground


def test_r2_of_a_ground_agrees_with_scikit_learn():
    world = World("regression", n=300)
    results, behind = world.results(seeds=(0,))
    (found,) = drop_estimates(results)
    held = answers_of(world, behind, "leave-state-out", "test_ood")[0]
    for entry in found.grounds:
        units = held[entry.ground]
        assert entry.held_out == pytest.approx(r2_score(world.labels[list(units)], [given[0] for given in units.values()]))


def test_no_difference_gives_an_interval_that_holds_zero(world):
    results, _ = world.results(at_home=0.4, elsewhere=0.4)
    (found,) = drop_estimates(results)
    assert found.drop.low < 0 < found.drop.high
    assert found.drop.p > 0.05


def test_old_results_without_sums_give_no_estimate_and_the_plain_drop_still_works(run):
    results = [result.model_copy(update={"sums": {}}) for result in run[0]]
    assert drop_estimates(results) == []
    assert adaptation_curve(results) == []
    assert group_table(results, "biome") == []
    drops = matched_drops(results)
    assert all(mean_drop(drops[result.digest]) is not None for result in results)
    assert all(raw_drop(result) is not None for result in results)


def test_a_seed_that_lacks_a_fold_is_compared_on_what_all_seeds_have(run):
    results = run[0]
    left_out = next(result for result in results if result.cell.seed == 1)
    (found,) = drop_estimates([result for result in results if result is not left_out])
    assert left_out.cell.fold not in {entry.ground for entry in found.grounds}
    assert found.drop.n_seeds == 2


def test_splits_without_a_common_ground_have_no_drop(world):
    results, _ = world.results("random")
    assert drop_estimates(results) == []


def test_within_splits_compare_the_region_s_own_model_with_those_of_others(world):
    results, behind = world.results("within-state", seeds=(0,))
    (found,) = drop_estimates(results)
    held = answers_of(world, behind, "within-state", "test_ood")[0]
    for entry in found.grounds:
        # Three models of other states test each state; each unit still weighs one.
        assert {len(given) for given in held[entry.ground].values()} == {3}
        assert entry.held_out == pytest.approx(weighted_f1(world, held[entry.ground]))


def test_groups_are_scored_over_all_folds(world, run):
    results, behind = run
    rows = {row.group: row for row in group_table(results, "biome")}
    assert set(rows) == {"forest", "steppe"}
    biome = world.manifest("leave-state-out").units.set_index("unit_id")["biome"]
    held = answers_of(world, behind, "leave-state-out", "test_ood")
    for name, row in rows.items():
        by_seed = [
            weighted_f1(world, {u: a for units in held[seed].values() for u, a in units.items() if biome[u] == name}) for seed in (0, 1)
        ]
        assert row.held_out.value == pytest.approx(np.mean(by_seed))
        assert row.held_out.low < row.held_out.value < row.held_out.high
        assert row.units == sum(biome[unit] == name for units in held[0].values() for unit in units)
    worst = worst_group(list(rows.values()))
    assert worst.group == min(rows.values(), key=lambda row: row.held_out.value).group
    assert worst_group(list(rows.values()), least_units=10_000) is None


def test_the_same_place_another_place_and_another_year_are_told_apart():
    world = World(n=240, years=2, splits=["leave-state-year-out"])
    results, _ = world.results("leave-state-year-out", seeds=(0,), at_home=0.8, elsewhere=0.2)
    rows = {row.shift: row for row in shift_table(results)}
    assert set(rows) == {"none", "region", "year", "both"}
    assert rows["none"].drop is None
    for shift in ("region", "year", "both"):
        assert rows[shift].drop.value > 0.2
        assert rows[shift].score.value < rows["none"].score.value
    # A block seen in two years is one witness, not two.
    manifest = world.manifest("leave-state-year-out")
    blocks = manifest.table.loc[manifest.table["role"].astype(str) == "test_ood", "block"].nunique()
    assert rows["both"].score.n_clusters == blocks


def test_the_adaptation_curve_is_over_the_same_test_blocks(world, run):
    more, _ = world.results("leave-state-out+2", elsewhere=0.55, extra=6)
    zero, two = adaptation_curve([*run[0], *more])
    assert (zero.k, zero.gain, two.k, two.extra_labels) == (0, None, 2, 6.0)
    assert two.gain.value == pytest.approx(two.score.value - zero.score.value)
    assert two.gain.low < two.gain.value < two.gain.high
    assert two.gain.p < 0.05
    assert (two.better_on, two.grounds) == (4, 4)


def test_a_sweep_without_labels_from_the_new_region_has_no_adaptation_curve(run):
    assert adaptation_curve(run[0]) == []


def test_a_pool_reads_each_cell_once_and_gives_scores_with_intervals(run):
    pool = Pool.of(run[0])
    (point,) = pool.points
    estimate = pool.score(point, "test_ood")
    assert estimate.low < estimate.value < estimate.high
    assert pool.labels(point) == 20
    assert pool.score(point, "test_ood", "spearman") is None
