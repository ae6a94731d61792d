"""`rs05bench download`: fetch a dataset of the catalogue, check it, unpack it, and leave a receipt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rs05bench.datasets.files import RECEIPT
from rs05bench.datasets.sources import CATALOGUE, RemoteFile, Source, find_source
from rs05bench.datasets.transfer import Fetched, Wanted, fetch, order_mirrors
from rs05bench.datasets.unpack import unpack
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_json
from rs05bench.protocol.documents import read_json_mapping
from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.safe_paths import inside

Watch = Callable[[str, str, int, int | None], None]
"""Told (file, `fetch` or `unpack`, done, in all or None)."""


@dataclass(slots=True)
class DownloadReport:
    """What a download did.

    Attributes:
        name: Dataset.
        root: Folder.
        files: Everything there now, as in the receipt: path -> size, sha256, url, trust, unpacked.
        fetched: Files fetched now.
        kept: Files that were already there, checked.
        unpacked: Number of files unpacked now.
        resumed: File -> byte from which an earlier transfer was taken up.
    """

    name: str
    root: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unpacked: int = 0
    resumed: dict[str, int] = field(default_factory=dict)

    @property
    def on_first_use(self) -> list[str]:
        """Files whose checksum nobody stated: what came was recorded, not confirmed."""
        return sorted(path for path, entry in self.files.items() if entry.get("trust") == "first use")


@dataclass(frozen=True)
class Fetching:
    """How files are fetched and unpacked.

    Attributes:
        mirrors: Further URLs, tried before the catalogue's.
        unpacking: Whether archives are unpacked.
        keep_archives: Whether an archive stays after it was unpacked.
        force: Fetch again what is there but differs, and replace what an archive would unpack over.
        retries: See `transfer.fetch`.
        pause: See `transfer.fetch`.
        timeout: See `transfer.fetch`.
    """

    mirrors: Sequence[str] = ()
    unpacking: bool = True
    keep_archives: bool = False
    force: bool = False
    retries: int = 5
    pause: float = 1.0
    timeout: float = 60.0


def download(
    name: str,
    root: str | Path,
    *,
    only: Sequence[str] = (),
    how: Fetching | None = None,
    watch: Watch | None = None,
    catalogue: Path = CATALOGUE,
) -> DownloadReport:
    """Fetch a dataset. Running it again checks what is there and fetches what is missing.

    Args:
        name: In the catalogue.
        root: Folder to put it in.
        only: Names of files to fetch; default all.
        how: Mirrors, archives, patience.
        watch: Called with progress.
        catalogue: Another catalogue.

    Raises:
        DataError: Unknown dataset, no mirror serves it, a checksum that does not match, an archive that is not safe, or files in the way.
    """
    source = find_source(name, catalogue)
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise DataError("is a file, expected a folder", source=root)
    root.mkdir(parents=True, exist_ok=True)
    chosen = _choose(source, only, name)
    with _alone(root):
        receipt = _read_receipt(root)
        report = DownloadReport(name, root, files=receipt)
        for file in chosen:
            _one(file, source, report, how or Fetching(), watch)
            _write_receipt(report, source)
    return report


def _one(file: RemoteFile, source: Source, report: DownloadReport, how: Fetching, watch: Watch | None) -> None:
    target = report.root / file.path
    entry = report.files.get(file.path)
    known = file.sha256 or (entry or {}).get("sha256")
    if entry and entry.get("unpacked") and not target.exists() and how.unpacking and not how.force:
        _check_unpacked(file.path, report)
        report.kept.append(file.path)
        return
    if target.exists() and known and not how.force:
        if file_digest(target) != known:
            raise DataError(
                f"is there, but its checksum is not {known[:12]}...", source=target, remedy="Delete it, or fetch it again with --force."
            )
        fetched = Fetched(target, (entry or {}).get("url", ""), target.stat().st_size, known, (entry or {}).get("trust", "catalogue"))
        report.kept.append(file.path)
    elif target.exists() and not how.force:
        raise DataError(
            "already exists, but no checksum is known to check it with",
            source=target,
            remedy="Move it away, or fetch it again with --force.",
        )
    else:
        urls, trusted = order_mirrors(how.mirrors, file.urls(), file.path)
        # With --force the catalogue's checksum still binds; what an earlier download recorded on first use does not.
        wanted = Wanted(urls, trusted, file.size, file.sha256 if how.force else known, source.revision)
        tell = None if watch is None else lambda done, total: watch(file.path, "fetch", done, total)
        fetched = fetch(wanted, target, progress=tell, retries=how.retries, pause=how.pause, timeout=how.timeout)
        if file.sha256 is None and entry and not how.force:
            fetched = Fetched(
                fetched.path, fetched.url, fetched.size, fetched.sha256, entry.get("trust", fetched.trust), fetched.resumed_at
            )
        report.fetched.append(file.path)
        if fetched.resumed_at:
            report.resumed[file.path] = fetched.resumed_at
    record = {"size": fetched.size, "sha256": fetched.sha256, "url": fetched.url, "trust": fetched.trust}
    if file.unpack and how.unpacking and (how.force or not (entry and entry.get("unpacked"))):
        tick = None if watch is None else lambda count: watch(file.path, "unpack", count, None)
        members = unpack(target, report.root, replace=how.force, progress=tick)
        record["unpacked"] = True
        report.unpacked += len(members)
        report.files.update({path: {**member, "from": file.path} for path, member in members.items()})
    elif entry and entry.get("unpacked"):
        record["unpacked"] = True
    report.files[file.path] = record
    if record.get("unpacked") and not how.keep_archives:
        target.unlink(missing_ok=True)


def _check_unpacked(archive: str, report: DownloadReport) -> None:
    """What was unpacked earlier must still be there as it was."""
    for path, entry in report.files.items():
        if entry.get("from") != archive:
            continue
        there = inside(report.root, path, source=report.root / RECEIPT)
        if not there.is_file() or there.stat().st_size != entry["size"] or file_digest(there) != entry["sha256"]:
            raise DataError(
                "was unpacked here before, but is gone or has changed since",
                source=there,
                remedy="Fetch and unpack it again with --force.",
            )


def _choose(source: Source, only: Sequence[str], name: str) -> list[RemoteFile]:
    unknown = sorted(set(only) - {file.path for file in source.files})
    if unknown:
        raise DataError(f"{name} has no file {unknown[0]!r}; there are: {', '.join(file.path for file in source.files)}")
    return [file for file in source.files if not only or file.path in only]


def _read_receipt(root: Path) -> dict[str, dict[str, Any]]:
    path = root / RECEIPT
    if not path.exists():
        return {}
    try:
        files = read_json_mapping(path)["files"]
        return {str(key): dict(value) for key, value in files.items()}
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the download receipt cannot be read ({error!r})", source=path, remedy="Delete it: the files are then fetched again."
        ) from None


def _write_receipt(report: DownloadReport, source: Source) -> None:
    """Written whole and renamed, after every file: a run that is killed loses nothing it had finished."""
    path = report.root / RECEIPT
    content = {
        "schema_version": 1,
        "dataset": report.name,
        "title": source.title,
        "licence": source.licence,
        "homepage": source.homepage,
        "revision": source.revision,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": dict(sorted(report.files.items())),
    }
    write_json(path, content)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One download a folder at a time: two would write into one part file."""
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks in the standard library
        yield
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise DataError(
            "another download is writing into this folder", source=root, remedy="Wait for it, or choose another folder."
        ) from None
    try:
        yield
    finally:
        os.close(handle)
