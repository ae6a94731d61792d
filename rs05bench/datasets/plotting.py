"""Pictures of samples. Colours differ in lightness too, so that they stay apart in print and for colour-blind eyes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rs05bench.datasets.chips import ChipDataset

MISSING = "#ffffff"
NO_IMAGE = "#7fe7ff"  # white would look like a bright road or a cloud
_PANEL = 3.4


def plot_chip(dataset: ChipDataset, sample: dict[str, Any], *, show_titles: bool, suptitle: str | None) -> Figure:
    """Every date in the data set's composites, each in one stretch for all dates, the mask and, if there is one, the prediction."""
    image, valid = _image_of(sample)
    image, valid = (image[None], valid[None]) if image.ndim == 3 else (image, valid)
    usual = (", ".join(dict.fromkeys(dataset.rgb_bands)), dataset.rgb_bands)
    composites = dataset.composites or (usual,)
    dates = str(sample.get("date", "")).split(",")
    shown = ["mask"] + (["prediction"] if "prediction" in sample else [])
    figure, axes = _figure(len(image) * len(composites) + len(shown))
    pictures = iter(axes)
    for title, bands in composites:
        limits = stretch(image, dataset.bands, bands, valid)
        for number, date in enumerate(image):
            axis = next(pictures)
            axis.imshow(composite(date, dataset.bands, bands, valid[number], limits), interpolation="none")
            when = dates[number] if len(dates) == len(image) and dates[number] else f"date {number + 1}"
            _title(axis, when if len(image) > 1 else title, show_titles)
    colours, present = dataset.colours or class_colours(len(dataset.classes)), set()
    for axis, key in zip(pictures, shown, strict=True):
        labels = _array(sample[key])
        present |= set(np.unique(labels).tolist())
        axis.imshow(paint(labels, colours), interpolation="none")
        scored = labels >= 0
        share = f": {(labels[scored] == 1).mean():.1%} {dataset.classes[1]}" if len(dataset.classes) == 2 and scored.any() else ""
        _title(axis, key + share, show_titles)
    _class_legend(figure, dataset.classes, colours, present, gaps=not valid.all())
    return _finish(figure, suptitle or _default_title(sample))


def plot_classes(
    sample: dict[str, Any], classes: Sequence[str], colours: Sequence[str] = (), *, show_titles: bool, suptitle: str | None
) -> Figure:
    """A class raster alone and, if there is one, the prediction.

    Args:
        sample: Holds `mask` and perhaps `prediction`, class indices (H, W).
        classes: Class names by index.
        colours: A colour a class; default `class_colours`.
        show_titles: Titles over the panels.
        suptitle: Title over all.
    """
    colours = colours or class_colours(len(classes))
    shown = ["mask"] + (["prediction"] if "prediction" in sample else [])
    figure, axes = _figure(len(shown))
    present: set[int] = set()
    for axis, key in zip(axes, shown, strict=True):
        labels = _array(sample[key]).squeeze()
        present |= set(np.unique(labels).tolist())
        axis.imshow(paint(labels, colours), interpolation="none")
        _title(axis, key, show_titles)
    _class_legend(figure, classes, colours, present)
    return _finish(figure, suptitle)


def class_colours(count: int) -> list[str]:
    """Colours of classes that have none of their own: Okabe and Ito's eight, then those of matplotlib's tab20."""
    okabe = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"]
    rest = [to_hex(colour) for colour in plt.get_cmap("tab20").colors]
    return [(okabe + rest)[index % (len(okabe) + len(rest))] for index in range(count)]


def plot_indicators(sample: dict[str, Any], names: Sequence[str], *, show_titles: bool, suptitle: str | None, most: int = 6) -> Figure:
    """Indicators of a slice, a panel and a colour scale each; a prediction below its indicator on the same scale."""
    values = _array(sample["mask"])
    rows = [values] + ([_array(sample["prediction"])] if "prediction" in sample else [])
    count = min(len(names), most)
    figure, grid = plt.subplots(len(rows), count, figsize=(_PANEL * count, _PANEL * len(rows) + 0.6), squeeze=False)
    for row, (axes, picture) in enumerate(zip(grid, rows, strict=True)):
        for column, axis in enumerate(axes):
            known = values[column][np.isfinite(values[column])]
            low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
            image = axis.imshow(picture[column], cmap="cividis", vmin=low, vmax=max(high, low + 1e-9), interpolation="none")
            figure.colorbar(image, ax=axis, fraction=0.046)
            axis.set_xticks([])
            axis.set_yticks([])
            _title(axis, names[column] + (", predicted" if row else ""), show_titles)
    return _finish(figure, suptitle)


def stretch(image: NDArray[np.floating], bands: Sequence[str], chosen: Sequence[str], valid: NDArray[np.bool_]) -> tuple[float, float]:
    """2nd and 98th percentile of the valid pixels of the chosen bands taken together, so that colours keep their meaning.

    Args:
        image: (..., bands, H, W).
        bands: Names along the band axis.
        chosen: Names of the bands to show.
        valid: (..., H, W).
    """
    values = np.concatenate([image[..., list(bands).index(name), :, :][valid] for name in chosen])
    low, high = (0.0, 1.0) if values.size == 0 else np.percentile(values, [2, 98])
    return float(low), float(max(high, low + 1e-6))


def composite(
    image: NDArray[np.floating],
    bands: Sequence[str],
    chosen: Sequence[str],
    valid: NDArray[np.bool_],
    limits: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Three bands as a picture (H, W, 3), stretched between common limits; missing pixels take a colour that no land has."""
    low, high = limits or stretch(image, bands, chosen, valid)
    picture = np.stack([np.clip((image[list(bands).index(name)] - low) / (high - low), 0, 1) for name in chosen], axis=-1)
    picture[~valid] = to_rgb(NO_IMAGE)
    return picture.astype(np.float32)


def paint(labels: NDArray[np.integer], colours: Sequence[str]) -> NDArray[np.float32]:
    """Class indices as a picture (H, W, 3); anything outside the classes takes the colour of missing data."""
    table = np.array([to_rgb(colour) for colour in (*colours, MISSING)], dtype=np.float32)
    index = np.where((labels >= 0) & (labels < len(colours)), labels, len(colours))
    return table[index]


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, panels, figsize=(_PANEL * panels, _PANEL + 1.1), squeeze=False)
    for axis in axes[0]:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, list(axes[0])


def _title(axis: Axes, text: str, show: bool) -> None:
    if show:
        axis.set_title(text, fontsize=9)


def _class_legend(figure: Figure, classes: Sequence[str], colours: Sequence[str], present: set[int], *, gaps: bool = False) -> None:
    entries = [(name, colour) for index, (name, colour) in enumerate(zip(classes, colours, strict=True)) if index in present]
    entries += [("no label", MISSING)] if -1 in present else []
    entries += [("no image", NO_IMAGE)] if gaps else []
    _legend(figure, [name for name, _ in entries], [colour for _, colour in entries])


def _legend(figure: Figure, names: Sequence[str], colours: Sequence[str]) -> None:
    patches = [Patch(facecolor=colour, edgecolor="#555555", label=name) for name, colour in zip(names, colours, strict=True)]
    if patches:
        columns = min(len(patches), max(2, int(figure.get_figwidth() // 2)))
        figure.legend(handles=patches, loc="lower center", ncols=columns, fontsize=8, frameon=False)


def _finish(figure: Figure, suptitle: str | None) -> Figure:
    if suptitle:
        figure.suptitle(suptitle, fontsize=11)
    rows = 1 if not figure.legends else -(-len(figure.legends[0].get_texts()) // figure.legends[0]._ncols)
    figure.tight_layout(rect=(0, 0.05 + 0.04 * rows, 1, 1))
    return figure


def _default_title(sample: dict[str, Any]) -> str | None:
    unit = sample.get("unit_id")
    if unit is None:
        return None
    day = str(sample.get("date", ""))
    return " · ".join(part for part in (str(unit), "" if "," in day else day, str(sample.get("crs", ""))) if part)


def _image_of(sample: dict[str, Any]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """The image of a sample, and where it holds data: what the sample says, else where no band is NaN (a sample of a batch)."""
    image = _array(sample["image"])
    valid = ~np.isnan(image).any(axis=-3) if "valid" not in sample else _array(sample["valid"]).astype(bool)
    return image, valid


def _array(value: Any) -> NDArray[Any]:
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


def plot_indicator(frame: Any, indicator: str, year: int, *, suptitle: str | None) -> Figure:
    """One map a metro on one colour scale; tracts without a number are hatched."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    from rs05bench.datasets.urban_schema import INDICATORS

    meta = next(entry for entry in INDICATORS if entry.name == indicator)
    metros = sorted(frame["metro"].unique())
    columns = min(3, len(metros))
    rows = -(-len(metros) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 3.2 * rows + 1.0), squeeze=False)
    values = frame[indicator]
    low, high = (0.0, 1.0) if values.isna().all() else (float(values.quantile(0.02)), float(values.quantile(0.98)))
    norm = Normalize(low, max(high, low + 1e-9))
    for axis, metro in zip(axes.flat, metros, strict=False):
        here = frame[frame["metro"] == metro]
        known, unknown = here[here[indicator].notna()], here[here[indicator].isna()]
        if len(known):
            known.plot(column=indicator, cmap="cividis", norm=norm, ax=axis, linewidth=0.2, edgecolor="white", aspect=None)
        if len(unknown):
            unknown.plot(facecolor="white", edgecolor="#777777", hatch="////", linewidth=0.2, ax=axis, aspect=None)
        axis.set_title(f"{metro}: {len(here)} tracts, {len(unknown)} missing", fontsize=9)
        axis.set_aspect(1 / np.cos(np.radians(float(here.total_bounds[[1, 3]].mean()))))
        axis.set_xlabel("longitude (degrees)", fontsize=7)
        axis.set_ylabel("latitude (degrees)", fontsize=7)
        axis.tick_params(labelsize=6)
        axis.ticklabel_format(useOffset=False)
        axis.locator_params(nbins=4)
    for axis in list(axes.flat)[len(metros) :]:
        axis.set_visible(False)
    inches = figure.get_figheight()
    figure.suptitle(suptitle or f"{indicator}, {year}", fontsize=11)
    figure.tight_layout(rect=(0, 1.0 / inches, 1, 1 - 0.1 / inches), h_pad=2.5)
    bar = figure.colorbar(
        ScalarMappable(norm, "cividis"), cax=figure.add_axes((0.2, 0.5 / inches, 0.6, 0.15 / inches)), orientation="horizontal"
    )
    bar.set_label(f"{meta.meaning} ({meta.unit}); hatched: missing", fontsize=9)
    return figure


def plot_parcel(sample: dict[str, Any], classes: Sequence[str], *, show_titles: bool, suptitle: str | None) -> Figure:
    """The mean of a parcel's bands (or one band), pixels outside the polygon faded."""
    image, inside = _array(sample["image"]), _array(sample["inside"]).astype(bool)
    figure, axes = _figure(1)
    known = ~np.isnan(image).any(axis=0)
    grey = np.where(known, np.nan_to_num(image).mean(axis=0), np.nan)
    axes[0].imshow(grey, cmap="cividis", alpha=np.where(inside, 1.0, 0.35), interpolation="none")
    axes[0].contour(inside, levels=[0.5], colors="#D55E00", linewidths=1.5) if min(inside.shape) > 1 and not inside.all() else None
    label = int(sample.get("label", -1))
    _title(axes[0], f"{classes[label] if label >= 0 else 'no label'}: {int(inside.sum())} pixels inside", show_titles)
    return _finish(figure, suptitle or str(sample.get("unit_id", "")))
