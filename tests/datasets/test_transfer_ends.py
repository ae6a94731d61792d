"""A download ends whatever the server does, with a reason, and nothing wrong gets the file's name."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs05bench.datasets import transfer
from rs05bench.datasets.transfer import Wanted, fetch
from rs05bench.datasets.unpack import unpack
from rs05bench.errors import DataError
from tests.datasets.raw_server import raw_server

CONTENT = os.urandom(200_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


def head(length: object = len(CONTENT), status: str = "200 OK", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", 'ETag: "v"', "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def start_of(request: str) -> int:
    return int(request.lower().split("range: bytes=")[1].split("-")[0]) if "range: bytes=" in request.lower() else 0


def get(server, target, *, sha256=SHA, timeout=0.3, **wanted):
    return fetch(Wanted((server.url,), sha256=sha256, **wanted), target, retries=3, pause=0, timeout=timeout)


def ends(answer, tmp_path, words, most, **options):
    """The transfer ends with these words after at most so many requests, and leaves no file."""
    with raw_server(answer) as server, pytest.raises(DataError, match=words):
        get(server, tmp_path / "f", **options)
    assert len(server.requests) <= most
    assert not (tmp_path / "f").exists()


def one_byte_more_than_there_is(connection, request):
    start = start_of(request)
    if start >= len(CONTENT):
        connection.sendall(head(0, "416 Range Not Satisfiable"))
    elif start:
        connection.sendall(head(len(CONTENT) + 1 - start, "206 Partial", Content_Range=f"bytes {start}-{len(CONTENT)}/{len(CONTENT) + 1}"))
        connection.sendall(CONTENT[start:])
    else:
        connection.sendall(head(len(CONTENT) + 1) + CONTENT)


def one_byte_per_connection(connection, request):
    start = start_of(request)
    said = {"status": "206 Partial", "Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
    connection.sendall(head(len(CONTENT) - start, **said) + CONTENT[start : start + 1])


def byte_by_byte(connection, request):
    connection.sendall(head(10**6))
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def headers_without_an_end(connection, request):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def continues_without_an_end(connection, request):
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.02)


def silence(connection, request):
    connection.recv(1)


@pytest.mark.parametrize(
    ("answer", "words", "most"),
    [
        (one_byte_more_than_there_is, "gave up after 3 tries", 6),
        (one_byte_per_connection, "gave up after 3 tries", 4),
        (byte_by_byte, "bytes per second|gave up", 3),
        (headers_without_an_end, "no connection|not an answer", 3),
        (continues_without_an_end, "no connection|not an answer", 3),
        (silence, "no connection", 3),
        (lambda connection, _: connection.sendall(b"\xff\x00 garbage\r\n\r\n"), "no connection", 3),
        (lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n"), "no connection", 3),
        (lambda connection, _: connection.sendall(b"HTTP/1.1 abc OK\r\n\r\n"), "no connection", 3),
        (lambda connection, _: connection.sendall(head(0, "416 no")), "fewer bytes", 4),
        (lambda connection, _: connection.sendall(head(0, "503 no")), "answered 503", 4),
        (lambda connection, _: connection.sendall(head(0, "302 Found", Location="/f")), "answered 302|infinite loop", 40),
        (lambda connection, _: connection.sendall(head(0, "302 Found", Location="file:///etc/passwd")), "answered 302", 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_bad_habit_ends_with_a_reason(answer, words, most, tmp_path):
    ends(answer, tmp_path, words, most)


@pytest.mark.parametrize("length", ["-1", "²", "1e5", "9" * 5000, "0x10", "", "5, 6", "+7", str(2**64)])
def test_a_length_that_is_no_length_never_becomes_a_file(length, tmp_path):
    ends(lambda connection, _: connection.sendall(head(length) + CONTENT), tmp_path, ".", 4, sha256="0" * 64)


@pytest.mark.parametrize("said", ["bytes 0-1/2", "bytes 5-9/10", "bytes x-y/z", f"bytes 0-{'9' * 5000}/*", ""])
def test_a_range_that_was_not_asked_for_never_becomes_a_file(said, tmp_path):
    def answer(connection, request):
        connection.sendall(head(len(CONTENT), "206 Partial", Content_Range=said) + CONTENT)

    ends(answer, tmp_path, ".", 4)


def test_an_encoding_nobody_asked_for_is_refused_without_a_checksum(tmp_path):
    packed = gzip.compress(CONTENT)
    ends(
        lambda connection, _: connection.sendall(head(len(packed), Content_Encoding="gzip") + packed),
        tmp_path,
        "encoding 'gzip'",
        1,
        sha256=None,
    )


def test_chunks_count_and_the_length_beside_them_does_not(tmp_path):
    def answer(connection, request):
        connection.sendall(head(5, Transfer_Encoding="chunked"))
        connection.sendall(b"%x\r\n" % len(CONTENT) + CONTENT + b"\r\n0\r\n\r\n")

    with raw_server(answer) as server:
        get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_progress_in_small_steps_still_arrives(tmp_path, monkeypatch):
    """Each try brings as much as counts as progress, and there are more tries than retries."""
    step = transfer.PROGRESS_BYTES
    content = os.urandom(step * 6)

    def answer(connection, request):
        start = start_of(request)
        said = {"status": "206 Partial", "Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        connection.sendall(head(len(content) - start, **said) + content[start : start + step])

    with raw_server(answer) as server:
        get(server, tmp_path / "f", sha256=hashlib.sha256(content).hexdigest(), timeout=10)
    assert (tmp_path / "f").read_bytes() == content
    assert len(server.requests) == 6


def test_a_body_without_a_length_ends_where_the_disk_does(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_make_room", lambda part, needed: 100_000)
    plain = b'HTTP/1.1 200 OK\r\nETag: "v"\r\nConnection: close\r\n\r\n'
    ends(lambda connection, _: connection.sendall(plain + CONTENT), tmp_path, "more than there is room for", 2)


@pytest.mark.parametrize("name", ["f.part", "f.part.json"])
@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe"])
def test_what_stands_in_place_of_a_part_is_not_written_through(name, kind, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "data"
    folder.mkdir()
    if kind == "symbolic link":
        (folder / name).symlink_to(victim)
    elif kind == "hard link":
        (folder / name).hardlink_to(victim)
    else:
        os.mkfifo(folder / name)
    with raw_server(lambda connection, _: connection.sendall(head() + CONTENT)) as server:
        get(server, folder / "f")
    assert victim.read_text() == "precious"
    assert (folder / "f").read_bytes() == CONTENT


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_answer_is_a_file_or_a_data_error(tmp_path, answer):
    target = tmp_path / "f"
    with raw_server(lambda connection, _: connection.sendall(answer)) as server, pytest.raises(DataError):
        get(server, target, timeout=5)
    assert not target.exists()


def test_an_archive_of_far_more_than_its_size_is_refused(tmp_path):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        member = tarfile.TarInfo("zeros")
        member.size = 32 << 20
        packed.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="200 times its own size"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
