"""Change between two years, as the embedding space measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rs05bench.embeddings.products import DEFAULT, product
from rs05bench.embeddings.vectors import Named, normalise
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def dot(before: ArrayLike, after: ArrayLike, *, axis: int = -1) -> NDArray[np.float32]:
    """The dot product of unit vectors: 1 where nothing changed.

    Vectors are scaled to unit length first: quantisation leaves them between .991 and 1.010 long, and means of pixels are shorter.

    Args:
        before: Decoded embeddings of the first year.
        after: Decoded embeddings of the second, same shape.
        axis: The axis of the components.

    Returns:
        float32, one axis fewer; NaN where either year is masked.
    """
    a, b = _pair(before, after, axis)
    return np.clip(np.sum(a * b, axis=axis), -1, 1).astype(np.float32)


def angle(before: ArrayLike, after: ArrayLike, *, axis: int = -1) -> NDArray[np.float32]:
    """The angle between two years' vectors in degrees: 0 where nothing changed, at most 180.

    Args:
        before: Decoded embeddings of the first year.
        after: Decoded embeddings of the second, same shape.
        axis: The axis of the components.

    Returns:
        float32, one axis fewer; NaN where either year is masked.
    """
    a, b = (v.astype(np.float64) for v in _pair(before, after, axis))
    return np.degrees(angle_of_units(a, b, axis=axis)).astype(np.float32)


def angle_of_units(a: NDArray[np.float64], b: NDArray[np.float64], *, axis: int = -1) -> NDArray[np.float64]:
    """Angle of unit vectors in radians, 0 to pi.

    2 atan2(|a - b|, |a + b|) (Kahan 2006, How futile are mindless assessments of roundoff): the arc cosine of the dot product loses half
    its digits for small angles, and most places change little from year to year.
    """
    angle: NDArray[np.float64] = 2.0 * np.arctan2(np.linalg.norm(a - b, axis=axis), np.linalg.norm(a + b, axis=axis))
    return angle


def change_features(before: ArrayLike, after: ArrayLike, *, axis: int = -1, of: Named = DEFAULT) -> tuple[NDArray[np.float32], list[str]]:
    """Differences of the components, dot product and angle, as columns for a shallow learner.

    Args:
        before: Decoded embeddings of the first year.
        after: Decoded embeddings of the second, same shape.
        axis: The axis of the components.
        of: The product.

    Returns:
        float32 array with two entries more than components along `axis`, and their names: `d` and the column, `change_dot`,
        `change_angle`.
    """
    a, b = np.asarray(before, dtype=np.float32), np.asarray(after, dtype=np.float32)
    bands = product(of).bands
    if a.shape != b.shape or a.shape[axis] != len(bands):
        raise DataError(f"expected two arrays of {len(bands)} components, found shapes {a.shape} and {b.shape}")
    parts = [b - a, np.expand_dims(dot(a, b, axis=axis), axis), np.expand_dims(angle(a, b, axis=axis), axis)]
    return np.concatenate(parts, axis=axis), [*(f"d{band}" for band in bands), "change_dot", "change_angle"]


def _pair(before: ArrayLike, after: ArrayLike, axis: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    a, b = np.asarray(before), np.asarray(after)
    if a.shape != b.shape:
        raise DataError(f"the two years have different shapes: {a.shape} and {b.shape}")
    for array in (a, b):
        if not np.issubdtype(array.dtype, np.floating):
            raise DataError(
                f"expected decoded embeddings, found {array.dtype}", remedy="Decode them first: angles between bytes are wrong."
            )
    return normalise(a, axis=axis), normalise(b, axis=axis)
