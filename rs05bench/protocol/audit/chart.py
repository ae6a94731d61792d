"""The audit on a map: where training and test lie, and the worst cases, as a picture or as one page that opens offline."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.audit.audit_report import AuditReport, Case, ManifestReport
from rs05bench.protocol.audit.text import MARKS, ORDER, nearest_line, summary

# Okabe-Ito; the shape repeats what the colour says.
TRAIN, TEST, WORST = "#7f7f7f", "#0072B2", "#D55E00"
WIDTH = 960.0

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin-top: 2rem }
.verdict { border-left: .5rem solid #E69F00; padding: .5rem 1rem; background: #f6f6f6 }
.verdict.leaks { border-color: #D55E00 }
.verdict.clean { border-color: #009E73 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #ddd }
tr.leak td:first-child { font-weight: 700; color: #a33f00 }
ul { margin: .2rem 0 0; padding-left: 1.2rem; color: #333 }
svg { width: 100%; height: auto; border: 1px solid #ccc }
svg text { font: 12px system-ui, sans-serif; fill: #333 }
"""


def draw_map(report: AuditReport | ManifestReport, path: str | Path) -> Path:
    """Draw the audit.

    Args:
        report: An audit of two lists or of a manifest (there the worst fold is drawn).
        path: Ends in ``.html`` (one page, no network) or ``.png``.

    Raises:
        DataError: Another suffix, or nothing has a position.
    """
    target = Path(path)
    part = _worst_part(report)
    if target.suffix.lower() not in (".html", ".png"):
        raise DataError(
            f"a map is .html or .png, not {target.suffix or 'without suffix'!r}", source=target, remedy="Write --map audit.html."
        )
    if not part.located:
        raise DataError("nothing to map: no unit has a position", source=target, remedy="Name coordinates with --lat and --lon.")
    if target.suffix.lower() == ".png":
        _png(part, target)
    else:
        write_text(target, _page(report, part))
    return target


def _worst_part(report: AuditReport | ManifestReport) -> AuditReport:
    if isinstance(report, AuditReport):
        return report
    return max(report.parts, key=lambda part: (len(part.report.leaks), sum(found.count or 0 for found in part.report.leaks))).report


def worst_cases(report: AuditReport) -> list[Case]:
    """The cases of leaks and warnings that have a position, each test unit once."""
    named: dict[str, Case] = {}
    for finding in sorted(report.findings, key=lambda found: ORDER[found.level]):
        if finding.level in ("leak", "warning"):
            for case in finding.cases:
                if case.test_lonlat is not None:
                    named.setdefault(case.test, case)
    return list(named.values())


def _png(report: AuditReport, target: Path) -> None:
    from matplotlib.figure import Figure

    points = {role: np.array([(lon, lat) for r, lon, lat in report.located if r == role]).reshape(-1, 2) for role in ("train", "test")}
    every = np.concatenate(list(points.values()))
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*points["train"].T, s=9, c=TRAIN, marker="o", linewidths=0, alpha=0.6, label=f"training ({report.n_train:,})")
    axes.scatter(*points["test"].T, s=14, c=TEST, marker="^", linewidths=0, alpha=0.8, label=f"test ({report.n_test:,})")
    label: str | None = "worst cases"
    for case in worst_cases(report):
        assert case.test_lonlat is not None
        ends = np.array([case.test_lonlat, case.train_lonlat or case.test_lonlat])
        axes.plot(*ends.T, color=WORST, lw=1.2)
        axes.scatter(*ends[0], s=90, facecolors="none", edgecolors=WORST, marker="o", linewidths=1.6, label=label)
        axes.annotate(case.test, ends[0], xytext=(6, 6), textcoords="offset points", fontsize=7, color="#333333")
        label = None
    axes.set(xlabel="longitude (degrees)", ylabel="latitude (degrees)")
    # One kilometre is as long across as along at the middle latitude.
    axes.set_aspect(1 / max(np.cos(np.radians(every[:, 1].mean())), 0.1))
    axes.set_title(summary(report), fontsize=10, loc="left", wrap=True)
    axes.legend(loc="best", fontsize=8)
    axes.grid(color="#dddddd", lw=0.5)
    axes.set_axisbelow(True)
    figure.savefig(target, dpi=150)


def _page(report: AuditReport | ManifestReport, part: AuditReport) -> str:
    esc = html.escape
    whole = report if isinstance(report, ManifestReport) else None
    title = f"Audit of {whole.manifest}" if whole else "Audit of a split"
    rows = "".join(
        f"<tr class={found.level}><td>{MARKS[found.level]}</td><td>{esc(found.sentence)}{_case_list(found.cases)}</td></tr>"
        for found in sorted(part.findings, key=lambda found: ORDER[found.level])
    )
    shown = f"<p>Shown: {esc(part.train_source)} against {esc(part.test_source)}.</p>" if whole else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{esc(title)}</title>
<style>{CSS}</style></head><body><main>
<h1>{esc(title)}</h1>
<p class="verdict {report.verdict}"><strong>{report.verdict}</strong>. {esc(summary(report).partition(": ")[2])}.</p>
{shown}<p>{esc(part.train_source)}: {part.n_train:,} training units. {esc(part.test_source)}: {part.n_test:,} test units.
{esc(nearest_line(part))}.</p>
<h2>Where they lie</h2>
{_svg(part)}
<h2>What was checked</h2>
<table><thead><tr><th scope="col">Outcome</th><th scope="col">Finding and worst cases</th></tr></thead><tbody>{rows}</tbody></table>
</main></body></html>
"""


def _case_list(cases: list[Case]) -> str:
    if not cases:
        return ""
    items = "".join(f"<li>{html.escape(_words(case))}</li>" for case in cases)
    return f"<ul>{items}</ul>"


def _words(case: Case) -> str:
    pair = f"{case.test} and {case.train}" if case.train and case.train != case.test else case.test
    return f"{pair}: {case.detail}"


def _svg(report: AuditReport) -> str:
    lonlat = np.array([(lon, lat) for _, lon, lat in report.located])
    low, high = lonlat.min(axis=0), lonlat.max(axis=0)
    pad = np.maximum((high - low) * 0.04, 0.02)
    low, high = low - pad, high + pad
    squeeze = max(float(np.cos(np.radians(lonlat[:, 1].mean()))), 0.1)
    scale = WIDTH / ((high[0] - low[0]) * squeeze)
    height = (high[1] - low[1]) * scale
    if height > 1.2 * WIDTH:
        scale *= 1.2 * WIDTH / height
        height = 1.2 * WIDTH
    width = (high[0] - low[0]) * squeeze * scale

    def at(lon: float, lat: float) -> tuple[float, float]:
        return round((lon - low[0]) * squeeze * scale, 1), round((high[1] - lat) * scale, 1)

    parts = [_graticule(low, high, at, width, height)]
    for role, colour in (("train", TRAIN), ("test", TEST)):
        # Thousands of shapes in one path: the page stays small and draws at once.
        dots = []
        for r, lon, lat in report.located:
            if r == role:
                x, y = at(lon, lat)
                dots.append(f"M{x - 2:g} {y:g}a2 2 0 1 0 4 0a2 2 0 1 0-4 0" if role == "train" else f"M{x:g} {y - 3.5:g}l3.5 6h-7z")
        parts.append(f'<path d="{"".join(dots)}" fill="{colour}" fill-opacity="0.7"/>')
    for case in worst_cases(report):
        assert case.test_lonlat is not None
        x, y = at(*case.test_lonlat)
        u, v = at(*(case.train_lonlat or case.test_lonlat))
        words = html.escape(_words(case))
        parts.append(
            f'<g><title>{words}</title><line x1="{x}" y1="{y}" x2="{u}" y2="{v}" stroke="{WORST}" stroke-width="1.5"/>'
            f'<circle cx="{x}" cy="{y}" r="8" fill="none" stroke="{WORST}" stroke-width="2"/></g>'
        )
    legend = (
        f'<g transform="translate(10 {height + 22:.0f})"><circle cx="5" cy="-4" r="3" fill="{TRAIN}"/>'
        f'<text x="14">training ({report.n_train:,})</text>'
        f'<path d="M165 -8l4 7h-8z" fill="{TEST}"/><text x="175">test ({report.n_test:,})</text>'
        f'<circle cx="325" cy="-4" r="6" fill="none" stroke="{WORST}" stroke-width="2"/><text x="337">worst cases, named below</text></g>'
    )
    words = html.escape(f"Map of training and test units. {summary(report)}")
    return f'<svg viewBox="0 0 {width:.0f} {height + 34:.0f}" role="img" aria-label="{words}">{"".join(parts)}{legend}</svg>'


def _graticule(low: np.ndarray, high: np.ndarray, at: object, width: float, height: float) -> str:
    assert callable(at)
    lines = []
    for axis in (0, 1):
        step = 10.0 ** np.floor(np.log10((high[axis] - low[axis]) / 2))
        step *= next(k for k in (5, 2, 1) if (high[axis] - low[axis]) / (step * k) >= 2)
        for value in np.arange(np.ceil(low[axis] / step) * step, high[axis], step):
            x, y = at(value, low[1]) if axis == 0 else at(low[0], value)
            line = f'x1="{x}" y1="0" x2="{x}" y2="{height:.0f}"' if axis == 0 else f'x1="0" y1="{y}" x2="{width:.0f}" y2="{y}"'
            place = f'x="{x + 3}" y="{height - 4:.0f}"' if axis == 0 else f'x="3" y="{y - 3}"'
            lines.append(f'<line {line} stroke="#ddd"/><text {place}>{value:g}°</text>')
    return "".join(lines)
