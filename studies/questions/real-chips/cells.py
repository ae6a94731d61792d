"""Three scenes of three sensors, cut into chips: a sensor held out in miniature."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from rs05bench.protocol.card import TaskCard
from studies.questions.setting import Found, Setting

SENSORS = ("landsat5", "landsat7", "sentinel2")
SIDE, PIXEL_M = 128, 30.0
CLASSES = {0: (0,), 1: (1, 3), 2: (4,)}
"""Our mask value -> those of the scenes."""
BUDGETS = ["10-units", "full"]


def cells(setting: Setting) -> Found:
    """Pixels, image statistics and frozen encoders with a sensor held out, three seeds."""
    folder = setting.store / "six-band"
    if not (folder / "sensors.csv").is_file():
        write_chips(setting.data("six_band_scenes"), folder)
        shutil.copy(setting.data("galileo_nano") / "encoder.pt", folder / "encoder.pt")
    card = setting.card(sensor_card(folder))
    plain = ["floor/majority", "statistics/logistic", "raw/logistic", "timm-tf_efficientnet_lite0/frozen-logistic"]
    grid = {"splits": ["leave-sensor-out"], "budgets": BUDGETS, "seeds": "0-2"}
    results = setting.sweep(card, folder, models=plain, **grid)
    galileo = ["galileo-nano/frozen-logistic", "galileo-nano/frozen-logistic@random"]
    return Found(results + setting.sweep(card, folder, models=galileo, options={"patch": 8}, **grid))


def write_chips(source: Path, folder: Path) -> None:
    """Cuts each scene into 16 chips; the scenes have no place, so each is put somewhere of its own."""
    rows = ["chip,sensor"]
    for number, sensor in enumerate(SENSORS):
        with np.load(source / f"{sensor}.npz") as scene:
            image, mask = scene["img"].transpose(2, 0, 1), scene["msk"][..., 0]
        labels = np.full(mask.shape, 255, np.uint8)
        for value, found in CLASSES.items():
            labels[np.isin(mask, found)] = value
        for at, (top, left) in enumerate(np.ndindex(mask.shape[0] // SIDE, mask.shape[1] // SIDE)):
            window = np.s_[top * SIDE : (top + 1) * SIDE, left * SIDE : (left + 1) * SIDE]
            place = from_origin(300_000 + number * 150_000 + left * SIDE * PIXEL_M, 4_000_000 - top * SIDE * PIXEL_M, PIXEL_M, PIXEL_M)
            name = f"{sensor}_{at:02d}"
            for kind, pixels in (("images", image[:, *window]), ("masks", labels[None, *window])):
                path = folder / kind / f"{name}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = {"count": len(pixels), "height": SIDE, "width": SIDE, "dtype": pixels.dtype}
                with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=place, **shape) as target:
                    target.write(pixels)
            rows.append(f"{name},{sensor}")
    (folder / "sensors.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def sensor_card(folder: Path) -> TaskCard:
    """The task over those chips."""
    weights = hashlib.sha256((folder / "encoder.pt").read_bytes()).hexdigest()
    return TaskCard.model_validate(
        {
            "kind": "segmentation",
            "name": "six-band-scenes",
            "title": "Shadow, land and cloud in scenes of three sensors",
            "targets": ["label"],
            "classes": ["shadow", "land", "cloud"],
            "unit": ["unit_id"],
            "groups": ["sensor"],
            "coordinates": {"x": "lon", "y": "lat"},
            "files": ["images/*.tif"],
            "reader": "chips",
            "splits": ["leave-sensor-out"],
            "split_options": {"region": "sensor", "block_size_m": 4000, "buffer_m": 0, "test_fraction": 0.3},
            "budgets": BUDGETS,
            "preprocessing": {
                "patch_size": SIDE,
                "chips": {
                    "images": "images/*.tif",
                    "masks": "masks/*.tif",
                    "bands": ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"],
                    "scale": 1,
                    "labels": {0: "shadow", 1: "land", 2: "cloud"},
                    "ignore": [255],
                    "groups": {"sensor": {"file": "sensors.csv", "id": "chip", "column": "sensor"}},
                },
                "weights": {"galileo-nano": {"file": "encoder.pt", "sha256": weights}},
            },
        }
    )
