"""Land cover from few labels: points that Earth Engine sampled from the annual embedding, with a label beside each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

# Dynamic World V1: the order of the bands and of `label` on its Earth Engine page.
DYNAMIC_WORLD = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice")


def make(job: BuildJob) -> TaskCard:
    """One row a point and year; the label's own sources never become features."""
    import pandas as pd

    from rs05bench.datasets.recipes.embedding_columns import read_export
    from rs05bench.embeddings.products import product

    label, region, year = (str(job.options[name]) for name in ("label", "region", "year"))
    paths, record = job.files("samples"), product()
    tables = []
    for done, path in enumerate(paths):
        job.progress(path.name, done, len(paths))
        table = read_export(path, [label, region, year, "latitude", "longitude"], record)
        rows = table["system:index"] if "system:index" in table else pd.Series(range(len(table)), index=table.index)
        tables.append(table.assign(point_id=path.stem + "-" + rows.astype(str)))
    frame = pd.concat(tables, ignore_index=True)
    frame = job.keep(frame, frame[list(record.bands)].notna().all(axis=1), "no embedding (masked)", "point_id")
    frame = job.keep(frame, frame[label].notna(), f"no label in {label}", "point_id")
    frame["place"] = frame["latitude"].map("{:.5f}".format) + "," + frame["longitude"].map("{:.5f}".format)
    frame = job.keep(frame, ~frame.duplicated(["place", year]), "the same point and year twice", "point_id")
    classes, names = _classes(frame[label], label, paths[0].parent)
    raw = [name for name in frame.columns if name.startswith("S1_") or name in ("B2", "B3", "B4", "B8", "B11", "B12")]
    raw = [name for name in raw if pd.api.types.is_numeric_dtype(frame[name])]
    kept = frame[["point_id", "place", region, year, "latitude", "longitude", label, *record.bands, *raw]]
    job.write_table(kept.rename(columns={label: "land_cover", region: "region", year: "year"}).sort_values("point_id"))
    job.counts["by region"] = frame[region].astype(str).value_counts().sort_index().to_dict()
    job.counts["by class"] = {name: int((frame[label].map(_plain) == value).sum()) for value, name in zip(classes, names, strict=True)}
    features = {record.family: [record.glob], **({"raw": raw, "hybrid": [record.family, "raw"]} if raw else {})}
    return job.card(classes=classes, class_names=names, features=features)


def _classes(labels: pd.Series, label: str, folder: object) -> tuple[list[str], list[str]]:
    found = sorted(set(labels.map(_plain)), key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))
    if len(found) > 60:
        raise DataError(
            f"column {label!r} holds {len(found)} different values, e.g. {', '.join(found[:4])}: that is no class",
            source=str(folder),
            remedy="Name the class column: --set label=COLUMN.",
        )
    if label == "dw_label":
        if strange := [value for value in found if value not in {str(number) for number in range(len(DYNAMIC_WORLD))}]:
            raise DataError(
                f"column 'dw_label' holds {', '.join(strange[:4])}, expected 0 to {len(DYNAMIC_WORLD) - 1} (Dynamic World)",
                source=str(folder),
                remedy="Name another legend's column with --set label=COLUMN.",
            )
        return found, [DYNAMIC_WORLD[int(value)].replace("_", " ") for value in found]
    return found, found


def _plain(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
