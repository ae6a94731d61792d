"""A task card from a look at a folder of chips: names, sizes and values tell much; bands, scale, classes and groups are asked or given."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.datasets.chip_folder import mask_header, mask_values, same_band_order
from rs05bench.datasets.chip_layout import ChipLayout, date_in, official_of
from rs05bench.datasets.chip_pairs import pair
from rs05bench.datasets.rasters import RasterHeader, read_header, read_pixels
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.cog import open_raster_file


@dataclass(frozen=True)
class FolderFacts:
    """What a folder of chips shows of itself.

    Attributes:
        root: The folder.
        images: Header by common name.
        masks: Header by common name.
        layout: How images and masks are named: globs, suffixes, dates.
        dates: Files of a chip, each of a date; 1 where a file holds all dates.
        values: Mask value -> chips that hold it.
        largest: Largest pixel value looked at.
        alone: Names of images without a mask.
        unfit: What is wrong with a chip that cannot be used, by name.
        years: Years of the dates in the images' names; none where names hold no date.
        parts: Published parts that folders name.
        declared: Factor from pixel values to reflectance that the first image declares (its scale); None where it declares none.
        offset: Whether it declares an offset too.
        tables: Group columns of tables in the folder, as `TABLE.csv:ID:COLUMN`.
    """

    root: Path
    images: dict[str, RasterHeader]
    masks: dict[str, RasterHeader]
    layout: ChipLayout
    dates: int
    values: dict[int, int]
    largest: float
    alone: list[str]
    unfit: dict[str, str]
    years: set[int]
    parts: list[str]
    declared: float | None
    offset: bool
    tables: list[str]

    @property
    def bands(self) -> int:
        """Bands of a file."""
        return next(iter(self.images.values())).count

    @property
    def remarks(self) -> list[str]:
        """What a person should look at."""
        said = [f"{name}: {wrong}; left out" for name, wrong in self.unfit.items()]
        said += [f"each chip has {self.dates} dates, a file per date; its mask is of all of them"] if self.dates > 1 else []
        said += [f"{len(self.alone)} images have no mask, e.g. {self.alone[0]}; left out"] if self.alone else []
        if self.eight_bit:
            said.append(
                "8-bit values are colours of a picture and no measured reflectance: scale 255 lets pretrained encoders read them as one, "
                "brighter or darker than they were trained on; scale none declares no reflectance"
            )
        if self.offset:
            said.append("the images declare an offset, which no card applies: write reflectance with gdal_translate -unscale -ot Float32")
        return said

    @property
    def eight_bit(self) -> bool:
        """Whether the images hold 8-bit values."""
        return next(iter(self.images.values())).dtype == "uint8"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands of one date, from the descriptions in the first image; empty where it has none."""
        said = next(iter(self.images.values())).bands
        once = next((count for count in range(1, len(said) + 1) if said == said[:count] * (len(said) // count)), 0)
        return tuple(re.sub(r"[,\s]+", "_", name) for name in said[:once])


def look_at_chips(root: Path) -> FolderFacts:
    """Pairs images and masks by name and reads their headers, the masks' values and one image.

    Raises:
        DataError: No image, no mask, or names that do not pair.
    """
    pairs = pair(root)
    files = (
        {name: sorted(paths, key=lambda path: (date_in(path, root, pairs.layout.date), path)) for name, paths in pairs.images.items()}
        if pairs.layout.date
        else pairs.images
    )
    image_headers = {name: read_header(paths[0], whole=False) for name, paths in files.items()}
    same_band_order(list(image_headers.values()))
    mask_headers = {name: mask_header(path) for name, path in pairs.masks.items()}
    counts = Counter(header.count for header in image_headers.values())
    if len(counts) > 1:
        raise DataError(
            f"images have different numbers of bands: {dict(counts)}", source=root, remedy="Keep images of one kind in a folder."
        )
    dates = Counter(len(paths) for paths in files.values()).most_common(1)[0][0]
    unfit = {name: f"{len(paths)} dates, and most chips have {dates}" for name, paths in files.items() if len(paths) != dates}
    unfit |= {
        name: f"the mask has {mask_headers[name].height} x {mask_headers[name].width} pixels, the image {header.height} x {header.width}"
        for name, header in image_headers.items()
        if (header.height, header.width) != (mask_headers[name].height, mask_headers[name].width)
    }
    values: Counter[int] = Counter()
    for header in mask_headers.values():
        values.update(int(value) for value in np.unique(mask_values(header)) if np.isfinite(value))
    if len(values) < 2:
        raise DataError(
            f"all masks hold one value alone ({', '.join(map(str, values)) or 'none'}); a task has two classes at least",
            source=root,
            remedy="Are these the masks? Some programs write 0 and 1 so that a picture looks black; the values are what counts.",
        )
    first = next(iter(image_headers.values()))
    pixels = read_pixels(first).astype(np.float64)
    good = pixels[np.isfinite(pixels) & (pixels != (first.nodata if first.nodata is not None else np.nan))]
    paths = [path for group in files.values() for path in group]
    return FolderFacts(
        root,
        image_headers,
        mask_headers,
        pairs.layout,
        dates,
        dict(sorted(values.items())),
        float(good.max()) if good.size else 0.0,
        pairs.alone,
        unfit,
        {found.start.year for path in paths if (found := date_in(path, root, pairs.layout.date))} if pairs.layout.date else set(),
        sorted({part for path in paths if (part := official_of(path, root))}),
        *_declared(first.path),
        _group_columns(root, [name for name in files if name not in unfit]),
    )


def _declared(path: Path) -> tuple[float | None, bool]:
    """The scale of all bands of an image, if it declares one, and whether it declares an offset."""
    with open_raster_file(path) as src:
        scales = set(src.scales)
        return (float(scales.pop()) if len(scales) == 1 and scales != {1.0} else None), any(src.offsets)


def _group_columns(root: Path, chips: list[str]) -> list[str]:
    """Columns of the folder's tables that name a group for every chip: few values, each of several chips."""
    found = []
    for path in sorted(root.glob("*.csv")):
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError):
            continue
        key = next((column for column in table.columns if set(chips) <= set(table[column])), None)
        if key is not None:
            rows = table[table[key].isin(chips)]
            counts = {column: rows[column].nunique() for column in table.columns if column != key and (rows[column] != "").all()}
            found += [f"{path.name}:{key}:{column}" for column, count in counts.items() if 2 <= count <= len(chips) // 2]
    return found


def questions_of_chips(facts: FolderFacts, answers: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
    """What is still open: field, question, suggestion (None where an answer is needed)."""
    known = {3: "RED,GREEN,BLUE", 4: "RED,GREEN,BLUE,NIR_BROAD", 6: "BLUE,GREEN,RED,NIR_NARROW,SWIR_1,SWIR_2"}
    largest = facts.largest
    scale = "255" if facts.eight_bit else "1" if largest <= 3 else "10000" if largest <= 40_000 else None
    scale = f"{1 / facts.declared:g}" if facts.declared and not facts.offset else scale
    labels = [value for value in facts.values if value >= 0 and value != 255]
    # 255 is white of a picture of two values; next to two others it means no label.
    labels = labels if len(labels) > 1 else list(facts.values)
    named = ",".join(f"{value}={value}" for value in labels)
    asked = [
        ("bands", f"Names of the {facts.bands} bands of a file, in order (one date)", ",".join(facts.names) or known.get(facts.bands)),
        (
            "scale",
            f"Number that stands for a reflectance of 1 (largest value seen: {largest:g}); 'none' for values that are no reflectance",
            scale,
        ),
        ("classes", f"Class of each mask value ({', '.join(map(str, facts.values))}), as value=name", named),
        (
            "groups",
            "Groups to hold out: longitude:DEGREES, latitude:DEGREES, TABLE.csv:ID:COLUMN or LAYER.gpkg:COLUMN",
            ",".join(facts.tables) or _place_bands(facts),
        ),
    ]
    return [item for item in asked if item[0] not in answers]


def _place_bands(facts: FolderFacts) -> str:
    """Bands of longitude, or of latitude where the chips spread further that way, wide enough for at least three groups."""
    bounds = [header.grid.bounds_in("EPSG:4326") for header in facts.images.values()]
    lon, lat = (np.array([(box[axis] + box[axis + 2]) / 2 for box in bounds]) for axis in (0, 1))
    axis, degrees = ("latitude", lat) if np.ptp(lat) > 2 * np.ptp(lon) else ("longitude", lon)
    widths = (5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
    width = next((one for one in widths if len(np.unique(degrees // one)) >= 3), 5.0)
    return f"{axis}:{width:g}"


def propose_chips(facts: FolderFacts, answers: Mapping[str, str], *, name: str) -> tuple[TaskCard, dict[str, str]]:
    """The card of a folder, and a comment for some of its fields.

    Args:
        facts: From `look_at_chips`.
        answers: `bands`, `scale`, `classes`, `groups` as text, and perhaps `year`.
        name: Task name.

    Raises:
        DataError: An answer does not fit the folder.
    """
    bands = [part.strip() for part in answers["bands"].split(",") if part.strip()]
    if not bands or facts.bands % len(bands) or (facts.dates > 1 and facts.bands != len(bands)):
        raise DataError(
            f"{len(bands)} bands are named, and a file has {facts.bands}",
            source=facts.root,
            remedy="Name the bands of one date, with --bands.",
        )
    labels = _labels(answers["classes"], facts)
    groups, layers = _groups(answers["groups"])
    ignored = [value for value in facts.values if value not in labels]
    scale = answers["scale"].strip().lower()
    try:
        number = None if scale in ("none", "null", "") else float(scale)
    except ValueError:
        raise DataError(f"scale {scale!r} is not a number", source=facts.root, remedy="Give 1, 255, 10000 or none.") from None
    chips: dict[str, object] = {
        "images": facts.layout.images,
        "masks": facts.layout.masks,
        **({"image_suffix": facts.layout.image_suffix} if facts.layout.image_suffix else {}),
        **({"mask_suffix": facts.layout.mask_suffix} if facts.layout.mask_suffix else {}),
        **({"id": facts.layout.id} if facts.layout.id else {}),
        "bands": bands,
        "dates": facts.dates if facts.dates > 1 else facts.bands // len(bands),
        **({"file_per_date": True} if facts.layout.file_per_date else {}),
        "scale": number,
        "labels": labels,
        **({"ignore": ignored} if ignored else {}),
        **({"date": facts.layout.date} if facts.years else {"year": int(answers["year"])} if answers.get("year") else {}),
        "groups": groups,
        **({"leave_out": left} if (left := sorted([*facts.alone, *facts.unfit])) else {}),
    }
    side = min(min(header.height, header.width) for header in facts.images.values())
    names = [*groups, *layers]
    official = {"column": "official", "train": ["train"], "test": ["test"] if "test" in facts.parts else ["val"]}
    official |= {"val": ["val"]} if {"test", "val"} <= set(facts.parts) else {}
    published = "train" in facts.parts and len(facts.parts) > 1
    card = TaskCard.parse(
        {
            "kind": "segmentation",
            "name": name,
            "title": f"{' / '.join(labels.values())} on chips of {facts.root.resolve().name}",
            "targets": ["label"],
            "classes": list(labels.values()),
            "unit": ["unit_id"],
            "groups": names,
            "coordinates": {"x": "lon", "y": "lat"},
            **({"year": "year", "time": "date"} if facts.years or answers.get("year") else {}),
            "files": [facts.layout.images],
            "reader": "chips",
            "splits": [
                *(f"leave-{group.replace('_', '-')}-out" for group in names),
                *(["leave-year-out"] if len(facts.years) > 1 else []),
                *(["official"] if published else []),
                "random",
            ],
            "split_options": {"buffer_m": 1000, "test_fraction": 0.3, "max_folds": 5, **({"region": names[0]} if names else {})},
            **({"official": official} if published else {}),
            "budgets": ["10pct", "50pct", "1pct-pixels", "10pct-pixels", "full"],
            "training": {"steps": 200, "batch_size": 4, "learning_rates": [0.001, 0.0003], "augmentation": ["hflip", "vflip", "rot90"]},
            "preprocessing": {"patch_size": min(256, side), "chips": chips, **({"layers": layers} if layers else {})},
        }
    )
    comments = {
        "splits": "What is held out as a whole. `random` is a sanity check and never a main result.",
        "preprocessing": "How images and masks are named, their bands, the value of a reflectance of 1, and the class of each mask value."
        + ("\nlook at: " + "; ".join(facts.remarks) if facts.remarks else ""),
    }
    return card, comments


def _labels(text: str, facts: FolderFacts) -> dict[int, str]:
    labels: dict[int, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        value, equals, label = part.partition("=")
        if not equals or not re.fullmatch(r"-?\d+", value.strip()) or not label.strip():
            raise DataError(
                f"class {part!r} is not of the form value=name", source=facts.root, remedy="For instance --classes '1=forest,2=not forest'."
            )
        labels[int(value)] = label.strip()
    absent = [value for value in labels if value not in facts.values]
    if absent:
        raise DataError(
            f"no mask holds the value {absent[0]} (there are {list(facts.values)})", source=facts.root, remedy="Correct --classes."
        )
    return labels


def _groups(text: str) -> tuple[dict[str, dict[str, object]], dict[str, list[str]]]:
    groups: dict[str, dict[str, object]] = {}
    layers: dict[str, list[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, *rest = part.split(":")
        if first in ("longitude", "latitude") and len(rest) == 1:
            groups[f"{first}_band"] = {"place": first, "width": float(rest[0])}
        elif first.lower().endswith(".csv") and len(rest) == 2:
            groups[_column(rest[1])] = {"file": first, "id": rest[0], "column": rest[1]}
        elif len(rest) == 1 and Path(first).suffix:
            layers[_column(rest[0])] = [first, rest[0]]
        else:
            raise DataError(
                f"group {part!r} is not understood",
                remedy="Give longitude:5, latitude:5, TABLE.csv:ID:COLUMN or LAYER.gpkg:COLUMN, separated by commas.",
            )
    return groups, layers


def _column(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()
