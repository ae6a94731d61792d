"""From the files of a leaderboard to what is shown: who ranks, who does not and why, what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rs05bench.errors import DataError
from rs05bench.report.site import read_leaderboard
from rs05bench.report.site.adapter import file_name, link
from rs05bench.report.site.rank_words import rank_table, why_unranked
from rs05bench.report.site.records import Leaderboard
from rs05bench.report.style import plain
from tests.report.site.fake import make_board, make_leaderboard, make_standing, make_verdict, write_submission

ONE = (("fuel-moisture", "leave-region-out", False),)


@pytest.fixture(scope="module")
def records(board: Path) -> Leaderboard:
    return read_leaderboard(board)


def test_a_score_is_the_mean_over_folds_and_seeds(board: Path, records: Leaderboard):
    verdict = json.loads((board / "submissions/made-up-003/verdict.json").read_text())
    (family,) = [f for f in verdict["families"] if (f["task"], f["budget"]) == ("fuel-moisture", "10-per-class")]
    row = next(row for row in records.tables[0].rows if row.slug == "made-up-003")
    assert row.points["10-per-class"].ood.value == pytest.approx(np.mean(family["groups"]["test_ood"]["scores"]))
    assert row.points["10-per-class"].calibration == family["scores"]["test_ood"]["ece"]


def test_the_drop_compares_the_same_ground(board: Path, records: Leaderboard):
    verdict = json.loads((board / "submissions/made-up-003/verdict.json").read_text())
    (family,) = [f for f in verdict["families"] if (f["task"], f["budget"]) == ("fuel-moisture", "10-per-class")]
    point = next(row for row in records.tables[0].rows if row.slug == "made-up-003").points["10-per-class"]
    ground = next(iter(point.drops))
    at = family["folds"].index(ground)
    home, held = (family["groups"][role]["scores"][at] for role in ("test_id", "test_ood"))
    assert point.drops[ground] == pytest.approx(np.mean(home) - np.mean(held))
    assert point.drop.value == pytest.approx(np.mean(list(point.drops.values())))


def test_what_was_scored_here_ranks(records: Leaderboard):
    table = records.tables[0]
    ranked = set(rank_table(table, records)["deployment", "10-per-class"])
    standings = {slug: entry.standing for slug, entry in records.entries.items()}
    assert ranked == {slug for slug in standings if standings[slug] != "self-reported"} - {"made-up-008"}  # it lacks a budget
    unscored = next(row for row in table.rows if standings[row.slug] == "self-reported")
    assert "not scored" in why_unranked(table, unscored, "10-per-class")


def test_ranks_follow_the_score_and_count_from_one(records: Leaderboard):
    table = records.tables[0]
    places = rank_table(table, records)["deployment", "20-per-class"]
    scores = {row.slug: row.points["20-per-class"].ood.value for row in table.rows if row.slug in places}
    in_order = sorted(places, key=lambda slug: places[slug].rank)
    assert in_order == sorted(scores, key=scores.__getitem__, reverse=True)
    assert [places[slug].rank for slug in in_order] == list(range(1, len(places) + 1))


def test_the_open_track_ranks_open_weights_among_themselves(records: Leaderboard):
    table = records.tables[0]
    places = rank_table(table, records)["open", "10-per-class"]
    assert places
    assert all(records.entries[slug].model.open_weights for slug in places)
    assert min(place.rank for place in places.values()) == 1


def test_simulated_results_never_rank(records: Leaderboard):
    table = next(table for table in records.tables if table.simulated)
    assert not any(rank_table(table, records).values())
    assert why_unranked(table, table.rows[0], table.budgets[0]) == "Simulated data never rank."


def test_a_budget_that_was_not_run_is_missing_and_not_ranked(records: Leaderboard):
    row = next(row for row in records.tables[0].rows if row.slug == "made-up-008")
    assert "20-per-class" not in row.points
    assert "5-per-class" in row.points
    assert "made-up-008" not in rank_table(records.tables[0], records)["deployment", "20-per-class"]
    assert "made-up-008" not in rank_table(records.tables[0], records)["deployment", "5-per-class"]


def test_a_fold_that_lacks_is_told_and_bars_the_rank(tmp_path: Path):
    board = make_board(ONE)
    board.save(tmp_path / "tasks.yaml")
    verdict = make_verdict(board, 3, seeds=2)
    less = [family.model_copy(update={"by_fold": {"test_ood": [None, *family.by_fold["test_ood"][1:]]}}) for family in verdict.families]
    write_submission(tmp_path, verdict.model_copy(update={"families": less}), "reproduced")
    records = read_leaderboard(tmp_path)
    table = records.tables[0]
    assert table.rows[0].points["5-per-class"].missing == "8 of 9 folds"
    assert "8 of 9 folds" in why_unranked(table, table.rows[0], "5-per-class")


def test_a_standing_of_another_submission_does_not_hold(tmp_path: Path):
    board = make_board(ONE)
    board.save(tmp_path / "tasks.yaml")
    verdict = make_verdict(board, 3, seeds=2)
    folder = write_submission(tmp_path, verdict, "verified")
    make_standing(verdict, "verified").model_copy(update={"digest": "a" * 64}).save(folder / "standing.json")
    assert read_leaderboard(tmp_path).entries[verdict.slug].standing == "rescored"


def test_a_folder_with_anothers_verdict_is_an_error(tmp_path: Path):
    root = make_leaderboard(tmp_path / "board", 1, splits=ONE, seeds=2)
    (root / "submissions/made-up-000").rename(root / "submissions/somebody-else")
    with pytest.raises(DataError, match="verdict is of 'made-up-000'"):
        read_leaderboard(root)


def test_a_broken_verdict_is_left_out_with_a_warning_that_names_it(tmp_path: Path):
    root = make_leaderboard(tmp_path / "board", 1, splits=ONE, seeds=2)
    (root / "submissions/made-up-000/verdict.json").write_text("{", encoding="utf-8")
    with pytest.warns(UserWarning, match="verdict.json"):
        assert read_leaderboard(root).entries == {}


def test_a_manifest_of_another_digest_is_not_shown(board: Path, tmp_path: Path):
    text = (board / "tasks.yaml").read_text()
    digest = read_leaderboard(board).tasks["fuel-moisture"].splits[0].digest
    (tmp_path / "tasks.yaml").write_text(text.replace(digest, "a1" * 32), encoding="utf-8")
    info = read_leaderboard(tmp_path).tasks["fuel-moisture"].splits[0]
    assert info.places == {}
    assert info.audit == {}


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://example.org", "data:text/html,x", "https://a b", "https://x/\n", "//example.org", None]
)
def test_only_plain_https_becomes_a_link(address):
    assert link(address) == ""


def test_what_cannot_be_seen_is_shown():
    assert plain("a\u202eb\x00c\u200b") == "a�b�c�"
    assert plain("schöne Größe, 好") == "schöne Größe, 好"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "leave-state-out+5", "A B", "...", "~/x"])
def test_page_names_stay_in_their_folder(name):
    found = file_name(name)
    assert "/" not in found
    assert not found.startswith(".")


def test_a_record_that_was_changed_after_it_was_verified_leaves_the_board(tmp_path: Path):
    root = make_leaderboard(tmp_path / "board", 2, splits=ONE, seeds=2)
    record = root / "submissions/made-up-001/submission.yaml"
    record.write_text(record.read_text().replace("Made up: nothing was trained.", "No overlap at all."))
    with pytest.warns(UserWarning, match="made-up-001.*not the record that was verified"):
        assert set(read_leaderboard(root).entries) == {"made-up-000"}
