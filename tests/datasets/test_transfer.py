"""One file over HTTP: resumed, checked, and never half or wrong under its own name."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import socketserver
import threading
from itertools import chain, count, repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs05bench.datasets.transfer import Wanted, fetch, order_mirrors
from rs05bench.errors import DataError
from tests.datasets.servers import Server

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()


@pytest.fixture(scope="module")
def shared_server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(shared_server):
    shared_server.paths.clear()
    shared_server.requests.clear()
    return shared_server


def get(server, target, *paths, sha256=SHA, **options):
    wanted = Wanted(tuple(server.url + path for path in paths or ("/f",)), sha256=sha256, **options)
    return fetch(wanted, target, retries=3, pause=0, timeout=10)


def ranges(server):
    return [headers.get("Range") for _, headers in server.requests]


def test_file_arrives_whole(server, tmp_path):
    server.serve("/f", CONTENT)
    done = get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert (done.sha256, done.size, done.trust, done.resumed_at) == (SHA, len(CONTENT), "catalogue", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_progress_counts_to_the_end(server, tmp_path):
    server.serve("/f", CONTENT)
    seen = []
    fetch(Wanted((server.url + "/f",), sha256=SHA), tmp_path / "f", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_dropped_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.serve("/f", CONTENT, cuts=[100_000, 50_000, None])
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-", "bytes=150000-"]
    assert server.requests[1][1]["If-Range"] == '"v1"'


def test_killed_run_is_taken_up_by_the_next(server, tmp_path):
    server.serve("/f", CONTENT, cuts=[120_000, 0, 0, 0, 0])
    with pytest.raises(DataError, match="gave up after 3 tries"):
        get(server, tmp_path / "f")
    assert (tmp_path / "f.part").stat().st_size == 120_000
    assert not (tmp_path / "f").exists()
    server.serve("/f", CONTENT)
    assert get(server, tmp_path / "f").resumed_at == 120_000
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_file_that_changed_on_the_server_starts_anew(server, tmp_path):
    server.serve("/f", bytes(200_000), cuts=[80_000, 0, 0, 0, 0], etag='"old"')
    with pytest.raises(DataError):
        get(server, tmp_path / "f", sha256=None)
    server.serve("/f", CONTENT, etag='"new"')
    get(server, tmp_path / "f", sha256=None)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_server_that_ignores_ranges_is_read_from_the_start(server, tmp_path):
    server.serve("/f", CONTENT, cuts=[100_000, None], ranges=False)
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_wrong_range_is_refused(server, tmp_path):
    server.serve("/f", CONTENT, cuts=[100_000, None], wrong_range=True)
    with pytest.raises(DataError, match="with the range"):
        get(server, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    server.serve("/f", CONTENT)
    (tmp_path / "f.part").write_bytes(CONTENT + b"x")
    (tmp_path / "f.part.json").write_text(json.dumps({"url": server.url + "/f", "validator": '"v1"'}))
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("said", [len(CONTENT) + 50_000, len(CONTENT) - 50_000])
def test_lie_about_the_length_never_becomes_a_file(server, tmp_path, said):
    server.serve("/f", CONTENT, length=said)
    with pytest.raises(DataError):
        get(server, tmp_path / "f", size=len(CONTENT))
    assert not (tmp_path / "f").exists()


def test_body_shorter_than_announced_is_a_cut_even_without_checksum(server, tmp_path):
    server.serve("/f", CONTENT, length=len(CONTENT) + 9, ranges=False)
    with pytest.raises(DataError, match=r"broke|ended"):
        get(server, tmp_path / "f", sha256=None)
    assert not (tmp_path / "f").exists()


def test_neither_length_nor_checksum_is_refused(server, tmp_path):
    server.serve("/f", CONTENT, length="none")
    with pytest.raises(DataError, match="neither a length nor a checksum"):
        get(server, tmp_path / "f", sha256=None)
    assert get(server, tmp_path / "g").sha256 == SHA  # with a checksum the length does not matter


def test_corrupt_mirror_is_left_for_the_next(server, tmp_path):
    corrupt = bytearray(CONTENT)
    corrupt[1234] ^= 1
    server.serve("/bad", bytes(corrupt))
    server.serve("/good", CONTENT)
    done = get(server, tmp_path / "f", "/bad", "/good")
    assert done.url.endswith("/good")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_every_mirror_is_named_with_its_reason(server, tmp_path):
    server.serve("/bad", b"other")
    server.serve("/gone", status=404)
    server.serve("/busy", status=503)
    with pytest.raises(DataError) as caught:
        get(server, tmp_path / "f", "/bad", "/gone", "/busy")
    text = str(caught.value)
    assert "/bad: its content has the checksum" in text
    assert "/gone: the server answered 404" in text
    assert "/busy: the server answered 503" in text
    assert "--mirror" in text


def test_busy_server_is_asked_again(server, tmp_path):
    server.serve("/f", CONTENT, status_once=[503, 429])
    assert get(server, tmp_path / "f").size == len(CONTENT)


def test_half_a_file_of_one_mirror_goes_on_from_another(server, tmp_path):
    server.serve("/a", CONTENT, cuts=[100_000, 0, 0, 0, 0])
    server.serve("/b", CONTENT, etag='"another"')
    get(server, tmp_path / "f", "/a", "/b")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=100000-"
    assert "If-Range" not in server.requests[-1][1]


def test_stale_part_is_fetched_whole_from_the_same_mirror(server, tmp_path):
    (tmp_path / "f.part").write_bytes(bytes(50_000))
    (tmp_path / "f.part.json").write_text(json.dumps({"url": server.url + "/f", "validator": '"v1"'}))
    server.serve("/f", CONTENT)
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert ranges(server) == ["bytes=50000-", None]


def test_unknown_checksum_is_recorded_on_first_use(server, tmp_path):
    server.serve("/f", CONTENT)
    done = get(server, tmp_path / "f", sha256=None)
    assert (done.trust, done.sha256) == ("first use", SHA)


def test_mirror_is_not_believed_without_a_checksum(server, tmp_path):
    server.serve("/gone", status=404)
    server.serve("/mirror", CONTENT)
    with pytest.raises(DataError, match="no checksum is known"):
        get(server, tmp_path / "f", "/gone", "/mirror", sha256=None)
    assert [path for path, _ in server.requests] == ["/gone"]


def test_hub_states_the_checksum_before_it_redirects(server, tmp_path):
    server.serve("/hub", redirect=server.url + "/store", headers={"X-Repo-Commit": "abc", "X-Linked-ETag": f'"{SHA}"'})
    server.serve("/store", CONTENT)
    assert get(server, tmp_path / "f", "/hub", sha256=None, revision="abc").trust == "announced"
    server.serve("/store", bytes(len(CONTENT)))
    with pytest.raises(DataError, match="checksum"):
        get(server, tmp_path / "g", "/hub", sha256=None, revision="abc")
    assert not (tmp_path / "g").exists()


def test_small_hub_files_are_checked_by_their_git_checksum(server, tmp_path):
    server.serve("/hub", CONTENT, etag=f'"{BLOB}"', headers={"X-Repo-Commit": "abc"})
    assert get(server, tmp_path / "f", "/hub", sha256=None, revision="abc").trust == "announced"
    server.serve("/hub", bytes(9), etag=f'"{BLOB}"', headers={"X-Repo-Commit": "abc"})
    with pytest.raises(DataError, match="Git checksum"):
        get(server, tmp_path / "g", "/hub", sha256=None, revision="abc")


def test_announced_checksum_also_binds_the_next_mirror(server, tmp_path):
    server.serve("/hub", CONTENT, cuts=[10, 0, 0, 0, 0], etag=f'"{SHA}"', headers={"X-Repo-Commit": "abc"})
    server.serve("/mirror", bytes(len(CONTENT)))
    with pytest.raises(DataError, match="/mirror: its content has the checksum"):
        get(server, tmp_path / "f", "/hub", "/mirror", sha256=None, revision="abc")


def test_another_revision_is_refused(server, tmp_path):
    server.serve("/hub", CONTENT, headers={"X-Repo-Commit": "fff"})
    with pytest.raises(DataError, match="serves revision fff, expected abc"):
        get(server, tmp_path / "f", "/hub", revision="abc")


def test_named_mirrors_come_first_and_are_believed():
    urls, trusted = order_mirrors(["http://own/data/", "http://own/{path}?x"], ["http://publisher/f"], "sub/f")
    assert urls == ("http://own/data/sub/f", "http://own/sub/f?x", "http://publisher/f")
    assert trusted == 3


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 299_999), max_size=4), ignores=st.booleans())
def test_whatever_the_cuts_the_file_is_right_or_absent(shared_server, tmp_path_factory, cuts, ignores):
    target = tmp_path_factory.mktemp("cuts") / "f"
    shared_server.serve("/f", CONTENT, cuts=[*cuts, None], ranges=not ignores)
    try:
        get(shared_server, target)
    except DataError:
        assert not target.exists()
    else:
        assert target.read_bytes() == CONTENT


HABITS = {
    "redirects to itself": lambda: [b"HTTP/1.1 302 Found\r\nLocation: /f\r\nContent-Length: 0\r\n\r\n"],
    "chunks without an end": lambda: chain(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], repeat(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
    ),
    "a gzip bomb as encoding": lambda: [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb := gzip.compress(bytes(1 << 26))),
        bomb,
    ],
    "two lengths": lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 9\r\n\r\n", CONTENT],
    "no HTTP": lambda: [b"220 ready\r\n"],
    "headers without an end": lambda: chain([b"HTTP/1.1 200 OK\r\n"], (b"X-%d: a\r\n" % number for number in count())),
}


@pytest.mark.parametrize("habit", HABITS)
def test_a_server_with_bad_habits_ends_in_one_message_and_no_file(habit, tmp_path):
    class Answer(socketserver.StreamRequestHandler):
        def handle(self):
            self.rfile.readline()
            with contextlib.suppress(OSError):
                for part in HABITS[habit]():
                    self.wfile.write(part)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            wanted = Wanted((f"http://127.0.0.1:{server.server_address[1]}/f",), size=len(CONTENT), sha256=SHA)
            with pytest.raises(DataError):
                fetch(wanted, tmp_path / "f", retries=1, pause=0, timeout=5)
        finally:
            server.shutdown()
    assert not (tmp_path / "f").exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(CONTENT)
