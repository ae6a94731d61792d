"""The shallow learners, one a module.

A learner is found by being here: a module with a `LEARNER` of type `Learner`. Its name, `<features>/<name>`, is then a model of every task.
"""

from __future__ import annotations

import importlib
import pkgutil

from rs05bench.models.learners.learner import Fitted, Floats, Kind, Learner

__all__ = ["LEARNERS", "Fitted", "Floats", "Kind", "Learner"]

_found = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
_declared = [module.LEARNER for module in _found if hasattr(module, "LEARNER")]
LEARNERS: dict[str, Learner] = {learner.name: learner for learner in sorted(_declared, key=lambda learner: (learner.rank, learner.name))}
"""Every learner by name, in the order of lists."""
