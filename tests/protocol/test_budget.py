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


def test_regression_budgets_cover_the_range():
    task = card(kind="regression", budgets=["20-units"])
    budget = draw("20-units", labels=VALUES, task=task)
    pool = np.array([VALUES[unit] for unit in MANIFEST.fold(FOLD).query("role == 'train'")["unit_id"]])
    bins = np.digitize([VALUES[unit] for unit in budget.train], np.quantile(pool, [0.2, 0.4, 0.6, 0.8]))
    assert np.bincount(bins, minlength=5).min() >= len(budget.train) // 5 - 1


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
    with pytest.raises(DataError, match="is no budget"):
        draw("many")
    with pytest.raises(ProtocolError, match="no labelled training unit"):
        draw("full", labels=dict.fromkeys(LABELS))
