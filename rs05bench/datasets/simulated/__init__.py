"""The embedded benchmark: small simulated landscapes, as tables and as files in the real formats.

Everything made here is *simulated* and says so; it exists so that the whole package runs on a machine with no network, and so that
a method can be tried where the truth is known. It never enters a leaderboard.

Example:
    >>> from rs05bench.datasets.simulated import simulate
    >>> world = simulate("small", seed=0)
    >>> sorted(world.table("burn-scar")["label"].unique())
    ['burned', 'unburned']
"""

from rs05bench.datasets.simulated.benchmark_files import write_files
from rs05bench.datasets.simulated.export import write_tables
from rs05bench.datasets.simulated.layer_files import write_layers
from rs05bench.datasets.simulated.world import SIZES, TASKS, World, simulate

__all__ = ["SIZES", "TASKS", "World", "simulate", "write_files", "write_layers", "write_tables"]
