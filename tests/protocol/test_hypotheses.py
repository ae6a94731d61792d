"""Verdicts on the hypotheses: planted truths are found, planted nothing is left undecided, and what is no baseline does not count."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from rs05bench.protocol.hypotheses import judge_hypotheses
from tests.protocol.toy import World, make_card

TIERS = {"alphaearth": "embedding", "raw": "raw", "hybrid": "hybrid", "floor": "floor"}


@pytest.fixture(scope="module")
def world():
    return World(n=600, states=6)


MADE: dict = {}


def cells(world, content=None, **skill):
    """Cells of every input with a forest, each with (skill in-domain, skill held out)."""
    found = []
    for name, (home, away) in skill.items():
        if (name, home, away) not in MADE:
            MADE[name, home, away] = world.results(model=f"{name}/rf", tier=TIERS[name], at_home=home, elsewhere=away)[0]
        results = MADE[name, home, away]
        if content and name in content:
            results = [r.model_copy(update={"model": r.model.model_copy(update={"content": content[name]})}) for r in results]
        found += results
    return found


def renamed(results, task):
    return [r.model_copy(update={"cell": r.cell.model_copy(update={"task": task}), "digest": f"{task} {r.digest}"}) for r in results]


def by_name(verdicts):
    return {verdict.hypothesis: verdict for verdict in verdicts}


def test_a_planted_advantage_is_supported_and_a_planted_loss_refuted(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.8, 0.6), raw=(0.3, 0.1))))["H1"]
    assert found.verdict == "supported"
    assert {entry.where for entry in found.comparisons} == {"in-domain", "held out"}
    assert all(entry.effect.low > 0 and entry.effect.p_holm < 0.05 for entry in found.comparisons)
    assert "says nothing about other data" in found.reason
    other = by_name(judge_hypotheses(cells(world, alphaearth=(0.3, 0.1), raw=(0.8, 0.6))))["H1"]
    assert other.verdict == "refuted"


def test_no_difference_is_undecided(world):
    assert by_name(judge_hypotheses(cells(world, alphaearth=(0.4, 0.3), raw=(0.4, 0.3))))["H1"].verdict == "undecided"


def test_contrasts_that_contradict_each_other_decide_nothing(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.9, 0.1), raw=(0.2, 0.8))))["H1"]
    assert {entry.verdict for entry in found.comparisons} == {"supported", "refuted"}
    assert found.verdict == "undecided"


def test_one_data_set_among_many_supports_nothing(world):
    every = cells(world, alphaearth=(0.8, 0.6), raw=(0.3, 0.1))
    nothing = cells(world, alphaearth=(0.4, 0.3), raw=(0.4, 0.3))
    for number in range(3):
        every += renamed(nothing, f"other-{number}")
    found = by_name(judge_hypotheses(every))["H1"]
    assert found.verdict == "undecided"
    assert "4 data sets: 1 supported, 3 undecided" in found.reason


@pytest.mark.parametrize("content", [["radar"], ["covariate"], ["other"], ["optical", "layer"], []])
def test_only_optical_bands_are_raw_spectra(world, content):
    found = by_name(judge_hypotheses(cells(world, {"raw": content}, alphaearth=(0.8, 0.6), raw=(0.3, 0.1))))["H1"]
    assert found.verdict == "not testable"
    assert found.reason.startswith("Cannot be tested")
    assert " and ".join(sorted(content)) in found.reason


def test_the_card_says_what_the_columns_are_where_results_do_not(world):
    made = cells(world, {"raw": []}, alphaearth=(0.8, 0.6), raw=(0.3, 0.1))
    optical = make_card(features={"raw": ["B02", "B08", "NDVI"]})
    area = make_card(features={"raw": ["CENSUSAREA"]})
    declared = make_card(features={"raw": {"columns": ["x1", "x2"], "content": "optical"}})
    assert by_name(judge_hypotheses(made, [optical]))["H1"].verdict == "supported"
    assert by_name(judge_hypotheses(made, [declared]))["H1"].verdict == "supported"
    assert by_name(judge_hypotheses(made, [area]))["H1"].verdict == "not testable"


def test_a_steadier_hybrid_is_found(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.8, 0.2), raw=(0.8, 0.2), hybrid=(0.8, 0.75), floor=(0.0, 0.0))))["H3"]
    assert found.verdict == "supported"
    assert len(found.comparisons) == 2
    assert all(entry.in_scope and entry.effect.value > 0 for entry in found.comparisons)


def test_a_column_of_noise_cannot_refute_that_hybrid_is_steadier(world):
    # Noise has nothing to lose: its drop is zero, and hybrid's is not.
    for content in (["other"], ["optical"]):
        made = cells(world, {"raw": content}, alphaearth=(0.8, 0.6), raw=(0.0, 0.0), hybrid=(0.8, 0.5), floor=(0.0, 0.0))
        found = by_name(judge_hypotheses(made))["H3"]
        against = [entry for entry in found.comparisons if "image bands" in entry.contrast]
        assert not any(entry.in_scope for entry in against)
        assert all("not shown to be above the floor" in entry.note for entry in against)
        assert bool(against) == (content == ["optical"])


def test_without_a_floor_steadiness_cannot_be_tested(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.8, 0.2), raw=(0.8, 0.2), hybrid=(0.8, 0.75))))["H3"]
    assert found.verdict == "not testable"
    assert "baseline without imagery" in found.reason


def test_the_effect_is_that_of_a_count_by_hand(world):
    one, behind = world.results(model="alphaearth/rf", tier="embedding", at_home=0.6, elsewhere=0.4)
    two, others = world.results(model="raw/rf", tier="raw", at_home=0.4, elsewhere=0.3)
    held = next(entry for entry in by_name(judge_hypotheses([*one, *two]))["H1"].comparisons if entry.where == "held out")

    def macro(predictions, fold, seed):
        part = predictions[fold, seed].of_role("test_ood")
        said = [part.classes[code] for code in part.probabilities.argmax(1)]
        return f1_score(world.labels[part.unit_id], said, average="macro")

    folds = world.manifest("leave-state-out").folds
    gap = [np.mean([macro(behind, fold, s) - macro(others, fold, s) for s in (0, 1)]) for fold in folds]
    assert held.effect.value == pytest.approx(np.mean(gap))
    assert held.effect.p == pytest.approx(stats.ttest_1samp(gap, 0).pvalue)
    assert set(held.digests) == {result.digest for result in (*one, *two)}


def test_p_values_are_corrected_over_the_whole_store(world):
    made = cells(world, alphaearth=(0.5, 0.4), raw=(0.4, 0.3), hybrid=(0.5, 0.45), floor=(0.0, 0.0))
    entries = [entry.effect for verdict in judge_hypotheses(made) for entry in verdict.comparisons]
    assert len(entries) == 4
    plain = sorted(effect.p for effect in entries)
    expected = np.minimum(1, np.maximum.accumulate([p * (len(plain) - i) for i, p in enumerate(plain)]))
    assert sorted(effect.p_holm for effect in entries) == pytest.approx(list(expected))


def test_what_is_missing_is_named(world):
    found = by_name(judge_hypotheses(cells(world, alphaearth=(0.5, 0.4))))
    assert found["H1"].verdict == "not testable"
    assert "has no model on optical bands alone" in found["H1"].reason
    assert "no LoRA or adapter model" in found["H2"].reason
    assert "no hybrid model" in found["H3"].reason
    assert json.loads(json.dumps([verdict.to_dict() for verdict in found.values()], allow_nan=False))[0]["verdict"] == "not testable"


def test_an_adapted_backbone_on_a_table_is_shown_and_does_not_count(world):
    lora, _ = world.results(model="presto/lora", tier="lora", at_home=0.8, elsewhere=0.7)
    frozen, _ = world.results(model="presto/frozen", tier="frozen", at_home=0.3, elsewhere=0.2)
    found = by_name(judge_hypotheses([*lora, *frozen]))["H2"]
    assert found.verdict == "not testable"
    assert {entry.verdict for entry in found.comparisons} == {"supported"}
    assert not any(entry.in_scope for entry in found.comparisons)


def test_random_splits_do_not_count(world):
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
                "budget": result.budget.with_fields(labels_used=500),
                "digest": result.digest[::-1],
            }
        )
        for result in few
    ]
    found = by_name(judge_hypotheses([*few, *many]))["H1"]
    assert {entry.budget for entry in found.comparisons} == {"20-units"}
