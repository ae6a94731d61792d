"""Verdicts on the hypotheses: planted truths are found, planted nothing is left undecided, and what is missing is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from rs05bench.protocol.combined import CombinedStats
from rs05bench.protocol.hypotheses import judge_hypotheses
from rs05bench.protocol.inference import paired_difference
from rs05bench.protocol.metrics import ClusterConfusion
from tests.protocol.toy import World


@pytest.fixture(scope="module")
def world():
    return World(n=400)


def cells(world, **skill):
    """Cells of every input with a forest, each with (skill at home, skill elsewhere)."""
    tiers = {"alphaearth": "embedding", "raw": "raw", "hybrid": "hybrid"}
    found = []
    for name, (home, away) in skill.items():
        results, _ = world.results(model=f"{name}/rf", tier=tiers[name], at_home=home, elsewhere=away)
        found += results
    return found


def by_name(verdicts):
    return {verdict.hypothesis: verdict for verdict in verdicts}


def test_a_planted_advantage_is_supported_and_a_planted_loss_refuted(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.8, 0.6), raw=(0.3, 0.1))))["H1"]
    assert found.verdict == "supported"
    assert {entry.where for entry in found.comparisons} == {"at home", "held out"}
    assert all(entry.effect.low > 0 and entry.p_holm < 0.05 for entry in found.comparisons)
    other = by_name(judge_hypotheses(cells(world, alphaearth=(0.3, 0.1), raw=(0.8, 0.6))))["H1"]
    assert other.verdict == "refuted"


def test_no_difference_is_undecided(world):
    assert by_name(judge_hypotheses(cells(world, alphaearth=(0.4, 0.3), raw=(0.4, 0.3))))["H1"].verdict == "undecided"


def test_opposite_answers_give_no_verdict(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.9, 0.1), raw=(0.2, 0.8))))["H1"]
    assert {entry.verdict for entry in found.comparisons} == {"supported", "refuted"}
    assert found.verdict == "undecided"
    assert "both ways" in found.reason


def test_a_steadier_hybrid_is_found_and_what_is_left_is_said(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.8, 0.2), raw=(0.8, 0.2), hybrid=(0.8, 0.75))))["H3"]
    assert found.verdict == "supported"
    assert len(found.comparisons) == 2
    assert all("Held out, hybrid scores" in entry.note for entry in found.comparisons)


def test_the_effect_and_the_wilcoxon_are_those_of_a_count_by_hand(world):
    one, behind = world.results(model="alphaearth/rf", tier="embedding", at_home=0.6, elsewhere=0.4)
    two, others = world.results(model="raw/rf", tier="raw", at_home=0.4, elsewhere=0.3)
    found = by_name(judge_hypotheses([*one, *two]))["H1"]
    held = next(entry for entry in found.comparisons if entry.where == "held out")
    manifest = world.manifest("leave-state-out")

    def macro(predictions, folds, seed):
        truth, said = [], []
        for fold in folds:
            part = predictions[fold, seed].of_role("test_ood")
            truth += list(world.labels[part.unit_id])
            said += [part.classes[code] for code in part.probabilities.argmax(1)]
        return f1_score(truth, said, average="macro")

    assert held.effect.value == pytest.approx(
        np.mean([macro(behind, manifest.folds, s) - macro(others, manifest.folds, s) for s in (0, 1)])
    )
    per_fold = [np.mean([macro(behind, [fold], s) - macro(others, [fold], s) for s in (0, 1)]) for fold in manifest.folds]
    assert held.wilcoxon_p == pytest.approx(stats.wilcoxon(per_fold, method="exact").pvalue)
    assert set(held.digests) == {result.digest for result in (*one, *two)}


def test_p_values_are_corrected_over_the_whole_store(world):
    entries = [e for v in judge_hypotheses(cells(world, alphaearth=(0.5, 0.4), raw=(0.4, 0.3), hybrid=(0.5, 0.45))) for e in v.comparisons]
    plain = sorted(entry.effect.p for entry in entries)
    expected = np.minimum(1, np.maximum.accumulate([p * (len(plain) - i) for i, p in enumerate(plain)]))
    assert sorted(entry.p_holm for entry in entries) == pytest.approx(list(expected))


def test_what_is_missing_is_named(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.5, 0.4))))
    assert found["H1"].verdict == "not testable"
    assert "lacks a model on raw bands" in found["H1"].reason
    assert "lacks cells of a LoRA or adapter model" in found["H2"].reason
    assert "lacks a hybrid model" in found["H3"].reason
    assert json.loads(json.dumps([verdict.to_dict() for verdict in found.values()]))[0]["verdict"] == "not testable"


def test_an_adapted_backbone_on_a_table_is_shown_and_does_not_count(world):
    lora, _ = world.results(model="presto/lora", tier="lora", at_home=0.8, elsewhere=0.7)
    frozen, _ = world.results(model="presto/frozen", tier="frozen", at_home=0.3, elsewhere=0.2)
    found = by_name(judge_hypotheses([*lora, *frozen]))["H2"]
    assert found.verdict == "not testable"
    assert {entry.verdict for entry in found.comparisons} == {"supported"}
    assert not any(entry.in_scope for entry in found.comparisons)


def test_results_without_sums_and_random_splits_do_not_count(world):
    both = [result.model_copy(update={"sums": {}}) for result in cells(world, alphaearth=(0.8, 0.6), raw=(0.3, 0.1))]
    assert "keep no sums" in by_name(judge_hypotheses(both))["H1"].reason
    random = [*world.results("random")[0], *world.results("random", model="raw/rf", tier="raw")[0]]
    assert by_name(judge_hypotheses(random))["H1"].verdict == "not testable"


def test_simulated_data_are_marked(world):
    made = [result.model_copy(update={"simulated": True}) for result in cells(world, alphaearth=(0.8, 0.6), raw=(0.3, 0.1))]
    found = by_name(judge_hypotheses(made))["H1"]
    assert found.simulated
    assert all(entry.simulated for entry in found.comparisons)


def test_the_budgets_of_a_claim_about_few_labels_are_the_small_ones(world):
    few = cells(world, alphaearth=(0.5, 0.4), raw=(0.4, 0.3))
    many = [
        result.model_copy(
            update={
                "cell": result.cell.model_copy(update={"budget": "500-units"}),
                "budget": {"labels_used": 500},
                "digest": result.digest[::-1],
            }
        )
        for result in few
    ]
    found = by_name(judge_hypotheses([*few, *many]))["H1"]
    assert {entry.budget for entry in found.comparisons} == {"20-units"}


def test_a_difference_of_drops_has_the_gradient_of_its_parts():
    rng = np.random.default_rng(0)
    blocks = np.repeat([f"b{i}" for i in range(30)], 20)
    truth = rng.integers(0, 3, 600)

    def answers(skill):
        return ClusterConfusion.from_labels(
            blocks, truth, np.where(rng.random(600) < skill, truth, rng.integers(0, 3, 600)), ("a", "b", "c")
        )

    drop = CombinedStats.of([(1.0, answers(0.8)), (-1.0, answers(0.5))])
    totals = drop.vectors.sum(0)
    for d in range(len(totals)):
        step = np.zeros(len(totals))
        step[d] = 1e-4
        numeric = (drop.evaluate("macro_f1", totals + step) - drop.evaluate("macro_f1", totals - step)) / 2e-4
        assert drop.gradient("macro_f1", totals)[d] == pytest.approx(float(numeric), abs=1e-7)
    alone = paired_difference(drop.parts[0], drop.parts[1], "macro_f1", method="t")
    zero = CombinedStats.of([(0.0, drop.parts[0]), (0.0, drop.parts[1])])
    same = paired_difference(drop, zero, "macro_f1", method="t")
    assert (same.value, same.low, same.high) == pytest.approx((alone.value, alone.low, alone.high))
