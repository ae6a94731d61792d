"""The live-fuel-moisture samples as their authors keep them: one NumPy array a quantity (`reader: presto`).

Source: https://github.com/nasaharvest/presto (Tseng et al. 2023, https://arxiv.org/abs/2304.14065); labels from Rao et al. 2020,
https://doi.org/10.1016/j.rse.2020.111797. A sample is three months of Sentinel-1, Sentinel-2, ERA5 and SRTM at one site.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError

#: Channels of `s1_s2_era5_srtm.npy`, in the order of the file.
RAW_CHANNELS = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12", "t2m", "tp", "elevation", "slope", "NDVI")
#: Presto's own order: B9 is not used, and NDVI is computed from B8 and B4.
PRESTO_CHANNELS = ("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12", "t2m", "tp", "elevation", "slope", "NDVI")
_SHIFT = {"VV": 25.0, "VH": 25.0, "t2m": -272.15}
_DIVIDE = {"VV": 25.0, "VH": 25.0, "t2m": 35.0, "tp": 0.03, "elevation": 2000.0, "slope": 50.0}


def presto_input(raw: NDArray[Any]) -> NDArray[np.float32]:
    """Scaled input of Presto, (n, months, 17), from the raw channels (n, months, 18).

    Sentinel-1 (x + 25) / 25, Sentinel-2 x / 1e4, temperature (x - 272.15) / 35, precipitation x / 0.03, elevation x / 2000, slope x / 50,
    NDVI (B8 - B4) / (B8 + B4), 0 where both are 0.
    """
    if raw.ndim != 3 or raw.shape[2] != len(RAW_CHANNELS):
        raise DataError(f"expected an array (n, months, {len(RAW_CHANNELS)}), found {raw.shape}", source="s1_s2_era5_srtm")
    x = {name: raw[:, :, index].astype(np.float64) for index, name in enumerate(RAW_CHANNELS)}
    total = x["B8"] + x["B4"]
    ndvi = np.divide(x["B8"] - x["B4"], total, out=np.zeros_like(total), where=total != 0)
    bands = [ndvi if name == "NDVI" else (x[name] + _SHIFT.get(name, 0.0)) / _DIVIDE.get(name, 1e4) for name in PRESTO_CHANNELS]
    return np.stack(bands, axis=2).astype(np.float32)


def read_presto(root: Path) -> pd.DataFrame:
    """The folder as a table, one row a sample.

    Columns: `target` (percent), `site`, `region` (10 x 5 degree cell), `lon`, `lat`, `official` (train, test: the published site split),
    the raw channels `VV_t0` .. `NDVI_t2`, Presto's scaled channels `presto_VV_t0` .. `presto_NDVI_t2` (month by month, channels within),
    and `dynamic_world_t0`, `month_t0` (0-11) and so on.

    Raises:
        DataError: A missing array, or arrays of unequal length.
    """
    arrays = {
        name: _load(root / f"{name}.npy") for name in ("s1_s2_era5_srtm", "target", "site", "latlon", "month", "dynamic_world", "is_test")
    }
    raw = arrays["s1_s2_era5_srtm"]
    for name, array in arrays.items():
        if len(array) != len(raw):
            raise DataError(f"holds {len(array)} samples, s1_s2_era5_srtm.npy holds {len(raw)}", source=root / f"{name}.npy")
    latitude, longitude = arrays["latlon"].T.astype(np.float64)
    columns: dict[str, Any] = {
        "target": arrays["target"].astype(np.float64),
        "site": arrays["site"].astype(str).astype(object),
        "region": [_cell(lon, lat) for lon, lat in zip(longitude, latitude, strict=True)],
        "lon": longitude,
        "lat": latitude,
        "official": np.where(arrays["is_test"].astype(bool), "test", "train"),
    }
    months = raw.shape[1]
    scaled = presto_input(raw)
    columns |= {f"{name}_t{t}": raw[:, t, c].astype(np.float32) for t in range(months) for c, name in enumerate(RAW_CHANNELS)}
    columns |= {f"presto_{name}_t{t}": scaled[:, t, c] for t in range(months) for c, name in enumerate(PRESTO_CHANNELS)}
    columns |= {f"{name}_t{t}": arrays[name][:, t] for name in ("dynamic_world", "month") for t in range(months)}
    frame = pd.DataFrame(columns)
    frame["_file"] = "sample"
    frame["_row"] = [f"{number:05d}" for number in range(len(frame))]
    return frame


def as_sequence(values: NDArray[np.float32], columns: list[str]) -> NDArray[np.float32]:
    """Presto's scaled channels (n, months x 17) as (n, months, 17); any other columns as they are."""
    months = len(columns) // len(PRESTO_CHANNELS)
    if columns != [f"presto_{name}_t{t}" for t in range(months) for name in PRESTO_CHANNELS]:
        return values
    return values.reshape(len(values), months, len(PRESTO_CHANNELS))


def _load(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)  # no pickle is ever read from outside
    except FileNotFoundError as error:
        raise DataError("no such file", source=path, remedy="Give the folder of the fuel-moisture arrays with --data.") from error
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"cannot be read as a NumPy array: {error}", source=path) from error
    return array


def _cell(lon: float, lat: float) -> str:
    west, south = int(np.floor(lon / 10.0)) * 10, int(np.floor(lat / 5.0)) * 5
    return f"{'N' if south >= 0 else 'S'}{abs(south):02d}{'E' if west >= 0 else 'W'}{abs(west):03d}"
