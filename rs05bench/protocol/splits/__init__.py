"""Splits: their names, and the rules that draw them, one a module.

A rule is found by being here: a module with a `RULE` of type `SplitRule`.
"""

from __future__ import annotations

import importlib
import pkgutil

from rs05bench.protocol.splits.split_rule import ROLES, RULES, SHIFTS, Fold, Split, SplitRule

__all__ = ["ROLES", "RULES", "SHIFTS", "Fold", "Split", "SplitRule"]

for _module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
    _found = getattr(importlib.import_module(f"{__name__}.{_module}"), "RULE", None)
    if isinstance(_found, SplitRule):
        RULES[_found.name] = _found
