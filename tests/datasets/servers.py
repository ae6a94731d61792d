"""A real HTTP server on loopback that misbehaves on request."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """How one path is served. Lists are used up one request at a time; the last entry stays."""

    content: bytes = b""
    cuts: list[int | None] = field(default_factory=lambda: [None])  # break the connection after so many bytes of the body
    etag: str | None = '"v1"'
    ranges: bool = True
    length: int | str | None = None  # a lie about the length; "none": say nothing
    status: int = 200
    status_once: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    wrong_range: bool = False

    def take(self, values: list):
        return values.pop(0) if len(values) > 1 else values[0]


class Server:
    def __init__(self) -> None:
        self.paths: dict[str, Behaviour] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer._answer(self)

            def log_message(self, *arguments):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def serve(self, path: str, content: bytes = b"", **options) -> Behaviour:
        self.paths[path] = Behaviour(content, **options)
        return self.paths[path]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.path, dict(handler.headers)))
        behaviour = self.paths.get(handler.path)
        handler.close_connection = True
        if behaviour is None:
            handler.send_error(404)
            return
        if behaviour.status_once:
            handler.send_error(behaviour.status_once.pop(0))
            return
        if behaviour.status != 200:
            handler.send_error(behaviour.status)
            return
        if behaviour.redirect:
            handler.send_response(302)
            handler.send_header("Location", behaviour.redirect)
            for name, value in behaviour.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body, start = behaviour.content, 0
        asked = handler.headers.get("Range")
        condition = handler.headers.get("If-Range")
        if asked and behaviour.ranges and (condition is None or condition == behaviour.etag):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                handler.send_error(416)
                return
            handler.send_response(206)
            said = start + 7 if behaviour.wrong_range else start
            handler.send_header("Content-Range", f"bytes {said}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        body = body[start:]
        if behaviour.length != "none":
            handler.send_header("Content-Length", str(len(body) if behaviour.length is None else behaviour.length))
        if behaviour.etag:
            handler.send_header("ETag", behaviour.etag)
        for name, value in behaviour.headers.items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        cut = behaviour.take(behaviour.cuts)
        try:
            handler.wfile.write(body if cut is None else body[:cut])
            handler.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass
