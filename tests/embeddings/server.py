"""A loopback web server with range requests, latency, and misbehaviour on demand."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileServer:
    """Serves a folder on loopback; a context manager.

    Args:
        folder: What is served.
        latency: Seconds before every answer.
        cut: Paths whose bodies are sent half.
        need_header: A header without which every request is refused with 403.
    """

    def __init__(self, folder: Path, *, latency: float = 0.0, cut: tuple[str, ...] = (), need_header: str | None = None) -> None:
        self.folder, self.latency, self.cut, self.need_header = folder, latency, cut, need_header
        self.requests: list[tuple[str, str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self, body=True)

            def do_HEAD(self) -> None:
                server.answer(self, body=False)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *args: object) -> None:
                """A client that hangs up is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.requests.append((handler.command, handler.path, handler.headers.get("Range")))
        if self.latency:
            time.sleep(self.latency)
        if self.need_header is not None and handler.headers.get(self.need_header) is None:
            return self._refuse(handler, 403)
        path = self.folder / handler.path.lstrip("/")
        if not path.is_file():
            return self._refuse(handler, 404)
        size = path.stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range") or "")
        start, stop = (int(match[1]), min(int(match[2] or size - 1), size - 1) + 1) if match else (0, size)
        handler.send_response(206 if match else 200)
        handler.send_header("Content-Length", str(stop - start))
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        if match:
            handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        handler.end_headers()
        if body:
            with path.open("rb") as file:
                file.seek(start)
                piece = file.read(stop - start)
            if any(name in handler.path for name in self.cut) and match:
                handler.wfile.write(piece[: len(piece) // 2])
                handler.close_connection = True
                handler.connection.close()
                return None
            handler.wfile.write(piece)
        return None

    def _refuse(self, handler: BaseHTTPRequestHandler, status: int) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
