"""Plain TorchGeo on the datasets of rs05bench, without any protocol: samplers, `&`, and a loader with workers.

Runs without a network on the simulated files; point `root` at the real ones and nothing else changes.
"""

import sys
import tempfile
from pathlib import Path

import torchgeo.samplers
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples

from rs05bench.datasets import HLSBurnScars
from rs05bench.datasets.simulated import write_files

# TorchGeo 0.10 renamed its samplers.
RandomSampler = getattr(torchgeo.samplers, "RandomPatchSampler", None) or torchgeo.samplers.RandomGeoSampler
GridSampler = getattr(torchgeo.samplers, "GriddedPatchSampler", None) or torchgeo.samplers.GridGeoSampler


def main(root: Path) -> None:
    # Native pixels, chip by chip, each in its own UTM zone.
    native = HLSBurnScars(root)
    for unit_id in native.unit_ids:
        sample = native.chip(unit_id)
        print(f"{unit_id}: {tuple(sample['image'].shape)} in {sample['crs']}, {sample['valid'].float().mean():.1%} with data")

    # Slices across zones: say into which CRS, and TorchGeo's samplers work as with any of its datasets.
    ds = HLSBurnScars(root, crs="EPSG:5070", res=30)
    for sampler in (RandomSampler(ds, size=256, length=4), GridSampler(ds, size=256)):
        loader = DataLoader(ds, batch_size=2, sampler=sampler, num_workers=2, collate_fn=stack_samples)
        batch = next(iter(loader))
        print(f"{type(sampler).__name__}: image {tuple(batch['image'].shape)}, mask {tuple(batch['mask'].shape)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(write_files(folder, "tiny")["hls_burn_scars"])
