"""The protocol's rules over a stored sweep."""

from __future__ import annotations

from pathlib import Path

from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.rules import RuleVerdict, check_rules


def check_store(folder: str | Path) -> list[RuleVerdict]:
    """Checks every rule of the protocol over the results of a sweep.

    Costs measured alone take the place of those measured beside other cells.

    Args:
        folder: The sweep's folder.

    Raises:
        DataError: It holds no result.
    """
    store = ResultStore(folder)
    costs = store.costs()
    results = [result.model_copy(update={"cost": costs.get(result.digest, result.cost)}) for result in store.results()]
    if not results:
        raise DataError("holds no finished result", source=folder, remedy="Give the folder a sweep was written to (its --out).")
    there = sorted(Path(folder).glob("manifests/*/*@v*.parquet"))
    manifests = [
        store.manifest(path.parent.name, path.stem.rpartition("@v")[0], int(path.stem.rpartition("@v")[2]))
        for path in there
        if not path.name.endswith(".units.parquet")
    ]
    return check_rules(results, manifests, store.cards().values())
