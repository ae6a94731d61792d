"""Stores of embeddings in Zarr groups: arrays (time, band, y, x) on one grid, or on one grid per UTM zone.

Two layouts are read. A mosaic is one group with the array `embeddings` and the years along its first axis. A store of the
`geoemb: convention <https://github.com/geo-embeddings/embeddings-zarr-convention>`_ with the spatial layout `utm_zones` has one such group
per zone (`utm01` to `utm60`), its CRS under `proj:code`, and with `per_pixel_scale` a float32 array of factors: one that is NaN (water, or
never embedded) or infinite (land that is not filled yet) marks a pixel without an embedding.
"""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from rs05bench.embeddings.bytesource import is_remote, store_for
from rs05bench.embeddings.products import EmbeddingProduct, PixelScale, all_products, product
from rs05bench.embeddings.tile_index import COLUMNS, TileIndex, tile_record
from rs05bench.embeddings.zarr_raster import SMALLEST_BLOCK, AxisArray, GroupArrays, SmallChunks, ZarrRaster
from rs05bench.errors import DataError
from rs05bench.extras import require
from rs05bench.protocol.pixel_grid import WGS84, crs_name, grid_from_affine, utm_zone

_TIME_NAMES, _BAND_NAMES = ("time", "year", "t"), ("band", "bands", "embedding", "feature", "channel", "dim")
_Y_NAMES, _X_NAMES = ("y", "lat", "latitude"), ("x", "lon", "longitude")
_VERSION_AT_END = re.compile(r"(?:^|[/v-])(\d+(?:\.\d+)?)$")


def open_zarr(
    address: str,
    *,
    of: EmbeddingProduct | None = None,
    array: str = "embeddings",
    unfilled: str = "skip",
    area: tuple[float, float, float, float] | None = None,
) -> TileIndex:
    """Open a mosaic, or a store of the `geoemb:` convention, as an index with one tile a grid and year.

    Args:
        address: Folder or address of the Zarr v3 group (or of the array itself).
        of: What it holds.
        array: Name of the array of components.
        unfilled: What to do with zone-years that a group does not list as complete (`years_complete`): `skip` them with a warning that
            names them, or `refuse` the store.
        area: WGS84 bounds: zones that cannot meet them are not opened.

    Raises:
        DataError: If it is not such a store, or does not state where or when its pixels are.
    """
    import geopandas as gpd

    record = of if of is not None else product()
    root = _open(address)
    groups, stated = {"": root}, dict[str, Any]()
    if not hasattr(root, "shape"):
        _check_convention(dict(root.attrs), record, address)
        stated = _quantisation(dict(root.attrs))
        groups = {name: root[name] for name in _zone_groups(root, area, array)} or groups
    found: dict[str, GroupArrays] = {}
    records, waiting, unfilled_zones = [], [], set()
    for name, group in groups.items():
        arrays = _arrays(f"{address.rstrip('/')}{'/' if name else ''}{name}", group, record, array, address, stated)
        complete = dict(group.attrs).get("years_complete")
        for year in arrays.years:
            if complete is not None and year not in {int(done) for done in complete}:
                waiting.append(f"{name or 'store'} {year}")
                zone = utm_zone(arrays.grid.crs)
                unfilled_zones |= {(zone.rstrip("NS") if record.hemispheres == "north" else zone, year)} if zone else set()
                continue
            path = f"{arrays.name}#{year}"
            found[path] = arrays
            records.append(tile_record(f"{year}/{name}" if name else str(year), path, year, arrays.grid, arrays.product))
    if waiting:
        text = f"{len(waiting)} zone-years are not filled yet: {', '.join(waiting[:12])}{', …' if len(waiting) > 12 else ''}"
        if unfilled == "refuse" or not records:
            raise DataError(text, source=address, remedy="Read other years or zones; unfilled ones read back as fill values.")
        warnings.warn(f"{address}: {text}; they are left out", UserWarning, stacklevel=2)
    frame = gpd.GeoDataFrame(records, columns=[*COLUMNS, "geometry"], geometry="geometry", crs=WGS84)
    sized = next(iter(found.values())).product
    return TileIndex(frame, of=sized, opener=_ZarrOpener(found), description=address, unfilled=unfilled_zones)


class _ZarrOpener:
    """Opens the tiles of a store; a class, so that an index can be sent to loader workers."""

    def __init__(self, found: dict[str, GroupArrays]) -> None:
        self._found = found

    def __call__(self, path: str) -> ZarrRaster:
        arrays = self._found[path]
        kind = SmallChunks if int(arrays.embeddings.chunks[2]) < SMALLEST_BLOCK else ZarrRaster
        return kind(arrays, arrays.years.index(int(path.rpartition("#")[2])))


def _open(address: str) -> Any:
    zarr: Any = require("zarr", purpose=f"reading {address}")
    store: Any = address.rstrip("/")
    if is_remote(address):
        from zarr.storage import ObjectStore

        store = ObjectStore(store_for(address.rstrip("/")), read_only=True)
    try:
        return zarr.open(store, mode="r")
    except Exception as error:
        raise DataError(f"is not a Zarr group or array ({type(error).__name__}: {str(error)[:200]})", source=address) from error


def _zone_groups(root: Any, area: tuple[float, float, float, float] | None, array: str) -> list[str]:
    """Names of the zone groups; a plain web server lists nothing, so each name is asked for."""
    if dict(root.attrs).get("geoemb:spatial_layout") != "utm_zones" and _member(root, array) is not None:
        return []
    wanted = set(range(1, 61))
    if area is not None:
        # A zone's grid goes on a little beyond its six degrees.
        first, last = (int((edge + 180) // 6) for edge in (area[0], area[2]))
        wanted = {zone % 60 + 1 for zone in range(first - 1, last + 2)}
    names = []
    for zone in sorted(wanted):
        try:
            root[f"utm{zone:02d}"]
        except (KeyError, FileNotFoundError):
            continue
        names.append(f"utm{zone:02d}")
    return names


def _check_convention(attributes: dict[str, Any], record: EmbeddingProduct, source: str) -> None:
    """Refuse a store whose own attributes contradict the record."""
    dimensions = attributes.get("geoemb:dimensions")
    if dimensions is not None and record.dimensions is not None and int(dimensions) != record.dimensions:
        raise DataError(f"the store states {dimensions} dimensions, {record.name} has {record.dimensions}", source=source)
    method = _quantisation(attributes).get("method")
    if method is not None and (method == "per_pixel_scale") != isinstance(record.scale, PixelScale):
        raise DataError(f"the store is quantised by {method!r}, {record.name} by {record.scale.kind!r}", source=source)
    model = str(attributes.get("geoemb:model", ""))
    stated, own = (_VERSION_AT_END.search(text) for text in (model, record.version))
    another = model in all_products() and model != record.name
    if another or (stated and own and float(stated[1]) != float(own[1])):
        raise DataError(
            f"the store states the model {model}, expected {record.version} of {record.name}",
            source=source,
            remedy="Vectors of two versions or variants are not comparable: name the product that the store holds.",
        )


def _quantisation(attributes: dict[str, Any]) -> dict[str, Any]:
    found = attributes.get("geoemb:quantization")
    return found if isinstance(found, dict) else {}


def _arrays(name: str, group: Any, record: EmbeddingProduct, array: str, store: str, stated: dict[str, Any]) -> GroupArrays:
    """The arrays of a group, with their axes in one order.

    Args:
        name: Address of the group.
        group: The group, or the array of components alone.
        record: What is held.
        array: Name of the array of components.
        store: Address that was opened.
        stated: What the store states on its quantisation.
    """
    alone = hasattr(group, "shape")
    found = group if alone else _member(group, array)
    if found is None:
        raise DataError(f"is not a Zarr group with an array {array!r}", source=name)
    if found.ndim != 4:
        raise DataError(f"expected (year, components, y, x), found {found.dtype} {found.shape}", source=name)
    held = AxisArray(found, _axes(found, (_TIME_NAMES, _BAND_NAMES, _Y_NAMES, _X_NAMES)), store)
    try:
        sized = record.sized(held.shape[1])
    except DataError as error:
        raise DataError(
            f"expected {record.dtype} (year, {record.dimensions}, y, x), found {found.dtype} {found.shape}", source=name
        ) from error
    if str(found.dtype) != record.dtype:
        raise DataError(f"expected {record.dtype} (year, components, y, x), found {found.dtype} {found.shape}", source=name)
    holder, without_bands = None if alone else group, (held.shape[0], *held.shape[2:])
    scales = None
    if isinstance(record.scale, PixelScale):
        named = stated.get("scale")
        factors = str(named["array_name"]) if isinstance(named, dict) and "array_name" in named else record.scale.array
        scales = _plane(holder, factors, store)
        if scales is None or scales.shape != without_bands:
            raise DataError(
                f"expected an array {factors!r} of shape {without_bands}, found {'none' if scales is None else scales.shape}",
                source=name,
                remedy="Integers without their scales are no components.",
            )
    crs, affine = _georeference(found, holder, name)
    grid = grid_from_affine(crs, affine, held.shape[2], held.shape[3], name)
    counts = {
        count: plane
        for count in record.observation_counts
        if (plane := _plane(holder, count, store)) is not None and plane.shape == without_bands
    }
    return GroupArrays(name, held, scales, grid, sized, tuple(_years(found, held.shape[0], holder, name)), counts)


def _plane(group: Any, name: str, store: str) -> AxisArray | None:
    """An array (time, y, x) of a group; None where there is none."""
    found = _member(group, name)
    if found is None or found.ndim != 3:
        return None
    return AxisArray(found, _axes(found, (_TIME_NAMES, _Y_NAMES, _X_NAMES)), store)


def _axes(array: Any, wanted: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Where in an array each wanted axis is, by the names of its dimensions; in order where they have no names that are known."""
    names = [str(name).lower() for name in array.metadata.dimension_names or ()]
    places = tuple(next((place for place, name in enumerate(names) if name in known), -1) for known in wanted)
    return places if sorted(places) == list(range(array.ndim)) else tuple(range(array.ndim))


def _georeference(array: Any, group: Any, source: str) -> tuple[str, tuple[float, ...]]:
    """CRS and affine from whichever of the conventions in use the store follows."""
    attributes = (dict(group.attrs) if group is not None else {}) | dict(array.attrs)
    reference = _member(group, str(attributes.get("grid_mapping", "spatial_ref")))
    mapping = dict(reference.attrs) if reference is not None else {}
    found = attributes.get("geo:proj")
    nested: dict[str, Any] = found if isinstance(found, dict) else {}
    crs = (
        attributes.get("proj:code")
        or attributes.get("proj:wkt2")
        or nested.get("code")
        or nested.get("wkt2")
        or mapping.get("crs_wkt")
        or mapping.get("spatial_ref")
        or attributes.get("crs")
    )
    x, y = _member(group, *_X_NAMES), _member(group, *_Y_NAMES)
    if crs is None and _member(group, "lon", "longitude") is not None:
        crs = WGS84
    if crs is None:
        raise DataError("no coordinate reference system in the store's attributes", source=source)
    affine = attributes.get("spatial:transform") or attributes.get("proj:transform") or nested.get("transform")
    if affine is not None:
        return crs_name(str(crs)), tuple(float(v) for v in affine[:6])
    if "GeoTransform" in mapping:  # GDAL's order: west, width, rotation, north, rotation, height
        c, a, b, f, d, e = (float(v) for v in str(mapping["GeoTransform"]).split())
        return crs_name(str(crs)), (a, b, c, d, e, f)
    if x is None or y is None:
        raise DataError("no transform and no x, y coordinates in the store", source=source)
    (x0, xres), (y0, yres) = _steps(x), _steps(y)
    return crs_name(str(crs)), (xres, 0.0, x0 - xres / 2, 0.0, yres, y0 - yres / 2)


def _steps(coordinate: Any) -> tuple[float, float]:
    """First value and mean step of a coordinate of pixel centres; only its ends are read."""
    count = int(coordinate.shape[0])
    first, last = float(coordinate[0]), float(coordinate[count - 1])
    return first, (last - first) / (count - 1)


def _years(array: Any, count: int, group: Any, source: str) -> list[int]:
    attributes = (dict(group.attrs) if group is not None else {}) | dict(array.attrs)
    listed = attributes.get("years")
    if isinstance(listed, list) and len(listed) == count:
        return [int(year) for year in listed]
    time = _member(group, *_TIME_NAMES)
    if time is None:
        raise DataError("nothing says which year each slice is of (no time coordinate)", source=source)
    values = np.asarray(time[:])
    if np.issubdtype(values.dtype, np.datetime64):
        years = values.astype("datetime64[Y]").astype(int) + 1970
    elif values.min() >= 1900 and values.max() <= 2200:
        years = values.astype(int)
    else:
        match = re.match(
            r"(days|hours|minutes|seconds|milliseconds|microseconds|nanoseconds) since (\d{4})-(\d{1,2})-(\d{1,2})",
            str(time.attrs.get("units", "")),
        )
        if match is None:
            raise DataError(f"cannot read the time coordinate (units {time.attrs.get('units')!r})", source=source)
        codes = {"days": "D", "hours": "h", "minutes": "m", "seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
        origin = np.datetime64(datetime.date(int(match[2]), int(match[3]), int(match[4])))
        years = (origin.astype(f"datetime64[{codes[match[1]]}]") + values.astype(f"timedelta64[{codes[match[1]]}]")).astype(
            "datetime64[Y]"
        ).astype(int) + 1970
    if len(set(years.tolist())) != count:
        raise DataError(f"the time coordinate does not name one year a slice: {years.tolist()}", source=source)
    return [int(year) for year in years]


def _member(group: Any, *names: str) -> Any:
    """The first array of a group by any of these names; None where there is none."""
    if group is None:
        return None
    for candidate in names:
        try:
            found = group[candidate]
        except (KeyError, FileNotFoundError):
            continue
        if hasattr(found, "shape"):
            return found
    return None
