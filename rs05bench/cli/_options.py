"""Options that several commands share: the grid over a card, where cells run, which card is meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.experiment.executors import Executor
    from rs05bench.experiment.gridfile import GridFile
    from rs05bench.protocol.card import TaskCard

AsJson = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
What = Annotated[Path, typer.Argument(metavar="CARD|GRID", help="Task card or grid file (YAML).")]
Data = Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")]
Preset = Annotated[str | None, typer.Option("--preset", help="quick, paper or leaderboard; other options go before it.")]
Models = Annotated[str | None, typer.Option("--models", help="Model names or patterns, separated by commas; 'shallow', 'all'.")]
Splits = Annotated[str | None, typer.Option("--splits", help="Splits; default the card's.")]
Budgets = Annotated[str | None, typer.Option("--budgets", help="Budgets; default the card's.")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Seeds; default 0-4.")]
Targets = Annotated[str | None, typer.Option("--targets", help="Targets; default the card's.")]
Folds = Annotated[str | None, typer.Option("--folds", help="Only these folds.")]
Manifests = Annotated[
    list[str] | None,
    typer.Option("--manifest", help="Frozen manifest instead of one made from the data: file, folder of some, or shipped name."),
]
Costs = Annotated[bool | None, typer.Option("--costs/--no-costs", help="Measure costs alone in fresh processes at the end.")]
Where = Annotated[str, typer.Option("--executor", help="local or ray.")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Ray cluster to use; default one on this machine.")]
RuntimeEnv = Annotated[
    Path | None, typer.Option("--runtime-env", help="YAML or JSON file with Ray's runtime environment: packages, env_vars, working_dir.")
]
Logger = Annotated[
    list[str] | None,
    typer.Option("--logger", help="Log the fits of deep cells to OUT/logs: csv, tensorboard, mlflow or wandb; may be given often."),
]


@dataclass(frozen=True)
class Chosen:
    """What the options say; None where nothing was said."""

    data: Path | None = None
    preset: str | None = None
    models: str | None = None
    splits: str | None = None
    budgets: str | None = None
    seeds: str | None = None
    targets: str | None = None
    folds: str | None = None
    manifest: list[str] | None = None
    costs: bool | None = None

    def grid(self, what: Path) -> GridFile:
        """The grid file, or the grid over the card.

        Raises:
            DataError: Options that a grid file answers itself, or names that do not exist.
        """
        from rs05bench.experiment.grid import parse_seeds
        from rs05bench.experiment.gridfile import GridChoice, GridFile, is_grid, load_preset

        if is_grid(what):
            if said := [f"--{name}" for name, value in vars(self).items() if name != "costs" and value is not None]:
                raise DataError(f"a grid file says its own {', '.join(said)}", source=what, remedy="Change the file, or name a task card.")
            grid = GridFile.load(what)
            grid.costs = grid.costs if self.costs is None else self.costs
            return grid
        usual = {"models": ["shallow"], "seeds": "0-4", "costs": True} | (load_preset(self.preset) if self.preset else {})
        given: dict[str, list[str] | list[int] | bool | None] = {
            "models": _names(self.models),
            "splits": _names(self.splits),
            "budgets": _names(self.budgets),
            "seeds": parse_seeds(self.seeds) if self.seeds else None,
            "targets": _names(self.targets),
            "folds": _names(self.folds),
            "costs": self.costs,
        }
        chosen = usual | {field: value for field, value in given.items() if value is not None}
        costs = bool(chosen.pop("costs"))
        return GridFile.over(what, self.data or what.parent, GridChoice.model_validate(chosen), manifests=self.manifest, costs=costs)


def _names(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def chosen_executor(name: str, jobs: int | None, ray_address: str | None, runtime_env: Path | None) -> Executor:
    """The executor that the options describe.

    Raises:
        DataError: There is none of this name, an option of Ray without Ray, or a runtime environment that cannot be read.
    """
    from rs05bench.experiment.executors import make_executor

    if name == "ray":
        return make_executor("ray", address=ray_address, runtime_env=None if runtime_env is None else read_runtime_env(runtime_env))
    if ray_address is not None or runtime_env is not None:
        option = "--runtime-env" if ray_address is None else "--ray-address"
        raise DataError(f"{option} is for Ray, and the executor is {name!r}", remedy="Add --executor ray.")
    return make_executor(name, jobs=jobs)


def read_runtime_env(path: Path) -> dict[str, Any]:
    """Ray's runtime environment from a YAML or JSON file.

    Raises:
        DataError: It cannot be read, or holds no mapping.
    """
    from rs05bench.protocol.documents import read_yaml_mapping

    return read_yaml_mapping(path, remedy="For instance: env_vars: {HF_HUB_OFFLINE: '1'}")


def find_card(name: str, data: Path) -> TaskCard:
    """The card of a file, of chips the package reads, or of a published table.

    Args:
        name: Path of a card, or `hls-burn-scars`, `crop-chips`, `fuel-moisture`.
        data: Where the files lie; chips that were simulated are called so.
    """
    from rs05bench.protocol.card import TaskCard

    if Path(name).suffix in (".yaml", ".yml") or Path(name).exists():
        return TaskCard.load(name)
    from rs05bench.datamodules.chipsource import READERS, chip_card

    cards = {card.name: card for card in (chip_card(reader, data) for reader in READERS)}
    if name in cards:
        return cards[name]
    from rs05bench.datasets.published import PUBLISHED

    tables = {known.name: known for known in PUBLISHED.values() if known.task.reader == "presto"}
    if name in tables:
        return tables[name].task
    raise DataError(
        f"no task {name!r} whose data the package reads (there are: {', '.join([*cards, *tables])})", remedy="Give the path of a card."
    )
