"""What the deep tiers cost on a GPU: training and prediction at the real sizes, against TerraTorch, and patches a second; prints Markdown.

    python benchmarks/gpu.py > tables.md

Weights are random: neither time nor memory depends on them. Every figure comes from the machine that the page names; nothing is timed where
there is no CUDA device. `--parts` chooses among `tiers`, `encoders`, `rival` and `loader`; `--chips FOLDER` is where
the simulated 512 px chips lie, or are written.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TIERS = ("frozen", "decoder", "adapter", "lora", "full")
ENCODERS = ("prithvi-tiny", "prithvi-100", "prithvi-300", "prithvi-600", "clay", "clay-1.5", "satlas", "terramind-tiny", "dinov3", "dofa")
BATCH, SIDE, STEPS = 64, 224, 6
SPLIT, FOLD = "leave-biome-out", "forest"
STEPS_OF: dict[tuple[str, str, str], dict[str, float]] = {}


def main() -> None:
    """Runs the parts that were asked for and prints each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="tiers,encoders,rival,loader")
    parser.add_argument("--chips", type=Path, default=Path("build/chips512"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing was measured")
    print("# On a GPU\n")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}. Made by `python benchmarks/gpu.py`; weights are random.\n")
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "tiers": tiers,
        "encoders": encoders,
        "rival": rival,
        "loader": lambda: loader(given.chips),
    }
    for name in given.parts.split(","):
        started = time.perf_counter()
        try:
            for line in parts[name]():
                print(line, flush=True)
        except Exception:  # a part that fails leaves the others their time on the machine
            traceback.print_exc()
            print(f"\n{name}: failed\n", flush=True)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def tiers() -> Iterator[str]:
    """Every tier of Prithvi-300M in both precisions."""
    yield f"## Every tier of `prithvi-300`\n\nBatch {BATCH} of {SIDE} px, six bands, two classes; a step is forward, backward and"
    yield f"AdamW, the median of {STEPS}. Prediction is in full precision, as the package predicts.\n"
    yield "| tier | trained | precision | step, ms | chips/s, training | chips/s, prediction | peak device memory, GiB |"
    yield "|---|---|---|---|---|---|---|"
    for tier in TIERS:
        for precision, got in step("prithvi-300", tier, ("bf16", "fp32")).items():
            yield row(tier, got, precision)
        forget()


def encoders() -> Iterator[str]:
    """The encoders under LoRA and fully trained."""
    yield "\n## Every encoder\n\nAs above, bf16; the bands each was pretrained on.\n"
    yield "| encoder | tier | parameters | trained | step, ms | chips/s, training | chips/s, prediction | peak device memory, GiB |"
    yield "|---|---|---|---|---|---|---|---|"
    for encoder in ENCODERS:
        for tier in ("lora", "full"):
            try:
                got = step(encoder, tier, ("bf16",))["bf16"]
                forget()
            except Exception as error:
                traceback.print_exc()
                yield f"| {encoder} | {tier} | failed: {type(error).__name__} | | | | | |"
                continue
            yield row(f"{encoder} | {tier} | {got['total'] / 1e6:.0f} M", got, None)


def row(what: str, got: dict[str, float], precision: str | None) -> str:
    """A row of either table."""
    said = [] if precision is None else [precision]
    numbers = [f"{got['ms']:.1f}", f"{BATCH / got['ms'] * 1e3:,.0f}", f"{BATCH / got['predict_ms'] * 1e3:,.0f}", f"{got['gib']:.2f}"]
    return f"| {what} | {got['trained'] / 1e6:.2f} M | " + " | ".join([*said, *numbers]) + " |"


def step(encoder: str, tier: str, precisions: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Times one tier's optimiser step in each precision, and its prediction (always in full precision, as the package predicts)."""
    import torch

    from rs05bench.models.backbones.catalogue import BACKBONES
    from rs05bench.models.deep import create
    from rs05bench.models.networks import parameter_counts
    from rs05bench.models.tier_module import TierModule
    from rs05bench.protocol.card import Training

    bands = [slot.band for slot in BACKBONES[encoder].slots]
    network = create(f"{encoder}/{tier}@random").network(facts(bands)).cuda()
    module = TierModule(network, "segmentation", Training(steps=100), 1e-4).cuda()
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index]
    batch = random_batch(len(bands))
    total, trained = parameter_counts(network)
    network.eval()

    def predict() -> None:
        with torch.no_grad():
            network(batch).softmax(1)

    predicting = timed(predict)
    network.train()
    found = {}
    for precision in precisions:

        def once(precision: str = precision) -> None:
            with autocast(precision):
                loss = module.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        torch.cuda.reset_peak_memory_stats()
        milliseconds = timed(once)
        peak = torch.cuda.max_memory_allocated() / 2**30
        found[precision] = {"ms": milliseconds, "predict_ms": predicting, "gib": peak, "total": total, "trained": trained}
        STEPS_OF[encoder, tier, precision] = found[precision]
    return found


def rival() -> Iterator[str]:
    """A LoRA step and a full step of Prithvi-300M against TerraTorch's own model of the same encoder, decoder and update."""
    import torch
    import torch.nn.functional as F
    from terratorch.models import EncoderDecoderFactory

    from rs05bench.models.backbones.catalogue import BACKBONES

    bands = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
    yield "\n## Against TerraTorch\n"
    yield f"The same encoder, UNet decoder and LoRA (rank 8 on q and v) from TerraTorch's `EncoderDecoderFactory`, batch {BATCH}, bf16.\n"
    yield "| tier | ours, ms a step | TerraTorch, ms a step | ratio | ours, GiB | TerraTorch, GiB |"
    yield "|---|---|---|---|---|---|"
    lora = {
        "method": "LORA",
        "replace_qkv": "qkv",
        "peft_config_kwargs": {"target_modules": ["qkv.q_linear", "qkv.v_linear"], "r": 8, "lora_alpha": 8},
    }
    for tier, extra in (("lora", {"peft_config": lora}), ("full", {}), ("decoder", {"freeze": True})):
        ours = STEPS_OF.get(("prithvi-300", tier, "bf16")) or step("prithvi-300", tier, ("bf16",))["bf16"]
        forget()
        freeze = extra.pop("freeze", False)
        model = (
            EncoderDecoderFactory()
            .build_model(
                task="segmentation",
                backbone=BACKBONES["prithvi-300"].builder,
                backbone_pretrained=False,
                backbone_bands=bands,
                backbone_num_frames=1,
                backbone_coords_encoding=[],
                necks=[
                    {"name": "SelectIndices", "indices": list(BACKBONES["prithvi-300"].layers)},
                    {"name": "ReshapeTokensToImage"},
                    {"name": "LearnedInterpolateToPyramidal"},
                ],
                decoder="UNetDecoder",
                decoder_channels=[256, 128, 64, 32],
                num_classes=2,
                **extra,
            )
            .cuda()
        )
        if freeze:
            model.freeze_encoder()
        model.train()
        optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-4)
        batch = random_batch(6)
        torch.cuda.reset_peak_memory_stats()

        def once(model: Any = model, optimizer: Any = optimizer, batch: Any = batch) -> None:
            with autocast("bf16"):
                loss = F.cross_entropy(model(batch["image"]).output, batch["mask"], ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        theirs = timed(once)
        peak = torch.cuda.max_memory_allocated() / 2**30
        yield f"| {tier} | {ours['ms']:.1f} | {theirs:.1f} | {theirs / ours['ms']:.2f} | {ours['gib']:.2f} | {peak:.2f} |"
        del model, optimizer, once
        forget()


def loader(chips: Path) -> Iterator[str]:
    """Patches a second that the data module hands to a GPU, and TerraTorch's generic data module on the same files."""
    import torch
    from torch.utils.data import DataLoader

    module = data_module(chips)
    units = len(module.unit_ids("train"))
    yield f"\n## Feeding it\n\nTraining patches of {SIDE} px from {units} simulated 512 px chips in the published format, to the GPU.\n"
    yield "| reader | workers | first pass, patches/s | later passes, patches/s |"
    yield "|---|---|---|---|"
    for workers in (0, 4):
        module = data_module(chips, num_workers=workers)
        yield f"| ours | {workers} | " + " | ".join(f"{rate:,.0f}" for rate in passes(module.train_dataloader())) + " |"
    from terratorch.datasets import GenericNonGeoSegmentationDataset

    folder = chips / "terratorch"
    if not folder.exists():
        module.write_patches("train", folder)
    for workers in (0, 4):
        files = GenericNonGeoSegmentationDataset(
            folder, num_classes=2, image_grep="*_merged.tif", label_grep="*.mask.tif", no_data_replace=0, no_label_replace=-1
        )
        their = DataLoader(
            files,
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            collate_fn=lambda rows: {name: torch.stack([torch.as_tensor(one[name]) for one in rows]) for name in ("image", "mask")},
        )
        yield f"| TerraTorch, patches cut beforehand | {workers} | " + " | ".join(f"{rate:,.0f}" for rate in passes(their)) + " |"


def passes(batches: Any) -> list[float]:
    """Patches a second of the first pass and of the two after it."""
    import torch

    rates = []
    for count in (1, 2):
        started, patches = time.perf_counter(), 0
        for _ in range(count):
            for batch in batches:
                patches += len(batch["image"].cuda())
        torch.cuda.synchronize()
        rates.append(patches / (time.perf_counter() - started))
    return rates


def chips_card(chips: Path) -> Any:
    """The card over simulated chips without embeddings, which are written where they are missing."""
    from rs05bench.datasets.simulated import chip_files, simulate, vector_files
    from rs05bench.experiment.demo_chips import chips_card as small_card

    if not chips.exists():
        world = simulate("small", 0)
        chip_files.write_burn_chips(chips / "hls_burn_scars", chip_files.burn_chips(world.wildlands, 28))
        vector_files.write_regions(chips / "regions" / "regions.gpkg", world)
        (chips / "SIMULATED.json").write_text('{"simulated": true}\n', encoding="utf-8")
    card = small_card(chips, steps=100, patch_size=SIDE)
    return card.with_preprocessing(embeddings=None)


def data_module(chips: Path, **options: Any) -> Any:
    """The burn-scar chips with all their labels."""
    from rs05bench.datamodules.chip_datamodule import ChipDataModule
    from rs05bench.datamodules.chipsource import open_chips

    card = chips_card(chips)
    module = ChipDataModule(open_chips(card, chips), SPLIT, FOLD, "full", 0, batch_size=BATCH, **options)
    return module


def facts(bands: list[str]) -> dict[str, Any]:
    """What a network needs to know of data that nobody reads here."""
    return {
        "kind": "segmentation",
        "classes": ["unburnt", "burnt"],
        "targets": 1,
        "bands": bands,
        "scale": 1.0,
        "num_frames": 1,
        "resolution_m": 30.0,
        "extra": 0,
        "image_size": SIDE,
    }


def random_batch(bands: int) -> dict[str, Any]:
    """Random reflectances and labels on the GPU."""
    import torch

    generator = torch.Generator(device="cuda").manual_seed(0)
    image = torch.rand(BATCH, bands, SIDE, SIDE, device="cuda", generator=generator) * 0.4
    return {"image": image, "mask": torch.randint(0, 2, (BATCH, SIDE, SIDE), device="cuda", generator=generator)}


def autocast(precision: str) -> Any:
    """Mixed precision, or none."""
    import torch

    return torch.autocast("cuda", dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def timed(once: Callable[[], None]) -> float:
    """Median milliseconds of a few runs after warm-up."""
    import torch

    for _ in range(3):
        once()
    torch.cuda.synchronize()
    times = []
    for _ in range(STEPS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        once()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def forget() -> None:
    """Frees what the last measurement held."""
    from rs05bench.experiment.memory import give_back_memory
    from rs05bench.models.chip_network import forget_encoders

    forget_encoders()
    give_back_memory()


if __name__ == "__main__":
    main()
