"""A budget counts every label that is used, is nested, and is the same for every order of rows."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import UnitTable, build_manifest, draw_budget
from rs05bench.protocol.hashing import hash_pixels
from rs05bench.protocol.tuning_blocks import tuning_of
from tests.protocol.test_splits import card, places

FRAME = places(11, 300, 6, years=2)
LABELS = dict(zip(FRAME["unit_id"], np.random.default_rng(0).choice(["a", "b", "c"], len(FRAME), p=[0.6, 0.3, 0.1]), strict=True))
VALUES = dict(zip(FRAME["unit_id"], np.random.default_rng(1).lognormal(size=len(FRAME)), strict=True))
MANIFEST = build_manifest(card(), UnitTable.build(FRAME, groups=["state"]), "leave-state-out")
FOLD = MANIFEST.folds[0]


def draw(budget, seed=0, labels=LABELS, fold=FOLD, task=None, **options):
    return draw_budget(task or card(), MANIFEST, fold, budget, seed, labels, **options)


def units(budget):
    return set(budget.train) | set(budget.val)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), small=st.integers(1, 40), more=st.integers(1, 40), fold=st.sampled_from(MANIFEST.folds))
@pytest.mark.parametrize("form", ["{}-per-class", "{}-units", "{}pct", "{}-states"])
def test_a_smaller_budget_lies_inside_a_larger_one(form, seed, small, more, fold):
    few, many = (draw(form.format(amount), seed, fold=fold) for amount in (small, small + more))
    assert set(few.train) <= set(many.train)
    assert set(few.val) <= set(many.val)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), amount=st.integers(1, 30))
def test_validation_labels_are_counted_and_never_more_than_training(seed, amount):
    budget = draw(f"{amount}-per-class", seed)
    assert len(budget.val) <= len(budget.train)
    assert budget.labels_used == len(units(budget))
    for value in ("a", "b", "c"):
        used = sum(LABELS[unit] == value for unit in units(budget))
        assert used == amount or any(repr(value) in text for text in budget.shortages)


def test_only_training_and_validation_units_are_used():
    role = MANIFEST.fold(FOLD).set_index("unit_id")["role"].astype(str)
    for name in ("full", "20pct", "10-per-class", "50-units", "2-states"):
        budget = draw(name)
        assert set(role.loc[list(budget.train)]) == {"train"}
        assert set(role.loc[list(budget.val)]) <= {"val"}


def test_plus_k_adds_labels_of_the_held_out_region_and_counts_them():
    base, more = draw("10-per-class"), draw("10-per-class", split="leave-state-out+5")
    role = MANIFEST.fold(FOLD).set_index("unit_id")["role"].astype(str)
    assert set(role.loc[list(more.extra)]) == {"reserve"}
    assert len(more.extra) == 15
    assert more.labels_used == base.labels_used + 15
    assert set(base.train) <= set(more.train)


def test_units_without_a_label_are_never_drawn():
    missing = {unit: (None if index % 2 else label) for index, (unit, label) in enumerate(LABELS.items())}
    assert all(missing[unit] is not None for unit in units(draw("full", labels=missing)))


def test_a_class_too_small_for_the_budget_is_reported():
    budget = draw("200-per-class")
    assert any(text.startswith("class 'c':") and "instead of 200" in text for text in budget.shortages)


BLIND = ["20-units", "30-units-in-3-blocks", "10pct", "2-states", "full"]


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), budget=st.sampled_from(BLIND), kind=st.sampled_from(["classification", "regression"]), other=st.randoms())
def test_a_draw_does_not_depend_on_labels_it_does_not_count(seed, budget, kind, other):
    task = card(kind=kind, budgets=["full"])
    known = LABELS if kind == "classification" else VALUES
    values = list(known.values())
    other.shuffle(values)
    for split in (None, "leave-state-out+7-units", "leave-state-out+9-units-in-3-blocks"):
        one = draw(budget, seed, known, task=task, split=split)
        two = draw(budget, seed, dict(zip(known, values, strict=True)), task=task, split=split)
        assert one.digest == two.digest
        assert one.labels_inspected == one.labels_used


def test_a_plain_k_of_a_regression_is_drawn_blindly():
    task = card(kind="regression", budgets=["full"])
    one = draw("20-units", 3, VALUES, task=task, split="leave-state-out+7")
    two = draw("20-units", 3, {unit: -value for unit, value in VALUES.items()}, task=task, split="leave-state-out+7")
    assert list(one.extra) == list(two.extra)
    assert len(one.extra) == 7


def walk(units, wanted, seed):
    """How many units somebody looks at, in the order of their hashes, until every class is full; all of them where one never is."""
    order = sorted(units, key=lambda unit: hashlib.blake2b(f"{seed}\x1flabel\x1f{unit}".encode(), digest_size=8).digest())
    left = dict.fromkeys(("a", "b", "c"), wanted)
    for looked, unit in enumerate(order, start=1):
        left[LABELS[unit]] -= 1
        if max(left.values()) <= 0:
            return looked
    return len(order)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), amount=st.sampled_from([1, 3, 4, 200]))
def test_labels_inspected_are_those_looked_at_until_every_class_is_full(seed, amount):
    role = MANIFEST.fold(FOLD).set_index("unit_id")["role"].astype(str)
    train, reserve = ([*role.index[role == name]] for name in ("train", "reserve"))
    # Fewer than five a class leave no validation label.
    used = draw(f"{amount}-per-class", seed)
    if amount < 5:
        assert used.labels_inspected == walk(train, amount, seed)
        assert used.labels_inspected >= used.labels_used == 3 * amount
        more = draw(f"{amount}-per-class", seed, split=f"leave-state-out+{amount}")
        assert more.labels_inspected == used.labels_inspected + walk(reserve, amount, seed)
    else:
        assert used.labels_inspected == (role.isin(["train", "val"])).sum()


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), amount=st.integers(1, 4))
def test_a_random_budget_and_labels_by_class_of_the_held_out_region_are_inspected_together(seed, amount):
    role = MANIFEST.fold(FOLD).set_index("unit_id")["role"].astype(str)
    used = draw("20-units", seed, split=f"leave-state-out+{amount}")
    assert used.labels_inspected == 20 + walk([*role.index[role == "reserve"]], amount, seed)


def test_inspected_labels_are_recorded_next_to_used_ones():
    record = draw("5-per-class").record()
    assert record.labels_used == 15
    assert record.labels_inspected > 15
    assert record.pool == MANIFEST.fold(FOLD)["role"].astype(str).isin(["train", "val"]).sum()


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), n=st.integers(5, 40), more=st.integers(0, 20), blocks=st.integers(1, 5))
def test_clustered_units_are_in_few_blocks_and_nested(seed, n, more, blocks):
    block = MANIFEST.fold(FOLD).set_index("unit_id")["block"].astype(str)
    few, many = (draw(f"{amount}-units-in-{blocks}-blocks", seed) for amount in (n, n + more))
    assert set(few.train) <= set(many.train)
    assert set(few.val) <= set(many.val)
    visited = {role: set(block.loc[list(getattr(many, role))]) for role in ("train", "val")}
    assert len(visited["train"]) + len(visited["val"]) <= blocks
    # What they have fewer than asked for, they say.
    assert many.labels_used == n + more or any("labelled units instead of" in text for text in many.shortages)
    # Visits are shared out: no block holds two more than another that has units left.
    counts = block.loc[list(many.train)].value_counts()
    role = MANIFEST.fold(FOLD).set_index("unit_id")["role"].astype(str)
    there = block[role == "train"].value_counts()
    for name, count in counts.items():
        assert count >= counts.max() - 1 or count == there[name]


def test_blocks_are_visited_in_proportion_to_their_units():
    frame = places(3, 400, 4, years=1)
    frame["tile"] = ["dense" if index % 2 else f"t{index % 40}" for index in range(len(frame))]
    task = card(groups=["state", "tile"], split_options={"block_by": "tile", "buffer_m": 0, "test_fraction": 0.1})
    manifest = build_manifest(task, UnitTable.build(frame, groups=["state", "tile"]), "spatial-block")
    labels = dict.fromkeys(frame["unit_id"], "a")
    block = manifest.fold("blocks").set_index("unit_id")
    pool = block[block["role"].astype(str) == "train"]["block"].astype(str).value_counts(normalize=True)
    seeds = 400
    first = [
        block["block"].astype(str)[draw_budget(task, manifest, "blocks", "4-units-in-1-blocks", seed, labels).train[0]]
        for seed in range(seeds)
    ]
    for name, share in pool.items():
        assert abs(first.count(name) / seeds - share) < 4 * (share * (1 - share) / seeds) ** 0.5 + 1e-9


def test_a_budget_that_takes_nearly_everything_says_so():
    pool = draw("full")
    said = f"takes {len(pool.train)} of the {len(pool.train)} labelled training units"
    for name in ("1000-units", "100pct", "6-states"):
        assert any(text.startswith(said) for text in draw(name).shortages), name
    assert not draw("full").shortages
    assert not draw("50-units").shortages


def world(labels_of_val: list[str], train: int = 40):
    """A budget of one region: training units in four blocks, validation units in a fifth."""
    train_ids = np.array([f"t{index:02d}" for index in range(train)], dtype=object)
    val_ids = np.array([f"v{index:02d}" for index in range(len(labels_of_val))], dtype=object)
    labels = {unit: "abcd"[index % 4] for index, unit in enumerate(train_ids)} | dict(zip(val_ids, labels_of_val, strict=True))
    blocks = {unit: f"b{index // 10}" for index, unit in enumerate(train_ids)} | dict.fromkeys(val_ids, "b9")
    return train_ids, val_ids, labels, blocks


@pytest.mark.parametrize(
    ("val", "how"),
    [
        (list("abcdabcdab"), "held-out"),
        (list("aaaaabbbbc"), "held-out"),  # three of four classes
        (list("aaaaabbbbb"), "blocks"),  # two of four
        (list("aaaaaaaaaa"), "blocks"),  # one
        (list("abcd"), "blocks"),  # 4 of 44
        ([], "blocks"),
    ],
)
def test_settings_are_chosen_on_validation_labels_only_where_they_hold_enough(val, how):
    train, checks, labels, blocks = world(val)
    found = tuning_of(train, checks, labels, blocks, "classification", 0)
    assert found.how == how
    if how == "held-out":
        assert not found.checks
        return
    assert found.why
    parts = [{blocks[unit] for unit in part} for part in found.checks]
    assert len(parts) == min(5, len(set(blocks.values())))
    assert sorted(unit for part in found.checks for unit in part) == sorted([*train, *checks])
    assert sum(map(len, parts)) == len(set.union(*parts))  # no block judges twice
    # Labels outside the budget are not looked at.
    assert tuning_of(train, checks, labels | {"hidden": "z"}, blocks, "classification", 0).how == how


def test_nothing_is_chosen_on_one_class_or_in_one_block():
    train, val, labels, blocks = world(list("aaaaaaaaaa"))
    assert tuning_of(train, val, labels, dict.fromkeys(blocks, "b"), "classification", 0).how == "none"
    assert tuning_of(train, val, dict.fromkeys(labels, "a"), blocks, "classification", 0).how == "none"
    few = tuning_of(train[:4], val[:1], labels, blocks, "classification", 0)
    assert few.how in ("blocks", "none")


def test_seeds_differ_and_one_seed_repeats():
    assert draw("10-per-class", 1).digest == draw("10-per-class", 1).digest
    assert draw("10-per-class", 1).digest != draw("10-per-class", 2).digest


def test_whole_groups_are_drawn():
    budget = draw("2-states")
    state = FRAME.set_index("unit_id")["state"]
    assert state.loc[list(budget.train)].nunique() == 2
    assert draw("5-states").labels_used > budget.labels_used


def test_pixels_are_drawn_by_rule_nested_and_at_the_declared_rate():
    task = card(kind="segmentation", budgets=["1pct-pixels", "10pct-pixels"])
    few, many = (draw(name, labels=None, task=task) for name in ("1pct-pixels", "10pct-pixels"))
    small, large = few.pixel_mask("chip", 512, 512), many.pixel_mask("chip", 512, 512)
    assert not (small & ~large).any()
    assert small.mean() == pytest.approx(0.01, abs=0.002)
    assert large.mean() == pytest.approx(0.10, abs=0.004)
    assert (large != many.pixel_mask("other chip", 512, 512)).any()


def test_a_pixel_keeps_its_hash_when_the_chip_is_larger():
    assert (hash_pixels(3, "chip", 8, 8) == hash_pixels(3, "chip", 64, 64)[:8, :8]).all()


def test_the_hash_of_a_pixel_is_splitmix64_of_a_counter():
    """Plain Python integers, after Steele, Lea & Flood 2014; a change here would move every published pixel budget."""
    start = int.from_bytes(hashlib.blake2b(b"pixels\x1f3\x1fchip", digest_size=8).digest(), "big")
    for row, column in ((0, 0), (2, 5)):
        z = (start + (row * 2**32 + column + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        assert int(hash_pixels(3, "chip", 8, 8)[row, column]) == z ^ (z >> 31)


def test_errors():
    with pytest.raises(DataError, match="is not a budget"):
        draw("many")
    with pytest.raises(ProtocolError, match="no labelled training unit"):
        draw("full", labels=dict.fromkeys(LABELS))
