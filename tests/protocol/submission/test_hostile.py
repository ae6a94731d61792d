"""Every kind of hostile or faulty bundle is refused in plain words, and nothing is written outside the work folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rs05bench.protocol.submission.limits import LIMITS, Limits
from tests.protocol.submission.spoilers import CHIP_KINDS, KINDS, MARK


def everything(root: Path) -> dict[str, tuple[int, int, int]]:
    """Every path below a folder but `work`, with what would change if it were touched."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if not name.startswith("work"):
            info = path.lstat()
            found[name] = (info.st_size, info.st_mtime_ns, info.st_mode)
    return found


def refuse(spoiled: Path, words: str, tmp_path: Path, verify, *, truth: bool) -> None:
    before = everything(tmp_path)
    verdict = verify(spoiled, truth=truth)
    assert verdict.outcome == "refused"
    told = "\n".join(verdict.faults)
    assert re.search(words, told), told
    assert "unexpected" not in verdict.notes, told
    assert all(re.fullmatch(r"[ -~…\n]+", fault) and len(fault) < 600 for fault in verdict.faults), told
    assert everything(tmp_path) == before
    assert not Path(MARK).exists()
    assert not Path("/tmp/evil-absolute.txt").exists()
    outside = [path for path in (tmp_path / "work").rglob("*") if path.name == "evil.txt" or path.is_symlink()]
    assert outside == []


@pytest.mark.parametrize("name", KINDS)
def test_kind_is_refused(name, bundle, verify, tmp_path):
    spoiler, words = KINDS[name]
    refuse(spoiler(bundle), words, tmp_path, verify, truth=name in ("too_many_labels", "other_labels"))


@pytest.mark.parametrize("name", CHIP_KINDS)
def test_kind_of_chips_is_refused(name, chips, verify, tmp_path):
    spoiler, words = CHIP_KINDS[name]
    refuse(spoiler(chips), words, tmp_path, verify, truth=False)


def test_there_are_at_least_forty_kinds():
    assert len(KINDS) + len(CHIP_KINDS) >= 40


@pytest.mark.parametrize(
    "limits",
    [Limits(files=50), Limits(unpacked_bytes=20_000), Limits(file_bytes=1000), Limits(json_bytes=100), Limits(parquet_bytes=10)],
    ids=lambda limits: next(name for name in Limits.__slots__ if getattr(limits, name) != getattr(LIMITS, name)),
)
@pytest.mark.parametrize("packed", ["folder", "tar_plain"])
def test_limits_hold_for_folders_and_archives(limits, packed, bundle, verify):
    from tests.protocol.submission.spoilers import tarred

    given = bundle if packed == "folder" else tarred(bundle)
    verdict = verify(given, truth=False, limits=limits)
    assert verdict.outcome == "refused"
    assert "unexpected" not in verdict.notes


def test_html_in_every_text_field_is_refused_or_escaped(bundle, verify):
    from rs05bench.protocol.submission import verdict_page
    from tests.protocol.submission.world import write_sums

    hostile = "<script>alert(1)</script>"

    def poison(value):
        if isinstance(value, dict):
            return {(hostile if key in ("scikit-learn",) else key): poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return hostile if isinstance(value, str) else value

    for name in ("submission.json", "costs.json", "cells/1/predictions.json"):
        path = bundle / name
        path.write_text(json.dumps(poison(json.loads(path.read_text()))))
    write_sums(bundle)
    verdict = verify(bundle)
    assert verdict.outcome == "refused"
    assert "<script" not in verdict_page(verdict)
