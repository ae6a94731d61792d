"""Runs that keep the protocol pass every rule; each way of breaking one is caught by that rule and by no other."""

import hashlib
import json

import pytest
import typer
from typer.testing import CliRunner

from rs05bench.cli.protocol import register
from rs05bench.errors import DataError
from rs05bench.experiment.check import check_store
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.inference.estimate import Bounds, Estimate
from rs05bench.protocol.result import Cell, Cost, ModelCard, Result, Stratum
from rs05bench.protocol.rules import RULES, _above, check_rules
from rs05bench.protocol.splits import Split

MODELS = {
    "floor/majority": ModelCard(name="floor/majority", tier="floor", inputs="none", learner="majority"),
    "raw/rf": ModelCard(name="raw/rf", tier="raw", inputs="raw", learner="rf", content=["optical"]),
    "alphaearth/logistic": ModelCard(
        name="alphaearth/logistic", tier="embedding", inputs="alphaearth", learner="logistic", open_weights=False, pretraining=["NLCD"]
    ),
    "hybrid/rf": ModelCard(name="hybrid/rf", tier="hybrid", inputs="hybrid", learner="rf", pretraining=["NLCD"]),
    "presto/lora": ModelCard(
        name="presto/lora", tier="lora", inputs="presto", learner="lora", pretrained=True, pretraining=["Presto's own"],
        parameters_total=402_240, parameters_trainable=9_000,
    ),
    "presto/lora@random": ModelCard(
        name="presto/lora@random", tier="lora", inputs="presto", learner="lora", random_twin=True, parameters_total=402_240,
        parameters_trainable=9_000,
    ),
}  # fmt: skip


def runs():
    """6 models x 2 folds x 2 budgets x 5 seeds under leave-state-out, as every rule wants them."""
    return [
        result(model, fold, other, budget, seed)
        for model in MODELS
        for fold, other in (("S0", "S1"), ("S1", "S0"))
        for budget in ("10-units", "20-units")
        for seed in range(5)
    ]


def result(model, fold, other, budget, seed):
    most = int(budget.split("-")[0])
    scores = {"macro_f1": 0.6, "ece": 0.1, "brier": 0.3}
    strata = [
        Stratum(role="test_ood", shift="region", ground=fold, units=30, scores={"macro_f1": 0.3 if "floor" in model else 0.5}),
        Stratum(role="test_id", shift="none", ground=other, units=30, scores={"macro_f1": 0.6}),
    ]
    return Result(
        cell=Cell(task="crop", target="crop", split="leave-state-out", fold=fold, model=model, budget=budget, seed=seed),
        digest=f"{model}{fold}{budget}{seed}",
        kind="classification",
        main_metric="macro_f1",
        higher_is_better=True,
        simulated=True,
        model=MODELS[model],
        scores={"test_id": scores, "test_ood": scores},
        per_group={"test_ood": {"state": {fold: {"macro_f1": 0.5, "units": 30}}}},
        strata=strata,
        budget={"labels_used": most, "train": most - 3, "val": 3, "extra": 0, "digest": f"{fold}{budget}{seed}"},
        training={"early_stopping_role": "val", **({"planned_steps": 200, "steps": 120} if "presto" in model else {})},
        digests={"manifest": "m1", "preprocessing": "p1", "predictions": "x", "card": "c", "data": "d"},
        cost=Cost(fit_s=1.0, predict_s=0.1, peak_memory_mb=10.0, labels_used=most, parameters_total=1, parameters_trainable=1),
    )


def changed(result, part, **update):
    """The same result with some entries of one of its dicts or records changed."""
    old = getattr(result, part)
    new = old | update if isinstance(old, dict) else old.model_copy(update=update)
    return result.model_copy(update={part: new})


def every(part, **update):
    return lambda results: [changed(result, part, **update) for result in results]


def first(part, **update):
    return lambda results: [changed(results[0], part, **update), *results[1:]]


def without(**cell):
    return lambda results: [r for r in results if not all(getattr(r.cell, name) == value for name, value in cell.items())]


def random_as_main(results):
    extra = [changed(result, "cell", split=Split("random"), fold="random") for result in results if result.cell.fold == "S0"]
    return results + extra


TRIED = {"presto/lora": {"tried": {"0.1": 1.0, "0.01": 2.0}}, "presto/lora@random": {"tried": {"0.01": 2.0}}}
CONTENT = {"raw/rf": ["covariate"]}
BATCH = {"presto/lora": 256, "presto/lora@random": 16}


def weak(result):
    return [stratum.model_copy(update={"scores": {"macro_f1": 0.2}}) for stratum in result.strata]


BREACHES = [
    (1, "more labels than the budget", every("budget", labels_used=25, train=20, val=5)),
    (1, "more validation than training", every("budget", labels_used=10, train=4, val=6)),
    (1, "labels not recorded", first("budget", digest=None)),
    (1, "other labels for one model", first("budget", digest="other")),
    (2, "random split as main result", random_as_main),
    (2, "two manifests", first("digests", manifest="m2")),
    (3, "two preprocessings", first("digests", preprocessing="p2")),
    (4, "early stopping on the test region", first("training", early_stopping_role="test_ood")),
    (4, "unequal schedules", lambda rs: [changed(r, "training", planned_steps=400) if r.cell.model == "presto/lora" else r for r in rs]),
    (4, "more rates for one model", lambda rs: [changed(r, "training", **TRIED[r.cell.model]) if r.cell.model in TRIED else r for r in rs]),
    (4, "a larger batch for one model", lambda rs: [changed(r, "training", batch_size=BATCH.get(r.cell.model)) for r in rs]),
    (5, "no memory", every("cost", peak_memory_mb=None)),
    (5, "no hours on the device", every("cost", peak_device_memory_mb=900.0)),
    (6, "no EO baseline", without(model="raw/rf")),
    (6, "a baseline that is no image", lambda rs: [changed(r, "model", content=CONTENT.get(r.cell.model, [])) for r in rs]),
    (6, "a baseline without skill", lambda rs: [r.model_copy(update={"strata": weak(r)}) if r.cell.model == "raw/rf" else r for r in rs]),
    (6, "no floor", without(model="floor/majority")),
    (7, "no hybrid", without(model="hybrid/rf")),
    (8, "one budget only", without(budget="20-units")),
    (9, "the other fold is missing", without(fold="S1")),
    (10, "no predictions", lambda rs: [r.model_copy(update={"digests": {"manifest": "m1", "preprocessing": "p1"}}) for r in rs]),
    (11, "no random twin", without(model="presto/lora@random")),
    (12, "four seeds", without(seed=4)),
    (13, "no Brier score", every("scores", test_id={"macro_f1": 0.6, "ece": 0.1})),
    (14, "pretraining not told", lambda rs: [changed(r, "model", pretraining=[]) if r.cell.model == "hybrid/rf" else r for r in rs]),
]  # fmt: skip


def test_runs_as_the_protocol_wants_them_pass_every_rule():
    verdicts = check_rules(runs())
    assert [verdict.rule for verdict in verdicts] == list(range(1, 15))
    assert {verdict.verdict for verdict in verdicts} == {"pass"}, [v.reason for v in verdicts if v.verdict != "pass"]
    assert all(verdict.reason for verdict in verdicts)


@pytest.mark.parametrize(("rule", "what", "break_it"), BREACHES, ids=[f"{rule}-{what.replace(' ', '-')}" for rule, what, _ in BREACHES])
def test_a_breach_is_caught_by_its_rule_alone(rule, what, break_it):
    broken = {verdict.rule for verdict in check_rules(break_it(runs())) if verdict.verdict == "fail"}
    assert broken == {rule}


def test_every_rule_is_broken_by_some_case():
    assert {rule for rule, _, _ in BREACHES} == {rule.number for rule in RULES}


def test_rules_without_anything_to_look_at_do_not_apply():
    results = [r for r in runs() if "presto" not in r.cell.model and r.model.tier in ("raw", "floor")]
    results = [changed(r, "cell", split=Split("spatial-block"), fold="blocks") for r in results if r.cell.fold == "S0"]
    by_rule = {verdict.rule: verdict.verdict for verdict in check_rules(results)}
    assert [rule for rule, verdict in by_rule.items() if verdict == "not applicable"] == [9, 11, 14]


def test_a_random_split_beside_main_results_is_allowed_as_a_sanity_check():
    results = runs()
    sanity = [
        changed(r, "cell", split=Split("random"), fold="random").model_copy(update={"main": False}) for r in results if r.cell.fold == "S0"
    ]
    assert {verdict.verdict for verdict in check_rules(results + sanity)} == {"pass"}


def test_records_read_from_json_are_taken():
    assert check_rules([result.model_dump(mode="json") for result in runs()]) == check_rules(runs())


@pytest.mark.parametrize(("break_it", "code"), [(lambda results: results, 0), (without(model="hybrid/rf"), 1)])
def test_the_command_checks_a_stored_sweep(tmp_path, break_it, code):
    store = ResultStore(tmp_path)
    for result in break_it(runs()):
        store.write(result.model_copy(update={"digest": hashlib.sha256(result.digest.encode()).hexdigest()}), None)
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    done = CliRunner().invoke(app, ["rules", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    assert ("crop / leave-state-out: no hybrid baseline" in done.stdout) == bool(code)
    verdicts = json.loads(CliRunner().invoke(app, ["rules", str(tmp_path), "--json"], catch_exceptions=False).stdout)
    assert sum(verdict["verdict"] == "fail" for verdict in verdicts) == code


def test_an_empty_folder_is_refused_in_words(tmp_path):
    with pytest.raises(DataError, match="no finished result"):
        check_store(tmp_path)


def test_no_results_and_no_result_are_refused_in_words():
    with pytest.raises(DataError, match="no results to check"):
        check_rules([])
    with pytest.raises(DataError, match="is no result"):
        check_rules([{"cell": {}}])


def test_many_breaches_are_told_in_one_short_sentence():
    broken = [result for result in runs() if result.cell.seed < 2]
    (verdict,) = [verdict for verdict in check_rules(broken) if verdict.rule == 12]
    assert len(verdict.breaches) == 24
    assert verdict.reason == (
        "12 of 12 points of the curves have too few seeds; the fewest: floor/majority on crop / leave-state-out / 10-units has 2 of 5 seeds"
    )
    (verdict,) = [verdict for verdict in check_rules(every("scores", test_id={"macro_f1": 0.6})(runs())) if verdict.rule == 13]
    assert len(verdict.breaches) == 12
    assert verdict.reason == "no brier, ece (12 times, e.g. floor/majority on crop / leave-state-out / S0)"


def test_rule_6_tolerates_one_group_against_a_baseline_and_not_two():
    def beats(*values):
        over = Bounds("median", 0.1, -0.2, 0.4)
        points = {str(number): value for number, value in enumerate(values)}
        nan = float("nan")
        return _above(Estimate(sum(values) / len(values), nan, nan, 0.95, nan, "groups", len(values), median=over, points=points))

    assert beats(0.3, 0.3, 0.3, 0.3, 0.3, -0.1)
    assert not beats(0.3, 0.3, 0.3, 0.3, -0.1, -0.1)
    assert not beats(0.1, 0.1, 0.1, 0.1, 0.1, -2.0)
