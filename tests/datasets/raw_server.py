"""A loopback server that answers with raw bytes, for habits that no HTTP library has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class RawServer:
    """What was asked of it."""

    url: str = ""
    requests: list[str] = field(default_factory=list)


@contextmanager
def raw_server(answer: Callable[[socket.socket, str], None]) -> Iterator[RawServer]:
    """Serves every connection with `answer(connection, request)`; ends what still runs when the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = RawServer(f"http://127.0.0.1:{listening.getsockname()[1]}/f")
    open_connections: list[socket.socket] = []

    def one(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            request = connection.recv(65536).decode("latin-1")
            server.requests.append(request)
            answer(connection, request)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                open_connections.append(connection)
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.close()
        for connection in open_connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
