"""A report of chips stands on the sums that results keep: curves, drop, map, groups and calibration with intervals, and no raster read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.comparison import compare
from rs05bench.protocol.result import Result
from rs05bench.report import Report, write_report
from rs05bench.report.answer import identical
from tests.protocol.chip_world import ChipWorld

pytest.importorskip("rasterio")
MODELS = (("prithvi-300/lora", "lora", 0.95), ("raw/unet", "raw", 0.7))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultStore, list[Result]]:
    """Results of two models on made-up maps; their predictions are not kept."""
    world, root = ChipWorld(), tmp_path_factory.mktemp("chips")
    store = ResultStore(root / "runs")
    store.put_card(world.card)
    store.put_manifest(world.manifest("leave-state-out"))
    results = [
        result.model_copy(update={"digests": {"card": world.card.digest}})
        for model, tier, skill in MODELS
        for result in world.chip_results(root / "maps", model=model, tier=tier, skill=skill, seeds=(0, 1, 2))
    ]
    for result in results:
        store.write(result, None)
    return store, results


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(runs[0].root, tmp_path_factory.mktemp("page"), images=False)


def frame(report: Report, name: str) -> pd.DataFrame:
    return pd.read_csv(report.page.parent / "figures" / f"{name}.csv")


def test_curves_of_chips_have_intervals(runs, report):
    table = frame(report, "toy-curves-leave-state-out")
    assert set(table["model"]) == {model for model, *_ in MODELS}
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()
    # Pooled is the mean over seeds of the score of all pixels: every chip is held out once. The main score is that of each state.
    for model in set(table["model"]):
        of_seeds, of_states = [], []
        for seed in (0, 1, 2):
            cells = [r.kept("test_ood").of("miou") for r in runs[1] if r.cell.model == model and r.cell.seed == seed]
            whole = np.sum([stats.vectors.sum(0) for stats in cells], axis=0)
            of_seeds.append(float(cells[0].evaluate("miou", whole)))
            of_states += [float(stats.evaluate("miou", stats.vectors.sum(0))) for stats in cells]
        shown = table[(table["model"] == model) & (table["role"] == "test_ood")].iloc[0]
        assert shown["pooled"] == pytest.approx(np.mean(of_seeds), abs=1e-12)
        assert shown["value"] == pytest.approx(np.mean(of_states), abs=1e-9)


def test_the_drop_of_chips_is_that_of_the_protocol(runs, report):
    table = frame(report, "toy-drop")
    for entry in compare(runs[1]).drops:
        row = table[(table["model"] == entry.point.model) & (table["region"] == "all")].iloc[0]
        assert row["value"] == pytest.approx(entry.drop.value, abs=1e-12)
        assert row["low"] < row["value"] < row["high"]


def test_the_map_shows_the_share_of_wrong_pixels_of_each_block(runs, report):
    table = frame(report, "toy-map").set_index("place")
    cells = [r for r in runs[1] if r.cell.model == "prithvi-300/lora"]
    wrong: dict[str, list[float]] = {}
    for result in cells:
        kept = result.kept("test_ood")
        sums = kept.add_up("overall_accuracy", "block")
        for block in sums.clusters:
            wrong.setdefault(block, []).append(1 - float(sums.select([block]).evaluate("overall_accuracy")))
    assert set(table.index) == set(wrong)
    for block, values in wrong.items():
        assert table.loc[block, "error"] == pytest.approx(np.mean(values), abs=1e-9)
    assert table["usual_mistake"].str.contains(" taken for ").any()


def test_groups_and_calibration_of_chips_are_shown(report):
    groups = frame(report, "toy-groups-biome")
    assert set(groups["group"]) == {"forest", "steppe"}
    assert groups["low"].notna().all()
    curve = frame(report, "toy-calibration")
    assert set(curve["role"]) == {"test_id", "test_ood"}
    assert "#labelled" not in report.page.read_text(encoding="utf-8")
    assert "labelled chips" in " ".join(report.verdicts["toy"])


def test_sums_that_do_not_give_the_stored_score_are_refused(runs, tmp_path: Path):
    store = ResultStore(tmp_path / "runs")
    store.put_card(runs[0].cards()["toy"])
    for path in (runs[0].root / "manifests").rglob("*"):
        if path.is_file():
            target = store.root / path.relative_to(runs[0].root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for result in runs[1]:
        store.write(result, None)
    path = next(store.root.glob("cells/*/*/result.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["scores"]["test_id"]["miou"] += 0.01
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(DataError, match="the kept sums give miou"):
        write_report(store.root, tmp_path / "page", images=False)


def test_results_that_are_the_same_to_the_bit_are_said_at_the_top(runs):
    """Two models, two seeds of a control, two budgets; equal seeds of one model are no wonder, nor are floors and perfect scores."""
    result = next(result for result in runs[1] if result.model.tier == "lora")

    def cell(changes, tier="lora", labels=10, **scores):
        found = {role: values | scores for role, values in result.scores.items()}
        changed = {"cell": result.cell.model_copy(update=changes), "model": result.model.model_copy(update={"tier": tier}), "scores": found}
        return result.model_copy(update=changed | {"budget": result.budget.model_copy(update={"labels_used": labels})})

    plain = cell({"model": "x/lora"}, brier=0.25)
    said = "x/lora and y/lora give the same scores to the last bit in 1 cell of leave-state-out"
    assert identical([plain, cell({"model": "y/lora"}, brier=0.25)])[0].startswith(said)
    assert identical([plain, cell({"model": "y/lora"}, brier=0.2500001)]) == []
    assert identical([plain, cell({"seed": 5}, brier=0.25)]) == []
    twins = [cell({"model": "x/lora@random", "seed": seed}, brier=0.25) for seed in (0, 1)]
    assert identical(twins)[0].startswith("x/lora@random of seed 0 and of seed 1 give the same scores")
    more = cell({"model": "x/lora", "budget": "full"}, labels=50, brier=0.25)
    assert identical([plain, more])[0].startswith(f"x/lora with {result.cell.budget} labels and with full give the same scores")
    assert identical([plain, cell({"model": "x/lora", "options": {"patch": 8}}, brier=0.25)])[0].startswith(
        "x/lora {} and x/lora {'patch': 8}"
    )
    assert identical([cell({"model": name}, "floor", brier=0.25) for name in ("floor/a", "floor/b")]) == []
    assert identical([cell({"model": name}, brier=0.0) for name in ("x/lora", "y/lora")]) == []


def test_a_network_below_the_pixel_baseline_is_said_at_the_top(tmp_path: Path):
    world, store = ChipWorld(), ResultStore(tmp_path / "runs")
    store.put_card(world.card)
    store.put_manifest(world.manifest("leave-state-out"))
    tiers = (("prithvi-300/lora", "lora", 0.6), ("raw/unet", "raw", 0.95), ("raw/logistic", "raw", 0.8))
    for model, tier, skill in tiers:
        for result in world.chip_results(tmp_path / "maps", model=model, tier=tier, skill=skill, seeds=(0,)):
            named = result.model.model_copy(update={"inputs": model.partition("/")[0], "learner": model.partition("/")[2]})
            store.write(result.model_copy(update={"digests": {"card": world.card.digest}, "model": named}), None)
    page = write_report(store.root, tmp_path / "page", images=False).page.read_text()
    said = "prithvi-300/lora scores below raw/logistic, which classifies every pixel by its own bands"
    assert page.index(said) < page.index("<figure")
    assert "raw/unet scores below" not in page
