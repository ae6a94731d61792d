"""Are the edges in the right place? Boundary F1 with a tolerance in metres.

After Csurka, Larlus & Perronnin (2013), What is a good evaluation measure for semantic segmentation?, BMVC
(https://doi.org/10.5244/C.27.32): of the predicted boundary, the share that lies within the tolerance of the true one is the
precision; of the true boundary, the share within the tolerance of the predicted one is the recall. Distances are exact Euclidean
distances between pixel centres (Felzenszwalb & Huttenlocher 2012 in OpenCV's `DIST_MASK_PRECISE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.declaration import metric
from rs05bench.protocol.metrics.sums import Sums, dense_counts, ratio

Mask = NDArray[np.bool_]
_LARGEST_DISC = 4  # pixels; above it a distance transform is cheaper than growing by a disc


class BoundaryCounts(NamedTuple):
    """Boundary pixels of one class and how many of them have a partner; adds up over chips."""

    predicted_matched: int = 0
    predicted: int = 0
    true_matched: int = 0
    true: int = 0


@dataclass(frozen=True, eq=False)
class Boundary(Sums):
    """Boundary pixels and their partners per cluster and class of interest.

    Attributes:
        values: (C, L, 4) `BoundaryCounts`.
        names: L names of the classes of interest.
    """

    names: tuple[str, ...] = ()
    kind = "boundary"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of interest."""
        return self.names

    def parts(self, totals: NDArray[Any]) -> BoundaryParts:
        """Matched and drawn boundary of each class."""
        return BoundaryParts(*np.moveaxis(totals.reshape(*totals.shape[:-1], len(self.names), 4), -1, 0))

    @property
    def units(self) -> NDArray[np.float64]:
        """(C,) boundary pixels, of either side."""
        return np.asarray(self.values, dtype=np.float64)[..., 1::2].sum((1, 2))

    def header(self) -> dict[str, Any]:
        """Classes of interest."""
        return {"classes": list(self.names)}

    @classmethod
    def unpack(cls, record: Mapping[str, Any], clusters: tuple[str, ...]) -> Boundary:
        """Inverse of `pack`."""
        names = tuple(record["classes"])
        return cls(clusters, dense_counts(record, (len(clusters), len(names), 4)), names)


class BoundaryParts(NamedTuple):
    """What the formulas take, (..., L) each; see `BoundaryCounts`."""

    predicted_matched: NDArray[Any]
    predicted: NDArray[Any]
    true_matched: NDArray[Any]
    true: NDArray[Any]


@metric(
    "boundary_f1_<class>",
    sums=Boundary,
    tasks=("segmentation",),
    range=(0, 1),
    better="higher",
    words="harmonic mean of the share of the drawn boundary within the tolerance (metres) of the true one and the share of the true one "
    "within it of the drawn one; counts added over chips; 0 when only one side has a boundary",
    source="Csurka et al. 2013, doi:10.5244/C.27.32",
)
def _boundary_f1_of_class(parts: BoundaryParts) -> NDArray[Any]:
    exists = np.real(parts.predicted + parts.true) > 0
    precision, recall = (
        np.where(np.real(below) > 0, above / np.where(np.real(below) > 0, below, 1), 0)
        for above, below in ((parts.predicted_matched, parts.predicted), (parts.true_matched, parts.true))
    )
    meet = np.real(precision + recall) > 0
    return np.where(exists, np.where(meet, 2 * precision * recall / np.where(meet, precision + recall, 1), 0), np.nan)


@metric(
    "boundary_f1",
    sums=Boundary,
    tasks=("segmentation",),
    range=(0, 1),
    better="higher",
    words="mean of `boundary_f1_<class>` over the classes of interest (not the background) that have a boundary",
    source="Csurka et al. 2013, doi:10.5244/C.27.32",
)
def _boundary_f1(parts: BoundaryParts) -> NDArray[Any]:
    exists = np.real(parts.predicted + parts.true) > 0
    return ratio(np.where(exists, _boundary_f1_of_class(parts), 0).sum(-1), exists.sum(-1))


def boundary(mask: Mask, valid: Mask | None = None) -> Mask:
    """The mask's own pixels that touch (by an edge) a valid pixel outside it.

    The rim of the chip and the rim of ignored ground are no boundary: nobody knows what lies beyond.
    """
    inside = mask if valid is None else mask & valid
    outside = ~mask if valid is None else ~mask & valid
    edge = np.zeros(mask.shape, bool)
    edge[1:] |= outside[:-1]
    edge[:-1] |= outside[1:]
    edge[:, 1:] |= outside[:, :-1]
    edge[:, :-1] |= outside[:, 1:]
    edge &= inside
    return edge


def boundary_counts(
    true_mask: Mask, predicted_mask: Mask, *, tolerance_m: float, pixel_size_m: float | tuple[float, float], valid: Mask | None = None
) -> BoundaryCounts:
    """Match the boundaries of two masks of one class.

    Args:
        true_mask: bool (H, W).
        predicted_mask: bool (H, W).
        tolerance_m: Largest distance, in metres, at which two boundary pixels are partners (the end included).
        pixel_size_m: Pixel width in metres, or (width, height).
        valid: bool (H, W), False where the truth is unknown.

    Returns:
        The counts; a chip without any boundary gives zeros.
    """
    if true_mask.shape != predicted_mask.shape or true_mask.ndim != 2:
        raise DataError(f"expected two masks (H, W), found {true_mask.shape} and {predicted_mask.shape}")
    width, height = (pixel_size_m, pixel_size_m) if isinstance(pixel_size_m, int | float) else pixel_size_m
    if not (width > 0 and height > 0 and tolerance_m >= 0):
        raise DataError(f"pixel size {(width, height)} m must be positive and the tolerance {tolerance_m} m not negative")
    true_edge = boundary(true_mask, valid)
    predicted_edge = boundary(predicted_mask, valid)
    n_true, n_predicted = int(np.count_nonzero(true_edge)), int(np.count_nonzero(predicted_edge))
    if not n_true or not n_predicted:
        return BoundaryCounts(0, n_predicted, 0, n_true)
    return BoundaryCounts(
        int(np.count_nonzero(near(true_edge, tolerance_m, width, height) & predicted_edge)),
        n_predicted,
        int(np.count_nonzero(near(predicted_edge, tolerance_m, width, height) & true_edge)),
        n_true,
    )


def near(edge: Mask, tolerance_m: float, width_m: float, height_m: float) -> Mask:
    """Pixels whose centre lies within the tolerance of an edge pixel's.

    A few pixels of tolerance are the same question as growing the edge by a disc, which is several times cheaper than knowing all
    distances.
    """
    if not edge.any():
        # Nothing is near an edge without a pixel. It must not reach OpenCV: without a zero pixel its distances are finite nonsense.
        return np.zeros(edge.shape, bool)
    import cv2

    columns, rows = int(tolerance_m / width_m + 1e-9), int(tolerance_m / height_m + 1e-9)
    if max(columns, rows) <= _LARGEST_DISC:
        dx, dy = np.arange(-columns, columns + 1) * width_m, np.arange(-rows, rows + 1) * height_m
        disc = dy[:, None] ** 2 + dx[None, :] ** 2 <= tolerance_m**2 * (1 + 1e-9)
        return cv2.dilate(edge.view(np.uint8), disc.astype(np.uint8)).view(bool)
    if abs(width_m - height_m) > 1e-9 * width_m:
        from scipy.ndimage import distance_transform_edt

        return np.asarray(distance_transform_edt(~edge, sampling=(height_m, width_m)) <= tolerance_m * (1 + 1e-9))
    distance = cv2.distanceTransform((~edge).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Squared distances between pixel centres are whole numbers: a threshold half-way to the next one is exact in float32.
    return np.asarray(distance <= np.float32(np.sqrt(np.floor((tolerance_m / width_m) ** 2 * (1 + 1e-9)) + 0.5)))
