"""Opening a submission's folder: two files, maps where the task has them, and nothing else.

Every file is copied into a folder of our own while its digest is computed, so that what is verified is what was read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.submission.faults import Faults, HostileError, shown
from rs05bench.protocol.submission.limits import Limits
from rs05bench.protocol.submission.schema import Submission

RECORD, TABLE, SAMPLES, MAPS = "submission.yaml", "predictions.parquet", "samples.parquet", "maps"
_PIECE = 1 << 20


@dataclass(slots=True)
class OpenedSubmission:
    """A submission as it was copied.

    Attributes:
        root: Our copy.
        files: Path in the submission -> SHA-256 of what was copied, all files but `submission.yaml`.
        submission: The record; None where it is missing or faulty.
    """

    root: Path
    files: dict[str, str] = field(default_factory=dict)
    submission: Submission | None = None

    @property
    def digest(self) -> str:
        """Digest of the submission; empty where the record cannot be read."""
        return "" if self.submission is None else submission_digest(self.submission, self.files.get(TABLE, ""), self.others)

    @property
    def others(self) -> str | None:
        """Digest of all files but the table (maps, samples); None where there is none."""
        rest = {name: digest for name, digest in self.files.items() if name != TABLE}
        return text_digest(_lines(rest)) if rest else None


def submission_digest(submission: Submission, table: str, others: str | None) -> str:
    """SHA-256 over the record without its pin, and over all other files: another answer or another claim is another submission.

    Args:
        submission: The record.
        table: SHA-256 of the predictions.
        others: Digest of all other files; None where there is none.
    """
    record = submission.model_dump(mode="json", exclude={"predictions"})
    text = f"{json.dumps(record, sort_keys=True, ensure_ascii=False)}\n{table}\n{others or ''}\n"
    return text_digest(text)


def _lines(files: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))


def open_submission(folder: Path, work: Path, limits: Limits, faults: Faults, record: Path | None = None) -> OpenedSubmission:
    """Copies a submission and reads its record.

    Args:
        folder: The submission.
        work: An empty folder for the copy.
        limits: How large it may be.
        faults: Takes what is wrong.
        record: `submission.yaml`, where it is not in the folder (predictions fetched from their address).

    Raises:
        HostileError: It is not a folder, or too large.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise HostileError(f"{folder.name}: is not a folder with {RECORD} and {TABLE}")
    opened = OpenedSubmission(work / "copy")
    opened.root.mkdir()
    total = 0
    for name in _names(folder, limits, faults):
        if name == RECORD and record is not None:
            continue
        most = limits.yaml_bytes if name == RECORD else limits.map_bytes if name.startswith(f"{MAPS}/") else limits.table_bytes
        target = opened.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = _copy(folder / name, target, most, name, faults)
        total += size
        if total > limits.bytes:
            raise HostileError(f"its files have more than {limits.bytes:,} bytes together")
        if name != RECORD:
            opened.files[name] = digest
    if record is not None:
        _copy(record, opened.root / RECORD, limits.yaml_bytes, RECORD, faults)
    opened.submission = read_record(opened.root / RECORD, faults)
    if TABLE not in opened.files:
        faults.add(f"{TABLE} is missing")
    _check_pin(opened, faults)
    return opened


def _names(folder: Path, limits: Limits, faults: Faults) -> list[str]:
    found: list[str] = []
    folders = [""]
    while folders:
        inside = folders.pop()
        for entry in sorted(os.scandir(folder / inside), key=lambda item: item.name):
            name = f"{inside}{entry.name}"
            if entry.is_symlink():
                faults.add(f"{shown(name)}: is a link")
            elif entry.is_dir(follow_symlinks=False):
                if name.split("/")[0] != MAPS or name.count("/") > 8:
                    faults.add(f"{shown(name)}: a submission holds no such folder (only {MAPS}/)")
                else:
                    folders.append(f"{name}/")
            elif not entry.is_file(follow_symlinks=False):
                faults.add(f"{shown(name)}: is not a regular file")
            elif name not in (RECORD, TABLE, SAMPLES) and not (name.startswith(f"{MAPS}/") and name.endswith(".tif")):
                faults.add(f"{shown(name)}: a submission holds no such file ({RECORD}, {TABLE}, and for maps {SAMPLES} and {MAPS}/*.tif)")
            elif not name.isprintable():
                faults.add(f"{shown(name)}: holds letters that cannot be seen")
            else:
                found.append(name)
            if len(found) > limits.files:
                raise HostileError(f"it holds more than {limits.files:,} files")
    return found


def _copy(source: Path, target: Path, most: int, name: str, faults: Faults) -> tuple[str, int]:
    """Copies a regular file, link not followed; returns its SHA-256 and size."""
    handle = os.open(source, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    found = hashlib.sha256()
    size = 0
    with open(handle, "rb") as file, target.open("xb") as copy:
        head = os.fstat(file.fileno())
        if not stat.S_ISREG(head.st_mode):
            raise HostileError(f"{shown(name)}: is not a regular file")
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > most:
                raise HostileError(f"{shown(name)}: has more than {most:,} bytes")
            found.update(piece)
            copy.write(piece)
    return found.hexdigest(), size


def read_record(path: Path, faults: Faults) -> Submission | None:
    """A `submission.yaml`; None where it is missing or faulty, which is told."""
    if not path.is_file():
        faults.add(f"{RECORD} is missing (rs05bench submit template TASK writes one to fill in)")
        return None
    try:
        fields = read_yaml_mapping(path)
        return Submission.model_validate_json(json.dumps(fields, ensure_ascii=False, allow_nan=False))
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            if any(str(part).startswith("literal[") for part in item["loc"]):
                continue  # of two forms that a field may have, the one that is no fixed word is stated
            where = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("function-", "constrained-")))
            faults.add(
                f"{RECORD}: {shown(where) + ': ' if where else ''}{shown(item['msg'].removeprefix('Value error, '), 200).strip(chr(39))}"
            )
    except DataError as error:
        faults.add(f"{RECORD}: {error.problem}")
    except (ValueError, TypeError, RecursionError) as error:
        faults.add(f"{RECORD}: cannot be read: {shown(str(error), 120)}")
    return None


def _check_pin(opened: OpenedSubmission, faults: Faults) -> None:
    pin = None if opened.submission is None else opened.submission.predictions
    if pin is None or TABLE not in opened.files:
        return
    if opened.files[TABLE] != pin.sha256:
        faults.add(f"{TABLE}: its SHA-256 is {opened.files[TABLE][:12]}…, and {RECORD} pins {pin.sha256[:12]}…")
    if opened.others != pin.files:
        here, there = (f"{digest[:12]}…" if digest else "none" for digest in (opened.others, pin.files))
        faults.add(f"maps and samples: their digest is {here}, and {RECORD} pins {there}")
