"""The report of a map: what it shows, how far to trust it, and where not to."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rs05bench.experiment.mapping import MapResult
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.result import Result
from rs05bench.protocol.splits import Split

AOA_SOURCE = "Meyer & Pebesma 2021, https://doi.org/10.1111/2041-210X.13650"
_CONFIDENCE = "Confidence is the largest class probability of the model, not a calibrated chance of being right."


def expected_accuracy(runs: str | Path, card: TaskCard, target: str, model: str, labels: int) -> dict[str, Any]:
    """What accuracy the results in a store promise a map: at home, and elsewhere.

    Only cells of this model on this card count, under splits that may be a main result, with the budget whose number of labels is nearest.

    Args:
        runs: Folder of results, or of one.
        card: The task card.
        target: Which target.
        model: The model's name.
        labels: Labels the map's model was trained on.

    Returns:
        `known`: whether there are any; then `metric`, `labels`, `cells`, `home` and `elsewhere` (mean, least and largest over folds and
        seeds; None where no cell says), `splits`.
    """
    found = [
        result
        for result in _results(Path(runs))
        if result.cell.task == card.name
        and result.cell.target == target
        and result.cell.model == model
        and result.main
        and result.digests.get("card") == card.digest
    ]
    if not found:
        return {"known": False}
    used = {result.cell.budget: int(result.budget.get("labels_used", 0)) for result in found}
    budget = min(used, key=lambda name: (abs(used[name] - labels), name))
    cells = [result for result in found if result.cell.budget == budget]
    metric = card.main_metric
    home = [result.scores["test_id"][metric] for result in cells if metric in result.scores.get("test_id", {})]
    moved = [result for result in cells if result.cell.split.rule.name in ("leave-group", "leave-group-year")]
    away = [result.scores["test_ood"][metric] for result in moved if metric in result.scores.get("test_ood", {})]
    return {
        "known": True,
        "metric": metric,
        "budget": budget,
        "labels": used[budget],
        "cells": len(cells),
        "home": _range(home),
        "elsewhere": _range(away),
        "splits": sorted({result.cell.split for result in cells}),
        "simulated": any(result.simulated for result in cells),
    }


def _results(folder: Path) -> Iterable[Result]:
    from rs05bench.experiment.store import ResultStore

    alone = folder / "result.json"
    return [Result.model_validate_json(alone.read_bytes())] if alone.is_file() else ResultStore(folder).results()


def _range(values: list[float]) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "least": min(values), "largest": max(values)} if values else None


def notes_of(card: TaskCard, data: Any, model: Any, *, split: str | None, years: Sequence[int]) -> list[str]:
    """What a reader should know before the map is used.

    Args:
        card: The task card.
        data: What the model was trained on.
        model: The fitted model.
        split: The split; None where every label trained.
        years: Years of the embedding that were asked for.
    """
    notes = []
    if split is None:
        notes.append(
            "Trained on every label, so none is left to test this very map: the expected accuracy is that of its sisters under protocol."
        )
    elif Split(split).rule.name == "random":
        notes.append("Trained under a random split, which is a sanity check only.")
    notes += _notes_of_network(data, model, years) if card.kind == "segmentation" else _notes_of_table(data, model, years)
    if card.notes:
        notes.append(" ".join(card.notes.split()))
    if card.overlap:
        notes.append(f"Overlap with pretraining: {card.overlap}")
    return notes


def _notes_of_table(data: Any, model: Any, years: Sequence[int]) -> list[str]:
    notes = _notes_of_years({int(year) for role in ("train", "val") for year in data.years(role) if year == year}, years)
    notes.append(
        "If a label describes an area (a parcel, a county), the model learnt from averages and is applied to single pixels of 10 m."
    )
    if model.kind_ == "regression" and getattr(model, "radius_", None) is None:
        notes.append("No interval: too few validation labels for one at 90 %.")
    elif model.kind_ == "regression":
        notes.append(
            "The interval is split-conformal: its width is the same everywhere; it holds on average, over places like the validation's."
        )
    else:
        notes.append(_CONFIDENCE)
    return notes


def _notes_of_network(data: Any, model: Any, years: Sequence[int]) -> list[str]:
    units = data.manifest.units.set_index("unit_id")["year"]
    seen = units.reindex([*data.unit_ids("train"), *data.unit_ids("val")]).dropna()
    offset = int(data.card.preprocessing.get("embedding_year_offset", 0))
    return [*_notes_of_years({int(year) + offset for year in seen}, years), _CONFIDENCE]


def _notes_of_years(known: set[int], years: Sequence[int]) -> list[str]:
    outside = sorted(set(years) - known)
    if not known or not outside:
        return []
    return [f"No label is of {', '.join(map(str, outside))}: the model carries {', '.join(map(str, sorted(known)))} over."]


def write_report(result: MapResult, record: dict[str, Any]) -> tuple[Path, Path]:
    """Writes `map.json`, `report.md` and `report.html` beside the maps.

    Args:
        result: The map.
        record: What `rs05bench.experiment.map_run` knows of task, model, labels, area of applicability and expected accuracy.

    Returns:
        The Markdown and the HTML file.
    """
    record = {**record, **result.record}
    record["files"] = {
        key: {name: str(path.relative_to(result.out)) for name, path in named.items()} for key, named in result.files.items()
    }
    write_text(result.out / "map.json", json.dumps(record, indent=1, ensure_ascii=False, default=float) + "\n")
    markdown = result.out / "report.md"
    write_text(markdown, _markdown(record))
    page = result.out / "report.html"
    write_text(page, _page(record, result))
    return markdown, page


def sections(record: dict[str, Any]) -> list[tuple[str, list[str] | list[list[str]]]]:
    """The report as headed paragraphs (text) and tables (lists of rows, the first its head)."""
    out: list[tuple[str, Any]] = []
    if record["simulated"]:
        out.append(("", ["SIMULATED: everything here was made from simulated data and says nothing about the Earth."]))
    labels = f"{record['labels_train']} training and {record['labels_val']} validation units"
    out.append(
        (
            "What this is",
            [
                f"{record['title']}: {record['target']}, mapped by {record['model']} ({record['tier']}).",
                f"Trained on {labels}, {record['trained_on']}.",
            ],
        )
    )
    out.append(("What accuracy to expect", _accuracy(record)))
    aoa = record["applicability"]
    lines = [
        "Outside the area of applicability the expected accuracy is not claimed. "
        f"A pixel lies inside when its dissimilarity to the training data is at most {aoa['threshold']:.3f} "
        f"(folds: {aoa['folds']}; {AOA_SOURCE}).",
    ]
    if aoa.get("top"):
        lines.append(f"{aoa['predictors']} predictors; most important to the model: {', '.join(aoa['top'])}.")
    lines += aoa.get("notes", [])
    out.append(("Where it may be trusted", lines))
    out.append(("", [["map", "mapped, km2", "inside", "outside"], *_shares(record)]))
    for key, counted in record["years"].items():
        if "classes" in counted:
            hectares = counted["pixel_area"] / 10_000 if record["metres"] else None
            unit = "hectares" if hectares else "pixels"
            rows = [
                [name, _amount(part["pixels"], hectares), _amount(part["inside"], hectares)]
                for name, part in counted["classes"].items()
                if part["pixels"]
            ]
            out.append((f"Area by class, {key}", [["class", unit, f"{unit} inside the area of applicability"], *rows]))
        elif "values" in counted:
            values = counted["values"]
            out.append(
                (
                    f"Values, {key}",
                    [
                        ["mean", "deviation", "least", "largest"],
                        [f"{values[name]:.4g}" for name in ("mean", "deviation", "least", "largest")],
                    ],
                )
            )
    out.append(("Read before use", record["notes"]))
    out.append(("Attribution", record["attribution"]))
    return out


def _accuracy(record: dict[str, Any]) -> list[str]:
    expected = record["expected"]
    if not expected.get("known"):
        return ["Not known: no result of this model on this card was given. Run `rs05bench sweep` and pass its folder with --runs."]

    def said(part: dict[str, float] | None) -> str:
        return (
            "not measured"
            if part is None
            else f"{expected['metric']} {part['mean']:.2f} ({part['least']:.2f} to {part['largest']:.2f} over folds and seeds)"
        )

    lines = [
        f"At home (new places in regions that trained): {said(expected['home'])}.",
        f"Elsewhere (a region that did not train): {said(expected['elsewhere'])}.",
        f"Measured with {expected['labels']} labels (budget {expected['budget']}; "
        f"{expected['cells']} {'cell' if expected['cells'] == 1 else 'cells'} of {', '.join(expected['splits'])}).",
    ]
    return [*lines, "Those scores are themselves of simulated data."] if expected["simulated"] else lines


def _shares(record: dict[str, Any]) -> list[list[str]]:
    rows = []
    for key, counted in record["years"].items():
        size = f"{counted['pixels'] * counted['pixel_area'] / 1e6:,.2f}" if record["metres"] else f"{counted['pixels']:,} pixels"
        inside = counted["share_inside"]
        rows.append([key, size, f"{inside:.1%}", f"{1 - inside:.1%}"])
    return rows


def _amount(pixels: int, hectares: float | None) -> str:
    return f"{pixels:,}" if hectares is None else f"{pixels * hectares:,.1f}"


def _markdown(record: dict[str, Any]) -> str:
    lines = [f"# Map: {record['title']}", ""]
    for head, body in sections(record):
        if head:
            lines += [f"## {head}", ""]
        if body and isinstance(body[0], list):
            lines += ["| " + " | ".join(body[0]) + " |", "|---" * len(body[0]) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in body[1:]]
        else:
            lines += [f"- {line}" for line in body if isinstance(line, str)]
        lines.append("")
    for key, named in record["files"].items():
        lines += [f"![{key}]({named['preview']})", ""]
        lines += [f"- `{path}`" for name, path in named.items() if name != "preview"] + [""]
    return "\n".join(lines)


def _page(record: dict[str, Any], result: MapResult) -> str:
    parts = [f"<h1>{html.escape(record['title'])}</h1>"]
    for head, body in sections(record):
        if head:
            parts.append(f"<h2>{html.escape(head)}</h2>")
        if body and isinstance(body[0], list):
            parts.append(
                "<table><thead><tr>" + "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in body[0]) + "</tr></thead><tbody>"
            )
            parts += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body[1:]]
            parts.append("</tbody></table>")
        else:
            ribbon = ' class="ribbon"' if body and str(body[0]).startswith("SIMULATED") else ""
            parts += [f"<p{ribbon}>{html.escape(str(line))}</p>" for line in body]
    for key, named in record["files"].items():
        picture = base64.b64encode((result.out / named["preview"]).read_bytes()).decode()
        links = ", ".join(f'<a href="{html.escape(path)}">{html.escape(name)}</a>' for name, path in named.items() if name != "preview")
        parts.append(
            f'<figure><img src="data:image/png;base64,{picture}" alt="Map of {html.escape(key)}; the tables above hold its numbers">'
            f"<figcaption>{html.escape(key)}: {links}</figcaption></figure>"
        )
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
        "img{max-width:100%}table{border-collapse:collapse;margin:.5rem 0}"
        "th,td{padding:.2rem .8rem;border-bottom:1px solid #ccc;text-align:left}"
        ".ribbon{background:#D55E00;color:#000;padding:.4rem .8rem;font-weight:bold}figure{margin:1rem 0}"
    )
    title = html.escape(record["title"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )
