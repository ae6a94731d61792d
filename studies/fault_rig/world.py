"""A small world: plots on one embedding tile, results over them, a board with a submission, a label pack, predictions, a Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import geopandas as gpd
import numpy as np
import pandas as pd
import yaml
from pyproj import Transformer
from shapely.geometry import Polygon, box

from rs05bench.embeddings.vectors import decode, encode
from studies.fault_rig.launcher import Launcher
from tests.embeddings.tiles import write_tile
from tests.hub.server import serve

SIDE, WEST, NORTH = 200, 500_000.0, 4_100_000.0
CLASSES = ["corn", "rice", "wheat"]
TASK = "plots-simulated"
CARD = {
    "kind": "classification",
    "name": TASK,
    "targets": ["crop"],
    "classes": CLASSES,
    "unit": ["plot"],
    "groups": ["state"],
    "year": "year",
    "coordinates": {"x": "lon", "y": "lat"},
    "files": ["plots.csv"],
    "features": {"alphaearth": ["A??"], "raw": ["B?"]},
    "splits": ["leave-state-out"],
    "split_options": {"block_size_m": 300, "buffer_m": 20},
    "budgets": ["20-units", "50-units"],
    "licence": "CC0-1.0",
    "citation": "none",
    "overlap": "none",
    "simulated": True,
}
COUNTIES = [f"{state:02d}{county:03d}" for state in (1, 2) for county in range(1, 41)]


@dataclass(frozen=True)
class World:
    """Where everything is.

    Attributes:
        root: Folder.
        hub: Address of a Hub that holds a repository `a/b`.
        mirror: Address that serves `root/mirror`.
    """

    root: Path
    hub: str
    mirror: str

    def __truediv__(self, name: str) -> str:
        return str(self.root / name)


@contextmanager
def make_world(root: Path, launcher: Launcher) -> Iterator[World]:
    """Writes it, and serves a Hub and a mirror meanwhile."""
    hub, hub_server = serve()
    root.mkdir(parents=True, exist_ok=True)
    handler = partial(_Quiet, directory=str(root / "mirror"))
    mirror = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=mirror.serve_forever, daemon=True).start()
    world = World(root, hub.url, f"http://127.0.0.1:{mirror.server_address[1]}/")
    try:
        _write_files(root)
        _run_commands(world, launcher)
        yield world
    finally:
        hub_server.shutdown()
        mirror.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def _write_files(root: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, SIDE, SIDE))
    x[0] += 3 * (np.arange(SIDE) // 20 % 3)
    values = encode(x / np.linalg.norm(x, axis=0))
    write_tile(root / "tiles/2023/10N/a.tiff", values, west=WEST, north=NORTH)
    rows, columns = rng.integers(2, SIDE - 2, 240), rng.integers(2, SIDE - 2, 240)
    to_degrees = Transformer.from_crs("EPSG:32610", "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(WEST + 10 * (columns + 0.5), NORTH - 10 * (rows + 0.5))
    table = pd.DataFrame({"plot": [f"p{number:03d}" for number in range(240)], "year": 2023, "lon": lon, "lat": lat})
    table["state"] = np.array(["ia", "il", "mn", "wi"])[(rows > SIDE // 2) * 2 + (columns > SIDE // 2)]
    table["crop"] = np.array(CLASSES)[columns // 20 % 3]
    table[["B1", "B2"]] = rng.normal(size=(240, 2)).round(4)
    table[["plot", "year", "lon", "lat", "state", "crop"]].to_csv(root / "bare.csv", index=False)
    embedding = pd.DataFrame(decode(values)[:, rows, columns].T, columns=[f"A{band:02d}" for band in range(64)])
    pd.concat([table, embedding], axis=1).to_csv(root / "plots.csv", index=False)
    (root / "card.yaml").write_text(yaml.safe_dump(CARD, sort_keys=False))
    task = {"card": "card.yaml", "data": ".", "splits": ["leave-state-out"], "budgets": ["20-units"]}
    grid = {"kind": "grid", "name": "plots", "tasks": [task], "models": ["floor/majority"], "seeds": "0"}
    (root / "grid.yaml").write_text(yaml.safe_dump(grid))
    (root / "mirror").mkdir()
    (root / "mirror/spatiotemporal_splits.json").write_text(json.dumps({"train": [], "test": []}))
    _write_counties(root / "counties", rng)


def _write_counties(folder: Path, rng: np.random.Generator) -> None:
    """The source files of `build urban-signals`."""
    folder.mkdir()
    vectors = rng.standard_normal((160, 64))
    table = pd.DataFrame(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), columns=[f"A{band:02d}" for band in range(64)])
    table.insert(0, "year", np.repeat([2017, 2018], 80))
    table.insert(0, "GEOID", COUNTIES * 2)
    table.to_parquet(folder / "embeddings.parquet", index=False)
    named = pd.DataFrame({"GEOID": COUNTIES, "State": ["AL"] * 40 + ["AK"] * 40, "MedHHInc": rng.uniform(4e4, 6e4, 80)})
    named = named.assign(PovertyAllAgesPct=rng.uniform(9, 15, 80), UnempRate2018=rng.uniform(3, 6, 80))
    named.assign(RuralUrbanContinuumCode2013=4.0, PopDensity=rng.uniform(50, 150, 80)).to_csv(folder / "indicators.csv", index=False)
    crime = {"violent_crime_per_100k": rng.uniform(0, 500, 80), "property_crime_per_100k": rng.uniform(0, 900, 80)}
    pd.DataFrame({"GEOID": COUNTIES, **crime, "transit_score": None}).to_csv(folder / "urban_signals.csv", index=False)
    (folder / "crime_data.csv").write_text("county;geog_id;COUNTY POPULATION-AGENCIES REPORT CRIMES\nA;1001;30000\n")
    outlines = [_outline(*divmod(number, 40)) for number in range(80)]
    gpd.GeoDataFrame({"id": COUNTIES}, geometry=outlines, crs=4326).to_file(folder / "counties.geojson", driver="GeoJSON")


def _outline(state: int, county: int) -> Polygon:
    west, south = -90 + 0.5 * (county % 8), 35 + 3 * state + 0.5 * (county // 8)
    return box(west, south, west + 0.5, south + 0.5)


def _run_commands(world: World, launcher: Launcher) -> None:
    data, board = ["--data", str(world.root)], ["--board", world / "board"]
    sweep = ["sweep", world / "card.yaml", *data, "--out", world / "runs", "--seeds", "0-4", "--jobs", "1", "--quiet"]
    cell = ["--split", "leave-state-out", "--budget", "20-units", "--out", world / "cell"]
    frozen = ["--task", TASK, "--splits", "leave-state-out", "--budgets", "20-units,50-units", "--card-file", "card.yaml", *board]
    (world.root / "board").mkdir()
    steps = [
        [*sweep, "--models", "floor/majority", "--budgets", "20-units,50-units"],
        ["fit-predict", world / "card.yaml", *data, "--model", "raw/logistic", *cell],
        ["manifest", "build", world / "card.yaml", *data, "--out", world / "manifests"],
        ["labels", "build", world / "card.yaml", *data, "--out", world / "labels"],
        ["leaderboard", "freeze", world / "runs", *frozen],
        ["submit", "card", world / "runs", "--model", "floor/majority", "--out", world / "fields.yaml"],
    ]
    for step in steps:
        _must(launcher, step)
    fields = yaml.safe_load((world.root / "fields.yaml").read_text())
    fields |= {"slug": "majority", "title": "Majority", "authors": [{"name": "A Team"}], "overlap": "None.", "licence": "CC0-1.0"}
    fields |= {"code": "rs05bench", "statement": dict.fromkeys(fields["statement"], True)}
    (world.root / "fields.yaml").write_text(yaml.safe_dump(fields))
    _must(launcher, ["submit", "make", world / "runs", "--card", world / "fields.yaml", "--out", world / "mine", *board])
    _must(launcher, ["submit", "pin", world / "mine", "--address", "rs05bench"])
    shutil.copytree(world.root / "board", world.root / "empty-board")
    _must(launcher, ["leaderboard", "add", world / "mine", "--truth", world / "runs", *board])
    round_ = {"name": "round", "title": "R", "tasks": [TASK], "opens": "2020-01-01", "closes": "2120-01-01", "labels": "later"}
    (world.root / "round.yaml").write_text(yaml.safe_dump(round_))
    _must(launcher, ["simulate", "--size", "tiny", "--layers", "--out", world / "layers"])
    manifest = world / f"manifests/{TASK}/leave-state-out@v1.parquet"
    _must(launcher, ["hub", "push", "a/b", "--manifest", manifest], online(world))


def online(world: World) -> dict[str, str]:
    """The environment in which the Hub is the world's own."""
    return {"HF_ENDPOINT": world.hub, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_testtoken", "HF_HUB_DISABLE_XET": "1", "HF_HOME": world / "hf"}


def _must(launcher: Launcher, step: list[str], environment: dict[str, str] | None = None) -> None:
    done = launcher.run(step, environment)
    if done.status:
        raise RuntimeError(f"{' '.join(step)}: {done.error or done.output}")
