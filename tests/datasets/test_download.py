"""A dataset of the catalogue, from a server on loopback to a folder that its reader opens."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile

import pytest
import yaml

from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.datasets.download import Fetching, download
from rs05bench.datasets.files import RECEIPT, verify_receipt
from rs05bench.datasets.sources import CATALOGUE, load_catalogue
from rs05bench.errors import DataError
from tests.datasets.data import write_burn_scars
from tests.datasets.servers import Server


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    write_burn_scars(folder / "x", size=32)
    with tarfile.open(folder / "a.tgz", "w:gz") as packed:
        for name in ("training", "validation"):
            packed.add(folder / "x" / name, arcname=name)
    return (folder / "a.tgz").read_bytes()


@pytest.fixture
def server(archive):
    server = Server()
    server.serve("/pub/burn.tgz", archive)
    server.serve("/pub/list.txt", b"a\nb\n")
    yield server
    server.close()


def catalogue_of(folder, server, archive, **first):
    entry = {
        "title": "t",
        "licence": "CC-BY-4.0",
        "homepage": "h",
        "revision": "abcdef1",
        "files": [
            {
                "path": "burn.tgz",
                "size": len(archive),
                "sha256": hashlib.sha256(archive).hexdigest(),
                "checksum": "the test",
                "unpack": True,
                "mirrors": [server.url + "/gone/{path}", server.url + "/pub/{path}"],
                **first,
            },
            {"path": "list.txt", "mirrors": [server.url + "/pub/list.txt"]},
        ],
    }
    path = folder / "catalogue.yaml"
    path.write_text(yaml.safe_dump({"hls-burn-scars": entry}))
    load_catalogue.cache_clear()
    return path


@pytest.fixture
def get(server, archive, tmp_path):
    path = catalogue_of(tmp_path, server, archive)

    def run(**options):
        only = options.pop("only", ())
        watch = options.pop("watch", None)
        how = Fetching(**{"pause": 0, "retries": 2} | options)
        return download("hls-burn-scars", tmp_path / "data", only=only, how=how, watch=watch, catalogue=path)

    return run


def test_download_ends_in_a_folder_that_the_reader_opens_and_verifies(get, tmp_path):
    report = get()
    assert report.fetched == ["burn.tgz", "list.txt"]
    assert report.unpacked == 10  # the Mac's forks are not counted
    assert report.on_first_use == ["list.txt"]
    assert len(HLSBurnScars(tmp_path / "data", checksum=True)) == 5
    assert not (tmp_path / "data" / "burn.tgz").exists()
    receipt = json.loads((tmp_path / "data" / RECEIPT).read_text())
    assert receipt["revision"] == "abcdef1"
    assert receipt["files"]["burn.tgz"]["trust"] == "catalogue"
    assert receipt["files"]["burn.tgz"]["url"].endswith("/pub/burn.tgz")


def test_second_run_fetches_nothing(get, server):
    get()
    before = len(server.requests)
    report = get()
    assert (report.fetched, report.kept, report.unpacked) == ([], ["burn.tgz", "list.txt"], 0)
    assert len(server.requests) == before


def test_run_goes_on_after_a_cut(get, server, archive):
    server.serve("/pub/burn.tgz", archive, cuts=[len(archive) // 2, 0, 0])
    with pytest.raises(DataError, match="run the same command again"):
        get()
    server.serve("/pub/burn.tgz", archive)
    assert get().resumed == {"burn.tgz": len(archive) // 2}


def test_changed_pixel_is_seen_by_checksum(get, tmp_path):
    get()
    victim = next((tmp_path / "data" / "training").glob("*_merged.tif"))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content))
    with pytest.raises(DataError, match="has changed"):
        HLSBurnScars(tmp_path / "data", checksum=True)


def test_missing_unpacked_file_is_seen_and_mended_by_force(get, tmp_path):
    get()
    next((tmp_path / "data" / "training").glob("*_merged.tif")).unlink()
    with pytest.raises(DataError, match="is gone"):
        get()
    get(force=True)
    assert verify_receipt(tmp_path / "data", "x") == 11


def test_first_use_is_held_against_later_downloads(get, server, tmp_path):
    get()
    (tmp_path / "data" / "list.txt").unlink()
    server.serve("/pub/list.txt", b"other\n")
    with pytest.raises(DataError, match="checksum"):
        get()
    assert not (tmp_path / "data" / "list.txt").exists()
    get(force=True, only=["list.txt"])
    assert (tmp_path / "data" / "list.txt").read_bytes() == b"other\n"


def test_stranger_under_the_name_is_not_overwritten(get, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "list.txt").write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        get(only=["list.txt"])
    assert (tmp_path / "data" / "list.txt").read_text() == "mine"


def test_corrupt_archive_is_never_unpacked(get, server, archive, tmp_path):
    server.serve("/pub/burn.tgz", archive[:-20] + bytes(20))
    with pytest.raises(DataError, match="checksum"):
        get()
    assert not (tmp_path / "data" / "training").exists()


def test_named_mirror_is_asked_first(get, server, archive):
    server.serve("/own/burn.tgz", archive)
    server.serve("/own/list.txt", b"own")
    report = get(mirrors=[server.url + "/own/"])
    assert report.files["burn.tgz"]["url"].endswith("/own/burn.tgz")


def test_archives_can_stay_packed(get, tmp_path):
    get(unpacking=False)
    assert (tmp_path / "data" / "burn.tgz").exists()
    assert not (tmp_path / "data" / "training").exists()
    get(keep_archives=True)
    assert (tmp_path / "data" / "burn.tgz").exists()
    assert (tmp_path / "data" / "training").exists()


def test_two_downloads_do_not_share_a_folder(get, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    import os

    (tmp_path / "data").mkdir()
    handle = os.open(tmp_path / "data", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another download"):
        get()
    os.close(handle)


def test_unknown_names_say_what_there_is(get):
    with pytest.raises(DataError, match="there are: hls-burn-scars, multi-temporal-crop"):
        download("nothing", "x")
    with pytest.raises(DataError, match="has no file"):
        get(only=["nothing"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "../x"}, "out of the dataset"),
        ({"sha256": "0" * 64, "checksum": None}, "where the SHA-256 comes from"),
        ({"sha256": "short"}, "sha256"),
        ({"mirrors": []}, "mirrors"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_catalogue_is_refused(tmp_path, server, archive, change, says):
    path = catalogue_of(tmp_path, server, archive, **change)
    with pytest.raises(DataError, match=says):
        download("hls-burn-scars", tmp_path / "d", catalogue=path)


def test_every_source_of_ours_is_pinned_and_has_two_mirrors():
    for source in load_catalogue(CATALOGUE).values():
        assert source.licence
        for file in source.files:
            urls = file.urls()
            assert len({url.split("/")[2] for url in urls}) >= 2
            assert all(url.startswith("https://") and source.revision in url and url.endswith(file.path) for url in urls)


def test_command_prints_one_message_and_exits_2(tmp_path):
    arguments = ["download", "hls-burn-scars", "--root", str(tmp_path / "d"), "--mirror", "http://127.0.0.1:9/", "--retries", "1"]
    run = subprocess.run([sys.executable, "-m", "rs05bench.cli", *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert "no mirror served it" in run.stderr
    assert "Traceback" not in run.stderr


def test_command_lists_what_there_is():
    run = subprocess.run(
        [sys.executable, "-m", "rs05bench.cli", "download", "--list", "--json"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert "hls-burn-scars" in json.loads(run.stdout)
