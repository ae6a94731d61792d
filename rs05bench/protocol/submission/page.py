"""The verdict as a page: one file, no script, nothing fetched; every word of a stranger is escaped."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rs05bench.protocol.submission.verdict import CellVerdict, Verdict

_WORDS = {
    "refused": ("Refused", "This bundle is not accepted. Everything that was found is listed below."),
    "complete": ("Complete, not rescored", "No fault was found. The frozen labels were not at hand, so no score was computed."),
    "accepted": ("Accepted and rescored", "No fault was found, and every score below was computed here from the predictions."),
}
_MARK = {"refused": "✕", "complete": "○", "accepted": "✓"}
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--soft:#586069;--line:#d0d7de;--bad:#b3261e;--good:#1a6b3c}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--soft:#9da7b3;--line:#30363d;--bad:#ff8a80;--good:#6fd08c}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:0 auto;padding:1.5rem 1rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}
p,li{overflow-wrap:anywhere}.soft{color:var(--soft)}.refused{color:var(--bad)}.accepted{color:var(--good)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}.wide{overflow-x:auto}.ribbon{border:2px dashed var(--bad);padding:.5rem .75rem;font-weight:600}
"""


def verdict_page(verdict: Verdict) -> str:
    """The page as HTML."""
    head, meaning = _WORDS[verdict.outcome]
    title = verdict.title or verdict.slug or "a bundle"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        # Were anything ever to slip through the escaping, the browser would still neither run nor fetch it.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{_e(head)}: {_e(title)}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1 class="{verdict.outcome}"><span aria-hidden="true">{_MARK[verdict.outcome]}</span> {_e(head)}</h1>',
        f'<p>{_e(title)} <span class="soft">({_e(verdict.slug or "no name")}, bundle {_e(verdict.bundle[:16] or "not read")})</span></p>',
        f"<p>{_e(meaning)}</p>",
    ]
    if verdict.simulated:
        parts.append('<p class="ribbon">Simulated data: these results never rank.</p>')
    parts += _listed(f"Faults ({len(verdict.faults)})", verdict.faults)
    flags = [flag.sentence + (f" Cells: {', '.join(flag.cells)}." if flag.cells else "") for flag in verdict.flags]
    parts += _listed(f"A reviewer must look at ({len(flags)})", flags)
    parts += _listed("Notes", verdict.notes)
    parts += _about(verdict) + _scores(verdict) + _rules(verdict)
    when = f"Verified {verdict.verified_at} with rs05bench {verdict.version} in {verdict.seconds:.1f} s."
    parts.append(f'<p class="soft">{_e(when)} Labels of public data are public: rescoring proves arithmetic, not abstinence.</p>')
    parts.append("</main></body></html>")
    return "\n".join(parts) + "\n"


def _listed(head: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    return [f"<h2>{_e(head)}</h2><ul>", *(f"<li>{_e(sentence)}</li>" for sentence in sentences), "</ul>"]


def _about(verdict: Verdict) -> list[str]:
    if verdict.submission is None or verdict.model is None:
        return []
    sent, model = verdict.submission, verdict.model
    rows = [
        ("Authors", ", ".join(str(author.get("name")) for author in sent["authors"])),
        ("Model", f"{model.name} (tier {model.tier})"),
        ("Tracks", ", ".join(verdict.tracks)),
        ("Pretrained on", ", ".join(model.pretraining) or "nothing"),
        ("Overlap", sent["overlap"]),
        ("Licence", f"{sent['licence']} (predictions), {model.licence} (model)"),
        ("Code", sent["code"]),
        ("Weights", sent.get("weights") or "none named"),
        ("Hardware", ", ".join(f"{machine['count']} x {machine['name']}" for machine in sent["hardware"])),
    ]
    return ["<h2>Submission</h2>", *_table(("", ""), rows)]


def _scores(verdict: Verdict) -> list[str]:
    families: dict[tuple[str, str, str, str], list[CellVerdict]] = defaultdict(list)
    for cell in verdict.cells:
        if cell.scores:
            families[cell.task, cell.target, cell.split, cell.budget].append(cell)
    rows = []
    for (task, target, split, budget), cells in families.items():
        for metric in ("macro_f1", "r2", "miou"):
            shown = [[_mean(cell.scores.get(role, {}).get(metric) for cell in cells)] for role in ("test_id", "test_ood")]
            if any(value != "" for (value,) in shown):
                rows.append((f"{task} / {target}", split, budget, metric, *(value for (value,) in shown), str(len(cells))))
                break
    if not rows:
        return []
    head = ("task", "split", "budget", "metric", "at home", "held out", "cells")
    return ["<h2>Scores found here (means over folds and seeds)</h2>", *_table(head, rows, numbers=(4, 5, 6))]


def _rules(verdict: Verdict) -> list[str]:
    if not verdict.rules:
        return []
    rows = [(str(rule.rule), rule.verdict, rule.sentence, rule.reason) for rule in verdict.rules]
    return ["<h2>Rules of the protocol</h2>", *_table(("rule", "verdict", "what it asks", "why"), rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> list[str]:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=n' if i in numbers else ''}>{_e(value)}</{tag}>" for i, value in enumerate(row))

    titled = [f"<thead><tr>{cells('th', head)}</tr></thead>"] if any(head) else []
    return ['<div class="wide"><table>', *titled, "<tbody>", *(f"<tr>{cells('td', row)}</tr>" for row in rows), "</tbody></table></div>"]


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else ""


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)
