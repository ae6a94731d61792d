"""One optimiser step of Prithvi-EO-2.0-300M on a CPU: what LoRA and full fine-tuning ask of a machine.

Each tier runs in a fresh process of its own (peak memory of a reused process never falls): a warm-up step, then timed ones. Weights are
random: time and memory do not depend on them.

Usage: python studies/prithvi_300_step.py [--batch 4] [--size 224] [--steps 2] [--backbone prithvi-300]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time

TIERS = ("frozen", "decoder", "lora", "full")
FACTS = {
    "kind": "segmentation",
    "classes": ["unburnt", "burnt"],
    "targets": 1,
    "bands": ["B02", "B03", "B04", "B8A", "B11", "B12"],
    "scale": 1.0,
    "num_frames": 1,
    "resolution_m": 30.0,
    "extra": 0,
}


def measure(tier: str, backbone: str, batch: int, size: int, steps: int) -> dict[str, float]:
    """Seconds a step, peak resident memory in GiB and counts of one tier, in this process."""
    import torch

    from rs05bench.models.deep import create
    from rs05bench.models.networks import gflops_per_unit, parameter_counts
    from rs05bench.models.tier_module import TierModule
    from rs05bench.protocol.card import Training

    network = create(f"{backbone}/{tier}@random").network(FACTS | {"image_size": size}).train()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = TierModule(network, "segmentation", Training(), 1e-4).to(device)
    optimizer = torch.optim.AdamW([value for value in module.parameters() if value.requires_grad], lr=1e-4)
    data = {"image": torch.rand(batch, 6, size, size, device=device) * 0.4, "mask": torch.randint(0, 2, (batch, size, size), device=device)}
    times = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        loss = module.training_step(data, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    total, trainable = parameter_counts(network)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result = {"seconds": min(times[1:]), "host_gib": peak, "total": total, "trainable": trainable, "gflops": gflops_per_unit(network, data)}
    if device == "cuda":
        result["device_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return result


def main() -> None:
    """Measure every tier in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--backbone", default="prithvi-300")
    parser.add_argument("--tier", choices=TIERS, help="only this one, in this process")
    given = parser.parse_args()
    if given.tier:
        print(json.dumps(measure(given.tier, given.backbone, given.batch, given.size, given.steps)))
        return
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"`{given.backbone}`, batch {given.batch}, {given.size} px, {platform.machine()}, {os.cpu_count()} cores, {threads} threads\n")
    print("| tier | trainable | of | GFLOPs a chip (forward) | s a step | chips/s | peak host GiB | peak device GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for tier in TIERS:
        command = [sys.executable, "-W", "ignore", __file__, "--tier", tier, "--backbone", given.backbone]
        command += ["--batch", str(given.batch), "--size", str(given.size), "--steps", str(given.steps)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            print(f"| {tier} | failed: {(finished.stderr.strip().splitlines() or ['killed'])[-1][:100]} | | | | | | |")
            continue
        got = json.loads(finished.stdout.strip().splitlines()[-1])
        device = f"{got['device_gib']:.2f}" if "device_gib" in got else "none"
        print(
            f"| {tier} | {got['trainable'] / 1e6:.2f} M | {got['total'] / 1e6:.0f} M | {got['gflops']:.0f} | {got['seconds']:.1f} "
            f"| {given.batch / got['seconds']:.2f} | {got['host_gib']:.2f} | {device} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
