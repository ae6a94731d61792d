"""What `compare` returns is what a count by hand from the predictions gives: inside each group, then over the groups."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, r2_score

import rs05bench
from rs05bench.errors import ProtocolError
from rs05bench.protocol.compared_sides import Side
from rs05bench.protocol.comparison import cell_drops, compare, differences
from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.pooling import Point, Pool
from tests.protocol.toy import World

HELD, HOME = "test_ood", "test_id"


@pytest.fixture(scope="module")
def world():
    return World(n=400)


@pytest.fixture(scope="module")
def two(world):
    return world.results(), world.results(model="raw/rf", tier="raw", at_home=0.5, elsewhere=0.2)


def inside(world, behind, role, split="leave-state-out", seeds=(0, 1)):
    """state -> (seeds,) score inside the state, averaged over the folds that test it: scikit-learn on plain arrays."""
    manifest = world.manifest(split)
    state = manifest.units.set_index("unit_id")["state"]
    found = {}
    for name in sorted(state.unique()):
        by_seed = []
        for seed in seeds:
            scores = []
            for fold in manifest.folds:
                part = behind[fold, seed].of_role(role)
                here = [i for i, unit in enumerate(part.unit_id) if state[unit] == name]
                if not here:
                    continue
                truth = world.labels[part.unit_id[here]].to_numpy()
                if part.y is not None:
                    scores.append(r2_score(truth, part.y[here]))
                else:
                    said = np.array(part.classes, dtype=object)[part.probabilities[here].argmax(1)]
                    scores.append(f1_score(truth, said, average="macro"))
            by_seed.append(np.mean(scores))
        found[name] = np.array(by_seed)
    return found


@pytest.mark.parametrize("role", [HELD, HOME])
def test_the_main_score_is_the_mean_over_groups_with_students_t_over_them(world, two, role):
    (results, behind), _ = two
    expected = inside(world, behind, role)
    found = next(entry for entry in compare(results).scores if entry.role == role).estimate
    by_group = np.array([value.mean() for value in expected.values()])
    assert found.value == pytest.approx(by_group.mean())
    assert found.points == pytest.approx({name: value.mean() for name, value in expected.items()})
    ends = stats.t.interval(0.95, 3, by_group.mean(), by_group.std(ddof=1) / 2)
    assert (found.low, found.high) == pytest.approx(ends)
    assert (found.over, found.n_groups) == ("groups", 4)


def test_the_value_of_a_new_group_has_the_prediction_interval_of_the_textbook(world, two):
    (results, behind), _ = two
    by_group = np.array([value.mean() for value in inside(world, behind, HELD).values()])
    found = next(entry for entry in compare(results).scores if entry.role == HELD).estimate
    reach = stats.t.ppf(0.975, 3) * by_group.std(ddof=1) * (1 + 1 / 4) ** 0.5
    assert (found.new_low, found.new_high) == pytest.approx((by_group.mean() - reach, by_group.mean() + reach))


def test_the_pooled_score_has_its_own_name(world, two):
    (results, behind), _ = two
    found = next(entry for entry in compare(results).scores if entry.role == HELD)
    pooled = []
    for seed in (0, 1):
        parts = [behind[fold, seed].of_role(HELD) for fold in world.manifest("leave-state-out").folds]
        said = np.concatenate([np.array(part.classes, dtype=object)[part.probabilities.argmax(1)] for part in parts])
        truth = np.concatenate([world.labels[part.unit_id].to_numpy() for part in parts])
        pooled.append(f1_score(truth, said, average="macro"))
    assert found.pooled == pytest.approx(np.mean(pooled))
    assert found.pooled != pytest.approx(found.estimate.value, abs=1e-3)


def test_a_difference_is_paired_by_group(world, two):
    (a, behind_a), (b, behind_b) = two
    found = compare([*a, *b], reference="raw/rf")
    assert len(found.differences) == 2
    held = next(entry for entry in found.differences if entry.first.terms[0].role == HELD)
    sides = [inside(world, behind, HELD) for behind in (behind_a, behind_b)]
    gap = np.array([(sides[0][name] - sides[1][name]).mean() for name in sides[0]])
    test = stats.ttest_1samp(gap, 0)
    assert held.effect.value == pytest.approx(gap.mean())
    assert held.effect.p == pytest.approx(test.pvalue)
    assert (held.effect.low, held.effect.high) == pytest.approx(tuple(test.confidence_interval()))
    assert (held.left, held.right) == pytest.approx(tuple(np.mean(list(side.values())) for side in sides))


def test_a_drop_is_made_inside_each_group_on_the_same_units(world, two):
    (results, behind), _ = two
    home, held = inside(world, behind, HOME), inside(world, behind, HELD)
    (found,) = compare(results).drops
    gap = np.array([(home[name] - held[name]).mean() for name in home])
    assert found.drop.value == pytest.approx(gap.mean())
    assert found.drop.p == pytest.approx(stats.ttest_1samp(gap, 0).pvalue)
    assert {entry.group: entry.drop for entry in found.groups} == pytest.approx(dict(zip(home, gap, strict=True)))
    assert found.worst.group == min(held, key=lambda name: held[name].mean())


def test_p_values_are_corrected_over_the_comparisons_own_list(world, two):
    third, _ = world.results(model="hybrid/rf", tier="hybrid", at_home=0.7, elsewhere=0.4)
    found = compare([*two[0][0], *two[1][0], *third])
    plain = [entry.effect.p for entry in found.differences]
    assert len(plain) == 6
    order = np.argsort(plain)
    expected = np.empty(6)
    expected[order] = np.minimum(1, np.maximum.accumulate([plain[i] * (6 - rank) for rank, i in enumerate(order)]))
    assert [entry.effect.p_holm for entry in found.differences] == pytest.approx(list(expected))
    alone = compare([*two[0][0], *two[1][0], *third], reference="raw/rf")
    assert len(alone.differences) == 4


def test_the_other_way_round_is_the_same_difference_with_the_other_sign(two):
    found = compare([*two[0][0], *two[1][0]])
    one, other = (Point.of(results[0]) for results, _ in two)
    there, back = found.difference(one, other, HELD).effect, found.difference(other, one, HELD).effect
    assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)


def test_lower_is_better_turns_the_difference():
    world = World("regression", main_metric="mae")
    good, _ = world.results(at_home=0.8, elsewhere=0.7)
    bad, _ = world.results(model="raw/rf", tier="raw", at_home=0.3, elsewhere=0.2)
    found = compare([*good, *bad], reference="raw/rf")
    assert all(entry.effect.value > 0 and entry.left < entry.right for entry in found.differences)
    assert all(entry.drop.value > 0 for entry in found.drops)


def test_two_groups_give_no_interval():
    world = World(states=2)
    results, _ = world.results()
    found = next(entry for entry in compare(results).scores if entry.role == HELD).estimate
    assert np.isnan([found.low, found.high, found.new_low]).all()
    assert "Only 2 groups: no interval" in found.note
    assert len(found.points) == 2


def test_one_group_is_resampled_by_its_blocks_and_says_so():
    world = World("regression", n=300, states=1, splits=["spatial-block"])
    results, behind = world.results("spatial-block")
    found = compare(results).scores[0].estimate
    assert (found.over, found.n_groups) == ("blocks", 1)
    assert found.low < found.value < found.high
    assert "nothing about a new group" in found.note
    assert np.isnan(found.new_low)
    part = [behind[world.manifest("spatial-block").folds[0], seed].of_role(HOME) for seed in (0, 1)]
    assert found.value == pytest.approx(np.mean([r2_score(world.labels[p.unit_id], p.y) for p in part]))


@pytest.mark.parametrize(("groups", "sure", "next_one"), [(3, False, 2 / 4), (5, False, 4 / 6), (6, True, 5 / 7), (50, True, 0.95)])
def test_groups_that_all_agree_are_as_sure_as_their_number(groups, sure, next_one):
    """n values agree by chance with 2 ** (1 - n); one more lies in their range with (n - 1) / (n + 1) (Wilks 1941)."""
    found = over_groups(np.ones((groups, 1)), [str(at) for at in range(groups)], within=(0.0, 1.0), test=True)
    assert (found.bounds is not None) == sure
    assert (found.new_level, found.p) == (pytest.approx(next_one), 2.0 ** (1 - groups))


def test_an_interval_ends_where_the_score_does():
    found = over_groups(np.array([[0.99], [0.6], [0.97], [0.98]]), "abcd", within=(0.0, 1.0))
    assert found.high == 1.0
    assert found.new_high == 1.0


def test_seeds_that_move_all_groups_together_widen_the_interval():
    rng = np.random.default_rng(0)
    region = rng.normal(0, 0.1, (6, 1))
    alone = over_groups(region + np.zeros((6, 5)), "abcdef")
    together = over_groups(region + rng.normal(0, 0.1, (1, 5)), "abcdef")
    assert together.se > 1.2 * alone.se
    assert together.n_seeds == 5


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        table = 0.6 + rng.normal(0, 0.08, (6, 1)) + rng.normal(0, 0.05, (1, 5)) + rng.normal(0, 0.04, (6, 5))
        found = over_groups(table, "abcdef")
        held += found.low <= 0.6 <= found.high
    assert 0.92 <= held / 600 <= 0.985


def test_a_missing_seed_does_not_weigh_its_group_down():
    assert over_groups(np.array([[0.2, np.nan], [0.6, 0.8]]), "ab").value == pytest.approx((0.2 + 0.7) / 2)


def test_the_drop_of_a_cell_is_that_of_its_own_fold_and_seed(world, two):
    (results, behind), _ = two
    found = cell_drops(results)
    state = world.manifest("leave-state-out").units.set_index("unit_id")["state"]
    manifest = world.manifest("leave-state-out")
    assert set(found) == {result.digest for result in results}
    for result in results[:4]:
        fold, seed = result.cell.fold, result.cell.seed
        scores = []
        for other in manifest.folds:
            part = behind[other, seed].of_role(HOME if other != fold else HELD)
            here = [i for i, unit in enumerate(part.unit_id) if state[unit] == fold]
            said = np.array(part.classes, dtype=object)[part.probabilities[here].argmax(1)]
            scores.append((other == fold, f1_score(world.labels[part.unit_id[here]], said, average="macro")))
        home, held = np.mean([s for out, s in scores if not out]), next(s for out, s in scores if out)
        assert found[result.digest] == pytest.approx(home - held)


def test_a_seed_that_lacks_a_fold_has_a_group_less(world, two):
    results = two[0][0]
    left_out = next(result for result in results if result.cell.seed == 1)
    found = next(e for e in compare([r for r in results if r is not left_out]).scores if e.role == HELD).estimate
    full = next(e for e in compare(results).scores if e.role == HELD).estimate
    assert found.points[left_out.cell.fold] != full.points[left_out.cell.fold]
    assert {k: v for k, v in found.points.items() if k != left_out.cell.fold} == {
        k: v for k, v in full.points.items() if k != left_out.cell.fold
    }


def test_splits_in_which_no_group_is_tested_twice_have_no_drop(world):
    assert compare(world.results("random")[0]).drops == ()


def test_within_splits_compare_the_groups_own_model_with_those_of_others(world):
    results, behind = world.results("within-state", seeds=(0,))
    (found,) = compare(results).drops
    state = world.manifest("within-state").units.set_index("unit_id")["state"]
    for entry in found.groups:
        scores = {True: [], False: []}
        for fold in world.manifest("within-state").folds:
            part = behind[fold, 0].of_role(HOME if fold == entry.group else HELD)
            here = [i for i, unit in enumerate(part.unit_id) if state[unit] == entry.group]
            said = np.array(part.classes, dtype=object)[part.probabilities[here].argmax(1)]
            scores[fold == entry.group].append(f1_score(world.labels[part.unit_id[here]], said, average="macro"))
        assert (entry.at_home, entry.held_out) == pytest.approx((np.mean(scores[True]), np.mean(scores[False])))


def test_the_group_of_a_year_split_is_the_year():
    world = World("regression", n=120, states=2, years=4, splits=["leave-year-out"])
    results, behind = world.results("leave-year-out", seeds=(0,))
    found = next(e for e in compare(results).scores if e.role == HELD).estimate
    year = world.manifest("leave-year-out").units.set_index("unit_id")["year"].astype(str)
    assert set(found.points) == set(year)
    for fold in world.manifest("leave-year-out").folds:
        part = behind[fold, 0].of_role(HELD)
        (only,) = set(year[part.unit_id])
        assert found.points[only] == pytest.approx(r2_score(world.labels[part.unit_id], part.y))


def test_groups_of_few_units_are_left_out_where_three_others_are_left():
    world = World("regression", n=200, states=5)
    results, _ = world.results(seeds=(0,))
    small = [
        r.model_copy(update={"strata": [s.model_copy(update={"units": 4}) if s.group == "s1" else s for s in r.strata]}) for r in results
    ]
    found = next(e for e in compare(small).scores if e.role == HELD).estimate
    assert set(found.points) == {"s0", "s2", "s3", "s4"}
    assert "1 of 5 groups have fewer than 10 test units" in found.note


def test_equal_models_differ_by_nothing(two):
    pool = Pool.of(two[0][0])
    point = next(iter(pool.points))
    (found,) = differences(pool, [(Side.score(point, HELD), Side.score(point, HELD))])
    assert (found.effect.value, found.effect.p) == (0.0, 1.0)


def test_the_records_are_json_and_the_function_is_public(two):
    record = rs05bench.compare(two[0][0]).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False))["scores"][0]["estimate"]["over"] == "groups"


def test_a_reference_that_nobody_ran_is_named(two):
    with pytest.raises(ProtocolError, match="no result has model 'presto/lora'"):
        compare(two[0][0], reference="presto/lora")
    with pytest.raises(ProtocolError, match="cannot be compared by 'colour'"):
        compare(two[0][0], by="colour")


def test_an_r2_over_groups_has_the_interval_and_the_test_of_a_median():
    r2 = np.array([0.6, 0.4, 0.1, -0.9, -3.0, 0.2, 0.3, 0.5])
    found = over_groups(r2[:, None], "abcdefgh", of=find_metric("r2").over_groups, test=True)
    exact = stats.quantile_test(r2, q=0, p=0.5).confidence_interval(0.95)
    assert (found.value, found.median.value) == pytest.approx((r2.mean(), np.median(r2)))
    assert (found.median.low, found.median.high) == (exact.low, exact.high)
    assert np.isnan([found.low, found.high, found.se]).all()
    # Most groups are above zero and the mean is below: no direction can be claimed.
    assert found.p == 1
    turned = over_groups((r2 + 1)[:, None], "abcdefgh", of="median", test=True)
    assert turned.p == pytest.approx(stats.binomtest(7, 8).pvalue)


def test_five_groups_are_not_enough_for_a_median():
    found = over_groups(np.arange(1.0, 6)[:, None], "abcde", of="median", test=True)
    assert found.bounds is None
    assert "5 groups are not enough" in found.note
    assert not found.significant


def test_a_median_holds_as_often_as_it_says_where_a_few_groups_lie_far_below():
    rng = np.random.default_rng(0)
    draws = 1 - np.exp(0.5 + 0.9 * rng.standard_normal((800, 8)))
    said = [over_groups(row[:, None], "abcdefgh", of="median") for row in draws]
    held = np.mean([one.median.low <= 1 - np.exp(0.5) <= one.median.high for one in said])
    by_t = [over_groups(row[:, None], "abcdefgh") for row in draws]
    assert held >= 0.95
    assert np.mean([one.low <= 1 - np.exp(0.5 + 0.9**2 / 2) <= one.high for one in by_t]) < 0.9


def test_a_comparison_of_r2_gives_medians_and_turns_them_round():
    world = World("regression", n=400, states=7)
    strong = world.results(seeds=(0,))[0]
    weak = world.results(model="raw/rf", tier="raw", seeds=(0,), at_home=0.5, elsewhere=0.2)[0]
    found = compare([*strong, *weak])
    (score,) = [entry.estimate for entry in found.scores if entry.role == HELD and entry.point.model == "raw/rf"]
    assert score.median.value == pytest.approx(np.median(list(score.points.values())))
    entry = next(entry for entry in found.differences if entry.first.terms[0].role == HELD)
    (one,), (other,) = entry.first.points, entry.second.points
    turned = found.difference(other, one, HELD).effect
    assert (turned.median.low, turned.median.high) == (-entry.effect.median.high, -entry.effect.median.low)


@pytest.mark.parametrize(("groups", "level"), [(4, 3 / 5), (8, 7 / 9), (39, 0.95), (80, 77 / 81), (400, 381 / 401)])
def test_the_next_group_lies_between_order_statistics_with_the_probability_stated(groups, level):
    rng = np.random.default_rng(groups)
    # The share is that of a beta distribution whatever the population: a rank is uniform over n + 1 places (Wilks 1941).
    draws = 1 - np.exp(rng.standard_normal((600, groups + 1)) ** 3)
    found = [over_groups(row[:-1, None], [f"g{i}" for i in range(groups)], of="median").next_group for row in draws]
    assert found[0].level == pytest.approx(level)
    held = np.mean([one.low <= row[-1] <= one.high for one, row in zip(found, draws, strict=True)])
    assert held == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 600))


def test_two_groups_or_one_say_nothing_of_the_next():
    assert over_groups(np.array([[0.1], [0.5]]), "ab").next_group is None
