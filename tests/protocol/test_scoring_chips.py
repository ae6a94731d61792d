"""The scorer of chips: its scores, intervals and comparisons follow from what it keeps, and its temperature from validation pixels only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rs05bench.protocol import draw_budget
from rs05bench.protocol.comparison import compare
from rs05bench.protocol.group_report import report_of_kept
from rs05bench.protocol.hypotheses import judge_hypotheses
from rs05bench.protocol.inference.contrast import cluster_weights
from rs05bench.protocol.kept import KeptSums
from rs05bench.protocol.labels import write_masks
from rs05bench.protocol.map_predictions import MapPredictions
from rs05bench.protocol.metrics import Calibration, classification_scores, stack
from rs05bench.protocol.metrics.temperature import apply_temperature, fit_temperature
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.rescoring import score
from tests.protocol.chip_world import PIXEL, SIDE, THREE, TWO, ChipWorld

pytest.importorskip("rasterio")


@pytest.fixture(scope="module")
def world() -> ChipWorld:
    return ChipWorld()


@pytest.fixture(scope="module")
def scored(world, tmp_path_factory):
    fold = world.manifest("leave-state-out").folds[0]
    predictions = world.guess(tmp_path_factory.mktemp("chips") / "predictions", fold, skill=0.8)
    return fold, predictions, world.scorer(fold).score(predictions)


def pixels(world, predictions, role, budget=None):
    """Labels and probabilities of the scored pixels of a role's chips, straight from the files."""
    labels, columns = [], []
    for unit, file in predictions.table.loc[predictions.table["role"] == role, ["unit_id", "file"]].itertuples(index=False):
        truth = world.masks[unit]
        if budget is not None and unit not in set(budget.val):
            continue
        shown = (truth >= 0) if budget is None else (truth >= 0) & budget.pixel_mask(unit, *truth.shape)
        if len(world.names) == 2:
            band = predictions.band(file).astype(np.float64)[shown]
            labels.append(truth[shown])
            columns.append(np.stack([1 - band, band], axis=1))
            continue
        rows = predictions.samples[(predictions.samples["role"] == role) & (predictions.samples["unit_id"] == unit)]
        p = rows[[f"p_{name}" for name in world.names]].to_numpy(dtype=np.float64)
        inside = shown.ravel()[rows["pixel"]]
        labels.append(truth.ravel()[rows["pixel"]][inside])
        columns.append((p / p.sum(1, keepdims=True))[inside])
    return np.concatenate(labels), np.concatenate(columns)


@pytest.mark.parametrize("metric", ["miou", "macro_f1", "iou_burnt", "boundary_f1", "area_error", "ece", "brier"])
def test_scores_follow_from_what_is_kept(scored, metric):
    *_, found = scored
    assert set(found.sums) == {"test_id", "test_ood"}
    for role, kept in found.sums.items():
        again = KeptSums.unpack(kept.pack())
        assert again.of(metric).evaluate(metric) == pytest.approx(found.scores[role][metric], abs=1e-9)


def test_rows_are_the_blocks_of_the_chips(world, scored):
    fold, _, found = scored
    manifest = world.manifest("leave-state-out")
    rows = manifest.fold(fold).merge(manifest.units[["unit_id", "biome"]], on="unit_id")
    for role, kept in found.sums.items():
        here = rows[rows["role"].astype(str) == role]
        expected = here.groupby([here["block"].astype(str), here["biome"].astype(str)]).size() * SIDE * (SIDE - 1)
        got = dict(zip(zip(kept.keys["block"], kept.keys["biome"], strict=True), kept.units.tolist(), strict=True))
        assert got == expected.to_dict()


def test_declared_groups_are_scored_with_intervals(world, scored):
    *_, found = scored
    manifest = world.manifest("leave-state-out")
    rows = manifest.fold(scored[0]).merge(manifest.units[["unit_id", "biome"]], on="unit_id")
    for role, kept in found.sums.items():
        units = {name: scores["units"] for name, scores in found.per_group[role]["biome"].items()}
        for name, entry in report_of_kept("miou", "biome", kept, units).groups.items():
            here = rows[(rows["role"].astype(str) == role) & (rows["biome"] == name)]
            assert entry.value == pytest.approx(found.per_group[role]["biome"][name]["miou"])
            assert entry.units == len(here) == found.per_group[role]["biome"][name]["units"]
            assert entry.clusters == here["block"].nunique(), "what is resampled is the test block"


@pytest.mark.parametrize("metric", ["miou", "iou_burnt", "f1_burnt", "macro_f1", "boundary_f1", "area_error"])
def test_a_bootstrap_from_the_sums_is_one_over_the_chips_themselves(world, scored, metric):
    """Blocks are drawn; one side weighs kept sums, the other scores every chip again as often as its block was drawn."""
    fold, predictions, found = scored
    manifest = world.manifest("leave-state-out")
    rows = manifest.fold(fold)
    block_of = dict(zip(rows["unit_id"], rows["block"].astype(str), strict=True))
    kept = KeptSums.unpack(found.sums["test_id"].pack())
    stats = kept.add_up(metric, "block")
    weights = cluster_weights(len(stats.clusters), 20, np.random.default_rng(3))
    from_sums = stats.evaluate(metric, np.asarray(weights, dtype=np.float64) @ stats.vectors)
    chips = [(unit, predicted) for unit, _, predicted, _ in predictions.chips(["test_id"])]
    for weight, value in zip(weights, from_sums, strict=True):
        rules = world.scorer(fold).labels.rules
        drawn = [
            rules.chip(world.masks[unit], predicted, pixel_size_m=PIXEL)
            for times, block in zip(weight, stats.clusters, strict=True)
            for unit, predicted in chips
            if block_of[unit] == block
            for _ in range(int(times))
        ]
        assert value == pytest.approx(stack(drawn).scores("segmentation")[metric], abs=1e-12)


@pytest.fixture(scope="module")
def pool(world, tmp_path_factory) -> Pool:
    root = tmp_path_factory.mktemp("cells")
    good = world.chip_results(root, model="prithvi-300/lora", tier="lora", skill=0.95)
    return Pool.of([*good, *world.chip_results(root, model="alphaearth/conv1x1", tier="embedding", skill=0.7)])


def test_maps_have_intervals_pairs_and_drops_over_folds_and_seeds(pool):
    lora, embedding = (Point("toy", "y", "leave-state-out", model, "10-units") for model in ("prithvi-300/lora", "alphaearth/conv1x1"))
    for metric in ("miou", "macro_f1", "boundary_f1"):
        found = compare(pool, metric=metric)
        score = found.score(lora, "test_ood").estimate
        assert score.low < score.value < score.high
        assert set(score.points) == {"s0", "s1", "s2"}
        gap = found.difference(lora, embedding, "test_ood").effect
        assert gap.value == pytest.approx(score.value - found.score(embedding, "test_ood").estimate.value)
        assert gap.low > 0
        assert gap.p < 0.05
    drop = compare(pool).drop(lora)
    assert drop.drop.value == pytest.approx(drop.at_home - drop.held_out)
    assert {entry.group for entry in drop.groups} == {"s0", "s1", "s2"}


def test_hypotheses_are_judged_on_maps(pool):
    (found,) = [verdict for verdict in judge_hypotheses(pool) if verdict.hypothesis == "H2"]
    assert found.verdict == "supported"
    assert all(entry.effect.low > 0 for entry in found.comparisons)


@pytest.mark.parametrize(("classes", "budget"), [(TWO, "full"), (TWO, "10pct-pixels"), (THREE, "full"), (THREE, "50pct-pixels")])
def test_the_temperature_is_fitted_on_the_validation_pixels_the_budget_shows(classes, budget, tmp_path):
    world = ChipWorld(classes)
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = world.guess(tmp_path / "predictions", fold, skill=0.8)
    labels = draw_budget(world.card, manifest, fold, budget, 3)
    scorer = world.scorer(fold)
    assert "temperature" not in scorer.score(predictions).scores["test_id"]
    found = scorer.score(predictions, validation=labels).scores
    y, p = pixels(world, predictions, "val", labels)
    assert len(y) > 50
    temperature = fit_temperature(y, p)
    assert temperature > 1.2, "these maps are too sure of themselves"
    for role in ("test_id", "test_ood"):
        y, p = pixels(world, predictions, role)
        assert found[role]["temperature"] == pytest.approx(temperature, rel=1e-8)
        assert found[role]["ece_classwise"] == pytest.approx(classification_scores(y, p, classes)["ece_classwise"], abs=1e-9)
        after = apply_temperature(p, temperature)
        expected = classification_scores(y, after, classes)
        for name in ("ece", "ece_classwise", "brier", "nll"):
            assert found[role][f"{name}_scaled"] == pytest.approx(expected[name], abs=1e-8), name
        assert found[role]["nll_scaled"] < found[role]["nll"]


def test_pixels_the_budget_hides_and_chips_it_does_not_hold_change_no_temperature(world, tmp_path):
    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = world.guess(tmp_path / "predictions", fold, skill=0.8)
    labels = draw_budget(world.card, manifest, fold, "10pct-pixels", 3)
    scorer = world.scorer(fold)
    temperature = scorer.score(predictions, validation=labels).scores["test_id"]["temperature"]
    spoilt = {}
    for unit, mask in world.masks.items():
        hidden = ~labels.pixel_mask(unit, *mask.shape) if unit in set(labels.val) else np.ones(mask.shape, bool)
        spoilt[unit] = np.where(hidden & (mask >= 0), 1 - mask, mask)
    other = world.scorer(fold, lambda unit: spoilt[unit] if unit in set(labels.val) else world.masks[unit])
    assert other.score(predictions, validation=labels).scores["test_id"]["temperature"] == temperature
    shown = {unit: np.where(labels.pixel_mask(unit, *mask.shape) & (mask >= 0), 1 - mask, mask) for unit, mask in world.masks.items()}
    wrong = world.scorer(fold, lambda unit: shown[unit] if unit in set(labels.val) else world.masks[unit])
    assert wrong.score(predictions, validation=labels).scores["test_id"]["temperature"] > 5 * temperature


def test_without_predicted_validation_chips_there_is_no_temperature(world, scored, tmp_path):
    fold, predictions, _ = scored
    labels = draw_budget(world.card, world.manifest("leave-state-out"), fold, "full", 0)
    table = predictions.table[predictions.table["role"] != "val"]
    bare = MapPredictions(predictions.directory, predictions.classes, table, None, {})
    assert "temperature" not in world.scorer(fold).score(bare, validation=labels).scores["test_id"]


def test_the_reliability_curve_is_that_of_all_pixels(world, scored):
    _, predictions, found = scored
    for role, curve in found.calibration.items():
        y, p = pixels(world, predictions, role)
        assert sum(curve["units"]) == len(y)
        gap = sum(n * abs(c - a) for n, c, a in zip(curve["units"], curve["confidence"], curve["accuracy"], strict=True)) / len(y)
        assert gap == pytest.approx(Calibration.of(y, p).evaluate("ece"), abs=1e-5)


def test_sums_of_chips_stay_small(scored):
    *_, found = scored
    kept = found.sums["test_ood"]
    assert len(kept.pack()) < 400 * len(kept)


@pytest.mark.parametrize("budget", ["full", "10pct-pixels"])
def test_files_give_the_scores_back_the_temperature_included(world, budget, tmp_path):

    manifest = world.manifest("leave-state-out")
    fold = manifest.folds[0]
    predictions = world.guess(tmp_path / "made", fold, skill=0.8)
    cell = {"task": "toy", "target": "y", "split": "leave-state-out", "fold": fold, "budget": budget, "seed": 3}
    kept = dataclasses.replace(predictions, info={"cell": cell}).write(tmp_path / "predictions")
    place = Grid("EPSG:32610", 500_000, 4_000_000, PIXEL, PIXEL, SIDE, SIDE)
    pack = write_masks(tmp_path / "labels", world.card, ((unit, mask, place) for unit, mask in world.masks.items()))
    scored = score(kept, manifest, pack)
    expected = world.scorer(fold).score(MapPredictions.read(kept), validation=draw_budget(world.card, manifest, fold, budget, 3))
    assert scored.fold == fold
    assert "nll_scaled" in scored.scores["test_ood"]
    assert scored.scores == expected.scores
    assert scored.packed() == expected.packed()
