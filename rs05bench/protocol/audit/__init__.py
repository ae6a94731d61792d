"""The leakage audit: does a split let a model know its test units from training?

``audit_frames`` takes two tables, ``audit_manifest`` a frozen manifest; both return a report with a verdict (clean, leaks, unlocated).
"""

from rs05bench.protocol.audit.audit_report import AuditReport, Case, Finding, ManifestReport, Thresholds
from rs05bench.protocol.audit.audit_side import AuditColumns
from rs05bench.protocol.audit.autocorrelation import Variogram, variogram
from rs05bench.protocol.audit.entry import audit_lists, audit_named
from rs05bench.protocol.audit.frames import audit_frames
from rs05bench.protocol.audit.inputs import read_lists
from rs05bench.protocol.audit.manifests import audit_manifest, with_published_verdict, with_verdict
from rs05bench.protocol.audit.nearness import nearest_train
from rs05bench.protocol.audit.table_checks import audit_table, warnings_of_table

__all__ = [
    "AuditColumns",
    "AuditReport",
    "Case",
    "Finding",
    "ManifestReport",
    "Thresholds",
    "Variogram",
    "audit_frames",
    "audit_lists",
    "audit_manifest",
    "audit_named",
    "audit_table",
    "nearest_train",
    "read_lists",
    "variogram",
    "warnings_of_table",
    "with_published_verdict",
    "with_verdict",
]
