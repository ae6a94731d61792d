"""`rs05bench audit`: exit codes, JSON, maps."""

import json

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from rs05bench.cli.protocol import register
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard, UnitTable, build_manifest

KEYS = {"n_train", "n_test", "shared_ids", "shared_groups", "touching", "within_km", "median_nearest_km", "unlocated", "verdict"}


@pytest.fixture
def call():
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)

    def run(*arguments, code):
        result = CliRunner().invoke(app, ["audit", *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stdout

    return run


@pytest.fixture
def lists(tmp_path):
    pd.DataFrame({"name": ["01", "02"], "y": [50.0, 51.0], "x": [10.0, 11.0], "tile": ["A", "B"]}).to_csv(
        tmp_path / "train.csv", index=False
    )
    pd.DataFrame({"name": ["03", "1"], "y": [50.001, 60.0], "x": [10.0, 11.0], "tile": ["A", "C"]}).to_csv(
        tmp_path / "test.csv", index=False
    )
    return ["--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv", "--id", "name", "--lat", "y", "--lon", "x"]


def test_leaks_exit_1_and_json_has_every_key(call, lists):
    report = json.loads(call(*lists, "--group", "tile", "--json", code=1))
    assert report.keys() >= KEYS
    assert report["shared_groups"] == {"tile": 1}
    assert report["within_km"] == {"1": 1, "10": 1, "30": 1, "100": 1}
    assert (report["n_train"], report["n_test"], report["shared_ids"], report["verdict"]) == (2, 2, 0, "leaks")


def test_clean_exits_0_once_the_threshold_allows_it(call, lists):
    text = call(*lists, "--min-km", "0.05", code=0)
    assert "VERDICT  clean" in text
    assert "leading zeros" in text


def test_time_names_the_first_and_the_last_day_of_a_window(call, lists):
    for file in (lists[1], lists[3]):
        frame = pd.read_csv(file, dtype=str)
        frame.assign(first="2018", last=["2018-12-31", "2019-06-30"]).to_csv(file, index=False)
    windows = next(
        found
        for found in json.loads(call(*lists, "--time", "first", "--time", "last", "--json", code=1))["findings"]
        if found["check"] == "time_windows"
    )
    assert "training 2018-01-01 to 2019-06-30" in windows["sentence"]
    with pytest.raises(DataError, match="--time names 3 columns"):
        call(*lists, *["--time", "first"] * 3, code=2)


def test_worst_cases_are_named(call, lists):
    assert "03 and 01: 111 m apart" in call(*lists, code=1)


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_maps_are_drawn(call, lists, tmp_path, suffix):
    target = tmp_path / f"map.{suffix}"
    call(*lists, "--map", target, code=1)
    if suffix == "png":
        assert target.read_bytes().startswith(b"\x89PNG")
    else:
        page = target.read_text(encoding="utf-8")
        assert "03 and 01: 111 m apart" in page
        assert "http" not in page.replace("http-equiv", "")


def test_ids_are_escaped_in_the_page(call, tmp_path):
    for name in ("a", "b"):
        pd.DataFrame({"id": ["<script>alert(1)</script>"], "lon": [1.0], "lat": [2.0]}).to_csv(tmp_path / f"{name}.csv", index=False)
    call("--train", tmp_path / "a.csv", "--test", tmp_path / "b.csv", "--map", tmp_path / "m.html", code=1)
    assert "<script>" not in (tmp_path / "m.html").read_text()


@pytest.mark.parametrize(
    ("extra", "message"),
    [([], "nothing to audit"), (["--train", "x.csv", "--test", "y.csv"], "no such file"), (["--min-km", "-1"], "--min-km -1")],
)
def test_wrong_calls_are_refused_in_words(call, extra, message):
    with pytest.raises(DataError, match=message):
        call(*extra, code=2)


def test_thresholds_come_from_a_file_and_a_wrong_one_is_named(call, lists, tmp_path):
    (tmp_path / "limits.yaml").write_text("min_km: 0.05\n", encoding="utf-8")
    call(*lists, "--thresholds", tmp_path / "limits.yaml", code=0)
    (tmp_path / "limits.yaml").write_text("touch_m: -1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"limits\.yaml.*touch_m -1"):
        call(*lists, "--thresholds", tmp_path / "limits.yaml", code=2)


def test_a_manifest_is_audited_by_its_file(call, tmp_path):
    frame = pd.DataFrame(
        {"unit_id": [f"u{i:03d}" for i in range(200)], "state": [f"S{i % 4}" for i in range(200)], "year": 2020, "time": "2020-06-01"}
    )
    frame["lon"], frame["lat"] = (frame.index % 4) * 3 + (frame.index // 4 % 7) * 0.2, 40 + (frame.index // 28) * 0.2
    card = TaskCard(
        kind="classification", name="crop", title="t", targets=["y"], classes=["a", "b"], unit=["unit_id"], groups=["state"],
        files=["f.csv"], year="year", coordinates={"x": "lon", "y": "lat", "crs": "EPSG:4326"}, features={"raw": ["B*"]},
        splits=["leave-state-out"], source="s", licence="CC0-1.0", citation="c",
    )  # fmt: skip
    path = build_manifest(card, UnitTable.build(frame, groups=["state"]), "leave-state-out").save(tmp_path)
    report = json.loads(call(path, "--json", "--map", tmp_path / "m.html", code=0))
    assert report.keys() >= KEYS
    assert report["verdict"] == "clean"
    assert "test_ood" in call(path, code=0)
    assert (tmp_path / "m.html").stat().st_size > 1000
