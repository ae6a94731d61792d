"""A bundle without a fault is accepted, and its scores are those of the scorer, whatever it says of itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

from rs05bench.protocol.submission import check_bundle, child, verdict_page, verify_bundle
from rs05bench.protocol.submission.limits import Limits
from tests.protocol.submission.world import CLASSES, write_bundle, write_sums


def test_a_bundle_without_a_fault_is_accepted(world, verify):
    verdict = verify(world.good)
    assert verdict.faults == []
    assert verdict.outcome == "accepted"
    assert verdict.rankable == ["tiny/cover/leave-region-out"]
    assert verdict.tracks == ["open", "deployment"]
    assert len(verdict.cells) == 30


def test_scores_are_those_of_scikit_learn_over_the_sent_predictions(world, verify):
    verdict = verify(world.good)
    labels = pd.read_parquet(world.root / "truth/labels/labels.parquet").set_index("unit_id")["cover"]
    for cell in verdict.cells[::7]:
        frame = pd.read_parquet(world.good / cell.path / "units.parquet")
        held = frame[frame["role"] == "test_ood"]
        guess = np.array(CLASSES)[held[[f"p_{name}" for name in CLASSES]].to_numpy().argmax(axis=1)]
        expected = f1_score(labels[held["unit_id"]], guess, average="macro", labels=CLASSES)
        assert cell.scores["test_ood"]["macro_f1"] == pytest.approx(expected, abs=2e-6)


def test_reported_scores_change_nothing_but_a_flag(bundle, verify):
    before = verify(bundle)
    path = bundle / "cells/1/predictions.json"
    record = json.loads(path.read_text()) | {"reported": {"test_ood": {"macro_f1": 0.999}}}
    path.write_text(json.dumps(record))
    write_sums(bundle)
    after = verify(bundle)
    assert after.outcome == "accepted"
    assert [cell.scores for cell in after.cells] == [cell.scores for cell in before.cells]
    assert [flag.key for flag in after.flags] == ["reported"]


def test_without_labels_a_bundle_is_complete_and_not_rescored(world, verify):
    verdict = verify(world.good, truth=False)
    assert (verdict.outcome, verdict.rankable) == ("complete", [])
    assert all(cell.scores == {} for cell in verdict.cells)


@pytest.mark.slow
def test_chips_are_rescored(world, verify):
    verdict = verify(world.good_chips)
    assert verdict.faults == []
    assert verdict.outcome == "accepted"
    assert verdict.rankable == ["tiny-chips/burnt/leave-region-out"]
    assert 0 < verdict.cells[0].scores["test_ood"]["miou"] < 1


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_folder_zip_and_tar_are_the_same_bundle(world, verify, tmp_path, ending, wrapped):
    target = tmp_path / f"b.{ending}"
    if ending == "zip":
        root, base = (world.good.parent, world.good.name) if wrapped else (world.good, ".")
        shutil.make_archive(str(tmp_path / "b"), "zip", root, base)
    else:
        with tarfile.open(target, "w:gz" if ending == "tar.gz" else "w") as archive:
            archive.add(world.good, "my bundle".replace(" ", "-") if wrapped else ".")
    verdict = verify(target, truth=False)
    assert verdict.faults == []
    assert verdict.bundle == verify(world.good, truth=False).bundle


def test_the_child_process_gives_the_same_verdict(world, verify):
    apart = verify_bundle(world.good, world.root / "board", truth=world.root / "truth")
    here = verify(world.good)
    assert apart.outcome == "accepted"
    assert apart.cells == here.cells
    assert apart.notes == here.notes


def test_what_needs_too_much_memory_is_refused_by_the_child(world, bundle):
    rows = 2_000_000
    numbers = pa.array(np.zeros(rows))
    words = pa.array(["x"]).take(pa.array(np.zeros(rows, dtype=np.int64)))
    table = pa.table({"unit_id": words, "role": words} | {f"p_{name}": numbers for name in CLASSES})
    pq.write_table(table, bundle / "cells/1/units.parquet", compression="zstd")
    write_sums(bundle)
    verdict = verify_bundle(bundle, world.root / "board", limits=Limits(memory_bytes=24 << 20))
    assert verdict.outcome == "refused"
    assert "memory" in " ".join(verdict.faults)


def test_what_needs_too_much_time_is_refused_by_the_child(world, monkeypatch):
    # Reading that never ends, in the child's own limits: a machine of any speed needs too long for it.
    reading = "import rs05bench.protocol.submission.verify as verify, itertools; verify.judge = lambda *_, **__: sum(itertools.repeat(0)); "
    monkeypatch.setattr(child, "_START", child._START.replace("from", reading + "from", 1))
    verdict = verify_bundle(world.good, world.root / "board", truth=world.root / "truth", limits=Limits(seconds=1))
    assert (verdict.outcome, verdict.faults) == ("refused", ["reading the bundle needs more than 1 s of processor time"])


def test_a_library_that_breaks_down_is_told_in_plain_words(world, monkeypatch):
    # As a parser written in C++ does that throws where nothing catches: the process is gone, and the parent has to find the words.
    breaking = (
        "import rs05bench.protocol.submission.reading as reading, os; "
        'reading._check_footer = lambda *_: (os.write(2, b"terminate called\\n  what():  histogram size mismatch\\n"), os.abort()); '
    )
    monkeypatch.setattr(child, "_START", child._START.replace("from", breaking + "from", 1))
    verdict = verify_bundle(world.good, world.root / "board")
    assert verdict.outcome == "refused"
    assert verdict.faults == [
        "cells/1/units.parquet: the library that reads it broke down on its content, and nothing more of the bundle was read "
        "(SIGABRT; 'what():  histogram size mismatch')"
    ]
    assert verdict.notes == []


def test_no_spoiled_byte_of_a_table_ends_the_process_or_gets_past_the_reader(world, tmp_path):
    # pyarrow 26 ends the process on a histogram of a wrong length where a column's own metadata are asked for, and reads an index beyond
    # its dictionary without a word.
    code = """
import random, sys
from pathlib import Path
from rs05bench.protocol.submission.faults import HostileError
from rs05bench.protocol.submission.limits import LIMITS
from rs05bench.protocol.submission.reading import read_table
good, spoiled = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
columns = {"unit_id": "text", "role": "text", "p_crop": "number", "p_tree": "number", "p_water": "number"}
refused = 0
for at in range(0, len(good), 2):
    spoiled.write_bytes(good[:at] + bytes([good[at] ^ (1 << random.Random(at).randrange(8))]) + good[at + 1 :])
    try:
        read_table(spoiled, columns, LIMITS, "units.parquet")
    except HostileError:
        refused += 1
print(refused)
"""
    run = [sys.executable, "-c", code, str(world.good / "cells/1/units.parquet"), str(tmp_path / "spoiled.parquet")]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 100


def test_check_tells_every_fault_at_once(world, bundle):
    shutil.rmtree(bundle / "cells/7")
    (bundle / "cells/4/units.parquet").unlink()
    record = json.loads((bundle / "submission.json").read_text())
    record["authors"], record["code"] = [], "javascript:alert(1)"
    (bundle / "submission.json").write_text(json.dumps(record))
    costs = json.loads((bundle / "costs.json").read_text())
    costs["costs"][0]["fit_s"] = -1
    (bundle / "costs.json").write_text(json.dumps(costs))
    told = "\n".join(check_bundle(bundle, world.root / "board", isolated=False).faults)
    for piece in ("cells/4: units.parquet is missing", "authors", "code", "fit_s", "has 4 seeds", "is in SHA256SUMS, and missing"):
        assert piece in told


def test_the_page_runs_nothing_a_stranger_wrote(bundle, verify):
    record = json.loads((bundle / "submission.json").read_text())
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    record["title"] = record["overlap"] = record["notes"] = record["licence"] = hostile
    record["authors"][0]["name"] = hostile
    (bundle / "submission.json").write_text(json.dumps(record))
    write_sums(bundle)
    verdict = verify(bundle)
    page = verdict_page(verdict)
    assert verdict.outcome == "accepted"
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page


def test_the_page_of_a_refusal_lists_the_faults(bundle, verify):
    (bundle / "SHA256SUMS").unlink()
    page = verdict_page(verify(bundle))
    assert "Refused" in page
    assert "SHA256SUMS is missing" in page


def test_labels_other_than_the_frozen_ones_score_nothing(world, verify, tmp_path):
    truth = shutil.copytree(world.root / "truth", tmp_path / "truth")
    frame = pd.read_parquet(truth / "labels/labels.parquet")
    frame.loc[0, "cover"] = CLASSES[(CLASSES.index(frame.loc[0, "cover"]) + 1) % 3]
    frame.to_parquet(truth / "labels/labels.parquet", index=False)
    verdict = verify_bundle(world.good, world.root / "board", truth=truth, isolated=False)
    assert verdict.outcome == "complete"
    assert "frozen digest" in verdict.notes[0]


def test_protocol_submission_imports_fast_and_needs_no_gpu_stack():
    code = "import rs05bench.protocol.submission, sys; print({'torch', 'rasterio', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_a_second_bundle_differs_by_its_digest(world, tmp_path, verify):
    other = write_bundle(tmp_path / "other", world.root, world.board, slug="other-forest")
    assert verify(other, truth=False).bundle != verify(world.good, truth=False).bundle
