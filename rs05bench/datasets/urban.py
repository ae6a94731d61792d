"""Urban indicators: neighbourhoods of six US metros with 14 indicators of crime, income, health and travel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyproj import CRS

from rs05bench.datasets.chips import Sample
from rs05bench.datasets.files import missing_data, verify_receipt
from rs05bench.datasets.geography import Layer, add_groups, read_polygons
from rs05bench.datasets.polygon_values import PolygonDataset, require_columns, unique_ids
from rs05bench.datasets.urban_schema import GROUP_COLUMNS, INDICATORS, LAYER, METROS, NAMES, UNIT_COLUMNS
from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import as_keys, two_spellings
from rs05bench.protocol.intake.sentinels import CENSUS
from rs05bench.protocol.intake.tablefile import read_tablefile

type Embeddings = pd.DataFrame | str | Path | Callable[[gpd.GeoDataFrame], pd.DataFrame]
"""A table keyed by unit, a file of one, or a function that makes one from the polygons."""

_FILES = ("*.gpkg", "*.parquet", "*.geoparquet", "*.csv")


class UrbanIndicators(PolygonDataset):
    """Neighbourhood polygons with 14 indicators, in the schema of `rs05bench.datasets.urban_schema`.

    Reads a GeoPackage (layer `tracts`), a GeoParquet, or a CSV beside a polygon file with the column `tract_id`. Units are a tract in a
    year;
    `unit_id` is `<tract_id>-<year>`. Labels (`labels()`) are kept apart from units (`units()`).

    Missing indicators stay missing (NaN): blanks and the Census Bureau's own codes for "not available" are never turned into a number.
    Five-year
    Census estimates of neighbouring years share most of their answers: two years of one tract are not independent.

    Slices hold `mask` (float32, indicators x rows x columns; NaN where there is no tract or no number), so `imagery & indicators` is
    imagery with
    targets. (TorchGeo joins two datasets that both hold a `mask` end to end: give `IntersectionDataset` a `collate_fn` then.)

    Args:
        root: The file, or a folder with one such file.
        indicators: Which of the 14 to use; default all.
        metros: Which metros may occur; None allows any.
        crs: CRS of slices; default WGS84. Polygons are laid on the grid of the slice, no pixel is resampled.
        res: Pixel size of slices in units of `crs`; default 10 m.
        transforms: Called on every sample.
        layers: Further group columns of `units()`: name -> (polygon layer, its column).
        checksum: Hash every file and compare with the receipt of the download.

    Raises:
        DataError: Columns missing, ids that lost a zero, values outside the schema's range, broken polygons, a unit twice.
    """

    name: ClassVar[str] = "urban-indicators"
    licence: ClassVar[str] = "that of the sources the table was filled from (ACS and PLACES: public domain; police data: each city's own)"
    homepage: ClassVar[str] = "https://arxiv.org/abs/2604.03456"
    citation: ClassVar[str] = "Indicators after arXiv:2604.03456; schema of rs05bench; cite the sources of each column."

    def __init__(
        self,
        root: str | Path,
        *,
        indicators: Sequence[str] = NAMES,
        metros: Sequence[str] | None = METROS,
        crs: CRS | str | int | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        layers: Mapping[str, tuple[Layer, str]] | None = None,
        checksum: bool = False,
    ) -> None:
        unknown = sorted(set(indicators) - set(NAMES))
        if unknown:
            raise DataError(f"no indicator named {', '.join(map(repr, unknown))}; there are: {', '.join(NAMES)}")
        self.root = Path(root)
        self.indicators = tuple(indicators)
        self.layers = dict(layers or {})
        if checksum:
            verify_receipt(self.root, self.name)
        path = _find(self.root)
        super().__init__(self._verify(path, metros), path, crs=crs, res=res, transforms=transforms)
        self._values = self.frame[list(self.indicators)].to_numpy(dtype=np.float32)

    def units(self) -> gpd.GeoDataFrame:
        """All units with what a split can move; no indicator among them.

        Returns:
            Sorted by `unit_id`, WGS84: `unit_id`, `lon`, `lat` (a point inside), `year` (Int64), `date`, `place` and `tract_id` (the
            tract), `metro`,
            `county` (5 digits), `population` (Int64), `income_group`, `density_group`, `urban_form`, `state`, `division`,
            `climate_region`, the columns of
            `layers`.
        """
        units = self._base_units()
        units["place"] = self.frame["tract_id"].to_numpy(dtype=object)
        units["tract_id"] = units["place"]
        units["metro"] = self.frame["metro"].to_numpy(dtype=object)
        units["county"] = [tract[:5] for tract in units["tract_id"]]
        units["population"] = pd.array(self.frame["population"].round(), dtype="Int64")
        for column in GROUP_COLUMNS:
            units[column] = self.frame[column].to_numpy(dtype=object)
        return add_groups(units, self.layers)

    def labels(self) -> pd.DataFrame:
        """The indicators by unit id, float64, NaN where missing."""
        return self.frame.set_index("unit_id")[list(self.indicators)].astype(float)

    def features(self, embeddings: Embeddings) -> pd.DataFrame:
        """Embeddings of the polygons, in the order of `unit_ids`.

        Args:
            embeddings: A table (or a CSV or Parquet file) keyed by `unit_id`, by `tract_id` and `year`, or by `tract_id` alone; or a
            function that is given
                the polygons (`unit_id`, `tract_id`, `year`, geometry in WGS84) and returns such a table.

        Returns:
            One row a unit, indexed by `unit_id`, numeric columns only; NaN where the table has no such unit.

        Raises:
            DataError: No key, a key twice, no numeric column, or not one unit in common.
        """
        polygons = gpd.GeoDataFrame(self.frame[["unit_id", "tract_id", "year"]], geometry=self.frame.geometry, crs=self.frame.crs)
        source, table = _embedding_table(embeddings, polygons)
        key = next((key for key in (["unit_id"], ["tract_id", "year"], ["tract_id"]) if set(key) <= set(table.columns)), None)
        if key is None:
            raise DataError("expected a column unit_id, or tract_id (and year)", source=source)
        unique_ids(pd.DataFrame({column: as_keys(table[column]) for column in key}).fillna("").agg("-".join, axis=1), source)
        _join_keys(table, key, polygons, source)
        columns = [
            name for name in table.columns if name not in {"unit_id", "tract_id", "year"} and pd.api.types.is_numeric_dtype(table[name])
        ]
        if not columns:
            raise DataError("holds no numeric column beside its key", source=source)
        joined = pd.DataFrame(polygons[["unit_id", "tract_id", "year"]]).merge(
            table[[*key, *columns]], on=key, how="left", validate="many_to_one"
        )
        return joined.set_index("unit_id")[columns].loc[self.unit_ids].astype(float)

    def table(self, embeddings: Embeddings | None = None) -> gpd.GeoDataFrame:
        """Units, indicators and embeddings side by side, as a task card of kind `table` reads them."""
        table = self.units()
        table = table.join(self.labels(), on="unit_id")
        return table if embeddings is None else table.join(self.features(embeddings), on="unit_id")

    def chip(self, unit_id: str) -> Sample:
        """One unit.

        Returns:
            `label` (float32, one an indicator, NaN where missing), `valid` (bool: where there is a number), `unit_id`, `metro`, `year`,
            `lonlat` (2 degrees),
            `bounds` (west, south, east, north in degrees).

        Raises:
            DataError: Unknown unit.
        """
        row = self.row(unit_id)
        shape = self.frame.geometry.iloc[row]
        middle = shape.representative_point()
        label = torch.from_numpy(self._values[row].copy())
        sample: Sample = {
            "label": label,
            "valid": ~torch.isnan(label),
            "unit_id": unit_id,
            "metro": str(self.frame["metro"].iloc[row]),
            "year": int(self.frame["year"].iloc[row]),
            "lonlat": torch.tensor([middle.x, middle.y], dtype=torch.float64),
            "bounds": torch.tensor(shape.bounds, dtype=torch.float64),
        }
        return self.transforms(sample) if self.transforms is not None else sample

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Any:
        """Draw the indicators of a slice, one panel each (the first six).

        Args:
            sample: From slicing; may hold `prediction` of the shape of `mask`, which is drawn below.
            show_titles: Titles over the panels.
            suptitle: Title over all.

        Returns:
            A matplotlib Figure.
        """
        from rs05bench.datasets.plotting import plot_indicators

        return plot_indicators(sample, self.indicators, show_titles=show_titles, suptitle=suptitle)

    def plot_map(self, indicator: str, year: int | None = None, *, suptitle: str | None = None) -> Any:
        """Map one indicator in every metro, on one colour scale; tracts without a number are hatched.

        Args:
            indicator: One of `indicators`.
            year: Default the latest.
            suptitle: Title over all.

        Returns:
            A matplotlib Figure.

        Raises:
            DataError: No such indicator or year.
        """
        from rs05bench.datasets.plotting import plot_indicator

        if indicator not in self.indicators:
            raise DataError(f"no indicator {indicator!r}; there are: {', '.join(self.indicators)}", source=self.source)
        years = sorted(self.frame["year"].unique())
        chosen = years[-1] if year is None else year
        if chosen not in years:
            raise DataError(f"no year {chosen}; there are: {', '.join(map(str, years))}", source=self.source)
        return plot_indicator(self.frame[self.frame["year"] == chosen], indicator, int(chosen), suptitle=suptitle)

    def _burn(self, where: NDArray[np.int64]) -> Sample:
        padded = np.vstack([self._values, np.full((1, len(self.indicators)), np.nan, np.float32)])  # row -1: no polygon
        mask = np.moveaxis(padded[where], -1, 0)
        return {"mask": torch.from_numpy(np.ascontiguousarray(mask))}

    def _verify(self, path: Path, metros: Sequence[str] | None) -> gpd.GeoDataFrame:
        frame = _read(path)
        require_columns(frame, [*UNIT_COLUMNS, "population", *GROUP_COLUMNS, *self.indicators], path)
        frame = frame.to_crs(4326)
        frame["tract_id"] = _tract_ids(frame["tract_id"], path)
        frame["year"] = _years(frame["year"], path)
        for column in ("metro", *GROUP_COLUMNS):
            frame[column] = as_keys(frame[column])
            if frame[column].isna().any():
                raise DataError(f"column {column!r} is blank in {int(frame[column].isna().sum())} rows", source=path)
        strange = [] if metros is None else sorted(set(frame["metro"]) - set(metros))
        if strange:
            raise DataError(
                f"expected the metros {', '.join(metros or ())}, found also {', '.join(strange[:3])}",
                source=path,
                remedy="Pass metros=None to allow any.",
            )
        frame["population"] = _numbers(frame["population"], "population", 0, 1e7, path)
        for indicator in INDICATORS:
            if indicator.name in self.indicators:
                frame[indicator.name] = _numbers(frame[indicator.name], indicator.name, indicator.low, indicator.high, path)
        frame["unit_id"] = frame["tract_id"] + "-" + frame["year"].astype(str)
        unique_ids(frame["unit_id"], path)
        frame["start"] = pd.to_datetime(frame["year"].astype(str) + "-01-01")
        frame["end"] = pd.to_datetime((frame["year"] + 1).astype(str) + "-01-01") - pd.Timedelta(microseconds=1)
        return frame.sort_values("unit_id", kind="stable")


def _find(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise missing_data("neither a file nor a folder", root, "docs/datasets.md says how the table of urban indicators is made.")
    for pattern in _FILES:
        found = sorted(path for path in root.glob(pattern) if not path.name.startswith("."))
        if len(found) > 1:
            raise DataError(f"holds {len(found)} tables ({', '.join(path.name for path in found[:3])}); name one", source=root)
        if found:
            return found[0]
    remedy = "docs/datasets.md says how it is made."
    raise missing_data(f"holds no table of urban indicators ({', '.join(_FILES)})", root, remedy)


def _read(path: Path) -> gpd.GeoDataFrame:
    if path.suffix.lower() == ".gpkg":
        return read_polygons(path, name=LAYER)
    if path.suffix.lower() != ".csv":
        return read_polygons(path)
    table = read_tablefile(path, text=["tract_id"]).frame
    shapes = sorted(other for kind in ("*.geojson", "*.shp", "*.gpkg") for other in path.parent.glob(kind))
    if len(shapes) != 1:
        raise DataError(f"a CSV needs one polygon file with tract_id beside it, found {len(shapes)}", source=path)
    polygons = read_polygons(shapes[0])
    require_columns(polygons, ["tract_id"], shapes[0])
    require_columns(table, ["tract_id"], path)
    polygons["tract_id"] = as_keys(polygons["tract_id"])
    unique_ids(polygons["tract_id"], shapes[0])
    table["tract_id"] = _tract_ids(table["tract_id"], path)
    alone = sorted(set(table["tract_id"]) - set(polygons["tract_id"]))
    if alone:
        again = two_spellings(alone, polygons["tract_id"])
        why = f", written otherwise there: {again[0]}" if again else f", e.g. {alone[0]}"
        raise DataError(f"{len(alone)} tracts have no polygon in {shapes[0].name}{why}", source=path)
    geometry = polygons.set_index("tract_id").geometry.loc[table["tract_id"]].to_numpy()
    return gpd.GeoDataFrame(table, geometry=geometry, crs=polygons.crs)


def _tract_ids(ids: pd.Series, path: Path) -> pd.Series:
    if pd.api.types.is_numeric_dtype(ids):
        raise DataError(
            "column 'tract_id' holds numbers, which lose their leading zero", source=path, remedy="Write it as text of 11 digits."
        )
    text = ids.astype(str)
    wrong = ~text.str.fullmatch(r"\d{11}")
    if wrong.any():
        raise DataError(
            f"expected tract ids of 11 digits (state, county, tract), found {text[wrong].iloc[0]!r} and {int(wrong.sum()) - 1} more",
            source=path,
            remedy="Ten digits have lost their leading zero: write the column as text.",
        )
    return text


def _years(years: pd.Series, path: Path) -> pd.Series:
    numbers = pd.to_numeric(years, errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any() or not numbers.between(1984, 2100).all():
        raise DataError(
            f"column 'year' must hold years, found {years[~numbers.between(1984, 2100)].astype(str).head(1).tolist()}", source=path
        )
    return numbers.astype(int)


def _numbers(column: pd.Series, name: str, low: float, high: float, path: Path) -> pd.Series:
    """Numbers with NaN where there is none; anything else that is no number, or outside its range, is an error."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    words = numbers.isna() & column.notna() & (column.astype(str).str.strip() != "")
    if words.any():
        raise DataError(
            f"column {name!r} holds {str(column[words].iloc[0])!r}, which is not a number",
            source=path,
            remedy="Leave missing values blank.",
        )
    numbers = numbers.mask(numbers.isin(CENSUS))
    wrong = (numbers < low) | (numbers > high)
    if wrong.any():
        raise DataError(
            f"column {name!r} must lie between {low:g} and {high:g}, found {numbers[wrong].iloc[0]:g} and {int(wrong.sum()) - 1} more",
            source=path,
            remedy="Is it in other units, or a code for missing data? Leave missing values blank.",
        )
    return numbers


def _embedding_table(embeddings: Embeddings, polygons: gpd.GeoDataFrame) -> tuple[str, pd.DataFrame]:
    if callable(embeddings):
        made = embeddings(polygons)
        return getattr(embeddings, "__name__", "embeddings"), _as_columns(made)
    if isinstance(embeddings, pd.DataFrame):
        return "embeddings", _as_columns(embeddings)
    return str(embeddings), read_tablefile(embeddings, text=["tract_id", "unit_id"]).frame


def _join_keys(table: pd.DataFrame, key: list[str], polygons: gpd.GeoDataFrame, source: str) -> None:
    """Ids as text and years as whole numbers, all spelled as the polygons spell them.

    Raises:
        DataError: Blank or differently spelled keys, or not one unit in common.
    """
    for column in key:
        if column == "year":
            table[column] = _years(table[column], Path(source))
            continue
        table[column] = as_keys(table[column])
        if table[column].isna().any():
            raise DataError(f"column {column!r} is blank in {int(table[column].isna().sum())} rows", source=source)
        if again := two_spellings(set(table[column]) - set(polygons[column]), polygons[column].unique()):
            raise DataError(
                f"{len(again)} values of {column!r} are those of the polygons in another spelling: {again[0]}",
                source=source,
                remedy="Write the column as text: numbers lose their leading zero.",
            )
    if not table[key].merge(polygons[key], on=key).shape[0]:
        raise DataError("has not one unit in common with the polygons", source=source, remedy=f"Compare the values of {', '.join(key)}.")


def _as_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A key in the index becomes columns."""
    named = [name for name in table.index.names if name in {"unit_id", "tract_id", "year"}]
    return table.reset_index() if named else table.copy()
