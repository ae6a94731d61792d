"""Trains any LightningModule on a data module of rs05bench from a YAML file, as TorchGeo's own command does.

    python examples/lightning_cli/train.py fit --config examples/lightning_cli/burn_scar.yaml --data.root data/hls_burn_scars

Labels of test units are not in the data module: predict, and score the files with `rs05bench score`.
"""

from __future__ import annotations

from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI


def main() -> None:
    """Reads the configuration and runs it."""
    LightningCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        seed_everything_default=0,
    )


if __name__ == "__main__":
    main()
