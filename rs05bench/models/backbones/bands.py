"""Band names, and how the bands of a data set reach the slots of an encoder.

A pretrained encoder has *slots*: BLUE, GREEN, ... in a fixed order, each with the statistics it was pretrained with. A data set has
*bands*. Matching the two by name, and refusing what does not fit, is what keeps a red band out of a near-infrared slot.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError

CANONICAL = (
    "COASTAL_AEROSOL",
    "BLUE",
    "GREEN",
    "RED",
    "RED_EDGE_1",
    "RED_EDGE_2",
    "RED_EDGE_3",
    "NIR_BROAD",
    "NIR_NARROW",
    "WATER_VAPOR",
    "CIRRUS",
    "SWIR_1",
    "SWIR_2",
)
"""Band names as TerraTorch's ``HLSBands`` spells them."""

# Sentinel-2 and HLS S30 names only. HLS L30 uses the same names for other wavelengths (its B05 is near infrared), so L30 data declare
# canonical names.
_SENTINEL2 = {
    "B01": "COASTAL_AEROSOL",
    "B02": "BLUE",
    "B03": "GREEN",
    "B04": "RED",
    "B05": "RED_EDGE_1",
    "B06": "RED_EDGE_2",
    "B07": "RED_EDGE_3",
    "B08": "NIR_BROAD",
    "B8A": "NIR_NARROW",
    "B09": "WATER_VAPOR",
    "B10": "CIRRUS",
    "B11": "SWIR_1",
    "B12": "SWIR_2",
}
# Common names of STAC's electro-optical extension (https://github.com/stac-extensions/eo): `nir` is the broad band, `nir08` the narrow one.
_STAC = {
    "COASTAL": "COASTAL_AEROSOL",
    "REDEDGE071": "RED_EDGE_1",
    "REDEDGE075": "RED_EDGE_2",
    "REDEDGE078": "RED_EDGE_3",
    "NIR": "NIR_BROAD",
    "NIR08": "NIR_NARROW",
    "NIR09": "WATER_VAPOR",
    "SWIR16": "SWIR_1",
    "SWIR22": "SWIR_2",
}
_ALIASES = {
    **{name.replace("_", ""): name for name in CANONICAL},
    **_SENTINEL2,
    **{name.replace("B0", "B"): band for name, band in _SENTINEL2.items() if name.startswith("B0")},
    **_STAC,
}


def _canonical(band: str) -> str | None:
    """The canonical name of a band, however it is spelled (`swir1`, `Red-Edge 1`); None where it has none."""
    return _ALIASES.get(re.sub(r"[\s_-]", "", band).upper())


class DataWarning(UserWarning):
    """Something about the data that a reader of a result has to know; a cell's result keeps it (`training["warnings"]`)."""


class ScaleWarning(DataWarning):
    """The values of an image do not look like the scale its data set declares."""


class BandWarning(DataWarning):
    """A slot of an encoder is filled by a neighbouring band, as its specification allows."""


@dataclass(frozen=True)
class Slot:
    """One input channel of a pretrained encoder.

    Args:
        band: The band it was pretrained with (a name of ``CANONICAL``).
        mean: Pretraining mean, in reflectance x 10,000.
        std: Pretraining standard deviation, in reflectance x 10,000.
        clip: Values are clipped to this range (reflectance x 10,000) first, where the encoder was pretrained so.
        accepts: Bands that may stand in, in order of preference; each use warns.
    """

    band: str
    mean: float
    std: float
    clip: tuple[float, float] | None = None
    accepts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matching:
    """Which data band feeds which slot.

    Args:
        indices: Position in the data of each used slot's band.
        slots: The used slots, in the encoder's order.
        bands: The band that fills each slot.
        unused: Data bands no slot wants.
    """

    indices: tuple[int, ...]
    slots: tuple[Slot, ...]
    bands: tuple[str, ...]
    unused: tuple[str, ...]


def canonical_bands(bands: Sequence[str], *, source: str = "the data module") -> tuple[str, ...]:
    """Translate Sentinel-2 / HLS S30 names (``B8A``) and STAC's common names (``nir08``) into canonical ones (``NIR_NARROW``).

    Raises:
        DataError: A name is unknown, or a band is given twice.

    Examples:
        >>> canonical_bands(["B02", "b8a", "swir1", "nir"])
        ('BLUE', 'NIR_NARROW', 'SWIR_1', 'NIR_BROAD')
    """
    names = [_canonical(str(band)) for band in bands]
    unknown = [str(band) for band, name in zip(bands, names, strict=True) if name is None]
    if unknown:
        remedy = (
            f"Use one of {', '.join(CANONICAL)}, or Sentinel-2 / HLS S30 names such as B02 and B8A (for HLS L30 use the canonical names)."
        )
        raise DataError(f"unknown band {', '.join(map(repr, unknown))}", source=source, remedy=remedy)
    known = [name for name in names if name is not None]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise DataError(
            f"band {', '.join(twice)} is declared twice", source=source, remedy="Declare each band once, in the order of the channels."
        )
    return tuple(known)


def named_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Canonical names where a band has one, its own name elsewhere: networks from scratch take any band (radar, heights).

    Examples:
        >>> named_bands(["B04", "VV"])
        ('RED', 'VV')
    """
    return tuple(_canonical(str(band)) or str(band) for band in bands)


def match_bands(slots: Sequence[Slot], data_bands: Sequence[str], *, require_all: bool, encoder: str) -> Matching:
    """Find the data band for every slot of an encoder; bands of names that none has (radar, heights) are left out with a warning.

    Args:
        slots: The encoder's slots.
        data_bands: The bands of the data, in channel order.
        require_all: Whether every slot must be filled (otherwise one band is enough).
        encoder: Its name, for messages.

    Raises:
        DataError: A required band is missing, none fits, or a band has a number that Sentinel-2 does not have.
    """
    present = named_bands(data_bands)
    # Refuses two names of one band, and the band number of another sensor, which may be one of the slots.
    canonical_bands([band for band in present if band in CANONICAL or re.fullmatch(r"(?i)B\d+A?", band)])
    indices: list[int] = []
    used: list[Slot] = []
    names: list[str] = []
    missing: list[str] = []
    # A band goes to its own slot first; only what is left over may stand in for a neighbour.
    own = {slot.band for slot in slots}
    for slot in slots:
        name = slot.band if slot.band in present else next((band for band in slot.accepts if band in present and band not in own), None)
        if name is None:
            missing.append(slot.band)
            continue
        indices.append(present.index(name))
        used.append(slot)
        names.append(name)
    if missing and (require_all or not used):
        problem = (
            f"{encoder} needs band{'s' if len(missing) > 1 else ''} {', '.join(missing)}; the data have {', '.join(present) or 'none'}"
        )
        raise DataError(
            problem,
            remedy="Add the bands to the data, or choose an encoder that takes what there is (dofa and clay take any subset of theirs).",
        )
    if strange := [band for band in present if band not in CANONICAL]:
        warnings.warn(
            f"{encoder} sees no band {', '.join(strange)}: no pretrained encoder knows it by that name", BandWarning, stacklevel=1
        )
    matching = Matching(tuple(indices), tuple(used), tuple(names), tuple(band for band in present if band not in names))
    warn_of_stand_ins(matching, encoder)
    return matching


def warn_of_stand_ins(matching: Matching, encoder: str) -> None:
    """Warn of every slot that a neighbouring band fills.

    Args:
        matching: Of the encoder's slots with the data's bands.
        encoder: Its name, for messages.
    """
    for slot, band in zip(matching.slots, matching.bands, strict=True):
        if band != slot.band:
            # From here, whoever asks: Python then shows each text once.
            warnings.warn(f"{encoder}: band {band} stands in for {slot.band}, which the data do not have", BandWarning, stacklevel=1)


def check_scale(sample: NDArray[np.floating], scale: float) -> str | None:
    """Say what is wrong with the values of an image at the scale it declares, or None.

    Land and water reflect between about 1 % and 60 % in the optical bands; the 95th percentile of a chip therefore lies well inside
    (0.005, 2). Values up to 255 that would all be darker than 5 % are an 8-bit image. A value far below 0 that many pixels share is no
    reflectance but a mark for missing data; it is told of, and what remains is looked at.

    Args:
        sample: Pixel values, any shape; NaN is ignored.
        scale: The number that stands for a reflectance of 1 (1 or 10,000 as a rule).
    """
    finite = sample[np.isfinite(sample)]
    missing = _nodata(finite, scale)
    if missing is None:
        return _scale_fault(finite, scale)
    share = float(np.mean(finite == missing))
    fault = (
        f"{share:.0%} of the values are {missing:g}, which is no reflectance but probably nodata; declare it as nodata, or write NaN there"
    )
    return "; ".join(part for part in (fault, _scale_fault(finite[finite != missing], scale)) if part)


def _nodata(finite: NDArray[np.floating], scale: float) -> float | None:
    """The value that stands for missing data; None where there is none. Noise makes reflectances a little negative, and never alike."""
    if finite.size == 0 or (lowest := float(finite.min())) >= -0.05 * scale:
        return None
    return lowest if float(np.mean(finite == lowest)) >= 0.01 else None


def _scale_fault(finite: NDArray[np.floating], scale: float) -> str | None:
    if finite.size == 0 or not finite.any():
        return None
    size = np.abs(finite)
    high, peak = float(np.percentile(size, 95)), float(size.max())
    eight_bit = high > 2.0 and peak <= 255
    if 0.005 <= high / scale <= 2.0 and not (eight_bit and peak / scale < 0.05):
        return None
    likely = "1" if high <= 2.0 else "255 (an 8-bit image)" if eight_bit else "10000"
    return (
        f"the 95th percentile of the image is {high:.4g}, a reflectance of {high / scale:.3g} at the declared scale {scale:g}; "
        f"reflectances lie between 0 and about 1, so the scale is probably {likely}"
    )
