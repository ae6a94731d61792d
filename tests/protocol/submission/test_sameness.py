"""The study's judge of acceptances tells a harmless change from a wrong acceptance, so that its zero means something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from affine import Affine
from rasterio.io import MemoryFile

from tests.protocol.submission.sameness import PLACE, PREDICTIONS, SAME, TEXT, WRONG, _chips, files_of, sameness
from tests.protocol.submission.spoilers import table, tarred, zipped
from tests.protocol.submission.world import CLASSES, write_sums


@pytest.fixture
def tell(world, bundle, verify):
    """What is said of the spoiled bundle, or of an archive of it, where `spoil` changed it and `good` is what it was."""
    good = files_of(bundle)
    labels = pd.read_parquet(world.root / "truth/labels/labels.parquet").set_index("unit_id")["cover"]

    def run(path: Path = bundle, *, anew: bool = True, shift: float = 0.0) -> str:
        verdict = verify(path)
        assert verdict.outcome == "accepted", verdict.faults
        verdict.cells[4].scores["test_ood"]["macro_f1"] += shift
        return sameness(path, good, verdict, labels, anew=anew)[0]

    return run


def edit(bundle: Path, name: str, change) -> None:
    record = json.loads((bundle / name).read_text())
    change(record)
    (bundle / name).write_text(json.dumps(record, indent=3))
    write_sums(bundle)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_of_the_same_files_is_the_same(bundle, tell, pack):
    assert tell(pack(bundle), anew=False) == SAME


def test_spaces_in_json_and_another_order_of_rows_are_the_same(bundle, tell):
    edit(bundle, "costs.json", lambda record: None)
    table(bundle, lambda found: found.take(list(reversed(range(found.num_rows)))))
    assert tell() == SAME


def test_another_title_is_text_and_another_probability_is_another_prediction(bundle, tell):
    edit(bundle, "submission.json", lambda record: record.update(title="Another"))
    assert tell() == TEXT
    path = bundle / "cells/1/units.parquet"
    found = pq.read_table(path)
    turned = [f"p_{name}" for name in (*CLASSES[1:], CLASSES[0])]
    swapped = found.rename_columns(["unit_id", "role", *turned]).select(found.column_names)
    pq.write_table(swapped, path)
    write_sums(bundle)
    assert tell() == PREDICTIONS


def test_what_was_changed_under_old_digests_is_a_wrong_acceptance(bundle, tell):
    edit(bundle, "submission.json", lambda record: record.update(title="Another"))
    assert tell(anew=False) == WRONG


def test_a_score_that_is_not_that_of_the_bytes_is_a_wrong_acceptance(tell):
    assert tell(shift=0.001) == WRONG


@pytest.mark.parametrize(("off", "said"), [(0.0, SAME), (0.05, SAME), (0.2, PLACE)])
def test_a_map_may_lie_a_tenth_of_a_pixel_off_as_the_format_says(off, said):
    def chip(x: float) -> bytes:
        profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32610"}
        with MemoryFile() as memory:
            with memory.open(**profile, transform=Affine(30, 0, x, 0, -30, 4e6)) as file:
                file.write(np.ones((8, 8), np.uint8), 1)
            return memory.read()

    assert _chips(chip(5e5), chip(5e5 + 30 * off), scored=False)[0] == said
