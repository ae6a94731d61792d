"""Asking an HTTP server for a file: a connection that ends whatever the server does, and what its answer's headers mean.

Every fault is one of three: this server cannot serve the file (`UnusableServerError`), the transfer broke and going on may help
(`TransferCutError`), or nobody answers there (`NoConnectionError`).
"""

from __future__ import annotations

import functools
import http.client
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

_NUMBER = r"[0-9]{1,18}"
_RANGE = re.compile(rf"bytes ({_NUMBER})-({_NUMBER})/({_NUMBER}|\*)")


class UnusableServerError(Exception):
    """This mirror cannot serve the file; the next may."""


class TransferCutError(Exception):
    """The transfer broke; going on may help."""


class NoConnectionError(TransferCutError):
    """Nobody answers there, or too slowly: asked once more, not `retries` times."""


class RangeBeyondEndError(Exception):
    """The server has fewer bytes than were asked to be left out."""


class _Watched:
    """A connection whose answer must begin within its timeout: a server that sends its headers byte by byte is cut off."""

    sock: Any
    timeout: float | None
    late = False

    def getresponse(self) -> http.client.HTTPResponse:
        """The head of the answer, in time."""
        timer = threading.Timer(self.timeout or 60.0, self._cut)
        timer.daemon = True
        timer.start()
        try:
            response: http.client.HTTPResponse = super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
        if self.late:  # what was cut off looks like complete headers
            response.close()
            raise TimeoutError("its headers did not end in time")
        return response

    def _cut(self) -> None:
        self.late = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            return


class _PlainConnection(_Watched, http.client.HTTPConnection):
    pass


class _SecureConnection(_Watched, http.client.HTTPSConnection):
    pass


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PlainConnection, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_SecureConnection, context=self._context), req)  # type: ignore[attr-defined]


class Hops(urllib.request.HTTPRedirectHandler):
    """Follows redirects within HTTP and keeps the headers of every hop: a Hub states the checksum before it sends one to its storage."""

    def __init__(self) -> None:
        self.headers: list[Any] = []

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request of the next hop; none from HTTPS to anything else."""
        self.headers.append(headers)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise UnusableServerError(f"redirects from https to {newurl.split(':')[0]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str, headers: Mapping[str, str], timeout: float) -> tuple[Any, Hops]:
    """One GET request.

    Args:
        url: What is asked for.
        headers: Of the request.
        timeout: Seconds without a byte, or for the headers of the answer.

    Returns:
        The open answer, and the headers of the redirects that led to it.

    Raises:
        UnusableServerError: The address, or a final refusal.
        TransferCutError: The server is busy or broken for now.
        NoConnectionError: Nobody answers.
        RangeBeyondEndError: The file ends before the range that was asked for.
    """
    hops = Hops()
    opener = urllib.request.build_opener(hops, _PlainHandler(), _SecureHandler())
    try:
        return opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=timeout), hops
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise RangeBeyondEndError from None
        if error.code in (408, 425, 429, 500, 502, 503, 504):
            raise TransferCutError(f"the server answered {error.code}") from None
        raise UnusableServerError(f"the server answered {error.code} {short(error.reason)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoConnectionError(f"no connection ({short(getattr(error, 'reason', error))})") from None
    except ValueError as error:
        raise UnusableServerError(f"not a URL, or not an answer in HTTP ({short(error)})") from None


def extent(response: Any, have: int) -> tuple[int, int | None]:
    """Where the body starts in the file, and how long the file is in all."""
    length = response.headers.get("Content-Length", "").strip()
    # A body in chunks says its own length (RFC 9112, 6.3).
    body = int(length) if re.fullmatch(_NUMBER, length) and not response.headers.get("Transfer-Encoding") else None
    if response.status != 206:
        return 0, body  # the server ignored the range, or the file has changed: from the start
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != have:
        raise UnusableServerError(f"answers a request from byte {have:,} with the range {short(response.headers.get('Content-Range'))!r}")
    return have, None if match[3] == "*" else int(match[3])


def short(text: object) -> str:
    """What a server said, on one line and short."""
    line = " ".join(str(text).split())
    return line if len(line) <= 200 else line[:200] + "…"
