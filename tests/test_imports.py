"""What importing costs: scoring needs no GPU stack, and a command that only helps loads almost nothing."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

GPU_STACK = {"datasets", "kornia", "lightning", "peft", "ray", "terratorch", "timm", "torch", "torchgeo", "torchmetrics", "torchvision"}
HEAVY = {"altair", "cv2", "esda", "geopandas", "lightgbm", "libpysal", "matplotlib", "pyogrio", "rasterio", "sklearn", "spyndex", "xgboost"}
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


def test_what_benchmarks_and_studies_import_is_there():
    # Rivals are imported where they are needed, and so are names of ours: a name that went would show only when that benchmark runs.
    absent = []
    for script in sorted(path for folder in ("benchmarks", "studies", "tools") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rs05bench":
                module = importlib.import_module(str(node.module))
                absent += [
                    f"{script.relative_to(ROOT)}:{node.lineno} {node.module}.{alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name) and importlib.util.find_spec(f"{node.module}.{alias.name}") is None
                ]
    assert not absent
