"""A folder of layers: one subfolder a layer, by the names of their records, with `layers.yaml` beside them for options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from rs05bench.datasets.layers.layer_sources import LayerSource, RasterSampling, find_source, list_sources, load_layer, validated
from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping

if TYPE_CHECKING:
    from rs05bench.datasets.layers.sampler import Layer

OPTIONS = "layers.yaml"
MARK = "SIMULATED.json"
_RASTERS = ("*.tif", "*.tiff")
_VECTORS = ("*.gpkg", "*.shp", "*.geojson", "*.parquet", "*.geoparquet")
_COVERAGE = "coverage"


class _LayerOptions(BaseModel):
    """What `layers.yaml` may say of a layer; any other field is one of its sampler's."""

    model_config = ConfigDict(extra="allow")

    source: str | None = None
    where: dict[str, list[Any]] = {}
    layer: str | None = None


def open_layers(root: str | Path, names: Sequence[str] | None = None) -> dict[str, Layer]:
    """Open the layers of a folder.

    A subfolder by the name of a record (`dem`, `climate`, `road`, `water`, `urban`, `poi`, `buildings`) is that layer; a subfolder
    of another name is one if `layers.yaml` says of which source it is. A polygon file `coverage.*` in the subfolder of a vector layer says
    which area its files cover; without one it is the box around everything in them.

    ```yaml
    road: {where: {fclass: [motorway, primary]}, max_m: 20000}
    schools: {source: poi, where: {category: [school]}, radius_m: 1000}
    canopy: {source: canopy.yaml}  # a record of your own next to layers.yaml
    ```

    Args:
        root: The folder.
        names: Which layers; default all there are.

    Returns:
        name -> layer, in the order of their columns, further ones after them by name.

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
    return {name: _open(folder, name, options.get(name, _LayerOptions())) for name in there if names is None or name in names}


def _open(folder: Path, name: str, options: _LayerOptions) -> Layer:
    from rs05bench.datasets.layers.counts import CountSampler
    from rs05bench.datasets.layers.distance import DistanceSampler
    from rs05bench.datasets.layers.raster_sampler import RasterSampler
    from rs05bench.datasets.layers.vector_layers import Features

    place = folder / name
    if not place.is_dir():
        raise DataError(f"{OPTIONS} names the layer {name!r}, but there is no such folder", source=place)
    said = options.source or name
    source = load_layer(folder / said) if said.endswith((".yaml", ".yml")) else find_source(said)
    sampling, vector = dict(options.model_extra or {}), options.model_fields_set & {"where", "layer"}
    raster = isinstance(source.sampler, RasterSampling)
    source = source.with_options(sampling | (dict.fromkeys(vector) if raster else {}), file=folder / OPTIONS)
    simulated = any((there / MARK).is_file() for there in (place, folder, folder.parent))
    files = _files(place, _RASTERS if raster else _VECTORS, source)
    if isinstance(source.sampler, RasterSampling):
        if source.sampler.one_file and len(files) > 1:
            raise DataError(f"holds {len(files)} rasters ({files[0].name}, {files[1].name}, ..); one map is meant", source=place)
        return RasterSampler(source, files, name=name, simulated=simulated)
    coverage = [path for path in files if path.stem == _COVERAGE]
    files = [path for path in files if path.stem != _COVERAGE]
    if len(coverage) > 1 or not files:
        raise DataError(f"holds {len(coverage)} coverage files and {len(files)} others", source=place, remedy=source.get)
    features = Features(files, options.where, options.layer, coverage[0] if coverage else None)
    sampler = DistanceSampler if source.sampler.kind == "distance" else CountSampler
    return sampler(source, features, name=name, simulated=simulated)


def _files(place: Path, patterns: Sequence[str], source: LayerSource) -> list[Path]:
    found = sorted(path for pattern in patterns for path in place.glob(pattern) if not path.name.startswith("."))
    if not found:
        raise DataError(f"holds no file of the layer ({', '.join(patterns)})", source=place, remedy=source.get)
    return found


def _options(folder: Path) -> dict[str, _LayerOptions]:
    path = folder / OPTIONS
    if not path.is_file():
        return {}
    return {str(name): validated(_LayerOptions, entry or {}, path, str(name)) for name, entry in read_yaml_mapping(path).items()}
