"""Label packs are pinned by a digest; scores from files equal those of the run that made them, and need no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from pyproj import Geod
from typer.testing import CliRunner

from rs05bench.errors import DataError
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.labels import LabelPack, is_open, write_labels, write_masks
from rs05bench.protocol.manifest import SplitManifest, build_manifest
from rs05bench.protocol.map_predictions import MapPredictionWriter
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.rescoring import score
from rs05bench.protocol.units import UnitTable


def make_card(**fields):
    base = {"kind": "classification", "name": "fields", "targets": ["crop"], "classes": ["corn", "soy"], "splits": ["random"]}
    return TaskCard.parse(base | fields)


def test_a_pack_returns_its_labels_and_its_digest_ignores_row_order(tmp_path):
    labels = pd.Series(["corn", None, "soy"], index=["c", "a", "b"])
    one = write_labels(tmp_path / "one", make_card(), {"crop": labels})
    other = write_labels(tmp_path / "other", make_card(), {"crop": labels.iloc[[2, 0, 1]]})
    assert one.series("crop").dropna().to_dict() == {"b": "soy", "c": "corn"}
    assert "a" in one.series("crop").index
    assert one.record["digest"] == other.record["digest"] == LabelPack.load(tmp_path / "one", verify=True).digest


def test_numbers_come_back_to_the_last_bit(tmp_path):
    values = pd.Series([0.1 + 0.2, np.nan, 1e-300], index=["a", "b", "c"])
    pack = write_labels(tmp_path / "pack", make_card(kind="regression", classes=None), {"crop": values})
    pd.testing.assert_series_equal(LabelPack.load(pack.directory).series(), values, check_names=False)


def test_a_changed_label_is_noticed(tmp_path):
    pack = write_labels(tmp_path / "pack", make_card(), {"crop": pd.Series(["corn", "soy"], index=["a", "b"])})
    table = pd.read_parquet(pack.directory / "labels.parquet")
    table.loc[0, "crop"] = "soy"
    table.to_parquet(pack.directory / "labels.parquet")
    with pytest.raises(DataError, match="and labels"):
        LabelPack.load(pack.directory, verify=True)


def test_a_pack_is_never_written_over(tmp_path):
    labels = {"crop": pd.Series(["corn"], index=["a"])}
    write_labels(tmp_path / "pack", make_card(), labels)
    with pytest.raises(DataError, match="holds a label pack already"):
        write_labels(tmp_path / "pack", make_card(), labels)


def chips_card():
    return make_card(kind="segmentation", name="chips", coordinates={"x": "lon", "y": "lat"})


def test_masks_keep_classes_gaps_and_pixel_size(tmp_path):
    mask = np.array([[0, 1, -1], [1, 1, 0]], dtype=np.int16)
    pack = write_masks(tmp_path / "pack", chips_card(), [("chip", mask, Grid("EPSG:32610", 5e5, 4e6, 30, 20, 2, 3))])
    found, pixel = LabelPack.load(pack.directory, verify=True).read("chip")
    np.testing.assert_array_equal(found, mask)
    assert pixel == (30.0, 20.0)
    with pytest.raises(DataError, match="no mask of chip 'other'"):
        pack.read("other")


def test_pixels_in_degrees_are_measured_on_the_ellipsoid(tmp_path):
    step, mask = 1 / 3600, np.zeros((40, 30), dtype=np.int16)
    pack = write_masks(tmp_path / "pack", chips_card(), [("chip", mask, Grid("EPSG:4326", -121.0, 60.0, step, step, 40, 30))])
    _, found = pack.read("chip")
    middle = 60.0 - 20 * step
    geod = Geod(ellps="WGS84")
    east = geod.inv(-121.0, middle, -121.0 + step, middle)[2]
    north = geod.inv(-121.0, middle - step / 2, -121.0, middle + step / 2)[2]
    assert found == pytest.approx((east, north), rel=1e-6)


@pytest.mark.parametrize(
    ("licence", "opened"), [("CC-BY-4.0", True), ("mit", True), ("", False), ("CC BY-NC 4.0", False), ("MIT; labels unknown", False)]
)
def test_only_a_licence_known_to_be_open_lets_labels_be_passed_on(licence, opened):
    assert is_open(licence) is opened


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A small sweep of a simulated table, and the label pack of its data."""
    from rs05bench.datasets.simulated import write_tables

    root = tmp_path_factory.mktemp("swept")
    path = write_tables(root / "data", tasks=["crop"], size="tiny")["crop"]
    summary = sweep(
        GridFile.over(
            path, path.parent, GridChoice(models=["alphaearth/logistic"], splits=["leave-state-out"], budgets=["5-per-class"]), costs=False
        ),
        root / "runs",
        jobs=1,
    )
    assert summary.done
    assert not summary.failed
    from rs05bench.cli import _register, app

    _register()
    arguments = ["labels", "build", str(path), "--data", str(path.parent), "--out", str(root / "labels"), "--json"]
    built = CliRunner().invoke(app, arguments)
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["simulated"]
    return root


def test_scores_from_files_equal_the_stored_result_of_every_cell(swept):
    store, pack = ResultStore(swept / "runs"), LabelPack.load(swept / "labels")
    digests = sorted(store.digests())
    assert digests
    for digest in digests:
        result = store.read(digest)
        manifest = store.manifest(result.cell.task, result.cell.split)
        scored = score(store.folder(digest) / "predictions", manifest, pack)
        assert scored.fold == result.cell.fold
        assert scored.scores == result.scores
        assert scored.per_group == result.per_group
        assert scored.strata == result.strata


def test_the_command_scores_without_torch(swept):
    store = ResultStore(swept / "runs")
    digest = min(store.digests())
    manifest = swept / "runs" / "manifests" / "crop" / "leave-state-out@v1.parquet"
    arguments = [
        "score",
        str(store.folder(digest) / "predictions"),
        "--manifest",
        str(manifest),
        "--labels",
        str(swept / "labels"),
        "--json",
    ]
    code = (
        "import sys\n"
        "for name in ('torch', 'torchgeo', 'sklearn'): sys.modules[name] = None\n"
        f"sys.argv = ['rs05bench', *{arguments!r}]\n"
        "from rs05bench.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["scores"] == store.read(digest).scores
    assert printed["simulated"]


def test_predictions_of_another_manifest_or_task_are_refused(swept):
    store, pack = ResultStore(swept / "runs"), LabelPack.load(swept / "labels")
    digest = min(store.digests())
    folder = store.folder(digest) / "predictions"
    frozen = store.manifest("crop", "leave-state-out")
    other = SplitManifest(frozen.task, frozen.split, frozen.table.iloc[:-1], frozen.units, {}, frozen.version)
    with pytest.raises(DataError, match="were made under the manifest"):
        score(folder, other, pack)
    named = LabelPack(pack.directory, pack.card.model_copy(update={"name": "else"}), pack.record, pack.table)
    with pytest.raises(DataError, match="of the task 'crop'"):
        score(folder, frozen, named)


def test_files_made_by_hand_are_scored(tmp_path):
    frame = pd.DataFrame({"unit_id": [f"u{n}" for n in range(40)], "lon": np.linspace(0, 4, 40), "lat": 0.0})
    card = make_card(coordinates={"x": "lon", "y": "lat"})
    manifest = build_manifest(card, UnitTable.build(frame), "random")
    truth = pd.Series(["corn", "soy"] * 20, index=frame["unit_id"])
    pack = write_labels(tmp_path / "labels", card, {"crop": truth})
    tested = manifest.table.loc[manifest.table["role"].astype(str) == "test_id", "unit_id"].astype(str).to_numpy()
    probabilities = np.stack([truth[tested] == "corn", truth[tested] == "soy"], axis=1).astype(np.float32)
    Predictions.of_classes(tested, "test_id", probabilities, ["corn", "soy"]).write(tmp_path / "predictions")
    scored = score(tmp_path / "predictions", manifest, pack)
    assert scored.scores["test_id"]["macro_f1"] == 1.0
    with pytest.raises(DataError, match=r"predictions\.json is missing"):
        score(tmp_path, manifest, pack)


def test_maps_are_scored_against_masks(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"chip_{n}" for n in range(10)]
    card = chips_card()
    manifest = build_manifest(card, UnitTable.build(pd.DataFrame({"unit_id": ids, "lon": np.arange(10.0), "lat": 0.0})), "random")
    place = Grid("EPSG:32610", 5e5, 4e6, 30, 30, 16, 16)
    masks = {unit: rng.integers(-1, 2, (16, 16)).astype(np.int16) for unit in ids}
    pack = write_masks(tmp_path / "labels", card, ((unit, mask, place) for unit, mask in masks.items()))
    tested = manifest.table.loc[manifest.table["role"].astype(str) == "test_id", "unit_id"].astype(str)
    with MapPredictionWriter(tmp_path / "predictions", ["corn", "soy"]) as writer:
        for unit in tested:
            soy = (masks[unit] == 1).astype(np.float32)
            writer.write(unit, "test_id", np.stack([1 - soy, soy]), place)
    scored = score(tmp_path / "predictions", manifest, pack)
    assert scored.scores["test_id"]["miou"] == 1.0
    table = yaml.safe_load((tmp_path / "labels" / "card.yaml").read_text())
    assert table["name"] == "chips"
