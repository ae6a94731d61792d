"""What every split promises, whatever the units."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs05bench.errors import DataError
from rs05bench.protocol import Cell, TaskCard, UnitTable, build_manifest
from rs05bench.protocol.splits import RULES, Fold, Split

SPLITS = [
    "random",
    "spatial-block",
    "within-state",
    "leave-state-out",
    "leave-year-out",
    "until-2019",
    "leave-state-year-out",
]
GROUP_SPLITS = [split for split in SPLITS if split != "random"]
R = 6_371_000.0


def card(**changes):
    fields = {
        "kind": "classification",
        "name": "toy",
        "targets": ["y"],
        "groups": ["state"],
        "year": "year",
        "splits": SPLITS,
        "split_options": {"block_size_m": 8000, "buffer_m": 2000, "max_folds": 5},
    }
    return TaskCard.parse(fields | changes)


def places(seed: int, n: int, states: int, years: int = 3) -> pd.DataFrame:
    """n places in `states` clusters about 100 km apart (some cluster pairs touch), each seen in `years` years."""
    rng = np.random.default_rng(seed)
    state = rng.integers(0, states, n)
    lon = -100 + state * 0.35 + rng.random(n) * 0.4
    lat = 40 + rng.random(n) * 0.4
    one = pd.DataFrame({"place": [f"p{i}" for i in range(n)], "lon": lon, "lat": lat, "state": [f"s{value}" for value in state]})
    all_years = [one.assign(year=2018 + year, unit_id=one["place"] + f"_{2018 + year}") for year in range(years)]
    return pd.concat(all_years, ignore_index=True)


def haversine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Great-circle distances, metres, by the textbook formula: independent of the code under test."""
    lon1, lat1, lon2, lat2 = (np.radians(v) for v in (a[:, None, 0], a[:, None, 1], b[None, :, 0], b[None, :, 1]))
    h = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * R * np.arcsin(np.sqrt(h))


def roles(manifest, fold):
    rows = manifest.fold(fold)
    return {role: set(part["unit_id"]) for role, part in rows.groupby(rows["role"].astype(str), observed=True)}


many_worlds = settings(max_examples=10)
worlds = given(seed=st.integers(0, 10_000), n=st.integers(40, 160), states=st.integers(2, 8), split=st.sampled_from(SPLITS))


@many_worlds
@worlds
def test_every_unit_has_one_role_in_every_fold(seed, n, states, split):
    frame = places(seed, n, states)
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), split)
    for fold in manifest.folds:
        rows = manifest.fold(fold)
        assert sorted(rows["unit_id"]) == sorted(frame["unit_id"])


@many_worlds
@given(seed=st.integers(0, 10_000), n=st.integers(40, 160), states=st.integers(2, 8), split=st.sampled_from(GROUP_SPLITS))
def test_test_blocks_are_the_same_in_every_fold_and_train_nobody(seed, n, states, split):
    manifest = build_manifest(card(), UnitTable.build(places(seed, n, states), groups=["state"]), split)
    tested: set[str] = set()
    used: set[str] = set()
    for fold in manifest.folds:
        here = roles(manifest, fold)
        tested |= here.get("test_id", set()) | here.get("test_ood", set())
        used |= here.get("train", set()) | here.get("val", set()) | here.get("reserve", set())
    assert tested
    assert not tested & used
    # A test unit is a test unit in every fold, or left out whole with its group (validation) in some.
    for fold in manifest.folds:
        here = roles(manifest, fold)
        assert tested <= here.get("test_id", set()) | here.get("test_ood", set()) | here.get("buffer", set())


@many_worlds
@given(seed=st.integers(0, 10_000), n=st.integers(40, 160), states=st.integers(2, 8), split=st.sampled_from(GROUP_SPLITS))
def test_no_training_unit_is_nearer_than_the_buffer_to_a_test_unit(seed, n, states, split):
    frame = places(seed, n, states)
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), split)
    position = frame.set_index("unit_id")[["lon", "lat"]]
    for fold in manifest.folds:
        here = roles(manifest, fold)
        test = position.loc[sorted(here.get("test_id", set()) | here.get("test_ood", set()))].to_numpy()
        train = position.loc[sorted(here.get("train", set()) | here.get("val", set()) | here.get("reserve", set()))].to_numpy()
        if len(train) and len(test):
            assert haversine(train, test).min() >= 2000


@many_worlds
@worlds
def test_the_digest_does_not_depend_on_the_order_of_rows(seed, n, states, split):
    frame = places(seed, n, states)
    shuffled = frame.sample(frac=1, random_state=seed)
    first = build_manifest(card(), UnitTable.build(frame, groups=["state"]), split)
    second = build_manifest(card(), UnitTable.build(shuffled, groups=["state"]), split)
    assert first.digest == second.digest
    assert first.card["digest"] == first.digest


@many_worlds
@given(seed=st.integers(0, 10_000), n=st.integers(60, 160), states=st.integers(2, 8))
def test_nothing_of_the_held_out_group_is_trained_or_tuned_on(seed, n, states):
    frame = places(seed, n, states).set_index("unit_id", drop=False)
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), "leave-state-out")
    for fold in manifest.folds:
        held = set(manifest.card["folds"][fold]["held_out"])
        here = roles(manifest, fold)
        learned = frame.loc[sorted(here["train"] | here.get("val", set())), "state"]
        assert not held & set(learned)
        assert set(frame.loc[sorted(here["test_ood"]), "state"]) <= held
        assert not held & set(frame.loc[sorted(here["test_id"]), "state"])


def test_a_held_out_year_is_neither_trained_nor_tuned_on():
    frame = places(3, 120, 5).set_index("unit_id", drop=False)
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), "leave-year-out")
    assert manifest.folds == ["2018", "2019", "2020"]
    for fold in manifest.folds:
        here = roles(manifest, fold)
        assert int(fold) not in set(frame.loc[sorted(here["train"] | here["val"]), "year"])
        assert set(frame.loc[sorted(here["test_ood"]), "year"]) == {int(fold)}
        # the same places in training years are the in-distribution test, so the drop is on the same ground
        home, away = (set(frame.loc[sorted(here[role]), "place"]) for role in ("test_id", "test_ood"))
        assert away == home


def test_region_and_year_shift_are_told_apart_in_one_fold():
    frame = places(4, 150, 5).set_index("unit_id", drop=False)
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), "leave-state-year-out")
    fold = manifest.folds[0]
    rows = manifest.fold(fold)
    tested = rows[rows["role"].astype(str) == "test_ood"].set_index("unit_id")["shift"].astype(str)
    held, year = manifest.card["folds"][fold]["held_out"]
    for unit, shift in tested.items():
        moved = (frame.loc[unit, "state"] == held, str(frame.loc[unit, "year"]) == year)
        assert shift == {(True, False): "region", (False, True): "year", (True, True): "both"}[moved]
    assert set(tested) == {"region", "year", "both"}


def test_validation_is_a_whole_group_when_four_train_and_blocks_inside_them_otherwise():
    for states, whole in ((3, False), (6, True)):
        frame = places(5, 200, states).set_index("unit_id", drop=False)
        manifest = build_manifest(
            card(split_options={"block_size_m": 8000, "buffer_m": 0, "max_folds": 9}),
            UnitTable.build(frame, groups=["state"]),
            "leave-state-out",
        )
        for fold in manifest.folds:
            here = roles(manifest, fold)
            train, val = (set(frame.loc[sorted(here[role]), "state"]) for role in ("train", "val"))
            assert (not train & val) == whole
            if whole:
                assert len(val) == 1


@many_worlds
@given(seed=st.integers(0, 10_000), large=st.integers(60, 200), crumbs=st.integers(1, 3))
def test_a_region_of_one_large_block_validates_on_a_share_of_its_units(seed, large, crumbs):
    """Nearly all units of each state are in one block of 8 km: whole blocks would leave the crumbs to validate on."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, state in enumerate(("s0", "s1")):
        lon, lat = -100.0 + number, 40.0
        sizes = [large, 40, *([6] * crumbs)]
        for part, size in enumerate(sizes):
            parts.append(
                pd.DataFrame(
                    {"lon": lon + part * 0.2 + rng.random(size) * 0.08, "lat": lat + 0.01 + rng.random(size) * 0.04, "state": state}
                )
            )
    frame = pd.concat(parts, ignore_index=True)
    frame["unit_id"] = [f"u{index:04d}" for index in range(len(frame))]
    task = card(year=None, splits=["within-state"], split_options={"block_size_m": 8000, "buffer_m": 300})
    manifest = build_manifest(task, UnitTable.build(frame, groups=["state"]), "within-state")
    position = frame.set_index("unit_id")[["lon", "lat"]]
    block = manifest.table.drop_duplicates("unit_id").set_index("unit_id")["block"].astype(str)
    for fold in manifest.folds:
        here = roles(manifest, fold)
        pool = len(here["train"]) + len(here["val"])
        assert 0.1 <= len(here["val"]) / pool <= 0.5
        assert not set(block[sorted(here["val"])]) & set(block[sorted(here["train"])])
        assert haversine(position.loc[sorted(here["val"])].to_numpy(), position.loc[sorted(here["train"])].to_numpy()).min() >= 300


def test_within_a_region_everything_learned_is_from_it():
    frame = places(6, 200, 4).set_index("unit_id", drop=False)
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), "within-state")
    assert sorted(manifest.folds) == ["s0", "s1", "s2", "s3"]
    for fold in manifest.folds:
        here = roles(manifest, fold)
        assert set(frame.loc[sorted(here["train"] | here["val"] | here["test_id"]), "state"]) == {fold}
        assert fold not in set(frame.loc[sorted(here["test_ood"]), "state"])


def test_many_groups_are_gathered_into_balanced_folds():
    frame = places(7, 600, 23, years=1)
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), "leave-state-out")
    assert len(manifest.folds) == 5
    held = [set(fold["held_out"]) for fold in manifest.card["folds"].values()]
    assert set.union(*held) == set(frame["state"])
    assert sum(map(len, held)) == 23
    sizes = [frame["state"].isin(groups).sum() for groups in held]
    assert max(sizes) < 1.5 * min(sizes)


def test_a_group_that_is_one_place_is_tested_in_blocks_of_time():
    days = pd.date_range("2018-01-01", periods=400, freq="3D")
    frame = pd.DataFrame(
        [{"unit_id": f"{site}_{i}", "site": site, "place": site, "time": day} for site in ("a", "b", "c") for i, day in enumerate(days)]
    )
    task = card(groups=["site"], year=None, splits=["leave-site-out", "within-site"], split_options={"block_days": 60, "buffer_days": 20})
    manifest = build_manifest(task, UnitTable.build(frame, groups=["site"]), "within-site")
    when = frame.set_index("unit_id")["time"]
    for fold in manifest.folds:
        here = roles(manifest, fold)
        test, train = when.loc[sorted(here["test_id"])].to_numpy(), when.loc[sorted(here["train"])].to_numpy()
        gaps = np.abs(test[:, None] - train[None, :]).astype("timedelta64[D]").astype(int)
        assert gaps.min() >= 20
    assert manifest.card["unlocated"] == len(frame)


def test_units_that_share_a_tile_are_never_on_both_sides():
    rng = np.random.default_rng(0)
    frame = places(8, 300, 6, years=1)
    frame["tile"] = [f"T{value}" for value in rng.integers(0, 40, len(frame))]
    task = card(groups=["state", "tile"], split_options={"block_by": "tile", "buffer_m": 0})
    manifest = build_manifest(task, UnitTable.build(frame, groups=["state", "tile"]), "leave-state-out")
    tile = frame.set_index("unit_id")["tile"]
    for fold in manifest.folds:
        here = roles(manifest, fold)
        test = set(tile.loc[sorted(here["test_id"] | here["test_ood"])])
        assert not test & set(tile.loc[sorted(here["train"])])


def test_a_random_split_is_never_a_main_result():
    manifest = build_manifest(card(), UnitTable.build(places(9, 80, 4), groups=["state"]), "random")
    assert manifest.card["can_be_main"] is False
    assert not Split("random").rule.may_be_main


@pytest.mark.parametrize(
    ("name", "rule", "group", "year", "extra"),
    [
        ("random", "random", None, None, 0),
        ("within-land-use", "within", "land-use", None, 0),
        ("leave-crop-system-out", "leave-group", "crop-system", None, 0),
        ("leave-state-out+5", "leave-group", "state", None, 5),
        ("leave-state-out+27-units", "leave-group", "state", None, 27),
        ("leave-state-out+30-units-in-3-blocks", "leave-group", "state", None, 30),
        ("leave-year-out", "leave-year", None, None, 0),
        ("leave-state-year-out", "leave-group-year", "state", None, 0),
        ("next-year", "next-year", None, None, 0),
        ("until-2021", "until", None, 2021, 0),
        ("official-2", "official", None, None, 0),
    ],
)
def test_a_name_is_taken_apart_by_one_rule(name, rule, group, year, extra):
    assert [found.name for found in RULES.values() if found.pattern.fullmatch(name)] == [rule]
    split = Split(name)
    assert (split.rule.name, split.group, split.year, split.extra) == (rule, group, year, extra)
    assert split.base == name.split("+")[0]
    assert split == name
    assert pickle.loads(pickle.dumps(split)).rule is split.rule


@pytest.mark.parametrize("name", ["leave-out", "until-21", "within-", "leave-year-out+5", "Random", "leave-state-out+x", ""])
def test_a_name_of_no_rule_is_refused_with_the_forms(name):
    with pytest.raises(ValueError, match=r"is not a split; the forms are .*leave-<group>-out"):
        Split(name)


def test_a_cell_and_a_manifest_carry_the_split():
    cell = Cell(task="toy", target="y", split="leave-state-out+5", fold="a", model="m", budget="full", seed=0)
    assert cell.split.extra == 5
    again = Cell.model_validate_json(cell.model_dump_json())
    assert again == cell
    assert again.split.rule.name == "leave-group"
    assert type(cell.model_dump()["split"]) is str
    manifest = build_manifest(card(), UnitTable.build(places(2, 80, 4), groups=["state"]), "leave-state-out+5")
    assert manifest.split.rule.shift == "region"
    assert manifest.split == "leave-state-out"


def test_a_rule_is_added_by_one_module(monkeypatch):
    def draw(ground, split):
        north = ground.units.frame["lat"].to_numpy() > ground.units.frame["lat"].median()
        yield Fold("north", (), np.where(north, "test_ood", "train").astype(object), np.where(north, "region", "none").astype(object))

    rule = replace(RULES["random"], name="north", form="north", pattern=re.compile("north"), draw=draw, shift="region")
    monkeypatch.setitem(RULES, "north", rule)
    frame = places(2, 80, 4)
    manifest = build_manifest(card(splits=["north"]), UnitTable.build(frame, groups=["state"]), "north")
    here = roles(manifest, "north")
    lat = frame.set_index("unit_id")["lat"]
    assert lat[sorted(here["train"])].max() < lat[sorted(here["test_ood"])].min()


@many_worlds
@given(seed=st.integers(0, 10_000), n=st.integers(40, 160), years=st.integers(2, 7))
def test_next_year_tests_places_that_train_in_earlier_years_only(seed, n, years):
    frame = places(seed, n, 4, years=years)
    # One place in five is new in the last year.
    frame = frame[~((frame.groupby("place").ngroup() % 5 == 0) & (frame["year"] < frame["year"].max()))]
    manifest = build_manifest(card(), UnitTable.build(frame, groups=["state"]), "next-year")
    at = frame.set_index("unit_id")
    assert manifest.folds == [str(year) for year in sorted(frame["year"].unique())[1:]]
    for fold in manifest.folds:
        here = roles(manifest, fold)
        learnt = at.loc[sorted(here["train"] | here["val"])]
        tested = at.loc[sorted(here["test_ood"])]
        assert set(tested["year"]) == {int(fold)}
        assert learnt["year"].max() < int(fold)
        assert set(tested["place"]) <= set(at.loc[at["year"] < int(fold), "place"])
        # Every place that has an earlier year is tested.
        both = set(at.loc[at["year"] < int(fold), "place"]) & set(at.loc[at["year"] == int(fold), "place"])
        assert set(tested["place"]) == both
        assert "test_id" not in here


def test_leave_year_out_tests_new_places_and_next_year_known_ones():
    frame = places(3, 120, 5).set_index("unit_id", drop=False)
    units = UnitTable.build(frame, groups=["state"])
    shared = {}
    for split in ("leave-year-out", "next-year"):
        manifest = build_manifest(card(), units, split)
        here = roles(manifest, "2020")
        shared[split] = set(frame.loc[sorted(here["test_ood"]), "place"]) & set(frame.loc[sorted(here["train"] | here["val"]), "place"])
    assert not shared["leave-year-out"]
    assert shared["next-year"] == set(frame["place"])


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        ({"state": "only"}, "leave-state-out", "at least two groups"),
        ({"year": 2018}, "leave-year-out", "at least two years"),
        ({"year": 2018}, "next-year", "at least two years"),
        ({"year": 2018}, "until-2019", "leaves no unit on one side"),
    ],
)
def test_impossible_splits_say_why(changes, split, message):
    frame = places(1, 60, 3, years=1).assign(**changes)
    with pytest.raises(DataError, match=message):
        build_manifest(card(), UnitTable.build(frame, groups=["state"]), split)


def test_a_changed_manifest_is_refused(tmp_path):
    manifest = build_manifest(card(), UnitTable.build(places(2, 80, 4), groups=["state"]), "leave-state-out")
    path = manifest.save(tmp_path)
    assert type(manifest).load(path).digest == manifest.digest
    table = pd.read_parquet(path)
    table["role"] = table["role"].astype(str)
    table.loc[0, "role"] = "train" if table.loc[0, "role"] != "train" else "buffer"
    table.to_parquet(path, index=False)
    with pytest.raises(DataError, match="content digest"):
        type(manifest).load(path)


def test_a_random_split_needs_no_blocks_and_others_say_that_they_do():
    frame = pd.DataFrame({"unit_id": [f"u{i}" for i in range(40)], "lon": -100.0, "lat": 40.0, "state": "s0", "place": "p"})
    task = card(year=None, splits=["random", "spatial-block"])
    units = UnitTable.build(frame, groups=["state"])
    assert build_manifest(task, units, "random").counts().loc["random", "test_id"] > 0
    with pytest.raises(DataError, match="no region can be cut into blocks"):
        build_manifest(task, units, "spatial-block")


def test_a_table_that_was_not_validated_is_refused_with_the_way_to_build_one():
    frame = pd.DataFrame({"unit_id": ["a"], "lon": [10.0], "lat": [50.0], "state": ["x"]})
    with pytest.raises(DataError, match="lacks the columns place, year, time, official") as refused:
        UnitTable(frame, ("state",))
    assert "UnitTable.build" in str(refused.value)
