"""Reading a folder of predictions, of a table or of chips."""

from __future__ import annotations

from pathlib import Path

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_json
from rs05bench.protocol.map_predictions import MapPredictions
from rs05bench.protocol.predictions import RECORD, Predictions, TablePredictions


def read_predictions(directory: str | Path) -> Predictions:
    """Reads predictions that anyone could have made, and checks them.

    Args:
        directory: Folder with `predictions.json` and `units.parquet` (and `chips/`, for maps).

    Raises:
        DataError: A file is missing or not what it should be.
    """
    root = Path(directory)
    if not root.is_dir():
        raise DataError("no such folder", source=root, remedy="Predictions are a folder with predictions.json and units.parquet.")
    try:
        record = read_json(root / RECORD)
    except FileNotFoundError as error:
        raise DataError(f"{RECORD} is missing", source=root) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{RECORD} cannot be read: {error}", source=root) from error
    of_chips = isinstance(record, dict) and record.get("kind") == "segmentation"
    return MapPredictions.read(root) if of_chips else TablePredictions.read(root)
