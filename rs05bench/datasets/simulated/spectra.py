"""Six-band reflectance by linear mixing, what a sensor makes of it, and the usual indices.

Bands and their order are those of the HLS burn-scar chips: B02 B03 B04 B8A B11 B12 (blue, green, red, narrow NIR, SWIR 1, SWIR 2).
"""

from __future__ import annotations

import numpy as np

from rs05bench.datasets.simulated.randomness import FloatArray, generator, normal_at

BANDS = ("B02", "B03", "B04", "B8A", "B11", "B12")

# Pure spectra, reflectance 0-1. Shapes follow the common spectral libraries; the values are round on purpose.
ENDMEMBERS: dict[str, tuple[float, ...]] = {
    "leaf": (0.028, 0.062, 0.034, 0.410, 0.205, 0.090),
    "needle": (0.018, 0.034, 0.021, 0.245, 0.105, 0.047),
    "shrub": (0.038, 0.058, 0.062, 0.235, 0.205, 0.130),
    "dry": (0.070, 0.102, 0.138, 0.270, 0.325, 0.230),
    "soil": (0.080, 0.110, 0.145, 0.215, 0.290, 0.255),
    "water": (0.042, 0.038, 0.026, 0.014, 0.007, 0.005),
    "roof": (0.130, 0.148, 0.162, 0.205, 0.225, 0.205),
    "ash": (0.095, 0.110, 0.125, 0.165, 0.215, 0.205),
    "char": (0.034, 0.039, 0.045, 0.075, 0.128, 0.142),
}
NAMES = tuple(ENDMEMBERS)
_SPECTRA = np.array([ENDMEMBERS[name] for name in NAMES], dtype=np.float32)
_REDDENING = np.array([-0.25, -0.10, 0.22, 0.18, 0.10, 0.08], dtype=np.float32)
_HAZE = np.array([0.0100, 0.0070, 0.0045, 0.0020, 0.0010, 0.0005], dtype=np.float32)
_PIXEL_NOISE = np.array([0.004, 0.004, 0.005, 0.011, 0.010, 0.008], dtype=np.float32)


def mix(shares: dict[str, FloatArray], soil: FloatArray, redness: float) -> FloatArray:
    """Return the reflectance of a mixture.

    Args:
        shares: Share of each endmember, arrays of shape (n,); they are normalised to sum to one.
        soil: Soil brightness factor, shape (n,).
        redness: How iron-rich the region's soil is, 0-1.

    Returns:
        Reflectance of shape (n, 6).
    """
    weights = np.zeros((soil.size, len(NAMES)), dtype=np.float32)
    for name, share in shares.items():
        weights[:, NAMES.index(name)] = share
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
    ground = NAMES.index("soil")
    own_soil = _SPECTRA[ground] * (1 + np.float32(redness) * _REDDENING) * soil[:, None]
    mixed = weights @ _SPECTRA + weights[:, [ground]] * (own_soil - _SPECTRA[ground])
    return np.clip(mixed, 0.001, 0.9).astype(np.float32)


def illuminate(reflectance: FloatArray, slope: FloatArray, aspect: FloatArray, lat: float, day: int) -> FloatArray:
    """Return reflectance brightened or shaded by terrain under the mid-morning sun of the day (slope and aspect in radians)."""
    declination = np.deg2rad(-23.44 * np.cos(2 * np.pi * (day + 10) / 365.25))
    zenith = np.clip(np.deg2rad(lat) - declination, 0.1, 1.35)
    azimuth = np.deg2rad(150.0)
    shade = np.cos(slope) + np.sin(slope) * np.tan(zenith) * np.cos(aspect - azimuth)
    return (reflectance * np.clip(0.35 + 0.65 * shade, 0.35, 1.5)[:, None]).astype(np.float32)


def observe(reflectance: FloatArray, seed: int, scene: tuple[str | int, ...], places: np.ndarray) -> FloatArray:
    """Return what a sensor delivers: one haze and one calibration for the whole scene, and noise for each pixel.

    Args:
        reflectance: True reflectance, shape (n, 6).
        seed: The world's seed.
        scene: Names the scene (landscape, year, day): all its pixels share haze and calibration.
        places: Index of each pixel, shape (n,).
    """
    rng = generator(seed, "scene", *scene)
    haze = np.float32(rng.gamma(1.5, 0.8)) * _HAZE
    gain = (1 + 0.025 * rng.standard_normal() + 0.012 * rng.standard_normal(6)).astype(np.float32)
    noise = normal_at(seed, ("pixel", *scene), places, 6) * _PIXEL_NOISE
    return np.clip(reflectance * gain + haze + noise * (0.35 + reflectance / 0.3), 0.0001, 1.0).astype(np.float32)


def ratio(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the normalised difference (first - second) / (first + second)."""
    return ((first - second) / np.maximum(first + second, 1e-6)).astype(np.float32)


def indices(reflectance: FloatArray) -> dict[str, FloatArray]:
    """Return NDVI, NBR, NDMI, NDWI and NDBI of reflectance (n, 6) (Rouse 1974; Key & Benson 2006; Gao 1996; McFeeters 1996; Zha 2003)."""
    _, green, red, nir, swir1, swir2 = (reflectance[:, i] for i in range(6))
    return {
        "NDVI": ratio(nir, red),
        "NBR": ratio(nir, swir2),
        "NDMI": ratio(nir, swir1),
        "NDWI": ratio(green, nir),
        "NDBI": ratio(swir1, nir),
    }
