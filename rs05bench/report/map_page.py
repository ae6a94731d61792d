"""The report of a map, as a page and as Markdown: what it shows, what accuracy to expect, where it may be trusted and where not."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.experiment.map_files import MapPanel, map_panels
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.metrics import area_adjusted_accuracy
from rs05bench.report import setting
from rs05bench.report.maps import scale_bar
from rs05bench.report.text_tables import Table

if TYPE_CHECKING:
    from rs05bench.experiment.map_draw import MapResult

AOA_SOURCE = "Meyer & Pebesma 2021, https://doi.org/10.1111/2041-210X.13650"
SIMULATED = "Everything here was made from simulated data and says nothing about the Earth."


@dataclass(frozen=True)
class MapPart:
    """A headed part of the report.

    Attributes:
        title: Its heading.
        lines: Paragraphs.
        table: A table after them.
    """

    title: str
    lines: list[str]
    table: Table | None = None


def write_map_report(result: MapResult) -> Path:
    """Writes `report.html` (one file, its pictures inside) and `report.md` next to the maps.

    Args:
        result: From `rs05bench.experiment.map_run.make_map`.

    Returns:
        The HTML file.
    """
    record = result.record
    pictures = {
        key: [_shown(panel) for panel in map_panels(named, classes=_classes(record["years"][key]), unit=record["target"])]
        for key, named in result.files.items()
    }
    given = {"record": record, "parts_shown": parts_of(record), "simulated": SIMULATED if record["simulated"] else ""}
    write_text(result.out / "report.md", setting.environment().get_template("map.md.j2").render(**given))
    return setting.write_page(result.out / "report.html", setting.page("map.html.j2", pictures=pictures, **given))


@dataclass(frozen=True)
class ShownPanel:
    """A picture on the page; everything that is read is text of the page, of its size at every width.

    Attributes:
        title: Its heading.
        png: The picture, base64.
        entries: (colour, words) of the classes and of the stripes.
        ramp: Base64 PNG of the colours of numbers, and their least and largest value as written; None for classes.
        bar: Width of the scale bar, per cent of the picture's, and its length as written.
    """

    title: str
    png: str
    entries: list[tuple[str, str]]
    ramp: tuple[str, str, str] | None
    bar: tuple[float, str]


def _shown(panel: MapPanel) -> ShownPanel:
    from matplotlib import colormaps

    ramp = None
    if panel.ramp is not None:
        name, low, high = panel.ramp
        colours = np.round(colormaps[name](np.linspace(0, 1, 128))[None] * 255).astype(np.uint8)
        ramp = _png(colours), f"{low:.3g}", f"{high:.3g}"
    length, words = scale_bar(panel.width_m / 1000 / 3)
    title = {"class": "Class", "value": panel.words, "confidence": "Largest probability", "half_width90": "Half width of the 90 % interval"}
    return ShownPanel(title[panel.name], _png(panel.pixels), panel.entries, ramp, (100_000 * length / panel.width_m, words))


def _png(pixels: NDArray[np.uint8]) -> str:
    from matplotlib.image import imsave

    out = io.BytesIO()
    imsave(out, pixels, format="png", metadata={"Software": "rs05bench"})
    return base64.b64encode(out.getvalue()).decode()


def _classes(counts: dict[str, Any]) -> list[str] | None:
    return list(counts["classes"]) if "classes" in counts else None


def parts_of(record: dict[str, Any]) -> list[MapPart]:
    """The parts of the report of a map's record (`map.json`)."""
    area, labels = record["applicability"], f"{record['labels_train']} training and {record['labels_val']} validation units"
    trusted = [
        "Outside the area of applicability the expected accuracy is not claimed. "
        f"A pixel is inside when its dissimilarity to the training data is at most {area['threshold']:.3f} "
        f"(folds: {area['folds']}; {AOA_SOURCE}).",
        *([f"{area['predictors']} predictors; most important to the model: {', '.join(area['top'])}."] if area.get("top") else []),
        *area.get("notes", []),
    ]
    shares = Table("shares", "Inside and outside", ["map", "#mapped, km2", "#inside", "#outside"], _shares(record))
    sample = record["expected"].get("sample")
    counted = [_counted(key, counts, sample, metres=record["metres"]) for key, counts in record["years"].items()]
    return [
        MapPart(
            "What this is",
            [
                f"{record['title']}: {record['target']}, mapped by {record['model']} ({record['tier']}).",
                f"Trained on {labels}, {record['trained_on']}.",
            ],
        ),
        MapPart("What accuracy to expect", _accuracy(record["expected"])),
        MapPart("Where it may be trusted", trusted, shares),
        *(part for part in counted if part is not None),
        MapPart("Read before use", record["notes"]),
        MapPart("Attribution", record["attribution"]),
    ]


def _counted(key: str, counts: dict[str, Any], sample: list[list[float]] | None, *, metres: bool) -> MapPart | None:
    """Areas by class, or what is known of the values, of one map."""
    if "classes" in counts:
        hectares = counts["pixel_area"] / 10_000 if metres else None
        unit = "hectares" if hectares else "pixels"
        adjusted, lines = _adjusted(counts["classes"], sample, hectares)
        rows = [
            [name, _amount(part["pixels"], hectares), _amount(part["inside"], hectares), area]
            for (name, part), area in zip(counts["classes"].items(), adjusted, strict=True)
            if part["pixels"] or area not in ("", "0")
        ]
        title = f"Area by class, {key}"
        head = ["class", f"#{unit} mapped (pixels counted)", f"#{unit} inside the area of applicability", f"#{unit} estimated, 95 %"]
        return MapPart(title, lines, Table(f"classes-{key}", title, head, rows))
    if "values" not in counts:
        return None
    names, title = ["mean", "deviation", "least", "largest"], f"Values, {key}"
    values = [f"{counts['values'][name]:.4g}" for name in names]
    return MapPart(title, [], Table(f"values-{key}", title, [f"#{name}" for name in names], [values]))


def _adjusted(classes: dict[str, Any], sample: list[list[float]] | None, hectares: float | None) -> tuple[list[str], list[str]]:
    """Area of each class corrected for the confusion of test units, with its 95 % interval, and what to know of it."""
    nothing = [""] * len(classes)
    if sample is None:
        return nothing, [
            "Counting pixels gives the area of a map, not of the ground: what is confused more often one way than the other is over- or "
            "under-mapped. Give --runs with results of this model for areas with their error."
        ]
    mapped = np.array([part["pixels"] for part in classes.values()], dtype=np.float64) * (hectares or 1.0)
    try:
        found = area_adjusted_accuracy(np.array(sample), mapped)
    except DataError as error:
        return nothing, [f"No area with an error can be given: {error.problem}."]
    reach = 1.96 * found.area_se
    shown = [
        f"{area:,.0f}" + (f" ± {half:,.0f}" if np.isfinite(half) else "") if np.isfinite(area) else ""
        for area, half in zip(found.area, reach, strict=True)
    ]
    return shown, [
        f"Estimated areas are corrected for the confusion of {np.sum(sample):,.0f} in-domain test units (Olofsson et al. 2014, "
        "https://doi.org/10.1016/j.rse.2014.02.015). They are unbiased only if those units are a random sample of each mapped class here; "
        "units that were chosen, balanced by class or placed elsewhere are not."
    ]


def _accuracy(expected: dict[str, Any]) -> list[str]:
    if not expected.get("known"):
        return ["Not known: no result of this model on this card was given. Run rs05bench sweep and pass its folder with --runs."]

    def shown(part: dict[str, float] | None) -> str:
        if part is None:
            return "not measured"
        return f"{expected['metric']} {part['mean']:.2f} ({part['least']:.2f} to {part['largest']:.2f} over folds and seeds)"

    cells = f"{expected['cells']} {'cell' if expected['cells'] == 1 else 'cells'} of {', '.join(map(str, expected['splits']))}"
    lines = [
        f"In-domain (new places in regions that trained): {shown(expected['home'])}.",
        f"Out-of-domain (a region that did not train): {shown(expected['elsewhere'])}.",
        f"Measured with {expected['labels']} labels (budget {expected['budget']}; {cells}).",
    ]
    return [*lines, "Those scores are themselves of simulated data."] if expected["simulated"] else lines


def _shares(record: dict[str, Any]) -> list[list[str]]:
    rows = []
    for key, counts in record["years"].items():
        size = f"{counts['pixels'] * counts['pixel_area'] / 1e6:,.2f}" if record["metres"] else f"{counts['pixels']:,} pixels"
        rows.append([key, size, f"{counts['share_inside']:.1%}", f"{1 - counts['share_inside']:.1%}"])
    return rows


def _amount(pixels: int, hectares: float | None) -> str:
    return f"{pixels:,}" if hectares is None else f"{pixels * hectares:,.1f}"
