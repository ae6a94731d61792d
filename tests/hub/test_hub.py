"""Manifests, label packs and results go to the Hub and come back, by the real client, against a stand-in on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import yaml

from rs05bench import hub as room
from rs05bench.errors import DataError
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol import shipped
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.labels import write_labels
from rs05bench.protocol.manifest import SplitManifest, load_manifest

from .server import serve

pytest.importorskip("mlcroissant")
REPO = "someone/splits"
NAMES = ("crop/official@v1", "simulated/crop/spatial-block@v2")


@pytest.fixture(scope="module")
def hub():
    found, server = serve()
    yield found
    server.shutdown()


def client(hub, *arguments, token="hf_testtoken", code=None, home=None):
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home or "/nonexistent"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    environment.pop("HF_TOKEN", None)
    if token:
        environment["HF_TOKEN"] = token
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "rs05bench.cli", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "hf_testtoken" not in done.stdout + done.stderr
    return done


@contextmanager
def loopback(monkeypatch, hub, tmp_path):
    """The client of this process talks to the stand-in."""
    from huggingface_hub import constants

    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield


@pytest.fixture(scope="module")
def card():
    return TaskCard.parse(
        {
            "kind": "regression",
            "name": "heights",
            "targets": ["height"],
            "splits": ["random"],
            "licence": "CC-BY-4.0",
            "citation": "Someone",
        }
    )


@pytest.fixture(scope="module")
def pushed(hub, card, tmp_path_factory):
    pack = tmp_path_factory.mktemp("labels") / "heights"
    write_labels(pack, card, {"height": pd.Series([1.0, 2.5], index=["a", "b"])})
    manifests = [part for name in NAMES for part in ("--manifest", name)]
    done = client(hub, "hub", "push", REPO, *manifests, "--labels", pack, home=tmp_path_factory.mktemp("home"))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_what_is_pushed_comes_back_with_its_digest_and_commit(hub, pushed, tmp_path):
    done = client(hub, "hub", "pull", REPO, "--out", tmp_path / "out", token=None, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pushed in done.stdout
    for name in NAMES:
        assert SplitManifest.load(tmp_path / "out" / "manifests" / f"{name}.parquet").digest == load_manifest(name).digest
    assert (tmp_path / "out" / "labels" / "heights" / "labels.json").is_file()
    pinned = json.loads((tmp_path / "out" / "hub.json").read_text())
    assert pinned["revision"] == pushed


def test_one_item_at_a_pinned_commit_with_the_digest_asked_for(hub, pushed, tmp_path):
    digest = load_manifest(NAMES[0]).digest
    options = ("--out", tmp_path / "out", "--revision", pushed, "--name", NAMES[0], "--digest")
    assert client(hub, "hub", "pull", REPO, *options, digest, home=tmp_path).returncode == 0
    assert not (tmp_path / "out" / "labels").exists()
    wrong = client(hub, "hub", "pull", REPO, *options, "0" * 64, home=tmp_path)
    assert wrong.returncode == 2
    assert "has the digest" in wrong.stderr


def test_the_card_has_a_header_with_a_config_a_manifest(hub, pushed):
    _, files = hub.files(REPO)
    header = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert header["license"] == "other"
    assert "simulated" in header["tags"]
    configs = {config["config_name"]: config["data_files"][0]["path"] for config in header["configs"]}
    assert set(configs) == {"crop.official.v1", "simulated.crop.spatial-block.v2"}
    assert set(configs.values()) <= set(files)
    assert "Someone" in files["README.md"].decode()


@pytest.mark.slow
def test_datasets_loads_a_manifest_by_its_config(hub, pushed, tmp_path):
    code = (
        "from datasets import load_dataset\n"
        f"rows = load_dataset({REPO!r}, 'crop.official.v1', split='manifest', revision={pushed!r})\n"
        "print(len(rows), sorted(rows.column_names), rows[0]['role'])\n"
    )
    done = client(hub, code=code, home=tmp_path)
    assert done.returncode == 0, done.stderr
    table = load_manifest("crop/official@v1").table
    assert done.stdout.startswith(f"{len(table)} {sorted(table.columns)}")
    assert done.stdout.split()[-1] == table["role"].iloc[0]


def test_croissant_metadata_are_valid_and_catch_a_changed_file(tmp_path):
    import mlcroissant as mlc

    room.stage(tmp_path, REPO, manifests=[load_manifest("crop/official@v1")])
    dataset = mlc.Dataset(jsonld=tmp_path / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    row = next(iter(dataset.records("crop.official.v1")))
    assert row["crop.official.v1/unit_id"] in (b"chip_002_060", "chip_002_060")
    path = tmp_path / "manifests" / "crop" / "official-v1.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(mlc.GenerationError) as refused:
        next(iter(mlc.Dataset(jsonld=tmp_path / "croissant.json").records("crop.official.v1")))
    assert "hash" in str(refused.value.__cause__).lower()


def test_a_second_push_keeps_what_is_there(hub, pushed, tmp_path):
    assert client(hub, "hub", "push", REPO, "--manifest", "simulated/urban/within-city@v1", home=tmp_path).returncode == 0
    _, files = hub.files(REPO)
    names = {item["name"] for item in json.loads(files["rs05bench.json"])["items"]}
    assert {*NAMES, "heights", "simulated/urban/within-city@v1"} == names


def test_a_pulled_manifest_that_was_changed_is_refused_and_nothing_is_kept(hub, pushed, tmp_path):
    manifest = load_manifest("crop/official@v1")
    table = manifest.table.copy()
    table["role"] = table["role"].astype(str)
    table.loc[table.index[:5], "role"] = "buffer"
    forged = SplitManifest(manifest.task, manifest.split, table, manifest.units, {**manifest.card}, manifest.version)
    forged.card["digest"] = forged.digest
    # Card, index and checksums all agree with the forgery: only the package's own frozen digest gives it away.
    room.stage(tmp_path / "stage", "mallory/splits", manifests=[forged])
    changes = {
        path.relative_to(tmp_path / "stage").as_posix(): path.read_bytes() for path in (tmp_path / "stage").rglob("*") if path.is_file()
    }
    hub.commit("mallory/splits", changes)
    done = client(hub, "hub", "pull", "mallory/splits", "--out", tmp_path / "out", home=tmp_path)
    assert done.returncode == 2
    assert "the package says" in done.stderr
    assert not (tmp_path / "out").exists()
    # A file changed behind the index's back.
    _, files = hub.files(REPO)
    hub.commit("mallory/cut", {**files, "manifests/crop/official-v1.parquet": files["manifests/crop/official-v1.parquet"][:-9]})
    cut = client(hub, "hub", "pull", "mallory/cut", "--out", tmp_path / "out", home=tmp_path)
    assert cut.returncode == 2
    assert "SHA-256 differs" in cut.stderr
    assert not (tmp_path / "out").exists()


def test_paths_that_lead_outside_are_refused(hub, tmp_path):
    index = {"items": [{"kind": "manifest", "name": "a/b@v1", "digest": "0" * 64, "files": {"../evil.parquet": "0" * 64}}]}
    hub.commit("mallory/paths", {"rs05bench.json": json.dumps(index).encode()})
    done = client(hub, "hub", "pull", "mallory/paths", "--out", tmp_path / "out", home=tmp_path)
    assert done.returncode == 2
    assert "leads outside" in done.stderr


NAMED_BY_OTHERS = {
    "up": ("labels", "../../precious"),
    "absolute": ("labels", "/precious"),
    "dots": ("labels", ".."),
    "itself": ("labels", "."),
    "empty": ("labels", ""),
    "backslash": ("labels", "..\\precious"),
    "number": ("labels", 7),
    "list": ("labels", ["precious"]),
    "manifest": ("manifest", "../../precious/x@v1"),
    "manifest-in-a-folder-too-many": ("manifest", "a/b/c@v1"),
    "result": ("result", "../../precious"),
    "short-digest": ("result", "ab"),
    "kind": ("../precious", "heights"),
}


@pytest.mark.parametrize("case", NAMED_BY_OTHERS)
def test_a_name_from_an_index_reaches_no_other_folder(hub, pushed, tmp_path, monkeypatch, case):
    """Whatever an index calls its items, a pull removes and writes nothing but what it brings."""
    kind, name = NAMED_BY_OTHERS[case]
    _, files = hub.files(REPO)
    index = json.loads(files["rs05bench.json"])
    item = next(item for item in index["items"] if item["kind"] == "labels")
    item["kind"], item["name"] = kind, name
    if kind == "result":
        item["digest"] = name
    hub.commit(f"mallory/{case}", {**files, "rs05bench.json": json.dumps({"items": [item]}).encode()})
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with loopback(monkeypatch, hub, tmp_path), pytest.raises(DataError, match=r"is not a name of|unknown kind"):
        room.pull(f"mallory/{case}", tmp_path / "runs" / "out")
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "home" not in path.parts) == before
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_a_name_that_is_not_that_of_the_content_is_refused(hub, pushed, tmp_path, monkeypatch):
    _, files = hub.files(REPO)
    index = json.loads(files["rs05bench.json"])
    for item in index["items"]:
        item["name"] = {"labels": "depths", "manifest": "crop/elsewhere@v1"}[item["kind"]]
    for at, item in enumerate(index["items"]):
        hub.commit(f"mallory/other-{at}", {**files, "rs05bench.json": json.dumps({"items": [item]}).encode()})
        with loopback(monkeypatch, hub, tmp_path), pytest.raises(DataError, match="holds '"):
            room.pull(f"mallory/other-{at}", tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place", ["labels/heights/notes.txt", "labels/heights", f"manifests/{NAMES[0]}.parquet", f"manifests/{NAMES[0]}.json", "hub.json"]
)
def test_what_is_there_already_is_left_as_it_is(hub, pushed, tmp_path, monkeypatch, place):
    mine = tmp_path / "out" / place
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with loopback(monkeypatch, hub, tmp_path), pytest.raises(DataError, match="already exists"):
        room.pull(REPO, tmp_path / "out")
    assert mine.read_text() == "mine"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]


def test_a_second_pull_changes_nothing_and_a_link_is_not_followed(hub, pushed, tmp_path, monkeypatch):
    with loopback(monkeypatch, hub, tmp_path):
        room.pull(REPO, tmp_path / "out")
        stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "labels").rglob("*")}
        room.pull(REPO, tmp_path / "out")
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "labels").rglob("*")} == stamps
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "linked").mkdir()
        (tmp_path / "linked" / "labels").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataError, match="leads outside"):
            room.pull(REPO, tmp_path / "linked")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_without_a_token_nothing_is_pushed(monkeypatch):
    for name in room.TOKEN_NAMES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match="HF_TOKEN"):
        room.push(REPO, manifests=[load_manifest(NAMES[0])])


def test_a_wrong_token_is_refused_without_being_printed(hub, tmp_path):
    # The stand-in repeats the token in its answer, as a careless server may.
    wrong = client(hub, "hub", "push", REPO, "--manifest", NAMES[0], token="hf_wrongsecret", home=tmp_path)
    assert wrong.returncode == 2
    assert "refuses" in wrong.stderr
    assert "hf_wrongsecret" not in wrong.stdout + wrong.stderr


def test_missing_repository_and_item_are_said(hub, pushed, tmp_path):
    gone = client(hub, "hub", "pull", "nobody/nothing", "--out", tmp_path, home=tmp_path)
    assert gone.returncode == 2
    lost = client(hub, "hub", "pull", REPO, "--out", tmp_path, "--name", "crop/nowhere@v1", home=tmp_path)
    assert lost.returncode == 2
    assert "crop/nowhere@v1" in lost.stderr


def test_labels_that_may_not_be_passed_on_are_refused(card, tmp_path):
    closed = card.model_copy(update={"licence": "ask the authors"})
    pack = write_labels(tmp_path / "pack", closed, {"height": pd.Series([1.0], index=["a"])})
    with pytest.raises(DataError, match="may not be passed on"):
        room.stage(tmp_path / "stage", REPO, labels=[pack])


def test_another_content_under_a_frozen_name_is_refused(tmp_path):
    manifest = load_manifest("crop/official@v1")
    known = [{"kind": "manifest", "name": manifest.name, "digest": "1" * 64, "files": {}}]
    with pytest.raises(DataError, match="Frozen means frozen"):
        room.stage(tmp_path, REPO, manifests=[manifest], known=known)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A store of two cells of a small table, with their predictions."""
    root = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": range(240), "lon": rng.uniform(-100, -99, 240), "lat": rng.uniform(40, 41, 240), "x": rng.normal(size=240)})
    table.assign(kind=np.where(table["x"] > 0, "a", "b")).to_csv(root / "points.csv", index=False)
    fields = {
        "kind": "classification",
        "name": "points",
        "targets": ["kind"],
        "unit": ["id"],
        "coordinates": {"x": "lon", "y": "lat"},
        "files": ["points.csv"],
        "features": {"raw": ["x"]},
        "splits": ["spatial-block"],
    }
    TaskCard.parse(fields).save(root / "card.yaml")
    summary = sweep(
        GridFile.over(root / "card.yaml", root, GridChoice(models=["floor/majority"], budgets=["5-per-class"], seeds=[0, 1]), costs=False),
        root / "runs",
    )
    assert summary.done == 2
    return root / "runs"


def test_results_go_to_the_hub_with_their_predictions_and_come_back_as_a_store(hub, runs, tmp_path):
    done = client(hub, "hub", "push", "someone/results", "--runs", runs, "--predictions", home=tmp_path)
    assert done.returncode == 0, done.stderr
    done = client(hub, "hub", "pull", "someone/results", "--out", tmp_path / "back", token=None, home=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = ResultStore(runs), ResultStore(tmp_path / "back")
    assert theirs.digests() == ours.digests()
    for digest in ours.digests():
        assert theirs.read(digest) == ours.read(digest)
        assert theirs.predictions(digest).digest == ours.predictions(digest).digest


def test_a_result_that_was_edited_is_not_pushed(runs, tmp_path):
    store = ResultStore(runs)
    digest = sorted(store.digests())[0]
    edited = tmp_path / "cell"
    shutil.copytree(store.folder(digest), edited)
    record = json.loads((edited / "result.json").read_text())
    record["cell"]["seed"] = 7
    (edited / "result.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="It was edited"):
        room.stage(tmp_path / "out", "someone/results", results=[edited])


def test_predictions_of_a_submission_are_fetched_at_their_commit(hub, tmp_path, monkeypatch):
    """The pin names a commit: what the repository holds later is not what is verified."""
    from rs05bench.experiment.entries import fetch_predictions

    first = hub.commit("team/predictions", {"predictions.parquet": b"PAR1 first", "maps/1/0.tif": b"II*", "evil.py": b"import os"})
    hub.commit("team/predictions", {"predictions.parquet": b"PAR1 changed"})
    record = {"predictions": {"address": "hf://datasets/team/predictions", "revision": first, "sha256": "0" * 64}}
    (tmp_path / "submission.yaml").write_text(yaml.safe_dump(record))
    with loopback(monkeypatch, hub, tmp_path):
        folder = fetch_predictions(tmp_path / "submission.yaml", tmp_path / "out")
    assert (folder / "predictions.parquet").read_bytes() == b"PAR1 first"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "maps/1/0.tif",
        "predictions.parquet",
    ]


# The manifests that a wheel does not hold -------------------------------------------------------------------------------------


@pytest.fixture
def wheel(hub, pushed, monkeypatch, tmp_path):
    """The package as a wheel has it: the index alone. Its files are in the stand-in Hub."""
    index = (shipped.ROOT / shipped.INDEX).read_bytes()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / shipped.INDEX).write_bytes(index)
    with loopback(monkeypatch, hub, tmp_path), monkeypatch.context() as patch:
        patch.setattr(shipped, "ROOT", tmp_path / "package")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.setenv("RS05BENCH_MANIFESTS", REPO)
        yield


@pytest.fixture
def changed(hub, pushed):
    """A later commit of the Hub in which one file of a manifest is another; taken back afterwards."""
    made = []

    def change(path, content):
        made.append(hub.commit(REPO, {path: content}))

    yield change
    for commit in made:
        hub.commits[REPO].pop(commit)


def requests(hub):
    return sum(method in ("GET", "HEAD") and "resolve" in path for method, path, _ in hub.seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_outside_the_wheel_is_fetched_by_its_digest_and_kept(wheel, hub, name):
    fetched = load_manifest(name)
    assert fetched.digest == shipped.shipped_index()[name].digest
    before = requests(hub)
    assert load_manifest(name.partition("@")[0] if "official" in name else name).digest == fetched.digest
    assert requests(hub) == before
    assert name in shipped.shipped_manifests()


def test_a_changed_byte_in_a_kept_manifest_is_found_and_the_manifest_fetched_again(wheel, hub):
    path = shipped.shipped_path(NAMES[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert NAMES[0] not in shipped.shipped_manifests()
    assert shipped.shipped_path(NAMES[0]).read_bytes() == whole


@pytest.mark.parametrize("suffix", shipped.SUFFIXES)
def test_a_file_of_the_hub_that_is_not_the_one_named_is_never_read(wheel, changed, suffix, tmp_path):
    sealed = shipped.shipped_index()[NAMES[0]].files[suffix]
    changed(shipped.hub_path(NAMES[0], suffix), bytes(sealed.size))
    with pytest.raises(DataError, match=f"{sealed.sha256}"):
        load_manifest(NAMES[0])
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_of_another_size_is_not_asked_for(wheel, hub, changed):
    path = shipped.hub_path(NAMES[0], ".json")
    changed(path, b"{}")
    before = len(hub.seen)
    with pytest.raises(DataError, match="is not the file of the manifest"):
        load_manifest(NAMES[0])
    assert not [path for method, path, _ in hub.seen[before:] if method == "GET"]


def test_without_a_network_the_message_names_the_manifest_its_digest_the_repository_and_the_command(wheel, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError) as refused:
        load_manifest(NAMES[0])
    for part in (NAMES[0], shipped.shipped_index()[NAMES[0]].digest, REPO, f"rs05bench manifest pull {NAMES[0]}", "source distribution"):
        assert part in str(refused.value)


def test_a_name_that_the_index_lacks_asks_nobody(wheel, hub):
    before = len(hub.seen)
    with pytest.raises(DataError, match="there are: burn-scar/"):
        load_manifest("../../etc/passwd@v1")
    assert len(hub.seen) == before
