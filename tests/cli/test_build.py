"""`rs05bench build` from the outside."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rs05bench.cli import _register, app
from rs05bench.errors import DataError

_register()


def run(*arguments: str):
    return CliRunner().invoke(app, ["build", *arguments], catch_exceptions=False)


def test_list_says_what_each_builder_needs():
    text = run("--list").stdout
    for said in ("california-crops", "mtbs-hls", "needs perimeters, hls (optional)", "main split leave-state-out"):
        assert said in text
    records = json.loads(run("--list", "--json").stdout)
    assert records["himalaya"]["sources"][0]["licence"] == "CC-BY-4.0"  # from the catalogue
    assert records["landcover-small"]["main_split"] == "leave-region-out"


def test_about_is_the_page():
    text = run("cdl-county", "--about").stdout
    for said in ("# cdl-county", "`leave-crop-system-out`", "CDL is a model's product", "--set per_class=100", "Not checked:"):
        assert said in text


@pytest.mark.real
def test_a_build_prints_its_report_and_what_comes_next(real, tmp_path):
    out = tmp_path / "lc"
    text = run("landcover-small", "--root", str(real("aef_landcover")), "--out", str(out)).stdout
    assert "units: 2880" in text
    assert f"rs05bench sweep {out / 'card.yaml'} --data {out}" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which recipe"),
        (("tomato",), "no recipe 'tomato'"),
        (("sen4map",), "where are the source files"),
        (("sen4map", "--root", ".", "--set", "target"), "--set takes OPTION=VALUE"),
        (("sen4map", "--root", ".", "--set", "target=lakes"), "target is one of land-cover, crops"),
    ],
)
def test_what_is_missing_is_said(arguments, said):
    with pytest.raises(DataError, match=said):
        run(*arguments, *(("--root", "/nowhere") if arguments == ("tomato",) else ()))
