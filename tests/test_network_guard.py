"""The guard itself: what leaves the machine is refused, what stays on it is not."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading

import pytest

from tests.network import NetworkGuard

OUTSIDE = "192.0.2.1"  # TEST-NET-1: nobody has this address (RFC 5737)


@pytest.fixture
def attempts() -> list[str]:
    """The guard's memory, emptied afterwards so that a refusal this test asked for does not fail it."""
    guard = sys.modules["tests.conftest"]._GUARD
    assert isinstance(guard, NetworkGuard)
    yield guard.attempts
    guard.attempts.clear()


def test_connection_to_another_machine_is_refused_and_remembered(attempts):
    with socket.socket() as sock, pytest.raises(OSError, match="loopback only"):
        sock.connect((OUTSIDE, 80))
    assert attempts == [f"{OUTSIDE}:80"]


def test_connect_ex_is_refused_too(attempts):
    with socket.socket() as sock, pytest.raises(OSError, match="loopback only"):
        sock.connect_ex((OUTSIDE, 80))


def test_datagram_to_another_machine_is_refused(attempts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="loopback only"):
        sock.sendto(b"x", (OUTSIDE, 9))
    assert attempts


def test_learning_the_own_address_is_refused_without_blame(attempts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="loopback only"):
        sock.connect((OUTSIDE, 9))
    assert attempts == []


def test_name_of_another_machine_is_not_looked_up(attempts):
    with pytest.raises(OSError, match="loopback only"):
        socket.getaddrinfo("example.invalid", 443)
    assert attempts == ["example.invalid"]


def test_asyncio_passes_the_guard(attempts):
    async def reach() -> None:
        await asyncio.open_connection(OUTSIDE, 80)

    with pytest.raises(OSError, match="loopback only"):
        asyncio.run(reach())
    assert attempts


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.7"), (socket.AF_INET, "localhost")])
def test_loopback_is_free(family, host):
    with socket.socket(family) as server:
        server.bind(("127.0.0.7" if host == "127.0.0.7" else "127.0.0.1", 0))
        server.listen()
        answer = threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"), daemon=True)
        answer.start()
        with socket.create_connection((host, server.getsockname()[1])) as client:
            assert client.recv(5) == b"hello"
        answer.join()


def test_unix_sockets_are_free(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("::1", True), ("::ffff:127.0.0.1", True), ("::ffff:192.0.2.1", False), ("10.0.0.1", False), (b"127.0.0.1", True), ("", True)],
)
def test_what_counts_as_this_machine(host, allowed):
    assert NetworkGuard().allows(host) is allowed
