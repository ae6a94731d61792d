"""Options of every command that runs cells: where they run, and who watches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rs05bench.experiment.executors import Executor

Where = Annotated[str, typer.Option("--executor", help="local or ray.")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Ray cluster to use; default one on this machine.")]
RuntimeEnv = Annotated[
    Path | None, typer.Option("--runtime-env", help="YAML or JSON file with Ray's runtime environment: packages, env_vars, working_dir.")
]
Logger = Annotated[
    list[str] | None,
    typer.Option("--logger", help="Log the fits of deep cells to OUT/logs: csv, tensorboard, mlflow or wandb; may be given often."),
]


def chosen_executor(name: str, jobs: int | None, ray_address: str | None, runtime_env: Path | None) -> Executor:
    """The executor that the options describe.

    Raises:
        DataError: There is none of this name, an option of Ray without Ray, or a runtime environment that cannot be read.
    """
    from rs05bench.errors import DataError
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
