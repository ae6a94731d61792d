"""Fetching one file over HTTP so that a cut, a lie or a broken mirror never ends as data.

The bytes go to `<file>.part`; only a file whose length and checksum are right gets its name. What interrupts a transfer leaves the part,
and the next call goes on from there: with `If-Range` on the same URL, so that a file that changed on the server starts again (RFC 9110,
13.1.5), and on another mirror only where a checksum will tell.

A transfer ends whatever a server does. A try that brings less than `PROGRESS_BYTES` beyond the furthest byte ever reached counts as
failed, a connection slower than `SLOWEST` is given up, headers must be complete in `timeout` seconds, and no mirror is asked more than
`MOST_REQUESTS` times.

Pooch would be less code, and cannot hold three of these promises (measured with 1.9.0): after a cut at two thirds of a file it asks for
the whole file again and keeps nothing for the next run; a file has one address and no mirrors; and a file without a known checksum is
taken as it comes, where here the checksum that a Hub server states is held against it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs05bench.datasets.http_request import (
    Hops,
    NoConnectionError,
    RangeBeyondEndError,
    TransferCutError,
    UnusableServerError,
    ask,
    extent,
    short,
)
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_json
from rs05bench.protocol.documents import read_json

CHUNK = 1 << 20
PROGRESS_BYTES = 64 << 10
"""What a try must bring, beyond the furthest byte reached before, not to count as failed."""
SLOWEST = 1024
"""Bytes per second, over `timeout` seconds, below which a connection is given up."""
MOST_REQUESTS = 1000
Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None: unknown)."""

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


@dataclass(frozen=True, slots=True)
class _Patience:
    retries: int
    pause: float
    timeout: float


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
        retries: How often a mirror may break off without progress before the next is tried.
        pause: Seconds before the first retry, doubled each time.
        timeout: Seconds without a byte, or for the headers, before a connection counts as dead.

    Raises:
        DataError: No mirror served it; says for each of them why.
        OSError: The disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    patience = _Patience(retries, pause, timeout)
    for path in (part, _notes(part)):
        if path.is_symlink() or (path.exists() and not _own_file(path)):
            path.unlink()  # a link, a device or a second name of somebody's file is not what an earlier transfer left
    state = _State(wanted.sha256, None, wanted.size, "catalogue" if wanted.sha256 else "first use")
    for number, url in enumerate(wanted.urls):
        if number >= wanted.trusted and state.sha256 is None and state.git_blob is None:
            state.reasons.append(f"{url}: not asked, because no checksum is known that would tell whether a mirror's copy is right")
            continue
        # A part that another transfer left may be stale: one that fails its checksum is fetched whole once more from the same mirror.
        for _ in range(2):
            began = part.stat().st_size if part.exists() else 0
            try:
                resumed = _transfer(url, part, wanted, state, progress, patience)
                return _finish(part, target, url, state, resumed)
            except UnusableServerError as error:
                state.reasons.append(f"{url}: {error}")
                if not (began and "checksum" in str(error)):
                    break
    listed = "\n".join(f"    - {reason}" for reason in state.reasons)
    raise DataError(
        f"no mirror served it:\n{listed}",
        source=target,
        remedy="What arrived is kept; run the same command again, or name a mirror with --mirror.",
    )


def _own_file(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _transfer(url: str, part: Path, wanted: Wanted, state: _State, progress: Progress | None, patience: _Patience) -> int:
    """Fill the part from one mirror. Returns the byte where an earlier transfer was taken up."""
    furthest = resumed = _length(part)
    failures = 0
    for number in range(MOST_REQUESTS):
        try:
            started = _receive(url, part, wanted, state, progress, patience.timeout)
            return resumed if number else min(resumed, started)
        except TransferCutError as error:
            reached = _length(part)
            failures = 0 if reached >= furthest + PROGRESS_BYTES else failures + 1
            furthest = max(furthest, reached)
            if failures >= (min(patience.retries, 2) if isinstance(error, NoConnectionError) else patience.retries):
                raise UnusableServerError(f"{error}; gave up after {failures} tries without progress") from None
            time.sleep(patience.pause * 2 ** min(failures, 5) if failures else 0)
    raise UnusableServerError(f"broke off {MOST_REQUESTS:,} times")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(url: str, part: Path, wanted: Wanted, state: _State, progress: Progress | None, timeout: float) -> int:
    """One request. Returns the byte it started from; raises `TransferCutError` if it broke off."""
    have = _length(part)
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
    try:
        response, hops = ask(url, headers, timeout)
    except RangeBeyondEndError:  # the server's file is shorter than our part
        _discard(part)
        raise TransferCutError("the server has fewer bytes than an earlier transfer") from None
    with response:
        _learn(response, hops, wanted, state)
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding != "identity" and state.sha256 is None and state.git_blob is None:
            raise UnusableServerError(f"sends the file in the encoding {short(coding)!r}, which was not asked for")
        start, total = extent(response, have)
        if state.size is not None and total is not None and total != state.size:
            raise UnusableServerError(f"announces {total:,} bytes, expected {state.size:,}")
        if total is None and state.sha256 is None and state.git_blob is None:
            raise UnusableServerError("announces neither a length nor a checksum, so a cut could not be seen")
        room = _make_room(part, (total or state.size or 0) - start)
        _remember(part, url, response)
        _pour(response, part, start, total if total is not None else state.size, start + room, progress, timeout)
    if total is not None and state.size is None:
        state.size = total
    return start


def _learn(response: Any, hops: Hops, wanted: Wanted, state: _State) -> None:
    """Take over the checksum that a Hub server states for the pinned revision (`huggingface_hub` reads the same headers)."""
    for headers in [*hops.headers, response.headers]:
        commit = headers.get("X-Repo-Commit")
        if commit is None:
            continue
        if wanted.revision and commit != wanted.revision:
            raise UnusableServerError(f"serves revision {commit}, expected {wanted.revision}")
        tag = (headers.get("X-Linked-ETag") or headers.get("ETag") or "").removeprefix("W/").strip('"').lower()
        if state.sha256 is None and re.fullmatch(r"[0-9a-f]{64}", tag):
            state.sha256, state.trust = tag, "announced"
        elif state.sha256 is None and state.git_blob is None and re.fullmatch(r"[0-9a-f]{40}", tag):
            state.git_blob, state.trust = tag, "announced"
        return


def _pour(response: Any, part: Path, start: int, total: int | None, most: int, progress: Progress | None, timeout: float) -> None:
    """Write the body to the part from byte `start` on; `most` is the byte where the disk has no room any more."""
    done = start
    since, before = time.monotonic(), start
    with _opened(part) as stream:
        stream.seek(start)
        stream.truncate()
        while True:
            try:
                chunk = response.read1(CHUNK)
            except http.client.IncompleteRead as error:
                _write(stream, error.partial, part)
                raise TransferCutError(f"the connection broke after {done + len(error.partial):,} bytes") from None
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise TransferCutError(f"the connection broke after {done:,} bytes ({short(error)})") from None
            if not chunk:
                break
            done += len(chunk)
            if total is not None and done > total:
                raise UnusableServerError(f"sends more than the {total:,} bytes it should")
            if done > most:
                raise UnusableServerError(f"sends more than there is room for ({_size(most)}), and announces no length")
            _write(stream, chunk, part)
            if progress is not None:
                progress(done, total)
            now = time.monotonic()
            if now - since > timeout:
                if done - before < SLOWEST * timeout:
                    raise NoConnectionError(f"sends {(done - before) / (now - since):,.0f} bytes per second, less than {SLOWEST:,}")
                since, before = now, done
    if total is not None and done < total:
        raise TransferCutError(f"the connection ended after {done:,} of {total:,} bytes")


def _opened(part: Path) -> Any:
    """The part, for writing; a link that somebody put in its place is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(part, flags, 0o644), "r+b", buffering=0)


def _write(stream: Any, content: bytes, part: Path) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[stream.write(view) :]
    except OSError as error:
        error.filename = str(part)
        raise


def _finish(part: Path, target: Path, url: str, state: _State, resumed: int) -> Fetched:
    sha, blob = _digests(part, state.git_blob is not None)
    if state.sha256 is not None and sha != state.sha256:
        _discard(part)
        raise UnusableServerError(f"its content has the checksum {sha[:12]}..., expected {state.sha256[:12]}...")
    if state.git_blob is not None and state.sha256 is None and blob != state.git_blob:
        _discard(part)
        raise UnusableServerError(f"its content has the Git checksum {str(blob)[:12]}..., expected {state.git_blob[:12]}...")
    size = part.stat().st_size
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
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
    write_json(_notes(part), {"url": url, "validator": validator})


def _validator(part: Path, url: str) -> str | None:
    try:
        notes = read_json(_notes(part))
        return str(notes["validator"]) if notes["url"] == url and notes["validator"] else None
    except (OSError, DataError, KeyError, TypeError):
        return None


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _make_room(part: Path, needed: int) -> int:
    """Whether the rest fits on the disk; returns how many bytes more may come."""
    free = shutil.disk_usage(part.parent).free - _FREE_AFTER
    if free < max(needed, 1):
        raise DataError(
            f"{_size(max(needed, 0))} are still to come, and {_size(max(free, 0))} may be used ({_size(_FREE_AFTER)} stay free)",
            source=part.parent,
            remedy="Make room there or choose another folder, then run the same command again.",
        )
    return free


def _size(count: int) -> str:
    """Bytes for people: `1.5 GB`, `64 MB`, `300 bytes`."""
    for unit, word in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {word}"
    return f"{count} bytes"


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
