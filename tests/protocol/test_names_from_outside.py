"""No name or digest from outside becomes a path that leads out of its folder, whichever part of the package makes the path."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from rs05bench.datasets.files import RECEIPT, verify_receipt
from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.labels import LabelPack, write_masks
from rs05bench.protocol.result import Cost
from rs05bench.protocol.safe_paths import child, inside, plain_files
from rs05bench.protocol.submission.shelf import record_sign_off
from tests.protocol.test_labels import chips_card
from tests.protocol.test_rasters_by_name import MASK, PLACE

NAMES = ["../victim", "../../victim", "/tmp/victim", "..", ".", "", "a/../../victim", "a\\b", "C:\\victim", "a\0b"]


def labels_of_a_store(root, name):
    ResultStore(root).put_labels(name, pd.DataFrame({"y": [1.0]}, index=pd.Index(["u"], name="unit_id")))


def mask_of_a_pack(root, name):
    pack = write_masks(root / "pack", chips_card(), [("chip", MASK, PLACE)])
    table = pack.table.reset_index().assign(file=name)
    table.to_parquet(pack.directory / "masks.parquet", index=False)
    LabelPack.load(pack.directory)


def receipt_of_a_download(root, name):
    root.mkdir(exist_ok=True)
    (root / RECEIPT).write_text(json.dumps({"files": {name: {"size": 1, "sha256": "0" * 64}}}))
    verify_receipt(root, "x")


CALLERS = {
    "result of a store": lambda root, name: ResultStore(root).read(name),
    "removal from a store": lambda root, name: ResultStore(root).remove(name),
    "labels read": lambda root, name: ResultStore(root).labels(name),
    "labels written": labels_of_a_store,
    "cost": lambda root, name: ResultStore(root).put_cost(name, Cost()),
    "manifest of a store": lambda root, name: ResultStore(root).manifest(name, "leave-state-out"),
    "mask of a label pack": mask_of_a_pack,
    "receipt of a download": receipt_of_a_download,
    "submission on a board": lambda root, name: record_sign_off(root, name, by="x", record="y", statement="z"),
    "one name": child,
    "a relative path": inside,
}


@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out(tmp_path, caller, name):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("precious")
    root = tmp_path / "home"
    root.mkdir()
    with pytest.raises((DataError, ValueError)):
        caller(root, name)
    assert (victim / "thesis.txt").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "home"}
    assert [path.name for path in victim.iterdir()] == ["thesis.txt"]


def test_a_folder_of_plain_files_passes(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "b.npy", np.zeros(1))
    plain_files(tmp_path)
