"""Which class builds, loads and runs each family of encoders."""

from __future__ import annotations

from rs05bench.models.backbones.family import Family
from rs05bench.models.backbones.galileo import Galileo
from rs05bench.models.backbones.olmoearth import OlmoEarth
from rs05bench.models.backbones.terratorch_families import Clay, Clay15, Dofa, Prithvi, Satlas, TerraMind
from rs05bench.models.backbones.timm_family import Timm

FAMILIES: dict[str, type[Family]] = {
    "prithvi": Prithvi,
    "satlas": Satlas,
    "dofa": Dofa,
    "clay": Clay,
    "clay-1.5": Clay15,
    "terramind": TerraMind,
    "timm": Timm,
    "galileo": Galileo,
    "olmoearth": OlmoEarth,
}
