"""A folder of layers: one subfolder a layer, by the names of the catalogue, with `layers.yaml` beside them for options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rs05bench.datasets.layers.layer_sources import LayerSource, find_source, list_sources
from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping

if TYPE_CHECKING:
    from rs05bench.datasets.layers.base import Layer

OPTIONS = "layers.yaml"
MARK = "SIMULATED.json"
_RASTERS = ("*.tif", "*.tiff")
_VECTORS = ("*.gpkg", "*.shp", "*.geojson", "*.parquet", "*.geoparquet")
_COVERAGE = "coverage"


class _Options(BaseModel):
    """What `layers.yaml` may say of a layer."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = None
    where: dict[str, list[Any]] = {}
    layer: str | None = None
    max_m: float | None = None
    radius_m: float | None = None
    level: str | None = None
    aspect: bool | None = None


_ALLOWED = {
    "terrain": {"source", "aspect"},
    "climate": {"source", "level"},
    "distance": {"source", "where", "layer", "max_m"},
    "counts": {"source", "where", "layer", "radius_m"},
}


def open_layers(root: str | Path, names: Sequence[str] | None = None) -> dict[str, Layer]:
    """Open the layers of a folder.

    A subfolder by the name of a catalogue entry (`dem`, `climate`, `road`, `water`, `urban`, `poi`, `buildings`) is that layer; a subfolder
    of another name is one if `layers.yaml` says of which source it is. A polygon file `coverage.*` in the subfolder of a vector layer says
    which area its files cover; without one it is the box around everything in them.

    ```yaml
    road: {where: {fclass: [motorway, primary]}, max_m: 20000}
    schools: {source: poi, where: {category: [school]}, radius_m: 1000}
    ```

    Args:
        root: The folder.
        names: Which layers; default all there are.

    Returns:
        name -> layer, in the order of the catalogue, further ones after them by name.

    Raises:
        DataError: No such folder or layer, an option no such layer takes, or files that the reader refuses.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError("is not a folder of layers", source=folder, remedy="`rs05bench layers --list` says what belongs into it.")
    options = _options(folder)
    known = [source.name for source in list_sources()]
    there = [name for name in known if (folder / name).is_dir()]
    there += sorted(name for name in options if name not in known)
    if names is not None and (absent := [name for name in names if name not in there]):
        raise DataError(f"has no layer {absent[0]!r}; there are: {', '.join(there) or 'none'}", source=folder)
    if not there:
        raise DataError(f"holds no layer: expected a subfolder named {', '.join(known)}", source=folder)
    return {name: _open(folder, name, options.get(name, _Options())) for name in there if names is None or name in names}


def _open(folder: Path, name: str, options: _Options) -> Layer:
    from rs05bench.datasets.layers.climate import ClimateZones
    from rs05bench.datasets.layers.counts import Counts
    from rs05bench.datasets.layers.distance import Distance
    from rs05bench.datasets.layers.terrain import Terrain
    from rs05bench.datasets.layers.vector_layers import Features

    place = folder / name
    if not place.is_dir():
        raise DataError(f"{OPTIONS} names the layer {name!r}, but there is no such folder", source=place)
    source = find_source(options.source or name)
    given = set(options.model_fields_set)
    if strange := sorted(given - _ALLOWED[source.kind]):
        raise DataError(
            f"{name}: a {source.kind} layer takes no {strange[0]!r}",
            source=folder / OPTIONS,
            remedy=f"It takes {', '.join(sorted(_ALLOWED[source.kind]))}.",
        )
    simulated = any((there / MARK).is_file() for there in (place, folder, folder.parent))
    if source.kind in ("terrain", "climate"):
        files = _files(place, _RASTERS, source)
        if source.kind == "terrain":
            return Terrain(files, source=source, simulated=simulated, aspect=options.aspect is not False)
        if len(files) > 1:
            raise DataError(f"holds {len(files)} rasters ({files[0].name}, {files[1].name}, ..); one map is meant", source=place)
        return ClimateZones(files[0], level=options.level or "zone", source=source, simulated=simulated)
    files = _files(place, _VECTORS, source)
    coverage = [path for path in files if path.stem == _COVERAGE]
    files = [path for path in files if path.stem != _COVERAGE]
    if len(coverage) > 1 or not files:
        raise DataError(f"holds {len(coverage)} coverage files and {len(files)} others", source=place, remedy=source.get)
    features = Features(files, options.where, options.layer, coverage[0] if coverage else None)
    if source.kind == "distance":
        return Distance(features, name, max_m=options.max_m or 50_000.0, source=source, simulated=simulated)
    return Counts(features, name, radius_m=options.radius_m or 500.0, source=source, simulated=simulated)


def _files(place: Path, patterns: Sequence[str], source: LayerSource) -> list[Path]:
    found = sorted(path for pattern in patterns for path in place.glob(pattern) if not path.name.startswith("."))
    if not found:
        raise DataError(f"holds no file of the layer ({', '.join(patterns)})", source=place, remedy=source.get)
    return found


def _options(folder: Path) -> dict[str, _Options]:
    path = folder / OPTIONS
    if not path.is_file():
        return {}
    out = {}
    for name, entry in read_yaml_mapping(path).items():
        try:
            out[str(name)] = _Options.model_validate(entry or {})
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(f"{name}.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", source=path) from None
    return out
