"""rs05bench: public Earth embeddings or local fine-tuning, compared under one fair protocol.

Names are imported when first used, so that `import rs05bench` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rs05bench.extras import first_use

if TYPE_CHECKING:
    from rs05bench import datamodules, datasets, models, protocol
    from rs05bench.datasets.task_list import load_task, tasks
    from rs05bench.errors import BenchError, DataError, ProtocolError, SubmissionError
    from rs05bench.experiment.run import run
    from rs05bench.protocol.card import TaskCard
    from rs05bench.protocol.comparison import compare
    from rs05bench.protocol.manifest import load_manifest
    from rs05bench.protocol.rescoring import score

__version__ = "0.1.0.dev0"

_ROOMS = ("datamodules", "datasets", "models", "protocol")
_HOME = {
    "BenchError": "errors",
    "DataError": "errors",
    "ProtocolError": "errors",
    "SubmissionError": "errors",
    "TaskCard": "protocol.card",
    "compare": "protocol.comparison",
    "load_manifest": "protocol.manifest",
    "load_task": "datasets.task_list",
    "run": "experiment.run",
    "score": "protocol.rescoring",
    "tasks": "datasets.task_list",
}

__all__ = [
    "BenchError",
    "DataError",
    "ProtocolError",
    "SubmissionError",
    "TaskCard",
    "__version__",
    "compare",
    "datamodules",
    "datasets",
    "load_manifest",
    "load_task",
    "models",
    "protocol",
    "run",
    "score",
    "tasks",
]

__getattr__, __dir__ = first_use(__name__, _HOME, _ROOMS)
