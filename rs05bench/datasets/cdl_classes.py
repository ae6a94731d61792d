"""From the codes of USDA's Cropland Data Layer (CDL) to the 13 classes of the multi-temporal crop set.

Source: column `new_class_value` of `data/required/preprocessed_data/cdl_total_dst.csv`, repository
easierdata/multi-temporal-crop-classification-training-data, commit 46bf92d (the table the published masks were made with). One
deviation: the
legacy code 81 (Clouds/No Data) becomes 0 instead of 13; the table itself counts no pixel of it.

The Cropland Data Layer is itself the product of a classifier trained on farm reports: labels made from it are a model's, not ground truth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CROP_CLASSES = (
    "Natural Vegetation",
    "Forest",
    "Corn",
    "Soybeans",
    "Wetlands",
    "Developed/Barren",
    "Open Water",
    "Winter Wheat",
    "Alfalfa",
    "Fallow/Idle Cropland",
    "Cotton",
    "Sorghum",
    "Other",
)
"""Class names; file value 1 is the first."""

CDL_CODES: dict[str, tuple[int, ...]] = {
    "Natural Vegetation": (37, 152, 176),  # other hay, shrubland, grassland/pasture
    "Forest": (141, 142, 143),  # deciduous, evergreen, mixed
    "Corn": (1,),
    "Soybeans": (5,),
    "Wetlands": (190, 195),  # woody, herbaceous
    "Developed/Barren": (121, 122, 123, 124, 131),
    "Open Water": (111,),
    "Winter Wheat": (24,),
    "Alfalfa": (36,),
    "Fallow/Idle Cropland": (61,),
    "Cotton": (2,),
    "Sorghum": (4,),
}
"""Class -> CDL codes. Every other code from 1 to 254 is `Other`, among them spring wheat, rice, orchards and all double crops."""

NO_DATA_CODES = (0, 81, 255)

# One colour a class for maps: the CDL's own habit (corn yellow, soybean green, water blue) moved apart until neighbours differ in grey too.
CROP_COLOURS = (
    "#c9d8a3",
    "#1b7837",
    "#ffd300",
    "#4d9221",
    "#80b1b3",
    "#9c9c9c",
    "#3a6fb0",
    "#a6761d",
    "#e377c2",
    "#d9c7a0",
    "#d7301f",
    "#ff9e0f",
    "#5e3c99",
)


def _table() -> NDArray[np.uint8]:
    table = np.full(256, len(CROP_CLASSES), np.uint8)
    for value, name in enumerate(CROP_CLASSES[:-1], start=1):
        table[list(CDL_CODES[name])] = value
    table[list(NO_DATA_CODES)] = 0
    return table


CDL_TABLE: NDArray[np.uint8] = _table()
"""256 entries: CDL code -> file value of the crop set (0 = no data, 1-13)."""
CDL_TABLE.setflags(write=False)


def crop_class(codes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Map CDL codes to the 13 classes.

    Args:
        codes: Any shape, 0-255.

    Returns:
        The same shape: 0 = no data, 1-13 = class, as the published masks write them.

    >>> crop_class(np.array([1, 5, 176, 26, 0]))
    array([ 3,  4,  1, 13,  0], dtype=uint8)
    """
    return CDL_TABLE[codes]
