"""What every recipe can rely on: a folder that appears whole or not at all, refusals that say what to fetch, one record for all texts."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rs05bench.datasets.recipes import Option, Recipe, SourceFiles, all_recipes, build, find_recipe, job
from rs05bench.datasets.recipes.job import run_recipe
from rs05bench.datasets.recipes.recipe_page import page
from rs05bench.errors import DataError
from rs05bench.protocol import SplitManifest, TaskCard, build_manifest
from rs05bench.protocol.splits import Split


def make(job):
    frame = pd.read_csv(job.file("points"))
    frame = job.keep(frame, frame["label"].notna(), "no label", "id")
    if job.options["fail"]:
        (job.out / "half.parquet").write_bytes(b"half")
        raise DataError("broken on purpose", source=job.root)
    job.write_table(frame)
    return TaskCard(
        kind="classification",
        name="toy",
        targets=["label"],
        unit=["id"],
        groups=["region"],
        coordinates={"x": "lon", "y": "lat"},
        files=["units.parquet"],
        features={"raw": ["value"]},
        splits=job.splits,
    )


def make_with_counties(job):
    return make(job).model_copy(update={"groups": ["region", "county"]})


TOY = Recipe(
    name="toy",
    title="Toy",
    task="crop",
    kind="classification",
    summary="A toy.",
    sources=(
        SourceFiles(name="points", patterns=("points*.csv",), format="CSV", title="Points", url="https://example.org/points"),
        SourceFiles(name="extra", patterns=("tiles/*.tif",), format="tiles", title="Tiles", required=False, bulk=True),
    ),
    leaks=("Everything leaks.",),
    splits={"leave-region-out": "two regions", "leave-county-out": "counties", "leave-year-out": "years", "random": "sanity"},
    main_split="leave-region-out",
    function="test_framework.py:make",
    folder=Path(__file__).parent,
    options=(
        Option(name="fail", default=False, help="Fail."),
        Option(name="side", default=3, help="A number."),
        Option(name="how", default="a", help="A way.", choices=("a", "b")),
    ),
)


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    rows = [
        {
            "id": f"p{n:03d}",
            "region": "north" if n % 2 else "south",
            "lon": 10 + n * 0.05,
            "lat": 40 + (n % 7) * 0.1,
            "value": n,
            "label": n % 3,
        }
        for n in range(120)
    ]
    frame = pd.DataFrame(rows)
    frame.loc[5, "label"] = None
    frame.to_csv(folder / "points.csv", index=False)
    return folder


def test_what_was_read_dropped_and_left_out_is_on_record(root, tmp_path):
    built = run_recipe(TOY, root, tmp_path / "out")
    record = json.loads((tmp_path / "out/build.json").read_text())
    assert record["sources"]["points"]["files"][0]["sha256"] == hashlib.sha256((root / "points.csv").read_bytes()).hexdigest()
    assert record["sources"]["extra"]["count"] == 0
    assert built.counts["units"] == 119
    assert built.dropped == [{"reason": "no label", "count": 1, "example": "p005"}]
    assert built.card.splits == ["leave-region-out", "random"]
    assert set(built.splits_left_out) == {"leave-county-out", "leave-year-out"}
    assert "Everything leaks." in built.card.notes
    assert record["card_digest"] == TaskCard.load(tmp_path / "out/card.yaml").digest
    assert "dropped 1: no label" in built.report


def test_the_same_sources_give_the_same_bytes(root, tmp_path):
    for name in ("one", "two"):
        run_recipe(TOY, root, tmp_path / name)
    for file in ("card.yaml", "build.json", "units.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_failed_build_leaves_nothing_and_keeps_the_earlier_one(root, tmp_path):
    with pytest.raises(DataError, match="on purpose"):
        run_recipe(TOY, root, tmp_path / "out", {"fail": True})
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    run_recipe(TOY, root, tmp_path / "out")
    before = (tmp_path / "out/build.json").read_bytes()
    with pytest.raises(DataError, match="on purpose"):
        run_recipe(TOY, root, tmp_path / "out", {"fail": True}, replace=True)
    assert (tmp_path / "out/build.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_an_earlier_build_is_replaced_only_when_asked(root, tmp_path):
    run_recipe(TOY, root, tmp_path / "out")
    with pytest.raises(DataError, match="--replace"):
        run_recipe(TOY, root, tmp_path / "out")
    run_recipe(TOY, root, tmp_path / "out", {"side": 4}, replace=True)
    assert json.loads((tmp_path / "out/build.json").read_text())["options"]["side"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_folder_with_other_things_is_never_touched(root, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(DataError, match="not an earlier build"):
            run_recipe(TOY, root, tmp_path / "mine", replace=replace)
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    with pytest.raises(DataError, match="folder of the sources"):
        run_recipe(TOY, root, root, replace=True)


def test_missing_sources_are_all_named_with_where_to_get_them(root, tmp_path):
    (root / "points.csv").unlink()
    with pytest.raises(DataError, match=r"points\*\.csv.*example\.org/points") as caught:
        run_recipe(TOY, root, tmp_path / "out")
    assert "tiles" not in caught.value.problem  # optional
    with pytest.raises(DataError, match="does not exist"):
        run_recipe(TOY, tmp_path / "nowhere", tmp_path / "out")


def test_two_files_where_one_is_meant(root, tmp_path):
    (root / "points2.csv").write_bytes((root / "points.csv").read_bytes())
    with pytest.raises(DataError, match=r"expected one file of points .* found 2: points.csv, points2.csv"):
        run_recipe(TOY, root, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"colour": "red"}, "no option colour .it has fail, side, how"),
        ({"side": "wide"}, "side takes a whole number, found 'wide'"),
        ({"how": "c"}, "how is one of a, b, found 'c'"),
        ({"fail": "perhaps"}, "fail takes true or false"),
    ],
)
def test_options_are_checked(root, tmp_path, options, said):
    with pytest.raises(DataError, match=said):
        run_recipe(TOY, root, tmp_path / "out", options)


def test_what_comes_from_simulated_files_says_so(root, tmp_path):
    (root / "SIMULATED.json").write_text("{}")
    assert run_recipe(TOY, root, tmp_path / "out").card.simulated


def test_one_region_and_no_blocks_is_no_task(root, tmp_path):
    frame = pd.read_csv(root / "points.csv").assign(region="south")
    frame.to_csv(root / "points.csv", index=False)
    with pytest.raises(DataError, match="no split is possible"):
        run_recipe(TOY, root, tmp_path / "out")


def test_many_units_are_not_drawn_under_every_split(root, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "CHECKED_UNITS", 100)
    frame = pd.read_csv(root / "points.csv")
    frame.assign(county="only").to_csv(root / "points.csv", index=False)
    recipe = TOY.model_copy(update={"function": "test_framework.py:make_with_counties"})
    built = run_recipe(recipe, root, tmp_path / "out")
    assert built.card.splits == ["leave-region-out", "random"]
    assert built.splits_left_out["leave-county-out"] == "one county only"
    assert any("only leave-region-out was drawn" in note for note in built.notes)


def test_what_a_killed_build_left_is_tidied_up(root, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    run_recipe(TOY, root, tmp_path / "out")
    os.rename(tmp_path / "out", tmp_path / f".out.old-{dead.pid}")  # killed between stepping aside and the new one
    (tmp_path / f".out.building-{dead.pid}").mkdir()
    with pytest.raises(DataError, match="on purpose"):
        run_recipe(TOY, root, tmp_path / "out", {"fail": True})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    assert (tmp_path / "out/build.json").is_file()


# Every recipe ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_every_recipe_says_where_its_sources_are_what_leaks_and_what_splits(name):
    recipe = find_recipe(name)
    assert recipe.leaks
    for source in recipe.sources:
        known = source.described()
        assert known.title
        assert known.url.startswith("https://") or (not known.required and not known.url), source.name
        assert known.licence or not known.url, source.name  # a file of the user's own has neither
        assert known.format, source.name
    for split in recipe.splits:
        Split(split.replace("<year>", "2020"))
    assert recipe.main_split != "random"
    text = page(recipe)
    for said in (*recipe.leaks, *recipe.splits, *(source.described().url for source in recipe.sources)):
        assert said in text
    assert json.loads(recipe.model_dump_json())["name"] == name


def test_a_recipe_of_ones_own_is_a_record_and_a_function(root, tmp_path):
    """One YAML and one short function: nothing of the package changes."""
    (tmp_path / "wells.py").write_text(
        "import pandas as pd\n"
        "from rs05bench.protocol import TaskCard\n"
        "def make(job):\n"
        "    job.write_table(pd.read_csv(job.file('points')).dropna())\n"
        "    return TaskCard(kind='classification', name='wells', targets=['label'], unit=['id'], groups=['region'],\n"
        "                    files=['units.parquet'], coordinates={'x': 'lon', 'y': 'lat'}, features={'raw': ['value']},\n"
        "                    splits=job.splits)\n"
    )
    (tmp_path / "wells.yaml").write_text(
        "title: Wells\ntask: urban\nkind: classification\nfunction: wells.py:make\nsummary: Wells.\n"
        "sources:\n  - {name: points, patterns: [points*.csv], format: CSV, title: Points, url: https://example.org}\n  - counties\n"
        "leaks: [Neighbours.]\nsplits: {leave-region-out: two regions}\nmain_split: leave-region-out\n"
    )
    (root / "counties.gpkg").write_bytes(b"unread")
    built = build(tmp_path / "wells.yaml", root, tmp_path / "out")
    assert built.card.name == "wells"
    assert built.counts["units"] == 119
    assert "counties*.shp" not in page(find_recipe(tmp_path / "wells.yaml"))
    assert "counties.{shp,gpkg,geojson,json,parquet}" in page(find_recipe(tmp_path / "wells.yaml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "expected fields with their values, found a list"),
        ("title: [", "line 1"),
        ("sources: counties", "sources is a list"),
        ("sources: [cuonties]", "no shared 'cuonties'"),
        ("title: T\ncolour: red", "colour: Extra inputs"),
    ],
)
def test_a_broken_record_is_refused_with_its_file_and_field(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"mine\.yaml(?s:.*){said}"):
        find_recipe(tmp_path / "mine.yaml")


def test_an_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(DataError, match="landcover-small"):
        find_recipe("landcover")


def test_recipes_are_found_without_the_heavy_libraries():
    code = (
        "import sys; from rs05bench.datasets.recipes import all_recipes; assert all_recipes();"
        "heavy = {'torch', 'geopandas', 'rasterio', 'h5py', 'torchgeo'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_manifests_of_a_built_folder_are_built_by_the_usual_function(root, tmp_path):
    from rs05bench.datasets.embedding_table import EmbeddingTable

    built = run_recipe(TOY, root, tmp_path / "out")
    manifest = build_manifest(built.card, EmbeddingTable(built.card, tmp_path / "out").units(), "leave-region-out")
    assert isinstance(manifest, SplitManifest)
    assert set(manifest.folds) == {"north", "south"}
