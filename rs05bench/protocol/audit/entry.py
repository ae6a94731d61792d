"""The two ways in: a manifest by file or name, two lists by file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from rs05bench.errors import DataError
from rs05bench.protocol.audit.audit_report import AuditReport, ManifestReport, Shift, Thresholds
from rs05bench.protocol.audit.audit_side import AuditColumns
from rs05bench.protocol.audit.frames import audit_frames
from rs05bench.protocol.audit.inputs import read_lists
from rs05bench.protocol.audit.manifests import audit_manifest
from rs05bench.protocol.manifest import open_manifest


def audit_lists(
    train: str | Path,
    test: str | Path,
    *,
    units: Sequence[str | Path] = (),
    columns: AuditColumns | None = None,
    id_format: str = "{}",
    shift: str = "none",
    thresholds: Thresholds | None = None,
) -> AuditReport:
    """Audit two lists given as files; see `read_lists` for what they may be and `audit_frames` for what is looked for.

    Raises:
        DataError: A file, a column or an option is not what it should be.
    """
    if shift not in get_args(Shift):
        raise DataError(f"shift {shift!r} is not one of {', '.join(get_args(Shift))}", remedy="Say what the split declares to change.")
    one, other, resolved = read_lists(train, test, units=units, columns=columns, id_format=id_format)
    return audit_frames(
        one,
        other,
        resolved,
        shift=cast("Shift", shift),
        thresholds=thresholds,
        train_source=_short(train),
        test_source=_short(test),
    )


def audit_named(manifest: str, *, thresholds: Thresholds | None = None, own_buffer: bool = True) -> ManifestReport:
    """Audit a manifest given as a file, a folder or a name.

    Args:
        manifest: For example ``crop/leave-state-out@v1``.
        thresholds: From where on something is a leak.
        own_buffer: Whether the manifest's own buffer replaces ``min_km``.
    """
    loaded = open_manifest(manifest)
    limits = thresholds or Thresholds()
    if own_buffer:
        metres = float((loaded.card.get("parameters") or {}).get("buffer_m", 1000.0))
        limits = limits.model_copy(update={"min_km": metres / 1000.0})
    return audit_manifest(loaded, thresholds=limits)


def _short(spec: str | Path) -> str:
    """A list's name in the report: without the folders of this machine."""
    text = str(spec)
    if Path(text).is_file():
        return Path(text).name
    name, _, part = text.rpartition("#")
    return f"{Path(name).name}#{part}"
