"""Traces of carelessness and deceit are flagged; an honest submission raises no flag."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rs05bench.protocol.submission import plausibility
from rs05bench.protocol.submission.make import pin
from rs05bench.protocol.submission.packed_answers import pack, unpack
from rs05bench.protocol.submission.shelf import add_submission
from tests.protocol.submission.test_verify import edited, recorded
from tests.protocol.submission.world import CLASSES, seed_of, write_submission

P = [f"p_{name}" for name in CLASSES]


def keys(verdict) -> set[str]:
    assert verdict.outcome == "accepted", verdict.faults
    return {flag.key for flag in verdict.flags}


def answered(frame: pd.DataFrame, p: np.ndarray) -> pd.DataFrame:
    return frame.assign(**dict(zip(P, (p / p.sum(axis=1, keepdims=True)).astype(np.float32).T, strict=True)))


def truth(frame: pd.DataFrame) -> np.ndarray:
    return np.array([seed_of(unit) % 3 for unit in frame["unit_id"]])


def sure(frame: pd.DataFrame, code: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Mostly certain of a class, with some noise."""
    p = np.full((len(frame), 3), 0.1) + 0.01 * np.random.default_rng(seed).random((len(frame), 3))
    p[np.arange(len(frame)), code] = 0.8
    return answered(frame, p)


@pytest.fixture
def board(world, tmp_path):
    folder = tmp_path / "board"
    folder.mkdir()
    world.board.save(folder / "tasks.yaml")
    return folder


def add(folder, board, world):
    pin(folder, "https://example.org/predictions.parquet")
    found, verdict, _ = add_submission(folder, board, world.root / "truth")
    assert found is not None, verdict.faults
    return verdict


def test_an_honest_submission_raises_no_flag(world, verify):
    assert keys(verify(world.good)) == set()


def test_test_labels_that_were_copied(sent, verify):
    assert "too-good" in keys(verify(edited(sent, lambda f: sure(f, truth(f)))))


def test_labels_copied_in_one_role_only_are_seen(sent, verify):
    """The held-out units are a part of a cell's rows, and its headline."""

    def change(frame):
        code = np.where(frame["role"] == "test_ood", truth(frame), np.random.default_rng(0).integers(0, 3, len(frame)))
        return sure(frame, code)

    assert "too-good" in keys(verify(edited(sent, change)))


def test_predictions_that_follow_coordinates(world, sent, verify, monkeypatch):
    monkeypatch.setattr(plausibility, "LEAST_PLACES", 30)
    units = pd.read_parquet(world.root / "truth/manifests/tiny/leave-region-out@v1.units.parquet").set_index("unit_id")

    def smooth(frame):
        where = units.loc[frame["unit_id"], ["lon", "lat"]].to_numpy()
        slope = (where[:, 0] // 5 * 0.25 + where[:, 0] % 5 + 0.001 * frame["seed"].to_numpy()).clip(0, 1) * 0.8
        return answered(frame, np.column_stack([slope, 0.9 - slope, np.full(len(frame), 0.1)]))

    assert "coordinates" not in keys(verify(sent))
    assert "coordinates" in keys(verify(edited(sent, smooth)))


def test_answers_that_rest_on_no_label_are_seen_under_noise(sent, verify):
    def same(frame):
        code = np.array([seed_of(unit + "x") % 3 for unit in frame["unit_id"]])
        return sure(frame, code, seed=1)

    assert "unmoved" in keys(verify(edited(sent, same)))


def test_the_answers_of_another_team_are_seen_under_noise(world, board, tmp_path, verify):
    good = write_submission(tmp_path / "good", world.root, world.board)
    add(good, board, world)
    thief = write_submission(tmp_path / "thief", world.root, world.board, slug="other-team")
    assert "identical" not in keys(verify(thief, others=board / "submissions"))
    stolen = pd.read_parquet(good / "predictions.parquet")
    noisy = stolen[P].to_numpy() ** 1.05 + 2e-4 * np.random.default_rng(0).random((len(stolen), 3))
    flags = verify(edited(thief, lambda f: answered(stolen, noisy)), others=board / "submissions").flags
    assert "forest-tiny" in next(flag.sentence for flag in flags if flag.key == "identical")
    turned = stolen.assign(seed=(stolen["seed"] + 2) % 5)
    assert "identical" in keys(verify(edited(thief, lambda f: turned[f.columns]), others=board / "submissions"))


def test_far_above_and_below_the_board(world, board, tmp_path, verify):
    for slug in ("one", "two", "three"):
        folder = write_submission(tmp_path / slug, world.root, world.board, slug=f"team-{slug}")
        if slug == "one":
            recorded(folder, model__tier="floor", model__name="floor/random", model__content=[])
        add(folder, board, world)

    def often(frame):
        rng = np.random.default_rng(3)
        wrong = (truth(frame) + rng.integers(1, 3, len(frame))) % 3
        return sure(frame, np.where(rng.random(len(frame)) < 0.93, truth(frame), wrong))

    best = edited(write_submission(tmp_path / "best", world.root, world.board, slug="team-best"), often)
    assert "far-above" in keys(verify(best, others=board / "submissions"))
    guess = edited(
        write_submission(tmp_path / "guess", world.root, world.board, slug="team-guess"),
        lambda f: sure(f, np.random.default_rng(7).integers(0, 3, len(f))),
    )
    assert "below-floor" in keys(verify(guess))  # no better than a guess, whoever else is on the board
    worst = edited(
        write_submission(tmp_path / "worst", world.root, world.board, slug="team-worst"),
        lambda f: sure(f, (truth(f) + 1 + np.random.default_rng(5).integers(0, 2, len(f))) % 3),
    )
    assert "below-floor" in keys(verify(worst, others=board / "submissions"))


def test_names_of_others_are_refused(world, board, tmp_path, verify):
    add(write_submission(tmp_path / "first", world.root, world.board, slug="team-one"), board, world)
    other = write_submission(tmp_path / "second", world.root, world.board, slug="team-two")
    recorded(other, title="A forest of bands (team-one)")
    assert any("title is that of submission team-one" in fault for fault in verify(other, others=board / "submissions").faults)
    recorded(other, title="Ours", slug="team-one")
    assert any("another team's" in fault for fault in verify(other, others=board / "submissions").faults)
    recorded(other, slug="team-two", model__name="raw/rf-team-one")
    assert any("the model raw/rf-team-one is that of" in fault for fault in verify(other, others=board / "submissions").faults)
    recorded(other, model__name="raw/ours", authors=[{"name": "Zoë  Álvarez of TEAM-ONE", "github": "somebody-else"}])
    assert any("under another account" in fault for fault in verify(other, others=board / "submissions").faults)


def test_inputs_of_its_own_are_shown(sent, verify):
    verdict = verify(recorded(sent, inputs="Clay v1.5 patch embeddings of the same Sentinel-2 scenes, one vector per point"))
    assert keys(verdict) == {"inputs"}


@pytest.mark.parametrize(
    "cost",
    [
        {"fit_s": 0.0},
        {"fit_s": 1e-12},
        {"fit_s": 1e12},
        {"predict_s": 1000.0, "predict_s_per_1000": 1e-5},
        {"peak_memory_mb": 1e-9},
        {"hardware": "Another processor"},
        {"device_hours": 2.0},
        {"gflops_per_unit": 1e6, "predict_s_per_1000": 0.001},
        {"parameters_total": 10, "parameters_trainable": 20},
    ],
)
def test_costs_the_hardware_cannot_have_had(world, sent, verify, cost):
    from tests.protocol.submission.world import record

    costs = record(world.board)["costs"]
    costs[0] |= cost
    assert keys(verify(recorded(sent, costs=costs))) == {"cost"}


def test_packed_answers_come_back():
    values = np.array([0, 5, -3, 2], dtype=np.int16)
    assert unpack(pack(values)).tolist() == values.tolist()
    assert len(plausibility.unpack("no such text")) == 0


def test_what_neighbours_in_space_explain():
    where = np.random.default_rng(0).random((400, 2))
    assert plausibility._explained(where, where[:, 0]) > 0.95
    assert plausibility._explained(where, np.random.default_rng(1).random(400)) < 0.1
