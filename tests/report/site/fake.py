"""Made-up submissions that say so, in the files a real leaderboard holds; every number is drawn from a seed."""

from __future__ import annotations

import datetime
import functools
from pathlib import Path

import numpy as np
import yaml

from rs05bench.protocol.manifest import SplitManifest, load_manifest
from rs05bench.protocol.submission.board import Board, BoardFold, BoardSplit, BoardTask
from rs05bench.protocol.submission.folder import submission_digest
from rs05bench.protocol.submission.schema import Submission
from rs05bench.protocol.submission.shelf import compact
from rs05bench.protocol.submission.standing import Compared, Rerun, SignOff, Standing
from rs05bench.protocol.submission.verdict import CellFamily, Flag, GroupTable, Verdict

DIGEST = "0" * 64
MODELS = (
    ("floor/majority", "floor", True, 0.30, 0.00, 0.1, 0),
    ("raw/rf", "raw", True, 0.46, 0.06, 4.0, None),
    ("raw/xgboost", "raw", True, 0.47, 0.06, 6.0, None),
    ("alphaearth/logistic", "embedding", False, 0.60, 0.04, 0.6, 650),
    ("alphaearth/knn", "embedding", False, 0.55, 0.04, 0.2, None),
    ("hybrid/rf", "hybrid", False, 0.61, 0.05, 5.0, None),
    ("prithvi-300/frozen", "frozen", True, 0.56, 0.06, 60.0, 10_250),
    ("clay/frozen", "frozen", True, 0.55, 0.06, 55.0, 7_700),
    ("prithvi-300/decoder", "decoder", True, 0.58, 0.07, 300.0, 9_000_000),
    ("clay/adapter", "adapter", True, 0.59, 0.07, 600.0, 1_200_000),
    ("prithvi-300/lora", "lora", True, 0.60, 0.08, 900.0, 2_400_000),
    ("prithvi-300/full", "full", True, 0.59, 0.10, 2400.0, 304_000_000),
)
HARDWARE = ("Imaginary CPU, 2 cores", "Imaginary GPU 80 GB")
STANDINGS = ("reproduced", "verified", "rescored", "reproduced", "self-reported", "reproduced")
BUDGETS = {"5-per-class": 40, "10-per-class": 80, "20-per-class": 160}


@functools.cache
def _shipped(name: str) -> SplitManifest:
    return load_manifest(name)


def make_board(splits: tuple[tuple[str, str, bool], ...], budgets: dict[str, int] | None = None) -> Board:
    """A board over shipped manifests.

    Args:
        splits: (task, split, simulated).
        budgets: Names; default `BUDGETS`.
    """
    tasks: dict[str, BoardTask] = {}
    for task, split, simulated in splits:
        manifest = _shipped(f"{'simulated/' if simulated else ''}{task}/{split.split('+')[0]}@v1")
        name = f"{task}-simulated" if simulated else task
        folds = {fold: BoardFold(units=10, digest="0" * 16) for fold in manifest.folds[:9]}
        found = BoardSplit(manifest=manifest.digest, budgets=list(budgets or BUDGETS), folds=folds, main=split != "random")
        if name in tasks:
            tasks[name].splits[split] = found
            continue
        tasks[name] = BoardTask(
            task=name,
            title=f"{'Simulated stand-in for ' if simulated else ''}{task.replace('-', ' ')} (made-up results)",
            kind="classification",
            targets=["class"],
            classes=["a", "b", "c"],
            main_metric="macro_f1",
            simulated=simulated,
            card=DIGEST,
            preprocessing=DIGEST,
            labels={"class": DIGEST},
            splits={split: found},
            note="Every submission here is made up by a test.",
        )
    return Board(tasks=list(tasks.values()))


def make_verdict(board: Board, number: int, *, seeds: int = 5, leave_out: tuple[str, str, str] | None = None, **texts: str) -> Verdict:
    """One made-up submission.

    Args:
        board: What counts.
        number: Which; the same number gives the same submission.
        seeds: Seeds a cell.
        leave_out: (task, split, budget) that was not run.
        texts: Replace texts of the submission (`title`, `author`, `affiliation`, `overlap`, `notes`, `licence`, `version`, `hardware`,
            `citation`, `pretraining`, `flag`).
    """
    rng = np.random.default_rng(number)
    name, tier, weights, level, fall, fit, trainable = MODELS[number % len(MODELS)]
    level += rng.normal(0, 0.015) if number >= len(MODELS) else 0
    hardware = texts.get("hardware", HARDWARE[fit > 30])
    slug = f"made-up-{number:03d}"
    families, costs = [], []
    for task in board.tasks:
        for split, record in task.splits.items():
            hard = np.random.default_rng(len(task.task)).normal(0, 0.05, len(record.folds))
            folds = list(record.folds)
            for b, budget in enumerate(record.budgets):
                if leave_out == (task.task, split, budget):
                    continue
                gain = 0.045 * b * (0.3 if tier == "floor" else 1.6 if tier in ("lora", "full", "decoder") else 1.0) - 0.02 * (
                    tier in ("lora", "full")
                )
                shape = (len(folds), seeds)
                home = np.clip(level + gain + hard[:, None] + rng.normal(0, 0.01, shape), 0, 1)
                ood = np.clip(level + gain - fall + hard[:, None] + rng.normal(0, 0.012, shape), 0, 1)
                where = {"task": task.task, "target": "class", "split": split, "budget": budget}
                bins = np.linspace(0.3, 0.97, 8)
                families.append(
                    CellFamily(
                        **where, folds=folds, seeds=list(range(seeds)), labels_used=BUDGETS.get(budget, 40 * 2**b),
                        predictions={fold: ["0" * 16] * seeds for fold in folds},
                        by_fold={role: table.mean(1).tolist() for role, table in (("test_id", home), ("test_ood", ood))},
                        by_seed={role: table.mean(0).tolist() for role, table in (("test_id", home), ("test_ood", ood))},
                        scores={"test_ood": {"ece": float(abs(0.05 + fall / 2 + rng.normal(0, 0.005)))}},
                        groups={
                            role: GroupTable(shift=shift, groups=folds, units=[50] * len(folds), scores=table.tolist())
                            for role, shift, table in (("test_id", "none", home), ("test_ood", "region", ood))
                        },
                        columns={"biome": {"forest": (level, 90.0), "steppe": (level - 0.1, 60.0)}},
                        calibration={
                            role: {"confidence": bins.tolist(), "accuracy": (bins - off).tolist(), "units": [50.0] * 8}
                            for role, off in (("test_id", 0.03), ("test_ood", 0.03 + fall))
                        },
                    )
                )  # fmt: skip
                costs.append(where | {
                    "fit_s": fit * (1 + 0.3 * b), "predict_s": fit / 100, "predict_s_per_1000": fit / 40, "peak_memory_mb": 300 + fit,
                    "hardware": hardware, "alone": True, "parameters_trainable": trainable, "parameters_total": trainable and trainable * 4,
                })  # fmt: skip
    submission = Submission.model_validate({
        "format": "rs05bench-submission", "format_version": 2, "slug": slug,
        "title": texts.get("title", f"Made-up submission {number} ({tier})"),
        "authors": [{"name": texts.get("author", f"Nobody Number {number}"), "affiliation": texts.get("affiliation", "Nowhere Institute")}],
        "submitted": datetime.date(2026, 1, 1),
        "model": {
            "name": name, "tier": tier, "inputs": name.split("/")[0], "learner": name.split("/")[1], "open_weights": weights,
            "parameters_total": trainable and trainable * 4, "parameters_trainable": trainable, "licence": texts.get("licence", "MIT"),
            "content": {"floor": [], "embedding": ["embedding"], "hybrid": ["embedding", "optical"]}.get(tier, ["optical"]),
            "pretraining": [texts.get("pretraining", "imaginary archive")], "pretrained": True, "citation": texts.get("citation", ""),
        },
        "overlap": texts.get("overlap", "Made up: nothing was trained."),
        "licence": texts.get("licence", "CC0-1.0"),
        "code": "https://example.org/made-up",
        "weights": "https://example.org/weights" if weights else None,
        "hardware": [{"name": hardware, "kind": "cpu", "count": 1, "cores": 2, "memory_gb": 8.0}],
        "environment": {"python": "3.12", "packages": {"numpy": texts.get("version", "2.0")}},
        "costs": costs,
        "manifests": {"made/up@v1": DIGEST}, "cards": {"made-up": DIGEST},
        "statement": {"test_labels_unused": True, "budget_counts_all": True, "may_publish": True},
        "predictions": {"address": "https://example.org/predictions.parquet", "sha256": f"{number:064d}"},
        "notes": texts.get("notes", "Made up by a test."),
    })  # fmt: skip
    done = {(task.task, split) for task in board.tasks for split in task.splits if leave_out is None or leave_out[:2] != (task.task, split)}
    rankable = [
        f"{t.task}/class/{s}" for t in board.tasks for s, r in t.splits.items() if (t.task, s) in done and r.main and not t.simulated
    ]
    flags = [Flag(key="cost", sentence=texts.get("flag", "Made-up flag: cheaper than its hardware allows."))] if number % 5 == 0 else []
    return Verdict(
        outcome="accepted", slug=slug, digest=submission_digest(submission, f"{number:064d}", None), verified_at="2026-01-02T00:00:00Z",
        version="0", submission=submission, simulated=any(task.simulated for task in board.tasks), rankable=rankable, flags=flags,
        families=families,
    )  # fmt: skip


def make_standing(verdict: Verdict, level: str) -> Standing:
    """The standing of a made-up submission."""
    day = datetime.date(2026, 1, 3)
    compared = [
        Compared(family="crop/class/leave-state-out/5-per-class", metric="macro_f1", submitted=0.5, rerun=0.502, allowed=0.01, same=True)
    ]
    done = level in ("reproduced", "verified")
    rerun = (
        Rerun(by="a made-up maintainer", hardware=HARDWARE[0], date=day, digest="f" * 64, code="0000000", compared=compared)
        if done
        else None
    )
    signed = SignOff(by="Nobody", date=day, statement="Made up.", record="https://example.org") if level == "verified" else None
    return Standing(slug=verdict.slug, digest=verdict.digest, level=level, rerun=rerun, sign_off=signed)


def write_submission(root: Path, verdict: Verdict, level: str) -> Path:
    """Writes a submission's three records into a leaderboard."""
    folder = root / "submissions" / verdict.slug
    folder.mkdir(parents=True)
    assert verdict.submission is not None
    text = yaml.safe_dump(verdict.submission.model_dump(mode="json"), allow_unicode=True)
    (folder / "submission.yaml").write_text(text, encoding="utf-8")
    (folder / "verdict.json").write_text(compact(verdict), encoding="utf-8")
    make_standing(verdict, level).save(folder / "standing.json")
    return folder


def make_leaderboard(root: Path, submissions: int = 12, *, splits: tuple[tuple[str, str, bool], ...], seeds: int = 5) -> Path:
    """A whole made-up leaderboard; one submission lacks a budget, standings vary."""
    root.mkdir(parents=True, exist_ok=True)
    board = make_board(splits)
    board.save(root / "tasks.yaml")
    for number in range(submissions):
        task = board.tasks[0]
        split = next(iter(task.splits))
        lacks = (task.task, split, task.splits[split].budgets[-1]) if number == 8 else None
        write_submission(root, make_verdict(board, number, seeds=seeds, leave_out=lacks), STANDINGS[number % len(STANDINGS)])
    return root
