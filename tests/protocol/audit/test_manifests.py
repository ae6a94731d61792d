"""Manifests are judged by what each test unit's shift declares."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rs05bench.protocol import TaskCard, UnitTable, build_manifest
from rs05bench.protocol.audit import audit_manifest
from rs05bench.protocol.geodesy import great_circle_m

SPLITS = ["spatial-block", "leave-state-out", "within-state", "leave-year-out", "leave-state-year-out", "until-2020"]


@pytest.fixture(scope="module")
def card():
    return TaskCard(
        kind="classification", name="crop", title="A test", targets=["crop"], classes=["a", "b"], unit=["field", "year"],
        place=["field"], year="year", groups=["state"], files=["fields.csv"],
        coordinates={"x": "lon", "y": "lat", "crs": "EPSG:4326"}, features={"raw": ["B*"]},
        splits=["random", *SPLITS], source="a test", licence="CC0-1.0", citation="none",
    )  # fmt: skip


@pytest.fixture(scope="module")
def units():
    rng = np.random.default_rng(0)
    n = 240
    state = rng.integers(0, 4, n)
    frame = pd.DataFrame({"field": [f"f{i:03d}" for i in range(n)], "state": [f"S{s}" for s in state]})
    frame["lon"], frame["lat"] = -100 + 2.0 * state + rng.uniform(0, 1, n), 40 + rng.uniform(0, 1, n)
    frame = pd.concat([frame.assign(year=year) for year in (2019, 2020, 2021)], ignore_index=True)
    frame["unit_id"], frame["place"] = frame["field"] + "_" + frame["year"].astype(str), frame["field"]
    frame["time"] = frame["year"].astype(str) + "-07-01"
    return UnitTable.build(frame, groups=["state"])


@pytest.mark.parametrize("split", SPLITS)
def test_splits_drawn_by_the_rules_are_clean(card, units, split):
    report = audit_manifest(build_manifest(card, units, split))
    assert report.verdict == "clean", [finding.sentence for finding in report.leaks]
    assert report.n_test > 0


def test_a_random_split_leaks(card, units):
    report = audit_manifest(build_manifest(card, units, "random"))
    assert report.verdict == "leaks"
    assert {"distance", "same_place"} <= {finding.check for finding in report.leaks}


def test_a_test_unit_moved_into_training_is_found(card, units):
    manifest = build_manifest(card, units, "leave-state-out")
    table = manifest.table.copy()
    fold = table["fold"].astype(str) == manifest.folds[0]
    ood = table.index[fold & (table["role"] == "test_ood")]
    table.loc[ood[0], "role"] = "train"
    report = audit_manifest(replace(manifest, table=table))
    checks = {finding.check for finding in report.leaks}
    assert {"shared_group:region", "shared_group:block", "same_place"} <= checks
    assert [part.fold for part in report.parts if "shared_group:region" in {f.check for f in part.report.leaks}] == [manifest.folds[0]]


def test_a_reserve_that_touches_the_test_blocks_is_found(card, units):
    manifest = build_manifest(card, units, "leave-state-out")
    table = manifest.table.copy()
    fold = table["fold"].astype(str) == manifest.folds[0]
    ood = table.index[fold & (table["role"] == "test_ood")]
    table.loc[ood[0], "role"] = "reserve"
    leaking = [part for part in audit_manifest(replace(manifest, table=table)).parts if part.report.leaks]
    assert {part.against for part in leaking} == {"reserve"}


def test_distances_of_a_manifest_equal_brute_force(card, units):
    manifest = build_manifest(card, units, "leave-state-out")
    joined = manifest.table.astype({"fold": str, "role": str}).merge(manifest.units[["unit_id", "lon", "lat"]], on="unit_id")
    nearest = []
    for _, rows in joined.groupby("fold"):
        train, test = rows[rows["role"].isin(["train", "val"])], rows[rows["role"].isin(["test_id", "test_ood"])]
        metres = great_circle_m(
            test["lon"].to_numpy()[:, None], test["lat"].to_numpy()[:, None], train["lon"].to_numpy(), train["lat"].to_numpy()
        )
        nearest.append(metres.min(axis=1))
    every = np.concatenate(nearest) / 1000
    report = audit_manifest(manifest)
    assert report.n_test == len(every)
    assert report.median_nearest_km == pytest.approx(np.median(every), abs=1e-6)
    assert report.within_km == {str(limit): int((every <= limit).sum()) for limit in (1, 10, 30, 100)}


def test_units_known_by_group_only_are_unlocated(card, units):
    frame = units.frame.copy()
    frame.loc[frame["state"] == "S3", ["lon", "lat"]] = np.nan
    report = audit_manifest(build_manifest(card, UnitTable.build(frame, groups=["state"]), "leave-state-out"))
    assert report.verdict == "unlocated"
    assert report.unlocated > 0


def test_sites_cut_into_blocks_of_time_are_judged_by_days(card):
    rng = np.random.default_rng(1)
    n = 400
    site = rng.integers(0, 6, n)
    frame = pd.DataFrame(
        {"unit_id": [f"u{i:03d}" for i in range(n)], "state": [f"site{s}" for s in site], "place": [f"site{s}" for s in site]}
    )
    frame["lon"], frame["lat"], frame["year"] = 3.0 * site, 10.0 + site, 2020
    frame["time"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 360, n), unit="D")
    manifest = build_manifest(card, UnitTable.build(frame, groups=["state"]), "leave-state-out")
    report = audit_manifest(manifest)
    assert report.verdict == "clean", [finding.sentence for finding in report.leaks]
    # Without their buffer in time the blocks follow each other by the day.
    table = manifest.table.copy()
    trains = table.groupby(["fold", "region"], observed=True)["role"].transform(lambda roles: (roles.astype(str) == "train").any())
    table["role"] = table["role"].astype(str).mask((table["role"].astype(str) == "buffer") & trains, "train")
    leaks = audit_manifest(replace(manifest, table=table)).leaks
    assert {finding.check for finding in leaks} == {"days_apart"}
