"""TorchGeo's own task trains on our data module."""

from __future__ import annotations

import lightning
import torch

from rs05bench.datamodules import BurnScarDataModule


def test_torchgeos_segmentation_task_trains_and_predicts(chip_folder):
    try:
        from torchgeo.tasks import SemanticSegmentationTask  # 0.10
    except ImportError:
        from torchgeo.trainers import SemanticSegmentationTask

    dm = BurnScarDataModule(chip_folder / "hls_burn_scars", split="leave-state-out", fold="CA", budget="5-fires", fill=0.0, batch_size=2)
    task = SemanticSegmentationTask(
        model="unet", backbone="resnet18", weights=None, in_channels=6, task="multiclass", num_classes=2, loss="ce", ignore_index=-1
    )
    before = task.model.segmentation_head[0].weight.detach().clone()
    trainer = lightning.Trainer(
        max_steps=2, limit_val_batches=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(task, dm)
    assert trainer.global_step == 2
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert not torch.equal(before, task.model.segmentation_head[0].weight.detach())
    maps = trainer.predict(task, dm.predict_dataloader("test_ood"))
    assert len(maps) == len(dm.unit_ids("test_ood"))
    assert all(torch.isfinite(one["probabilities"] if isinstance(one, dict) else one).all() for one in maps)
