"""Seeds and noise of the simulator: everything random is a pure function of (seed, names, place).

Noise that belongs to a place is hashed from the place's own index rather than drawn in sequence, so a table that asks for forty
pixels and a file that asks for a million see the same value in the same pixel.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator that depends on the seed and the names only.

    Args:
        seed: The world's seed.
        *names: What the numbers are for, e.g. ``"fires", "CA"``.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, *(zlib.crc32(str(name).encode()) for name in names)]))


def normal_at(seed: int, names: tuple[str | int, ...], places: NDArray[Any], channels: int) -> FloatArray:
    """Return noise that is fixed for a place: nearly normal, mean 0, standard deviation 1.

    Four 16-bit uniforms of one 64-bit hash (SplitMix64, Steele et al. 2014) are summed, which is normal to within 1 % up to two
    standard deviations and never exceeds 3.47.

    Args:
        seed: The world's seed.
        names: What the noise is for.
        places: Integer index of each place, shape (n,).
        channels: Number of independent values a place.

    Returns:
        Array of shape (n, channels).
    """
    key = np.uint64(generator(seed, *names).integers(0, 2**63))
    with np.errstate(over="ignore"):
        rows = _mix(places.astype(np.uint64) * _GOLDEN + key)
        bits = _mix(rows[:, None] + np.arange(1, channels + 1, dtype=np.uint64)[None, :] * _GOLDEN)
    total = np.zeros(bits.shape, dtype=np.float32)
    for shift in (0, 16, 32, 48):
        total += ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float32)
    mean, deviation = 4 * 32767.5, 2 * 65536 / np.sqrt(12.0)
    return ((total - np.float32(mean)) / np.float32(deviation)).astype(np.float32)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], length: float, rough: float = 0.0) -> FloatArray:
    """Return a Gaussian random field of mean 0 and standard deviation 1.

    Args:
        rng: Source of the white noise.
        shape: Rows and columns.
        length: Correlation length in pixels.
        rough: Share of variance given to a field of a quarter of that length.
    """
    field = _filtered(rng, shape, length)
    if rough > 0:
        field = np.sqrt(1 - rough) * field + np.sqrt(rough) * _filtered(rng, shape, length / 4)
    return field.astype(np.float32)


def _filtered(rng: np.random.Generator, shape: tuple[int, int], length: float) -> NDArray[np.float64]:
    white = rng.standard_normal(shape)
    row = np.fft.fftfreq(shape[0])[:, None]
    column = np.fft.rfftfreq(shape[1])[None, :]
    kernel = np.exp(-2 * (np.pi * length) ** 2 * (row**2 + column**2))
    field = np.fft.irfft2(np.fft.rfft2(white) * kernel, s=shape)
    return np.asarray((field - field.mean()) / field.std())
