"""Standing rises only by what was done, belongs to one bundle, and alone decides about a headline rank."""

from __future__ import annotations

import datetime
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.submission import Round, Standing, archive, check_sealed, ranks, register, reproduce, sign_off, standing_of
from rs05bench.protocol.submission.board import freeze_task
from rs05bench.protocol.submission.limits import LIMITS
from rs05bench.protocol.submission.shelf import _place, add_submission, record_rerun, record_sign_off, standings
from rs05bench.protocol.submission.standing import CLOSEST, WIDEST, compare
from rs05bench.protocol.submission.verdict import Flag
from rs05bench.protocol.submission.verify import judge
from tests.protocol.submission.sameness import files_of
from tests.protocol.submission.spoilers import tarred, zipped
from tests.protocol.submission.world import CLASSES, COVER, unit_table, write_sums

FAMILY = "tiny/cover/leave-region-out"
BY = {"by": "A maintainer", "hardware": "A named machine", "code": "0123abc"}


@pytest.fixture(scope="module")
def judged(world, tmp_path_factory):
    """The verdict on the good bundle, and on a rerun on another machine: one prediction in one cell came out otherwise."""
    rerun = rerun_of(world, tmp_path_factory.mktemp("rerun") / "b")
    found = []
    for path in (world.good, rerun):
        found.append(judge(path, world.board, world.root / "truth", None, LIMITS, tmp_path_factory.mktemp("work")))
    assert [verdict.outcome for verdict in found] == ["accepted", "accepted"]
    return found


def rerun_of(world, folder):
    """A bundle that differs from the good one in one prediction."""
    shutil.copytree(world.good, folder)
    path = folder / "cells/1/units.parquet"
    found = pq.read_table(path)
    p = np.stack([found[f"p_{name}"].to_numpy() for name in CLASSES], axis=1)
    p[0] = np.roll(p[0], 1)
    pq.write_table(unit_table(found["unit_id"].to_pylist(), found["role"].to_pylist(), p), path)
    write_sums(folder)
    return folder


def shifted(verdict, by):
    """The verdict with other scores: `by` seed."""
    other = verdict.model_copy(deep=True)
    for cell in other.cells:
        cell.scores["test_ood"]["macro_f1"] += by(cell.seed)
    return other


def test_a_rescored_submission_has_no_headline_rank(judged):
    standing = standing_of(judged[0])
    assert standing.level == "rescored"
    assert "needs a maintainer's rerun" in (ranks(standing, judged[0], FAMILY) or "")


def test_a_rerun_that_agrees_brings_the_rank(judged, world):
    verdict, rerun = judged
    standing = reproduce(standing_of(verdict), verdict, rerun, world.board, **BY)
    assert standing.level == "reproduced"
    assert ranks(standing, verdict, FAMILY) is None
    assert ranks(standing, verdict, FAMILY, "open") is None


def test_a_rerun_that_differs_changes_nothing_and_says_by_how_much(judged, world):
    verdict, rerun = judged
    worse = rerun.model_copy(deep=True)
    for cell in worse.cells:
        cell.scores["test_ood"]["macro_f1"] -= 0.2
    standing = reproduce(standing_of(verdict), verdict, worse, world.board, **BY)
    assert standing.level == "rescored"
    assert standing.rerun is not None
    assert not standing.rerun.same
    assert all(item.submitted - item.rerun > item.allowed for item in standing.rerun.compared)


def test_equal_seeds_that_differ_all_by_the_same_do_not_agree(judged, world):
    # Nothing spreads, so nothing explains the difference.
    compared = compare(judged[0], shifted(judged[0], lambda seed: 0.004), world.board)
    assert [item.same for item in compared] == [False, False]
    assert compared[0].allowed == CLOSEST
    assert all(item.same for item in compare(judged[0], shifted(judged[0], lambda seed: 0.001), world.board))


def test_what_the_seeds_spread_explains_agrees_up_to_a_bound(judged, world):
    noisy = compare(judged[0], shifted(judged[0], lambda seed: 0.004 + 0.01 * (-1) ** seed), world.board)
    assert all(item.same and CLOSEST < item.allowed <= WIDEST for item in noisy)
    wild = compare(judged[0], shifted(judged[0], lambda seed: 0.03 + 0.5 * (-1) ** seed), world.board)
    assert [(item.same, item.allowed) for item in wild] == [(False, WIDEST)] * 2


def test_other_seeds_are_compared_by_their_spread(judged, world):
    other = judged[0].model_copy(deep=True)
    for cell in other.cells:
        cell.seed += 100
    assert all(item.same and item.allowed > CLOSEST for item in compare(judged[0], other, world.board))


def test_a_flag_has_to_be_explained_before_the_rerun_counts(judged, world):
    verdict, rerun = judged
    flagged = verdict.model_copy(update={"flags": [Flag(key="cost", sentence="A cost is impossible.")]})
    with pytest.raises(ProtocolError, match="cost"):
        reproduce(standing_of(flagged), flagged, rerun, world.board, **BY)
    assert (
        reproduce(standing_of(flagged), flagged, rerun, world.board, reviewed_flags={"cost": "A typing error."}, **BY).level == "reproduced"
    )


def test_the_submission_itself_is_no_rerun(judged, world):
    with pytest.raises(ProtocolError, match="the submission itself"):
        reproduce(standing_of(judged[0]), judged[0], judged[0], world.board, **BY)


def test_only_an_author_signs_off_and_only_what_was_reproduced(judged, world):
    verdict, rerun = judged
    with pytest.raises(ProtocolError, match="only what was reproduced"):
        sign_off(standing_of(verdict), verdict, by="zoe", record="https://example.org/1", statement="Right.")
    standing = reproduce(standing_of(verdict), verdict, rerun, world.board, **BY)
    with pytest.raises(ProtocolError, match="not among the authors"):
        sign_off(standing, verdict, by="mallory", record="https://example.org/1", statement="Right.")
    assert sign_off(standing, verdict, by="zoe", record="https://example.org/1", statement="Right.").level == "verified"


def test_a_standing_does_not_pass_to_another_bundle(judged):
    verdict, rerun = judged
    kept = Standing(slug=verdict.slug, bundle=verdict.bundle, level="verified")
    assert standing_of(verdict, kept) == kept
    assert standing_of(rerun, kept).level == "rescored"
    assert ranks(kept, rerun, FAMILY) == "its standing belongs to another bundle"


def test_closed_weights_do_not_rank_on_the_open_track_and_simulated_results_nowhere(judged):
    closed = judged[0].model_copy(update={"tracks": ["deployment"]})
    kept = Standing(slug=closed.slug, bundle=closed.bundle, level="verified")
    assert ranks(kept, closed, FAMILY) is None
    assert ranks(kept, closed, FAMILY, "open") == "its weights are closed"
    simulated = closed.model_copy(update={"rankable": [], "unranked": {FAMILY: "simulated results never rank"}})
    assert ranks(kept, simulated, FAMILY) == "simulated results never rank"


def test_a_submission_says_of_every_family_why_it_does_not_rank(judged):
    kept = Standing(slug=judged[0].slug, bundle=judged[0].bundle, level="verified")
    assert ranks(kept, judged[0], "tiny/cover/random") == "it holds no result there"
    unscored = judged[0].model_copy(update={"outcome": "complete", "rankable": []})
    assert ranks(kept, unscored, FAMILY) == "it was not scored with the frozen labels"
    refused = judged[0].model_copy(update={"outcome": "refused", "rankable": []})
    assert ranks(kept, refused, FAMILY) == "it was refused"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_is_unpacked_once_and_only_in_the_child(world, bundle, tmp_path, pack, monkeypatch):
    board = shutil.copytree(world.root / "board", tmp_path / "board")
    monkeypatch.setattr(archive, "_unzip", None)
    monkeypatch.setattr(archive, "_untar", None)
    folder, verdict, _ = add_submission(pack(bundle), board, None)
    assert verdict.outcome == "complete"
    assert files_of(folder / "bundle") == files_of(bundle)


def test_files_that_changed_since_they_were_verified_are_not_put_on_the_board(bundle, tmp_path):
    with pytest.raises(DataError, match="changed while they were verified"):
        _place(bundle, tmp_path / "board" / "bundle", "0" * 64)
    assert list((tmp_path / "board").iterdir()) == []


def test_the_shelf_keeps_bundle_verdict_and_standing_and_edits_nothing_in_place(world, tmp_path):
    board = shutil.copytree(world.root / "board", tmp_path / "board")
    folder, verdict, level = add_submission(world.good, board, world.root / "truth")
    assert (folder, level) == (board / "submissions/forest-tiny", "rescored")
    assert (folder / "verdict.html").is_file()
    assert [row["ranks"] for row in standings(board)] == [False]
    rerun = rerun_of(world, tmp_path / "rerun")
    with pytest.raises(DataError, match="another bundle lies there"):
        add_submission(shutil.copytree(world.good, tmp_path / "copy"), board, world.root / "truth")
    assert record_rerun(board, "forest-tiny", rerun, world.root / "truth", **BY).level == "reproduced"
    record_sign_off(board, "forest-tiny", by="Zoë Álvarez", record="https://example.org/1", statement="Right.")
    assert [(row["level"], row["ranks"]) for row in standings(board)] == [("verified", True)]
    assert add_submission(folder / "bundle", board, world.root / "truth")[2] == "verified"
    assert verdict.bundle == Standing.load(folder / "standing.json").bundle


# Sealed rounds -------------------------------------------------------------------------------------------------------------------

DAY = datetime.date(2026, 3, 1)


def a_round(**changes) -> Round:
    fields = {
        "name": "cdl-2026",
        "title": "CDL 2026",
        "tasks": ["tiny"],
        "opens": "2026-02-01",
        "closes": "2026-04-01",
        "labels": "CDL 2026",
    }
    return Round.model_validate(fields | changes)


def test_a_sealed_bundle_is_scored_after_the_labels(judged, tmp_path):
    sealed = register(a_round(), judged[0].slug, judged[0].bundle, DAY)
    assert check_sealed(sealed, judged[0]) == ["the labels of round cdl-2026 do not exist yet"]
    sealed = Round.load(sealed.model_copy(update={"labels_published": datetime.date(2026, 5, 1)}).save(tmp_path / "round.yaml"))
    assert check_sealed(sealed, judged[0]) == []


def test_a_bundle_that_was_changed_after_the_sealing_is_refused(judged):
    sealed = register(a_round(), judged[0].slug, "0" * 64, DAY).model_copy(update={"labels_published": datetime.date(2026, 5, 1)})
    assert "digest" in check_sealed(sealed, judged[0])[0]
    assert "was not registered" in check_sealed(sealed, judged[0].model_copy(update={"slug": "another"}))[0]


@pytest.mark.parametrize("day", [datetime.date(2026, 1, 31), datetime.date(2026, 4, 2)])
def test_nothing_is_sealed_outside_the_round(judged, day):
    with pytest.raises(ProtocolError, match="takes registrations"):
        register(a_round(), judged[0].slug, judged[0].bundle, day)


def test_nothing_is_sealed_once_labels_exist_or_twice(judged):
    with pytest.raises(ProtocolError, match="were published"):
        register(a_round(labels_published="2026-02-15"), judged[0].slug, judged[0].bundle, DAY)
    sealed = register(a_round(), judged[0].slug, judged[0].bundle, DAY)
    with pytest.raises(ProtocolError, match="sealed already"):
        register(sealed, judged[0].slug, judged[0].bundle, DAY)


def test_a_simulated_task_says_so_in_its_name():
    card = TaskCard.parse(COVER | {"name": "cover"})
    with pytest.raises(DataError, match="Name the card cover-simulated"):
        freeze_task(card, {}, {}, ["full"])
