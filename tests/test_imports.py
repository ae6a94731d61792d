"""What importing costs: scoring needs no GPU stack, and a command that only helps loads almost nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

GPU_STACK = {"datasets", "kornia", "lightning", "peft", "ray", "terratorch", "timm", "torch", "torchgeo", "torchmetrics", "torchvision"}
HEAVY = {"altair", "cv2", "esda", "fiona", "geopandas", "lightgbm", "libpysal", "matplotlib", "rasterio", "sklearn", "spyndex", "xgboost"}
HEAVY |= GPU_STACK


def imported_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after one statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}), sep='\\n', file=sys.__stdout__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_probe_sees_what_is_imported():
    assert "json" in imported_by("import json.decoder")


@pytest.mark.parametrize("statement", ["import rs05bench", "import rs05bench.errors", "import rs05bench.protocol"])
def test_import_stays_light(statement):
    assert imported_by(statement) & HEAVY == set()


def test_protocol_submodules_need_no_gpu_stack():
    everything = (
        "import importlib, pkgutil, rs05bench.protocol as p\n"
        "for m in pkgutil.walk_packages(p.__path__, 'rs05bench.protocol.'): importlib.import_module(m.name)"
    )
    assert imported_by(everything) & GPU_STACK == set()


def test_package_itself_loads_no_tables():
    assert imported_by("import rs05bench") & {"numpy", "pandas", "pyarrow"} == set()


def test_help_of_the_command_loads_no_tables():
    loaded = imported_by("import rs05bench.cli\nrs05bench.cli._register()")
    assert loaded & (HEAVY | {"numpy", "pandas", "pyarrow", "pydantic"}) == set()
