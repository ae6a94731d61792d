"""A submission without a fault is scored again; every fault of another is named; nothing hostile is followed."""

from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import f1_score

from rs05bench.errors import DataError
from rs05bench.protocol.submission.limits import Limits
from rs05bench.protocol.submission.verify import check_submission, verify_submission
from tests.protocol.submission.world import CLASSES, seed_of, write_parquet, write_submission


def edited(folder, change):
    """Rewrites predictions.parquet by a function of its frame."""
    path = folder / "predictions.parquet"
    write_parquet(path, change(pd.read_parquet(path)))
    return folder


def recorded(folder, **fields):
    """Rewrites fields of submission.yaml; a dotted name reaches inside."""
    path = folder / "submission.yaml"
    record = yaml.safe_load(path.read_text())
    for name, value in fields.items():
        *inside, last = name.split("__")
        place = record
        for part in inside:
            place = place[part]
        place[last] = value
    path.write_text(yaml.safe_dump(record))
    return folder


def test_scores_are_those_of_scikit_learn(world, verify):
    verdict = verify(world.good)
    assert verdict.outcome == "accepted", verdict.faults
    assert verdict.flags == []
    assert verdict.rankable == ["tiny/cover/leave-region-out"]
    frame = pd.read_parquet(world.good / "predictions.parquet")
    for cell in verdict.cells[:4]:
        rows = frame[(frame["fold"] == cell.fold) & (frame["budget"] == cell.budget) & (frame["seed"] == cell.seed)]
        rows = rows[rows["role"] == "test_ood"]
        truth = [seed_of(unit) % 3 for unit in rows["unit_id"]]
        guess = rows[[f"p_{name}" for name in CLASSES]].to_numpy().argmax(1)
        assert cell.scores["test_ood"]["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"), abs=1e-5)
        family = next(family for family in verdict.families if family.budget == cell.budget)
        held = family.groups["test_ood"]
        kept = held.scores[held.groups.index(cell.fold)][family.seeds.index(cell.seed)]  # every fold holds out one region
        assert kept == pytest.approx(f1_score(truth, guess, average="macro"), abs=1e-4)
    assert {cell.labels_used for cell in verdict.cells if cell.budget == "2-per-class"} == {6}


def test_maps_are_scored(world, verify):
    verdict = verify(world.good_maps)
    assert verdict.outcome == "accepted", verdict.faults
    assert 0 < verdict.cells[0].scores["test_ood"]["miou"] < 1


def test_without_labels_a_submission_is_complete_and_not_scored(world):
    verdict = check_submission(world.good, world.root / "board")
    assert verdict.outcome == "complete"
    assert not any(cell.scores for cell in verdict.cells)


def test_the_digest_is_of_answers_and_claims_and_not_of_the_address(sent, verify):
    first = verify(sent, truth=False).digest
    sha = hashlib.sha256((sent / "predictions.parquet").read_bytes()).hexdigest()
    recorded(sent, predictions={"address": "https://example.org/predictions.parquet", "sha256": sha})
    assert verify(sent, truth=False).digest == first
    assert verify(recorded(sent, notes="Other words."), truth=False).digest != first


FAULTS = {
    "a fold": (lambda f: f[f["fold"] != f["fold"].iloc[0]], "lacks fold"),
    "a seed": (lambda f: f[f["seed"] != 3], "lacks seed 3"),
    "other seeds": (lambda f: f.assign(seed=f["seed"] + 7), "lacks seed 0, 1, 2, 3, 4"),
    "a budget": (lambda f: f[f["budget"] != "2-per-class"], "budget 2-per-class is missing"),
    "a unit": (lambda f: f.drop(index=f.index[5]), "test units"),
    "a unit twice": (lambda f: pd.concat([f, f.iloc[[5]]]), "occurs twice in one role"),
    "a foreign unit": (lambda f: f.assign(unit_id=f["unit_id"].where(f.index != 5, "nobody")), "not the same ones"),
    "another role": (lambda f: f.assign(role=f["role"].where(f.index != 5, "train")), "role 'train' is not asked for"),
    "a role swapped": (lambda f: f.assign(role=f["role"].map({"test_id": "test_ood", "test_ood": "test_id"})), "not the same ones"),
    "another task": (lambda f: f.assign(task="huge"), "task 'huge' is not on the board"),
    "another split": (lambda f: f.assign(split="random"), "split 'random' does not count"),
    "another fold": (lambda f: f.assign(fold="../../x"), "does not exist"),
    "another budget": (lambda f: f.assign(budget="9-per-class"), "budget '9-per-class' does not count"),
    "a class lacking": (lambda f: f.drop(columns="p_crop"), "p_crop"),
    "no number": (lambda f: f.assign(p_crop=f["p_crop"].where(f.index != 5, np.nan)), "missing or not finite"),
    "infinite": (lambda f: f.assign(p_crop=f["p_crop"].where(f.index != 5, np.inf)), "missing or not finite"),
    "percent": (lambda f: f.assign(**{f"p_{c}": f[f"p_{c}"] * 100 for c in CLASSES}), "divide by 100"),
    "bytes": (lambda f: f.assign(**{f"p_{c}": f[f"p_{c}"] * 255 for c in CLASSES}), "divide by 255"),
    "no sum": (lambda f: f.assign(p_crop=f["p_crop"] * 0.5), "sum to 1"),
    "negative": (lambda f: f.assign(p_crop=-f["p_crop"]), "from 0 to 1"),
    "a column too many": (lambda f: f.assign(truth=1.0), "should not be there"),
    "values too": (lambda f: f.assign(y=1.0), "has none of that name"),
    "text for numbers": (lambda f: f.assign(p_crop=f["p_crop"].astype(str)), "expected floating-point"),
    "seeds as numbers with points": (lambda f: f.assign(seed=f["seed"].astype(float)), "expected whole numbers"),
    "seeds below zero": (lambda f: f.assign(seed=f["seed"] - 9), "greater than or equal to 0"),
    "ids as numbers": (lambda f: f.assign(unit_id=range(len(f))), "expected text"),
    "a long id": (lambda f: f.assign(unit_id=f["unit_id"].where(f.index != 5, "x" * 500)), "longer than 200"),
    "nothing": (lambda f: f.iloc[:0], "holds no row"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_faulty_table_is_refused_and_the_fault_named(sent, verify, case):
    change, words = FAULTS[case]
    verdict = verify(edited(sent, change))
    assert verdict.outcome == "refused"
    assert any(words in fault for fault in verdict.faults), verdict.faults
    assert verdict.rankable == []


RECORDS = {
    "an unknown field": ({"colour": "red"}, "colour"),
    "a number in quotes": ({"costs": [{"task": "tiny", "fit_s": "0.2"}]}, "costs.0"),
    "a false statement": ({"statement__may_publish": False}, "statement.may_publish"),
    "1 for true": ({"statement__may_publish": 1}, "statement.may_publish"),
    "the template": ({"title": "<one line for people>"}, "still holds what the template asks for"),
    "an invisible letter": ({"title": "A\u200bforest"}, "U+200B"),
    "a title of two lines": ({"title": "A forest\n\nof bands"}, "one line"),
    "a title of Hangul fillers": ({"title": "\u3164\u3164"}, "shows nothing"),
    "an author of Braille blanks": ({"authors": [{"name": "\u2800"}]}, "shows nothing"),
    "letters that look alike": ({"title": "\u0430lphaearth by us"}, "Cyrillic and Latin"),
    "a day before the board": ({"submitted": "0001-01-01"}, "before there was a board"),
    "an embedding that nothing pretrained": ({"model__tier": "embedding", "model__content": ["embedding"]}, "pretrained must be true"),
    "an embedding as a floor": ({"model__tier": "floor", "model__content": ["embedding"]}, "no such inputs"),
    "an encoder of no kind": ({"model__tier": "frozen"}, "either model.pretrained or model.random_twin"),
    "inputs of no kind": ({"model__content": []}, "must say what the inputs are"),
    "more fitted than there are": ({"model__parameters_total": 5, "model__parameters_trainable": 6}, "more than model.parameters_total"),
    "an address without a host": ({"weights": "https://a"}, "https://"),
    "variation selectors": ({"title": "Trees\ufe0f"}, "variation selectors"),
    "piled marks": ({"title": "a\u0316\u0317\u0318"}, "piled marks"),
    "no round of the board": ({"round": "no-such-round"}, "the board has no round"),
    "a future day": ({"submitted": "2999-01-01"}, "has not come"),
    "another scheme": ({"code": "javascript:alert(1)"}, "https://"),
    "a password in an address": ({"code": "https://me:secret@example.org/x"}, "https://"),
    "a path for a name": ({"slug": "../../etc"}, "slug"),
    "an Arabic digit": ({"authors": [{"name": "Z", "orcid": "0000-0000-0000-000\u0663"}]}, "orcid"),
    "another manifest": ({"manifests": {"tiny/leave-region-out@v1": "0" * 64}}, "the digest of manifest"),
    "another card": ({"cards": {"tiny": "0" * 64}}, "the digest of card"),
    "no cost": ({"costs": []}, "costs"),
    "pretraining and not pretrained": ({"model__pretraining": ["ImageNet"]}, "pretrained must be true"),
    "another pin": ({"predictions": {"address": "https://example.org/p", "sha256": "0" * 64}}, "pins 000000000000"),
    "a branch for a commit": ({"predictions": {"address": "hf://datasets/a/b", "sha256": "0" * 64}}, "needs `revision`"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_faulty_record_is_refused_and_the_field_named(sent, verify, case):
    fields, words = RECORDS[case]
    verdict = verify(recorded(sent, **fields))
    assert verdict.outcome == "refused"
    assert any(words in fault for fault in verdict.faults), verdict.faults
    assert not any("function-" in fault for fault in verdict.faults)


BROKEN = {
    "no YAML": b"title: [",
    "a list": b"- a\n- b\n",
    "aliases of aliases": b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [*%c, *%c]\n" % (99 + i, 99 + i, 97 if i == 0 else 98 + i, 97 if i == 0 else 98 + i) for i in range(20)),
    "deep": b"a: " + b"[" * 5000,
    "not UTF-8": b"\xff\xfe\x00",
    "python": b"!!python/object/apply:os.system [true]",
    "too large": b"# " + b"x" * (2 << 20),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_record_that_cannot_be_read_is_refused(sent, verify, case):
    (sent / "submission.yaml").write_bytes(BROKEN[case])
    assert verify(sent).outcome == "refused"


def _linked(folder):
    (folder / "predictions.parquet").rename(folder.parent / "real.parquet")
    (folder / "predictions.parquet").symlink_to(folder.parent / "real.parquet")


def _piped(folder):
    (folder / "predictions.parquet").unlink()
    os.mkfifo(folder / "predictions.parquet")


HOSTILE = {
    "a link for the table": (_linked, "is a link"),
    "a pipe for the table": (_piped, "not a regular file"),
    "a link to a folder": (lambda f: (f / "maps").symlink_to("/etc"), "is a link"),
    "a further file": (lambda f: (f / "evil.pth").write_text("import os"), "holds no such file"),
    "a hidden folder": (lambda f: (f / ".git").mkdir(), "holds no such folder"),
    "a map nobody names": (lambda f: ((f / "maps").mkdir(), (f / "maps" / "x.tif").write_bytes(b"II*\0")), "no row of"),
    "no Parquet": (lambda f: (f / "predictions.parquet").write_bytes(b"PK\x03\x04" * 100), "not a Parquet file"),
    "half a Parquet": (
        lambda f: (f / "predictions.parquet").write_bytes((f / "predictions.parquet").read_bytes()[:-200]),
        "predictions.parquet",
    ),
    "no table": (lambda f: (f / "predictions.parquet").unlink(), "predictions.parquet is missing"),
    "no record": (lambda f: (f / "submission.yaml").unlink(), "submission.yaml is missing"),
    "nested": (
        lambda f: pq.write_table(pa.table({"task": [["a"]], "unit_id": [{"a": 1}]}), f / "predictions.parquet"),
        "predictions.parquet",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_hostile_is_refused(sent, verify, case):
    spoil, words = HOSTILE[case]
    spoil(sent)
    verdict = verify(sent)
    assert verdict.outcome == "refused"
    assert any(words in fault for fault in verdict.faults), verdict.faults


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(rows=10), "at most 10 are allowed"),
        (Limits(table_bytes=100), "has more than 100 bytes"),
        (Limits(parquet_bytes=1000), "unpacks to"),
        (Limits(bytes=100), "together"),
        (Limits(files=1), "more than 1 files"),
    ],
)
def test_limits_hold(sent, verify, limits, words):
    verdict = verify(sent, limits=limits)
    assert verdict.outcome == "refused"
    assert any(words in fault for fault in verdict.faults), verdict.faults


def test_other_writers_of_parquet_are_read(sent, verify):
    """Version 2 pages with delta encodings, half precision, and dictionaries."""
    path = sent / "predictions.parquet"
    table = pq.read_table(path)
    before = verify(sent).cells[0].scores
    encodings = dict.fromkeys(("task", "split", "fold", "budget", "unit_id", "role"), "DELTA_BYTE_ARRAY")
    pq.write_table(table, path, data_page_version="2.0", use_dictionary=False, column_encoding=encodings)
    assert verify(sent).cells[0].scores == before
    narrow = pd.read_parquet(path).astype({f"p_{name}": np.float16 for name in CLASSES})
    write_parquet(path, narrow)
    verdict = verify(sent)
    assert verdict.outcome == "accepted", verdict.faults
    assert verdict.cells[0].scores["test_ood"]["macro_f1"] == pytest.approx(before["test_ood"]["macro_f1"], abs=0.03)


def test_a_fault_of_ours_is_not_a_fault_of_theirs(world, sent, tmp_path):
    truth = shutil.copytree(world.root / "truth", tmp_path / "truth")
    (truth / "labels" / "labels.parquet").write_bytes(b"broken")
    try:
        verdict = verify_submission(sent, world.root / "board", truth=truth)
    except (DataError, OSError, ValueError):
        return
    assert verdict.outcome == "complete", verdict.faults


def test_several_tasks_in_one_table(world, tmp_path, verify):
    """A submission may be of several tasks: columns of the others are empty."""
    both = write_submission(tmp_path / "both", world.root, world.board)
    maps = write_submission(tmp_path / "maps-only", world.root, world.board, "tiny-chips")
    shutil.copytree(maps / "maps", both / "maps")
    write_parquet(
        both / "predictions.parquet",
        pd.concat([pd.read_parquet(both / "predictions.parquet"), pd.read_parquet(maps / "predictions.parquet")]),
    )
    one, other = (yaml.safe_load((folder / "submission.yaml").read_text()) for folder in (both, maps))
    recorded(
        both, costs=one["costs"] + other["costs"], manifests=one["manifests"] | other["manifests"], cards=one["cards"] | other["cards"]
    )
    verdict = verify(both)
    assert verdict.outcome == "accepted", verdict.faults
    assert len(verdict.rankable) == 2


@pytest.mark.slow
def test_the_map_is_of_its_chip(maps, verify):
    from rasterio.transform import from_origin

    from tests.protocol.submission.world import write_tif

    first = pd.read_parquet(maps / "predictions.parquet")["map"].iloc[0]
    (maps / first).unlink()
    write_tif(maps / first, np.zeros((16, 16), np.float32), transform=from_origin(6e5, 5e6, 30, 30))
    verdict = verify(maps)
    assert verdict.outcome == "refused"
    assert any("do not lie where their masks do" in fault for fault in verdict.faults)
