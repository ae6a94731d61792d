"""Fetching one file over HTTP so that a cut, a lie or a broken mirror never ends as data.

The bytes go to `<file>.part`; only a file whose length and checksum are right gets its name. What interrupts a transfer leaves the part,
and the next
call goes on from there: with `If-Range` on the same URL, so that a file that changed on the server starts anew (RFC 9110, 13.1.5), and
on another mirror
only where a checksum will tell.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError

CHUNK = 1 << 20
Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None: unknown)."""

_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")
_FREE_AFTER = 64 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must arrive.

    Attributes:
        urls: Mirrors in the order they are tried.
        trusted: How many of the first mirrors are believed without a checksum.
        size: Bytes, where known.
        sha256: Hex, where known.
        revision: What a Hub server must say the file belongs to.
    """

    urls: tuple[str, ...]
    trusted: int = 1
    size: int | None = None
    sha256: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What arrived.

    Attributes:
        path: The file.
        url: The mirror that served it.
        size: Bytes.
        sha256: Of the content, computed here.
        trust: `catalogue` (the SHA-256 was known before), `announced` (the publisher's server stated a checksum of this revision) or
        `first use`
            (nobody stated one: this SHA-256 is only what came).
        resumed_at: Byte where an earlier transfer was taken up, 0 if none.
    """

    path: Path
    url: str
    size: int
    sha256: str
    trust: str
    resumed_at: int = 0


@dataclass(slots=True)
class _State:
    """What is known about the file while mirrors are tried."""

    sha256: str | None
    git_blob: str | None
    size: int | None
    trust: str
    reasons: list[str] = field(default_factory=list)


class _Unusable(Exception):
    """This mirror cannot serve the file; the next may."""


class _Cut(Exception):
    """The transfer broke; going on may help."""


class _NoConnection(_Cut):
    """Nobody answers there: asked once more, not `retries` times."""


class _Hops(urllib.request.HTTPRedirectHandler):
    """Follows redirects within HTTP and keeps the headers of every hop: a Hub states the checksum before it sends one to its storage."""

    def __init__(self) -> None:
        self.headers: list[Any] = []

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.headers.append(headers)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise _Unusable(f"redirects from https to {newurl.split(':')[0]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    wanted: Wanted,
    target: Path,
    *,
    progress: Progress | None = None,
    retries: int = 5,
    pause: float = 1.0,
    timeout: float = 60.0,
) -> Fetched:
    """Fetch a file from the first mirror that serves it right.

    Args:
        wanted: What must arrive.
        target: Where it goes; `<target>.part` and `<target>.part.json` beside it hold an unfinished transfer.
        progress: Told about every chunk.
        retries: How often a mirror may break off without one new byte before the next is tried.
        pause: Seconds before the first retry, doubled each time.
        timeout: Seconds without a byte before a connection counts as dead.

    Raises:
        DataError: No mirror served it; says for each of them why.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    state = _State(wanted.sha256, None, wanted.size, "catalogue" if wanted.sha256 else "first use")
    for number, url in enumerate(wanted.urls):
        if number >= wanted.trusted and state.sha256 is None and state.git_blob is None:
            state.reasons.append(f"{url}: not asked, because no checksum is known that would tell whether a mirror's copy is right")
            continue
        # A part that another transfer left may be stale: one that fails its checksum is fetched whole once more from the same mirror.
        for _ in range(2):
            began = part.stat().st_size if part.exists() else 0
            try:
                resumed = _transfer(url, part, wanted, state, progress, retries, pause, timeout)
                return _finish(part, target, url, state, resumed)
            except _Unusable as error:
                state.reasons.append(f"{url}: {error}")
                if not (began and "checksum" in str(error)):
                    break
    listed = "\n".join(f"    - {reason}" for reason in state.reasons)
    raise DataError(
        f"no mirror served it:\n{listed}",
        source=target,
        remedy="What arrived is kept; run the same command again, or name a mirror with --mirror.",
    )


def _transfer(
    url: str, part: Path, wanted: Wanted, state: _State, progress: Progress | None, retries: int, pause: float, timeout: float
) -> int:
    """Fill the part from one mirror. Returns the byte where an earlier transfer was taken up."""
    resumed, failures = 0, 0
    first = True
    while True:
        have = part.stat().st_size if part.exists() else 0
        if first:
            resumed = have
        try:
            started = _receive(url, part, wanted, state, progress, timeout)
            return min(resumed, started) if first else resumed
        except _Cut as error:
            now = part.stat().st_size if part.exists() else 0
            failures = 0 if now > have else failures + 1
            limit = min(retries, 2) if isinstance(error, _NoConnection) else retries
            if failures >= limit:
                raise _Unusable(f"{error}; gave up after {failures} tries without a new byte") from None
            time.sleep(pause * 2 ** min(failures, 5) if failures else 0)
        first = False


def _receive(url: str, part: Path, wanted: Wanted, state: _State, progress: Progress | None, timeout: float) -> int:
    """One request. Returns the byte it started from; raises `_Cut` if it broke off."""
    have = part.stat().st_size if part.exists() else 0
    if have and state.size is not None and have >= state.size:
        if have == state.size:
            return have
        _discard(part)
        have = 0
    headers = {"User-Agent": "rs05bench", "Accept-Encoding": "identity"}
    if have:
        validator = _validator(part, url)
        if validator:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        elif state.sha256 or state.git_blob:
            headers["Range"] = f"bytes={have}-"
        else:
            _discard(part)
            have = 0
    hops = _Hops()
    opener = urllib.request.build_opener(hops)
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the server's file is shorter than our part
            _discard(part)
            raise _Cut("the server has fewer bytes than an earlier transfer") from None
        if error.code in (408, 425, 429, 500, 502, 503, 504):
            raise _Cut(f"the server answered {error.code}") from None
        raise _Unusable(f"the server answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _NoConnection(f"no connection ({getattr(error, 'reason', error)})") from None
    except ValueError as error:
        raise _Unusable(f"not a URL ({error})") from None
    with response:
        _learn(response, hops, wanted, state)
        start, total = _extent(response, have)
        if state.size is not None and total is not None and total != state.size:
            raise _Unusable(f"announces {total:,} bytes, expected {state.size:,}")
        if total is None and state.sha256 is None and state.git_blob is None:
            raise _Unusable("announces neither a length nor a checksum, so a cut could not be seen")
        _make_room(part, (total or state.size or 0) - start)
        _remember(part, url, response)
        _pour(response, part, start, total if total is not None else state.size, progress)
    if total is not None and state.size is None:
        state.size = total
    return start


def _learn(response: Any, hops: _Hops, wanted: Wanted, state: _State) -> None:
    """Take over the checksum that a Hub server states for the pinned revision (`huggingface_hub` reads the same headers)."""
    for headers in [*hops.headers, response.headers]:
        commit = headers.get("X-Repo-Commit")
        if commit is None:
            continue
        if wanted.revision and commit != wanted.revision:
            raise _Unusable(f"serves revision {commit}, expected {wanted.revision}")
        tag = (headers.get("X-Linked-ETag") or headers.get("ETag") or "").removeprefix("W/").strip('"').lower()
        if state.sha256 is None and re.fullmatch(r"[0-9a-f]{64}", tag):
            state.sha256, state.trust = tag, "announced"
        elif state.sha256 is None and state.git_blob is None and re.fullmatch(r"[0-9a-f]{40}", tag):
            state.git_blob, state.trust = tag, "announced"
        return


def _extent(response: Any, have: int) -> tuple[int, int | None]:
    """Where the body starts in the file, and how long the file is in all."""
    length = response.headers.get("Content-Length")
    body = int(length) if length is not None and length.isdigit() else None
    if response.status != 206:
        return 0, body  # the server ignored the range, or the file has changed: from the start
    match = _RANGE.match(response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != have:
        raise _Unusable(f"answers a request from byte {have:,} with the range {response.headers.get('Content-Range')!r}")
    return have, None if match[3] == "*" else int(match[3])


def _pour(response: Any, part: Path, start: int, total: int | None, progress: Progress | None) -> None:
    done = start
    with part.open("r+b" if part.exists() else "wb") as stream:
        stream.seek(start)
        stream.truncate()
        while True:
            try:
                chunk = response.read(CHUNK)
            except http.client.IncompleteRead as error:
                stream.write(error.partial)
                raise _Cut(f"the connection broke after {done + len(error.partial):,} bytes") from None
            except (OSError, http.client.HTTPException) as error:
                raise _Cut(f"the connection broke after {done:,} bytes ({error})") from None
            if not chunk:
                break
            done += len(chunk)
            if total is not None and done > total:
                raise _Unusable(f"sends more than the {total:,} bytes it should")
            try:
                stream.write(chunk)
            except OSError as error:
                raise DataError(f"cannot be written ({error.strerror})", source=part, remedy="Make room; what arrived is kept.") from None
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise _Cut(f"the connection ended after {done:,} of {total:,} bytes")


def _finish(part: Path, target: Path, url: str, state: _State, resumed: int) -> Fetched:
    sha, blob = _digests(part, state.git_blob is not None)
    if state.sha256 is not None and sha != state.sha256:
        _discard(part)
        raise _Unusable(f"its content has the checksum {sha[:12]}..., expected {state.sha256[:12]}...")
    if state.git_blob is not None and state.sha256 is None and blob != state.git_blob:
        _discard(part)
        raise _Unusable(f"its content has the Git checksum {str(blob)[:12]}..., expected {state.git_blob[:12]}...")
    size = part.stat().st_size
    part.replace(target)
    _notes(part).unlink(missing_ok=True)
    return Fetched(target, url, size, sha, state.trust, resumed)


def _digests(path: Path, git: bool) -> tuple[str, str | None]:
    sha = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False) if git else None
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            sha.update(chunk)
            if blob is not None:
                blob.update(chunk)
    return sha.hexdigest(), None if blob is None else blob.hexdigest()


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, url: str, response: Any) -> None:
    tag = response.headers.get("ETag")
    # A weak tag does not promise equal bytes, so it must not be used for ranges (RFC 9110, 13.1.5).
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    _notes(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _validator(part: Path, url: str) -> str | None:
    try:
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
        return notes["validator"] if notes["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _make_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > 0 and free < needed + _FREE_AFTER:
        raise DataError(f"{needed / 1e9:.1f} GB are still to come, but only {free / 1e9:.1f} GB are free on the disk", source=part.parent)


def order_mirrors(extra: Sequence[str], urls: Sequence[str], path: str) -> tuple[tuple[str, ...], int]:
    """Mirrors that a person named come first and are believed like the publisher.

    Args:
        extra: URLs of files, or of folders (ending in `/`, or holding `{path}`).
        urls: The catalogue's mirrors.
        path: The file's path.

    Returns:
        All URLs, and how many of the first are believed without a checksum.
    """
    own = tuple(url.replace("{path}", path) if "{path}" in url else url.rstrip("/") + "/" + path for url in extra)
    return (*own, *urls), len(own) + 1
