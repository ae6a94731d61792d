"""The index answers as the results themselves would, and notices what came and what went."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from rs05bench.errors import DataError
from rs05bench.experiment.query import compact, export, read_index, select
from rs05bench.experiment.results import results_table
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.result import Cost


@pytest.fixture
def store(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs", ignore=shutil.ignore_patterns("index"))
    return ResultStore(tmp_path / "runs")


def from_results(store):
    return results_table(list(store.results()), store.costs())


def same(found, expected):
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_the_index_is_the_table_of_results(store):
    same(read_index(store), from_results(store))
    assert read_index(store)["macro_f1_drop"].notna().any()


def test_what_came_later_changes_the_drops_of_its_family_too(store, tmp_path):
    read_index(store)
    later = [digest for digest in sorted(store.digests()) if store.read(digest).cell.split == "leave-state-out"][:5]
    for digest in later:
        shutil.move(store.folder(digest), tmp_path / digest)
    same(read_index(store), from_results(store))
    for digest in later:
        store.folder(digest).parent.mkdir(exist_ok=True)
        shutil.move(tmp_path / digest, store.folder(digest))
    same(read_index(store), from_results(store))


def test_a_score_that_the_sums_beside_it_contradict_enters_no_table(store):
    path = store.folder(sorted(store.digests())[0]) / "result.json"
    record = json.loads(path.read_text())
    record["scores"]["test_ood"][record["main_metric"]] = 0.999
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"the kept sums give macro_f1 .* and the result says 0\.999"):
        read_index(store)


def test_what_went_is_left_out(store):
    read_index(store)
    store.remove(sorted(store.digests())[0])
    same(read_index(store), from_results(store))


def test_costs_measured_alone_take_their_place(store):
    read_index(store)
    digest = sorted(store.digests())[0]
    store.put_cost(digest, Cost(fit_s=123.0, alone=True))
    table = read_index(store).set_index("digest")
    assert table.loc[digest, "fit_s"] == 123.0
    assert bool(table.loc[digest, "alone"])


def test_nothing_is_read_again_while_nothing_changes(store):
    path = compact(store)
    before = path.stat().st_mtime_ns
    for digest in store.digests():  # would fail, were it read
        (store.folder(digest) / "result.json").write_text("{")
    assert compact(store) == path
    assert path.stat().st_mtime_ns == before


def test_a_damaged_index_is_made_again(store):
    compact(store)
    expected = from_results(store)
    (store.root / "index" / "table.parquet").write_bytes(b"PAR1")
    same(read_index(store), expected)


def test_rows_and_columns_are_chosen_with_sql(store):
    found = select(store, "tier = 'floor' and seed = 0", ["model", "avg(macro_f1_ood) as ood", "count(*) as n"])
    table = from_results(store).query("tier == 'floor' and seed == 0")
    assert found["model"].tolist() == ["floor/majority"]
    assert found["n"].tolist() == [len(table)]
    assert found["ood"].iloc[0] == pytest.approx(table["macro_f1_ood"].mean())


def test_a_condition_that_is_not_understood_names_the_columns(store):
    with pytest.raises(DataError, match=r"(?s)tiier.*macro_f1_ood"):
        select(store, "tiier = 'floor'")


def test_a_condition_reads_no_other_file(store, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(DataError):
        select(store, f"seed in (select a from read_csv('{tmp_path / 'secret.csv'}'))")


@pytest.mark.parametrize(("name", "read"), [("t.csv", pd.read_csv), ("t.parquet", pd.read_parquet)])
def test_the_table_is_exported(store, tmp_path, name, read):
    same(read(export(read_index(store), tmp_path / name)), from_results(store))


def test_a_result_that_cannot_be_read_is_named(store):
    digest = sorted(store.digests())[0]
    (store.folder(digest) / "result.json").write_text("{")
    with pytest.raises(DataError, match=digest):
        read_index(store)


def settled(store, monkeypatch, seconds=0.0):
    """Lets the folders count as unchanged for long, and the index be compared once."""
    monkeypatch.setattr("rs05bench.experiment.query.SETTLED_S", seconds)
    compact(store)


def test_a_settled_folder_is_not_listed_again(store, monkeypatch):
    settled(store, monkeypatch)
    expected = from_results(store)
    monkeypatch.setattr(ResultStore, "digests", lambda self: pytest.fail("every folder was looked at"))
    same(read_index(store), expected)


def test_a_settled_folder_notices_what_comes_goes_and_is_measured(store, tmp_path, monkeypatch):
    settled(store, monkeypatch)
    digest = sorted(store.digests())[0]
    shutil.move(store.folder(digest), tmp_path / digest)
    same(read_index(store), from_results(store))
    shutil.move(tmp_path / digest, store.folder(digest))
    same(read_index(store), from_results(store))
    store.put_cost(digest, Cost(fit_s=123.0, alone=True))
    assert read_index(store).set_index("digest").loc[digest, "fit_s"] == 123.0


def test_a_folder_that_has_just_changed_is_listed(store, monkeypatch):
    settled(store, monkeypatch, seconds=3600.0)
    assert not (store.root / "index" / "seen.json").exists()
