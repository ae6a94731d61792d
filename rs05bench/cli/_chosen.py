"""Options that choose the cells of a grid over a task card: the same for `sweep` and `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rs05bench.experiment.gridfile import GridFile

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
        from rs05bench.errors import DataError
        from rs05bench.experiment.grid import parse_seeds
        from rs05bench.experiment.gridfile import GridFile, is_grid, load_preset, of_card

        if is_grid(what):
            if said := [f"--{name}" for name, value in vars(self).items() if name != "costs" and value is not None]:
                raise DataError(f"a grid file says its own {', '.join(said)}", source=what, remedy="Change the file, or name a task card.")
            grid = GridFile.load(what)
            grid.costs = grid.costs if self.costs is None else self.costs
            return grid
        usual = {"models": ["shallow"], "seeds": "0-4"} | (load_preset(self.preset) if self.preset else {})
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
        return of_card(what, self.data or what.parent, manifests=self.manifest, **chosen)


def _names(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None
