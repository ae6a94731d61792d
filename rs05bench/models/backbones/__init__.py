"""Pretrained encoders behind one interface: raw reflectance in, four feature maps out.

Importing this package is cheap: torch and TerraTorch are imported when an encoder is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rs05bench.models.backbones.bands import BandWarning, DataWarning, ScaleWarning, canonical_bands, check_scale, match_bands
from rs05bench.models.backbones.catalogue import BACKBONES, backbone_spec
from rs05bench.models.backbones.spec import BackboneSpec, Layout, WeightsSource

if TYPE_CHECKING:
    from rs05bench.models.backbones.encoder import Backbone

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "BandWarning",
    "DataWarning",
    "Layout",
    "ScaleWarning",
    "WeightsSource",
    "backbone_spec",
    "build_backbone",
    "canonical_bands",
    "check_scale",
    "match_bands",
]


def build_backbone(name: str, **options: Any) -> Backbone:
    """Build an encoder; see `rs05bench.models.backbones.encoder.build_backbone`."""
    from rs05bench.models.backbones.encoder import build_backbone as build

    return build(name, **options)
