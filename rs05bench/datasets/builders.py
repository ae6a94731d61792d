"""Recipes under their former address, `rs05bench.datasets.builders`; scripts and shared examples import readers from it.

The room is called `recipes` and some of its modules have other names now. A second copy of a module would hold second classes, so the
former names are put into `sys.modules` as the modules themselves; only `burn_chips` is a module of its own, since its `Scene` was renamed.
"""

from __future__ import annotations

import sys
from types import ModuleType

from rs05bench.datasets.recipes import burn_chips as _burn_chips
from rs05bench.datasets.recipes import himalaya, hls
from rs05bench.datasets.recipes import polygon_layers as vectors

__all__ = ["burn_chips", "himalaya", "hls", "vectors"]

burn_chips = ModuleType(f"{__name__}.burn_chips", "`rs05bench.datasets.recipes.burn_chips`, whose `BurnScene` was `Scene`.")
burn_chips.__dict__.update({name: value for name, value in vars(_burn_chips).items() if not name.startswith("__")})
burn_chips.__dict__["Scene"] = _burn_chips.BurnScene

#: A module with a `__path__` may have others below it; theirs are all in `sys.modules` already.
__path__: list[str] = []
sys.modules |= {f"{__name__}.{name}": globals()[name] for name in __all__}
