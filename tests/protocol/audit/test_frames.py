"""What is a leak, and what the split's declaration makes of it."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from rs05bench.errors import DataError
from rs05bench.protocol.audit import AuditColumns, Thresholds, audit_frames

COLUMNS = AuditColumns(id="id", lon="lon", lat="lat")


def points(ids, lon, lat=None, **columns):
    return pd.DataFrame({"id": ids, "lon": lon, "lat": lat or [0.0] * len(ids), **columns})


TRAIN = points(["a", "b"], [0.0, 1.0])


def test_lists_that_share_nothing_are_clean():
    report = audit_frames(TRAIN, points(["c"], [5.0]), COLUMNS)
    assert (report.verdict, report.shared_ids, report.leaks) == ("clean", 0, [])
    assert report.median_nearest_km == pytest.approx(4 * np.pi / 180 * 6371)
    assert report.within_km == {"1": 0, "10": 0, "30": 0, "100": 0}


def test_distances_are_counted_inclusively_and_cumulatively():
    km = np.pi / 180 * 6371
    test = points(["c", "d", "e"], [1 + 0.5 / km, 1 + 25 / km, 1 + 99 / km])
    report = audit_frames(TRAIN, test, COLUMNS)
    assert report.within_km == {"1": 1, "10": 1, "30": 2, "100": 3}
    assert report.finding("distance").count == 1
    assert report.finding("distance").cases[0].train == "b"


def test_the_smallest_distance_is_adjustable_and_can_be_switched_off():
    test = points(["c"], [1.05])
    assert audit_frames(TRAIN, test, COLUMNS, thresholds=Thresholds(min_km=10)).verdict == "leaks"
    assert audit_frames(TRAIN, points(["c"], [1.001]), COLUMNS, thresholds=Thresholds(min_km=0)).verdict == "clean"


def test_leading_zeros_stay_and_are_told():
    report = audit_frames(points(["007"], [0.0]), points(["7"], [5.0]), COLUMNS)
    assert report.shared_ids == 0
    assert report.finding("shared_ids").level == "warning"
    assert audit_frames(points(["007"], [0.0]), points(["007"], [5.0]), COLUMNS).shared_ids == 1


def test_shared_ids_that_lie_elsewhere_are_told_to_be_counters():
    report = audit_frames(points(["0", "1"], [0.0, 1.0]), points(["0", "1"], [50.0, 51.0]), COLUMNS)
    assert report.finding("shared_ids").numbers["elsewhere"] == 2
    assert "row counter" in report.finding("shared_ids").sentence


def test_groups_count_test_units_and_blank_groups_are_shared_by_nobody():
    train = points(["a", "b", "c"], [0.0, 1.0, 2.0], tile=["T1", "", None])
    test = points(["d", "e", "f", "g"], [10.0, 11.0, 12.0, 13.0], tile=["T1", "T1", "", "T2"])
    report = audit_frames(train, test, COLUMNS.model_copy(update={"groups": ["tile"]}))
    assert report.shared_groups == {"tile": 2}
    assert report.finding("shared_group:tile").of == 3
    assert report.finding("shared_group:tile").cases[0].detail == "2 units in test, 1 in training"


def test_groups_of_numbers_equal_groups_of_text():
    train, test = points(["a"], [0.0], tile=[12.0]), points(["b"], [9.0], tile=["12"])
    assert audit_frames(train, test, COLUMNS.model_copy(update={"groups": ["tile"]})).shared_groups == {"tile": 1}


def test_same_place_in_another_year_leaks_unless_the_year_is_declared_to_shift():
    columns = COLUMNS.model_copy(update={"year": "year", "groups": ["tile"]})
    train = points(["a18", "b18"], [0.0, 1.0], year=[2018, 2018], tile=["A", "B"])
    test = points(["a21"], [0.0], year=[2021], tile=["A"])
    plain = audit_frames(train, test, columns)
    assert plain.finding("same_place").level == "leak"
    assert plain.finding("distance").level == "leak"
    declared = audit_frames(train, test, columns, shift="year")
    assert declared.verdict == "clean"
    assert declared.finding("same_place").numbers["other_year"] == 1
    assert declared.within_km["1"] == 1  # reported all the same


def test_a_declared_year_shift_does_not_excuse_the_same_year():
    columns = COLUMNS.model_copy(update={"year": "year", "groups": ["tile"]})
    train = points(["a18", "b21"], [0.0, 1.0], year=[2018, 2021], tile=["A", "B"])
    test = points(["c21"], [1.001], year=[2021], tile=["B"])
    report = audit_frames(train, test, columns, shift="year")
    assert {finding.check for finding in report.leaks} == {"distance", "shared_group:tile", "shared_year"}


def test_a_shift_of_both_excuses_no_place():
    columns = COLUMNS.model_copy(update={"year": "year"})
    report = audit_frames(points(["a"], [0.0], year=[2018]), points(["b"], [0.0], year=[2021]), columns, shift="both")
    assert "same_place" in {finding.check for finding in report.leaks}


def test_touching_and_overlapping_footprints_in_different_crs():
    # 30 m chips of 224 pixels in the CRS of the crop chips: one shares an edge, one overlaps by half, one lies a pixel apart.
    side = 6720.0
    train = geopandas.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(0, 1e6, side, 1e6 + side)], crs="EPSG:5070")
    boxes = [shapely.box(dx, 1e6 + dy, dx + side, 1e6 + dy + side) for dx, dy in ((side, 0), (side / 2, 0), (0, side + 30))]
    test = geopandas.GeoDataFrame({"id": ["edge", "half", "apart"]}, geometry=boxes, crs="EPSG:5070")
    for there in (test, test.to_crs("EPSG:4326")):
        report = audit_frames(train, there, AuditColumns(id="id"))
        assert (report.touching, report.finding("touching").numbers["overlapping"]) == (2, 1)
        assert report.finding("touching").cases[0].test == "half"


def test_windows_overlap_to_the_day():
    columns = COLUMNS.model_copy(update={"time": "first", "time_end": "last"})
    train = points(["a"], [0.0], first=["2020-01-01"], last=["2020-03-31"])
    for first, level in (("2020-03-31", "leak"), ("2020-04-01", "pass")):
        test = points(["b"], [9.0], first=[first], last=["2021-05-01"])
        assert audit_frames(train, test, columns, shift="both").finding("time_windows").level == level
    wider = Thresholds(gap_days=30)
    assert audit_frames(
        train, points(["b"], [9.0], first=["2020-04-15"], last=["2021-05-01"]), columns, shift="both", thresholds=wider
    ).leaks


def test_a_bare_year_is_the_whole_year():
    columns = COLUMNS.model_copy(update={"time": "when"})
    report = audit_frames(points(["a"], [0.0], when=["2020"]), points(["b"], [9.0], when=["2020-12-31"]), columns, shift="year")
    assert report.finding("time_windows").count == 1


def test_cosine_ignores_length_and_identical_vectors_are_told_apart():
    rng = np.random.default_rng(0)
    names = [f"A{k:02d}" for k in range(16)]
    theirs = pd.DataFrame(rng.normal(size=(50, 16)), columns=names).assign(id=[f"t{i}" for i in range(50)], lon=0.0, lat=0.0)
    ours = pd.DataFrame(rng.normal(size=(30, 16)), columns=names).assign(id=[f"s{i}" for i in range(30)], lon=50.0, lat=0.0)
    ours.loc[3, names] = theirs.loc[7, names] * 3.5
    ours.loc[9, names] = theirs.loc[8, names]
    ours.loc[10, names] = 0.0  # blank vectors are alike without being copies
    theirs.loc[10, names] = 0.0
    finding = audit_frames(theirs, ours, COLUMNS.model_copy(update={"features": ["A??"]})).finding("near_duplicates")
    assert (finding.count, finding.numbers["identical"]) == (2, 1)
    assert {case.train for case in finding.cases} == {"t7", "t8"}


def test_units_without_a_position_make_the_verdict_unlocated_but_leaks_win():
    test = points(["c", "d"], [5.0, np.nan], [0.0, np.nan])
    report = audit_frames(TRAIN, test, COLUMNS)
    assert (report.verdict, report.unlocated) == ("unlocated", 1)
    assert audit_frames(TRAIN, points(["a", "d"], [5.0, np.nan], [0.0, np.nan]), COLUMNS).verdict == "leaks"


def test_row_order_does_not_matter():
    rng = np.random.default_rng(3)
    train = points([f"a{i}" for i in range(80)], rng.uniform(0, 2, 80).tolist(), tile=rng.integers(0, 9, 80).astype(str).tolist())
    test = points([f"b{i}" for i in range(40)], rng.uniform(1, 3, 40).tolist(), tile=rng.integers(5, 15, 40).astype(str).tolist())
    columns = COLUMNS.model_copy(update={"groups": ["tile"]})
    first = audit_frames(train, test, columns)
    second = audit_frames(train.sample(frac=1, random_state=1), test.sample(frac=1, random_state=2), columns)
    for field in ("shared_groups", "within_km", "median_nearest_km", "verdict"):
        assert getattr(first, field) == getattr(second, field)


@pytest.mark.parametrize(
    ("frame", "columns", "message"),
    [
        (TRAIN.iloc[:0], COLUMNS, "empty"),
        (TRAIN, COLUMNS.model_copy(update={"groups": ["tile"]}), "no column 'tile'"),
        (points(["x"], [45.0], [-122.0]), COLUMNS, "swapped"),
        (points(["x"], [250.0]), COLUMNS, "no WGS84 degree"),
        (points(["x"], [500_000.0], [4_000_000.0]), COLUMNS, "projected metres"),
        (points(["x"], [np.inf]), COLUMNS, "infinite"),
        (points(["x"], ["12°E"]), COLUMNS, "should hold degrees, found '12°E' at row 1"),
        (points(["x", None], [0.0, 1.0]), COLUMNS, "blank id"),
        (
            points(["x"], [0.0], when=["last summer"]),
            COLUMNS.model_copy(update={"time": "when"}),
            "times that cannot be read: .last summer. at row 1",
        ),
        (
            points(["x"], [0.0], a=["2020-05-01"], b=["2020-04-01"]),
            COLUMNS.model_copy(update={"time": "a", "time_end": "b"}),
            "before it starts",
        ),
        (points(["x"], [0.0], y=["20x0"]), COLUMNS.model_copy(update={"year": "y"}), "should hold years"),
        (TRAIN, COLUMNS.model_copy(update={"features": ["A??"]}), r"no feature column matches 'A\?\?'"),
        (TRAIN, COLUMNS.model_copy(update={"lat": None}), "only one of longitude and latitude"),
    ],
)
def test_bad_input_is_refused_in_words(frame, columns, message):
    with pytest.raises(DataError, match=message):
        audit_frames(frame, frame, columns)


def two_lists(seed):
    """A training and a test list of classes that features tell and ids, place and year do not."""
    rng = np.random.default_rng(seed)
    lists = []
    for start, count in ((0.0, 200), (8.0, 80)):
        X = rng.normal(size=(count, 4))
        frame = pd.DataFrame(X, columns=list("pqrs")).assign(
            id=[f"{start:.0f}-{i:04d}" for i in range(count)],
            lon=start + rng.uniform(0, 1, count),
            lat=rng.uniform(0, 1, count),
            year=rng.integers(2018, 2022, count),
            crop=np.where(X[:, 0] + rng.normal(size=count) > 0, "corn", "rice"),
        )
        lists.append(frame)
    return lists


def told(lists):
    columns = COLUMNS.model_copy(update={"label": "crop", "year": "year", "features": ["p", "q", "r", "s"]})
    return {one.check for one in audit_frames(*lists, columns).findings if one.level == "warning"} - {"autocorrelation:label"}


@pytest.mark.parametrize(
    ("check", "plant"),
    [
        ("target_copies", lambda f: f.assign(s=(f["crop"] == "corn") + 0.02 * f["s"])),
        ("sampling_design:year", lambda f: f.assign(year=np.where(f["crop"] == "corn", 2021, 2018))),
        ("sampling_design:place", lambda f: f.assign(crop=np.where(f["lat"] > 0.5, "corn", "rice"))),
        ("id_order:train", lambda f: f.sort_values("crop").assign(id=[f"{f['id'].iloc[0][0]}-{i:04d}" for i in range(len(f))])),
    ],
)
def test_two_lists_are_searched_for_what_tells_a_label_without_the_ground(check, plant):
    assert told(two_lists(0)) == set()
    assert check in told([plant(frame) for frame in two_lists(0)])
