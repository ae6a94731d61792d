"""Standing rises only by what was done, belongs to one submission."""

from __future__ import annotations

import datetime
import shutil

import numpy as np
import pandas as pd
import pytest

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.submission import Ran, Round, Standing, check_sealed, ranks, register, reproduce, sign_off, standing_of
from rs05bench.protocol.submission.board import freeze_task
from rs05bench.protocol.submission.make import pin
from rs05bench.protocol.submission.shelf import add_submission, record_rerun, record_sign_off, standings
from rs05bench.protocol.submission.standing import CLOSEST, WIDEST, compare
from rs05bench.protocol.submission.verdict import Flag
from rs05bench.protocol.submission.verify import verify_submission
from tests.protocol.submission.world import CLASSES, COVER, write_parquet

FAMILY = "tiny/cover/leave-region-out"
BY = Ran(by="A maintainer", hardware="A named machine", code="0123abc")


@pytest.fixture(scope="module")
def judged(world, tmp_path_factory):
    """The verdict on the good submission, and on a rerun on another machine: one prediction in one cell came out otherwise."""
    rerun = rerun_of(world, tmp_path_factory.mktemp("rerun") / "b")
    found = [verify_submission(path, world.root / "board", truth=world.root / "truth") for path in (world.good, rerun)]
    assert [verdict.outcome for verdict in found] == ["accepted", "accepted"]
    return found


def rerun_of(world, folder):
    """A submission that differs from the good one in one prediction."""
    shutil.copytree(world.good, folder)
    frame = pd.read_parquet(folder / "predictions.parquet")
    columns = [f"p_{name}" for name in CLASSES]
    frame.loc[0, columns] = np.roll(frame.loc[0, columns].to_numpy(), 1)
    write_parquet(folder / "predictions.parquet", frame)
    return folder


def shifted(verdict, by):
    """The verdict with other scores: `by` seed."""
    other = verdict.model_copy(deep=True)
    for family in other.families:
        scores = family.by_seed["test_ood"]
        family.by_seed["test_ood"] = [score + by(seed) for seed, score in zip(family.seeds, scores, strict=True)]
    return other


def test_a_rescored_submission_ranks_and_a_rerun_that_agrees_is_a_badge(judged, world):
    verdict, rerun = judged
    standing = standing_of(verdict)
    assert standing.level == "rescored"
    assert ranks(standing, verdict, FAMILY) is None
    assert ranks(standing, verdict, FAMILY, "open") is None
    again = reproduce(standing, verdict, rerun, world.board, BY)
    assert again.level == "reproduced"
    assert (again.rerun.identical, again.rerun.cells) == (len(verdict.cells) - 1, len(verdict.cells))


def test_a_rerun_is_by_somebody_else(judged, world):
    verdict, rerun = judged
    for author in ("zoe", "Zoë Álvarez of forest-tiny"):
        with pytest.raises(ProtocolError, match="is an author"):
            reproduce(standing_of(verdict), verdict, rerun, world.board, BY.model_copy(update={"by": author}))


def test_a_rerun_that_differs_changes_nothing_and_says_by_how_much(judged, world):
    verdict, rerun = judged
    worse = shifted(rerun, lambda seed: -0.2)
    standing = reproduce(standing_of(verdict), verdict, worse, world.board, BY)
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
    for family in other.families:
        family.seeds = [seed + 100 for seed in family.seeds]
    assert all(item.same and item.allowed > CLOSEST for item in compare(judged[0], other, world.board))


def test_a_flag_has_to_be_explained_before_the_rerun_counts(judged, world):
    verdict, rerun = judged
    flagged = verdict.model_copy(update={"flags": [Flag(key="cost", sentence="A cost is impossible.")]})
    with pytest.raises(ProtocolError, match="cost"):
        reproduce(standing_of(flagged), flagged, rerun, world.board, BY)
    assert (
        reproduce(standing_of(flagged), flagged, rerun, world.board, BY, reviewed_flags={"cost": "A typing error."}).level == "reproduced"
    )


def test_the_same_predictions_are_a_rerun_only_where_that_is_to_be_expected(judged, world):
    with pytest.raises(ProtocolError, match="are those of the submission in all"):
        reproduce(standing_of(judged[0]), judged[0], judged[0], world.board, BY)
    same = BY.model_copy(update={"deterministic": True})
    assert reproduce(standing_of(judged[0]), judged[0], judged[0], world.board, same).level == "reproduced"


def test_only_an_author_signs_off_and_only_what_was_reproduced(judged, world):
    verdict, rerun = judged
    with pytest.raises(ProtocolError, match="only what was reproduced"):
        sign_off(standing_of(verdict), verdict, by="zoe", record="https://example.org/1", statement="Right.")
    standing = reproduce(standing_of(verdict), verdict, rerun, world.board, BY)
    with pytest.raises(ProtocolError, match="not among the authors"):
        sign_off(standing, verdict, by="mallory", record="https://example.org/1", statement="Right.")
    assert sign_off(standing, verdict, by="zoe", record="https://example.org/1", statement="Right.").level == "verified"


def test_a_standing_does_not_pass_to_another_submission(judged):
    verdict, rerun = judged
    kept = Standing(slug=verdict.slug, digest=verdict.digest, level="verified")
    assert standing_of(verdict, kept) == kept
    assert standing_of(rerun, kept).level == "rescored"
    assert ranks(kept, rerun, FAMILY) == "its standing belongs to another submission"


def test_closed_weights_do_not_rank_on_the_open_track_and_simulated_results_nowhere(judged):
    submission = judged[0].submission
    model = submission.model.model_copy(update={"open_weights": False})
    closed = judged[0].model_copy(update={"submission": submission.model_copy(update={"model": model})})
    kept = Standing(slug=closed.slug, digest=closed.digest, level="verified")
    assert ranks(kept, closed, FAMILY) is None
    assert ranks(kept, closed, FAMILY, "open") == "its weights are closed"
    simulated = closed.model_copy(update={"rankable": [], "unranked": {FAMILY: "simulated results never rank"}})
    assert ranks(kept, simulated, FAMILY) == "simulated results never rank"


def test_a_submission_says_of_every_family_why_it_does_not_rank(judged):
    kept = Standing(slug=judged[0].slug, digest=judged[0].digest, level="verified")
    assert ranks(kept, judged[0], "tiny/cover/random") == "it holds no result there"
    unscored = judged[0].model_copy(update={"outcome": "complete", "rankable": []})
    assert ranks(kept, unscored, FAMILY) == "it was not scored with the frozen labels"
    refused = judged[0].model_copy(update={"outcome": "refused", "rankable": []})
    assert ranks(kept, refused, FAMILY) == "it was refused"


def test_the_board_keeps_record_verdict_and_standing_and_edits_nothing_in_place(world, tmp_path):
    board = shutil.copytree(world.root / "board", tmp_path / "board")
    good = shutil.copytree(world.good, tmp_path / "good")
    with pytest.raises(DataError, match="pins no predictions"):
        add_submission(good, board, world.root / "truth")
    pin(good, "https://example.org/predictions.parquet")
    folder, verdict, level = add_submission(good, board, world.root / "truth")
    assert (folder, level) == (board / "submissions/forest-tiny", "rescored")
    assert sorted(path.name for path in folder.iterdir()) == ["standing.json", "submission.yaml", "verdict.json"]
    assert [row["ranks"] for row in standings(board)] == [True]
    other = rerun_of(world, tmp_path / "rerun")
    pin(other, "https://example.org/other.parquet")
    with pytest.raises(DataError, match="another submission of this name"):
        add_submission(other, board, world.root / "truth")
    assert record_rerun(board, "forest-tiny", other, world.root / "truth", BY).level == "reproduced"
    record_sign_off(board, "forest-tiny", by="zoe", record="https://example.org/1", statement="Right.")
    assert [(row["level"], row["ranks"]) for row in standings(board)] == [("verified", True)]
    # The same submission again keeps its standing, also where a killed process left half a verdict.
    assert add_submission(good, board, world.root / "truth")[2] == "verified"
    (folder / "verdict.json").write_text((folder / "verdict.json").read_text()[:500])
    assert add_submission(good, board, world.root / "truth")[2] == "verified"
    assert verdict.digest == Standing.load(folder / "standing.json").digest


def test_an_unreadable_verdict_stops_no_other_submission(world, tmp_path):
    board = shutil.copytree(world.root / "board", tmp_path / "board")
    (board / "submissions" / "broken").mkdir(parents=True)
    (board / "submissions" / "broken" / "verdict.json").write_text("{")
    good = shutil.copytree(world.good, tmp_path / "good")
    pin(good, "https://example.org/predictions.parquet")
    _, verdict, level = add_submission(good, board, world.root / "truth")
    assert level == "rescored"
    assert any("broken" in note for note in verdict.notes)


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


def test_a_sealed_submission_is_scored_after_the_labels(judged, tmp_path):
    sealed = register(a_round(), judged[0].slug, judged[0].digest, DAY)
    assert check_sealed(sealed, judged[0]) == ["the labels of round cdl-2026 do not exist yet"]
    sealed = Round.load(sealed.model_copy(update={"labels_published": datetime.date(2026, 5, 1)}).save(tmp_path / "round.yaml"))
    assert check_sealed(sealed, judged[0]) == []


def test_a_submission_that_was_changed_after_the_sealing_is_refused(judged):
    sealed = register(a_round(), judged[0].slug, "0" * 64, DAY).model_copy(update={"labels_published": datetime.date(2026, 5, 1)})
    assert "digest" in check_sealed(sealed, judged[0])[0]
    assert "was not registered" in check_sealed(sealed, judged[0].model_copy(update={"slug": "another"}))[0]


@pytest.mark.parametrize("day", [datetime.date(2026, 1, 31), datetime.date(2026, 4, 2)])
def test_nothing_is_sealed_outside_the_round(judged, day):
    with pytest.raises(ProtocolError, match="takes registrations"):
        register(a_round(), judged[0].slug, judged[0].digest, day)


def test_nothing_is_sealed_once_labels_exist_or_twice(judged):
    with pytest.raises(ProtocolError, match="were published"):
        register(a_round(labels_published="2026-02-15"), judged[0].slug, judged[0].digest, DAY)
    sealed = register(a_round(), judged[0].slug, judged[0].digest, DAY)
    with pytest.raises(ProtocolError, match="sealed already"):
        register(sealed, judged[0].slug, judged[0].digest, DAY)


def test_a_simulated_task_says_so_in_its_name():
    card = TaskCard.parse(COVER | {"name": "cover"})
    with pytest.raises(DataError, match="Name the card cover-simulated"):
        freeze_task(card, {}, {}, ["full"])
