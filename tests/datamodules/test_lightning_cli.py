"""`fit --config` works with TorchGeo's task and with a tier of ours; the examples are what is run."""

from __future__ import annotations

import importlib.util
import sys

import pytest


@pytest.mark.parametrize("config", ["burn_scar.yaml", "lora.yaml"])
def test_the_example_configuration_fits(config, chip_folder, repository, monkeypatch, tmp_path):
    examples = repository / "examples" / "lightning_cli"
    arguments = ["fit", "--config", str(examples / config), "--data.root", str(chip_folder / "hls_burn_scars"), "--data.fold", "CA"]
    small = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "1", "--trainer.limit_val_batches", "1"]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *small, *quiet])
    from lightning.pytorch.cli import LightningCLI

    made = []
    built = LightningCLI.__init__
    monkeypatch.setattr(LightningCLI, "__init__", lambda self, *args, **options: made.append(self) or built(self, *args, **options))
    spec = importlib.util.spec_from_file_location("train", examples / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()
    (cli,) = made
    assert cli.trainer.global_step == 2
    assert cli.datamodule.budget.name == "10-fires"
    assert cli.datamodule.fold == "CA"
    assert len(cli.trainer.predict(cli.model, cli.datamodule.predict_dataloader("test_ood"))) == len(cli.datamodule.unit_ids("test_ood"))
