"""The audit in words, for a terminal."""

from __future__ import annotations

from rs05bench.protocol.audit.audit_report import AuditReport, Finding, Level, ManifestReport

MARKS: dict[Level, str] = {"leak": "LEAK", "warning": "warn", "pass": "ok", "note": "note", "not_checked": "-"}
ORDER: dict[Level, int] = {"leak": 0, "warning": 1, "pass": 2, "note": 3, "not_checked": 4}


def summary(report: AuditReport | ManifestReport) -> str:
    """The verdict in one sentence."""
    if report.verdict == "leaks":
        kinds = list(dict.fromkeys(finding.sentence.split(":")[0] for finding in report.leaks))
        return f"leaks: {', '.join(kinds)}"
    if report.verdict == "unlocated":
        return (
            f"unlocated: no leak found, but {report.unlocated:,} test and {report.unlocated_train:,} training units have no position, "
            "so nobody can say how near they are"
        )
    return "clean: no leak found in what was checked"


def render(report: AuditReport | ManifestReport) -> str:
    """The whole report as plain text, leaks first and with their worst cases."""
    return _manifest_text(report) if isinstance(report, ManifestReport) else _list_text(report)


def _list_text(report: AuditReport) -> str:
    lines = [
        f"train  {report.train_source}  {report.n_train:,} units",
        f"test   {report.test_source}  {report.n_test:,} units",
        f"VERDICT  {summary(report)}",
        "",
    ]
    for finding in sorted(report.findings, key=lambda found: ORDER[found.level]):
        lines += _finding_lines(finding)
    lines += ["", nearest_line(report)]
    return "\n".join(lines)


def _manifest_text(report: ManifestReport) -> str:
    lines = [
        f"{report.manifest}  {report.folds} fold{'' if report.folds == 1 else 's'}, digest {report.digest[:16]}",
        f"VERDICT  {summary(report)}",
        "",
    ]
    head = ("fold", "role", "shift", "against", "train", "test", "median km", "within 1/10/30/100 km", "verdict")
    rows = [head]
    for part in report.parts:
        found = part.report
        median = "-" if found.median_nearest_km is None else f"{found.median_nearest_km:,.1f}"
        counts = "/".join(f"{n:,}" for n in found.within_km.values())
        rows.append(
            (part.fold, part.role, part.shift, part.against, f"{found.n_train:,}", f"{found.n_test:,}", median, counts, found.verdict)
        )
    width = [max(len(row[k]) for row in rows) for k in range(len(head))]
    numeric = (4, 5, 6)
    for row in rows:
        cells = [text.rjust(width[k]) if k in numeric else text.ljust(width[k]) for k, text in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    leaking = [part for part in report.parts if part.report.leaks]
    for part in leaking:
        lines += ["", f"{part.fold}, {part.role}, shift {part.shift}, against {part.against}:"]
        for finding in part.report.leaks:
            lines += _finding_lines(finding)
    lines += ["", nearest_line(report)]
    return "\n".join(lines)


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"  {MARKS[finding.level]:<4}  {finding.sentence}"]
    if finding.level in ("leak", "warning"):
        for case in finding.cases:
            against = f" and {case.train}" if case.train and case.train != case.test else ""
            lines.append(f"          {case.test}{against}: {case.detail}")
    return lines


def nearest_line(report: AuditReport | ManifestReport) -> str:
    """Counts within the reported distances, and the median."""
    if report.median_nearest_km is None:
        return "nearest training unit: no located pair"
    counts = ", ".join(f"{limit} km {count:,}" for limit, count in report.within_km.items())
    median = f"nearest training unit: median {report.median_nearest_km:,.1f} km"
    return f"{median}; test units within {counts}; {report.unlocated:,} of {report.n_test:,} unlocated"
