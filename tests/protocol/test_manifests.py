"""Shipped manifests: loaded by one line, whole, honest about leaks, and the same when built again from the data."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rs05bench
from rs05bench.datasets.published import PUBLISHED, published
from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.audit import audit_manifest
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.geodesy import nearest_place
from rs05bench.protocol.manifest import (
    SplitManifest,
    build_manifest,
    load_manifest,
    manifest_digest,
    open_manifest,
)
from rs05bench.protocol.manifest_diff import diff_manifests
from rs05bench.protocol.shipped import newest_version, shipped_index, shipped_manifests
from rs05bench.protocol.submission.board import Board

SHIPPED = shipped_manifests()
FACTS = {"unit_id", "lon", "lat", "place", "year", "time"}

WANTED = [
    "burn-scar/leave-state-out@v1",
    "burn-scar/leave-biome-out@v1",
    "burn-scar/until-2021@v1",
    *(f"burn-scar/official-{part}@v1" for part in (1, 2, 3, 4)),
    "crop/leave-state-out@v1",
    "crop/leave-region-out@v1",
    "crop/spatial-block@v1",
    "crop/official@v1",
    "counties/leave-state-out@v1",
    "counties/leave-division-out@v1",
    "counties/leave-year-out@v1",
    "fuel-moisture/leave-region-out@v1",
    "fuel-moisture/official@v1",
]


@pytest.fixture(scope="module")
def cli():
    from rs05bench.cli import _register, app

    _register()
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_index_names_every_file_by_its_bytes():
    index = shipped_index()
    assert sorted(index) == sorted(SHIPPED)
    for name, path in SHIPPED.items():
        for suffix, sealed in index[name].files.items():
            content = path.with_name(path.name.removesuffix(".parquet") + suffix).read_bytes()
            assert (sealed.size, sealed.sha256) == (len(content), hashlib.sha256(content).hexdigest()), f"{name}{suffix}"
        assert index[name].digest == SplitManifest.load(path, verify=False).digest


def test_every_promised_manifest_is_there():
    assert set(WANTED) <= set(SHIPPED)
    assert rs05bench.load_manifest("burn-scar/leave-biome-out@v1").name == "burn-scar/leave-biome-out@v1"
    assert load_manifest("crop/spatial-block").version == 1


def test_every_split_of_the_simulated_tables_is_there():
    from rs05bench.datasets.simulated import TASKS
    from rs05bench.datasets.simulated.export import card_text

    for task in TASKS:
        import yaml

        card = TaskCard.parse(yaml.safe_load(card_text(task)))
        for split in card.splits:
            assert newest_version(f"simulated/{task}/{split.split('+')[0]}", SHIPPED) is not None


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_manifest_is_whole_and_its_card_says_what_it_must(name):
    # Loading checks the digest and the rules.
    manifest = load_manifest(name)
    assert manifest.name == name
    card = manifest.card
    for field in ("rule", "parameters", "source", "licence", "citation", "digest", "units_digest", "folds", "groups", "audit"):
        assert card[field] not in (None, "", {}), field
    assert card["seed"] == 0
    assert card["simulated"] == name.startswith("simulated/")
    counts = manifest.counts()
    for fold in manifest.folds:
        said = card["folds"][fold]
        assert {role: n for role, n in said["counts"].items() if n} == {role: int(n) for role, n in counts.loc[fold].items() if n}
        if said["regions"]:  # left out where there are very many
            assert sum(n for roles in said["regions"].values() for n in roles.values()) == len(manifest.units)
    assert set(manifest.units.columns) == FACTS | set(card["groups"])


def test_classes_are_counted_a_role_where_labels_are_at_hand():
    card = load_manifest("simulated/crop/leave-county-out").card
    assert sum(card["classes"]["crop"].values()) == card["units"]
    fold = next(iter(card["folds"].values()))
    totals = pd.DataFrame(fold["classes"]["crop"]).fillna(0).sum(axis=1).astype(int).to_dict()
    assert totals == {role: n for role, n in fold["counts"].items() if n}


def test_the_wheel_holds_the_index_and_three_small_manifests_and_a_source_distribution_all():
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder
    source = pytest.importorskip("hatchling.builders.sdist").SdistBuilder
    root = Path(rs05bench.__file__).parents[1]

    def held(made):
        paths = [Path(file.path) for file in made(str(root)).recurse_included_files()]
        return {
            path
            for path in paths
            if path.is_file() and "manifests" in path.parts and "protocol" in path.parts and "rs05bench" in path.parts
        }

    in_wheel = held(builder)
    assert {path.name for path in in_wheel if "@" not in path.name} == {"index.json"}
    assert sum("@v" in path.name for path in in_wheel) == 9
    assert root / "rs05bench/protocol/manifests/hls-burn-scars/leave-state-out@v1.parquet" in in_wheel
    assert sum(path.stat().st_size for path in in_wheel) < 250_000
    assert len([path for path in held(source) if "@v" in path.name]) == 3 * len(SHIPPED)
    shipped = builder(str(root)).config.get_force_include()
    assert all(Path(path).exists() for path in shipped)
    cards = {Path(place).stem: Path(path) for path, place in shipped.items() if "/cards/" in place}
    board = Board.load(root / "leaderboard")
    assert {name: TaskCard.load(path).digest for name, path in cards.items()} == {task.task: task.card for task in board.tasks}


def test_an_official_split_that_leaks_can_never_be_a_main_result():
    verdicts = {name: load_manifest(name).card for name in SHIPPED if "/official" in name}
    assert verdicts
    for name, card in verdicts.items():
        assert card["can_be_main"] == (card["audit"]["verdict"] == "clean"), name
    assert verdicts["crop/official@v1"]["audit"]["shared_groups"]["tile"] == 762
    assert verdicts["burn-scar/official-2@v1"]["audit"]["verdict"] == "leaks"
    assert verdicts["burn-scar/official-1@v1"]["audit"]["verdict"] == "unlocated"


def test_no_manifest_that_may_be_a_main_result_leaks():
    for name, path in SHIPPED.items():
        card = json.loads(path.with_name(path.name.removesuffix(".parquet") + ".json").read_text())
        assert not card["can_be_main"] or card["audit"]["verdict"] != "leaks", name


def test_located_fires_keep_their_distance_and_no_province_is_on_both_sides():
    manifest = load_manifest("burn-scar/leave-biome-out@v1")
    units = manifest.units.set_index("unit_id")
    assert units["lon"].notna().sum() == 3161
    for fold in manifest.folds:
        rows = manifest.fold(fold)
        role = rows["role"].astype(str).to_numpy()
        placed = units.loc[rows["unit_id"]]
        train, test = np.isin(role, ["train", "val"]), np.isin(role, ["test_id", "test_ood"])
        lon, lat = placed["lon"].to_numpy(), placed["lat"].to_numpy()
        distance = nearest_place(lon[test], lat[test], lon[train], lat[train])[0]
        assert np.nanmin(distance) >= manifest.card["parameters"]["buffer_m"]
        unlocated = placed["lon"].isna().to_numpy()
        assert not set(placed["place"][train & unlocated]) & set(placed["place"][test & unlocated])
        assert not set(placed["biome"][role == "train"]) & set(placed["biome"][role == "test_ood"])


def test_a_tile_of_crop_chips_is_never_on_both_sides():
    for split in ("leave-state-out", "leave-region-out", "spatial-block"):
        manifest = load_manifest(f"crop/{split}@v1")
        tile = manifest.units.set_index("unit_id")["tile"]
        for fold in manifest.folds:
            rows = manifest.fold(fold)
            role = rows["role"].astype(str)
            learnt, tested = role.isin(["train", "val"]), role.isin(["test_id", "test_ood"])
            assert not set(tile[rows.loc[learnt, "unit_id"]]) & set(tile[rows.loc[tested, "unit_id"]])


def test_the_digest_does_not_depend_on_row_order_or_storage(tmp_path):
    manifest = load_manifest("crop/leave-region-out@v1")
    shuffled = manifest_digest(manifest.table.sample(frac=1, random_state=1), manifest.units.sample(frac=1, random_state=2))
    assert shuffled == manifest.digest
    path = manifest.save(tmp_path)
    assert SplitManifest.load(path).digest == manifest.digest


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(DataError, match="crop/spatial-block@v1"):
        load_manifest("crop/nowhere@v1")
    with pytest.raises(DataError, match="no such file"):
        open_manifest("nowhere.parquet")


def test_the_newest_version_is_the_highest_number():
    there = {f"crop/random@v{number}": Path() for number in (1, 2, 10)} | {"crop/random-walk@v99": Path()}
    assert newest_version("crop/random", there) == "crop/random@v10"


def test_a_manifest_changed_after_it_was_frozen_is_refused(tmp_path):
    path = load_manifest("crop/spatial-block@v1").save(tmp_path)
    table = pd.read_parquet(path)
    table["role"] = table["role"].astype(str)
    table.loc[0, "role"] = "train" if table.loc[0, "role"] != "train" else "test_id"
    table.to_parquet(path)
    with pytest.raises(DataError, match="changed after it was frozen"):
        SplitManifest.load(path)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "split"), [("burn-scar", "leave-region-out"), ("crop", "leave-state-out"), ("urban", "leave-city-out")])
def test_a_simulated_manifest_built_again_is_the_same(task, split, tmp_path, cli):
    from rs05bench.datasets.simulated import write_tables

    card = write_tables(tmp_path, tasks=[task], size="small", seed=0)[task]
    done = cli("manifest", "build", card, "--data", card.parent, "--splits", split)
    assert done.exit_code == 0, done.output
    assert f"equals the shipped simulated/{task}/{split}@v" in done.stdout
    assert load_manifest(f"simulated/{task}/{split}").digest in done.stdout


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "split"), [("burn-scar", "leave-biome-out"), ("crop", "leave-state-out"), ("fuel-moisture", "leave-region-out")]
)
def test_a_real_manifest_built_again_is_the_same(real, name, split, tmp_path, cli):
    data = real(PUBLISHED[name].folder)
    done = cli("manifest", "build", name, "--data", data, "--splits", split, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    newest = load_manifest(f"{name}/{split}")
    assert f"equals the shipped {newest.name}" in done.stdout
    assert SplitManifest.load(tmp_path / name / f"{split}@v{newest.version}.parquet").digest == newest.digest


@pytest.mark.real
@pytest.mark.slow
def test_counties_of_a_shuffled_file_are_the_same_units(real, tmp_path):
    data, known = real("aef_counties"), published("counties")
    shuffled = pd.read_parquet(data / "embeddings.parquet", columns=["GEOID", "year"]).sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "embeddings.parquet")
    shutil.copy(data / "counties.geojson", tmp_path)
    units = known.read(tmp_path, known.task, "leave-year-out")
    assert units.digest == load_manifest("counties/leave-year-out@v1").card["units_digest"]


def test_a_missing_published_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        published("burn-scar").build(tmp_path, "leave-state-out")
    with pytest.raises(DataError, match="has no split 'leave-tile-out'"):
        published("crop").build(tmp_path, "leave-tile-out")


def test_show_prints_counts_held_out_groups_distances_and_digest(cli):
    manifest = load_manifest("crop/leave-region-out@v1")
    done = cli("manifest", "show", manifest.name)
    assert done.exit_code == 0
    assert manifest.digest in done.stdout
    for fold, counts in manifest.counts().iterrows():
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{fold}  "))
        assert f"{int(counts['train']):,}" in line
        assert "test_ood" in line
    assert json.loads(cli("manifest", "show", manifest.name, "--json").stdout) == manifest.card


def test_show_draws_the_folds(cli, tmp_path):
    name = "burn-scar/leave-biome-out@v1"
    assert cli("manifest", "show", name, "--map", tmp_path / "folds.png").exit_code == 0
    assert (tmp_path / "folds.png").read_bytes().startswith(b"\x89PNG")
    assert cli("manifest", "show", name, "--map", tmp_path / "folds.html").exit_code == 0
    page = (tmp_path / "folds.html").read_text()
    assert page.count('role="img"') == 4
    assert "3,059 units have no position" in page
    # One page, no network.
    assert "src=" not in page
    assert "http://" not in page
    assert isinstance(cli("manifest", "show", name, "--map", tmp_path / "folds.gif").exception, DataError)


def test_verify_exits_with_1_on_a_leak_only(cli):
    assert cli("manifest", "verify", "fuel-moisture/leave-region-out@v1").exit_code == 0
    leaking = cli("manifest", "verify", "fuel-moisture/official@v1")
    assert leaking.exit_code == 1
    assert "leaks" in leaking.stdout


def test_diff_names_units_that_changed_their_role(cli, tmp_path):
    manifest = load_manifest("crop/spatial-block@v1")
    assert cli("manifest", "diff", manifest.name, manifest.name).exit_code == 0
    table = manifest.table.copy()
    table["role"] = table["role"].astype(str)
    row = table.index[table["role"] == "train"][0]
    table.loc[row, "role"] = "buffer"
    other = SplitManifest(manifest.task, manifest.split, table.drop(index=table.index[-1]), manifest.units, {}, 1)
    found = diff_manifests(manifest, other)
    assert not found.same_digest
    assert found.changed[["unit_id", "role_a", "role_b"]].to_numpy().tolist() == [[table.loc[row, "unit_id"], "train", "buffer"]]
    assert found.removed["unit_id"].tolist() == [table["unit_id"].iloc[-1]]
    assert found.added.empty
    path = SplitManifest(manifest.task, manifest.split, other.table, other.units, {"task": "crop", "split": "spatial-block"}, 1).save(
        tmp_path
    )
    done = cli("manifest", "diff", manifest.name, path)
    assert done.exit_code == 1
    assert str(table.loc[row, "unit_id"]) in done.stdout


def test_a_unit_that_moved_is_told():
    manifest = load_manifest("crop/spatial-block@v1")
    units = manifest.units.copy()
    units.loc[3, "lon"] += 0.5
    found = diff_manifests(manifest, SplitManifest(manifest.task, manifest.split, manifest.table, units, manifest.card, 1))
    assert found.moved == [units.loc[3, "unit_id"]]
    assert not found.same_digest


def test_a_unit_tested_in_one_fold_and_trained_on_in_another_is_refused():
    manifest = load_manifest("crop/leave-region-out@v1")
    table = manifest.table.copy()
    table["role"] = table["role"].astype(str)
    tested = table.loc[table["role"] == "test_ood", "unit_id"].iloc[0]
    first = table.index[(table["unit_id"] == tested) & (table["role"] != "test_ood")][0]
    table.loc[first, "role"] = "train"
    with pytest.raises(ProtocolError, match="serve in training"):
        SplitManifest(manifest.task, manifest.split, table, manifest.units, {}, 1).verify()


@pytest.mark.slow
def test_the_verdict_on_the_card_is_what_the_audit_says_today():
    for name in ("burn-scar/until-2021@v1", "crop/official@v1", "fuel-moisture/leave-region-out@v1", "simulated/urban/leave-city-out@v1"):
        manifest = load_manifest(name)
        assert audit_manifest(manifest).verdict == manifest.card["audit"]["verdict"]


@pytest.mark.slow
def test_chips_of_the_users_own_copy_are_frozen_by_the_same_builder(cli, tmp_path):
    from rs05bench.datamodules.chipsource import chip_card
    from rs05bench.datasets.simulated import write_files

    write_files(tmp_path / "data", size="tiny")
    chips = tmp_path / "data" / "crop_chips"
    # Three chips, one a state: their world is the only region.
    card = chip_card("crop-chips", chips)
    options = card.split_options.model_copy(update={"block_by": None, "region": None})
    card.model_copy(update={"groups": [], "splits": ["spatial-block"], "split_options": options}).save(tmp_path / "card.yaml")
    done = cli("manifest", "build", tmp_path / "card.yaml", "--data", chips, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    manifest = SplitManifest.load(tmp_path / "crop-chips" / "spatial-block@v1.parquet")
    assert len(manifest.units) == 3
    assert manifest.digest in done.stdout
    assert manifest.card["simulated"]


def test_build_manifest_leaves_the_digest_alone_whatever_is_counted():
    from rs05bench.protocol.card import TaskCard
    from rs05bench.protocol.units import UnitTable

    units = UnitTable.build(pd.DataFrame({"unit_id": list("abcdefghij"), "lon": np.arange(10.0), "lat": 0.0}))
    card = TaskCard.parse(
        {"kind": "classification", "name": "t", "targets": ["y"], "splits": ["random"], "coordinates": {"x": "x", "y": "y"}}
    )
    labels = {"y": pd.Series(["1", "0"] * 5, index=list("abcdefghij"))}
    plain, counted = build_manifest(card, units, "random"), build_manifest(card, units, "random", labels=labels)
    assert plain.digest == counted.digest
    assert counted.card["classes"] == {"y": {"0": 5, "1": 5}}
    assert plain.card["classes"] == {}
