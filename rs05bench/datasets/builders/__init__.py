"""Builders: public source files -> a task card with its data, that `rs05bench sweep` runs on.

One module a family of builders in this package, named in `MODULES`; each has `BUILDERS`, a tuple of `Builder`. Importing them costs
nothing: what a builder needs is imported when it runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs05bench.datasets.builders.record import Builder, Option, SourceFiles
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.datasets.builders.job import BuiltTask, Progress

__all__ = ["Builder", "Option", "SourceFiles", "all_builders", "build", "find_builder"]

MODULES = ("california", "cdl_county", "himalaya", "landcover", "mtbs", "sen4map", "urban_footprints", "urban_indicators", "urban_rasters")
"""Modules of this package that hold builders."""


@lru_cache(maxsize=1)
def all_builders() -> dict[str, Builder]:
    """Every builder by its name, in the order of the names."""
    found: dict[str, Builder] = {}
    for module in MODULES:
        for builder in importlib.import_module(f"{__name__}.{module}").BUILDERS:
            if builder.name in found:
                raise ValueError(f"two builders are named {builder.name!r}")
            found[builder.name] = builder
    return dict(sorted(found.items()))


def find_builder(name: str) -> Builder:
    """A builder by its name.

    Raises:
        DataError: There is none; lists what there is.
    """
    known = all_builders()
    if name not in known:
        raise DataError(f"no builder {name!r}; there are: {', '.join(known)}", remedy="`rs05bench build --list` says more.")
    return known[name]


def build(
    name: str,
    root: str | Path,
    out: str | Path | None = None,
    *,
    replace: bool = False,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> BuiltTask:
    """Build a task from source files; see `rs05bench.datasets.builders.job.run_builder`.

    Args:
        name: Name of a builder.
        root: Folder that holds its source files.
        out: Folder to make; default one of the builder's name in the current folder.
        replace: Take the place of an earlier build.
        progress: Called with what is being done, how much is done and how much there is.
        options: Options of the builder.

    Raises:
        DataError: No such builder, or its sources are missing, partial or another product.
    """
    from rs05bench.datasets.builders.job import run_builder

    builder = find_builder(name)
    return run_builder(builder, root, Path(name) if out is None else out, options, replace=replace, progress=progress)
