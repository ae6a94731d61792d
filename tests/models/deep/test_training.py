"""Deep tiers through the one interface: fit, predict, save, load; seeds, early stopping, the grid, and what fails says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rs05bench.errors import BenchError, DataError, ProtocolError
from rs05bench.models.chip_model import DeepModel
from rs05bench.models.deep import catalogue, create
from rs05bench.models.plan import training_of
from rs05bench.models.summary import TrainingSummary, summarise
from rs05bench.models.tier_module import TierModule
from rs05bench.models.training import fit_network
from rs05bench.protocol.card import TaskCard, Training

FAST = {"accelerator": "cpu", "val_every": 3, "learning_rates": [1e-3]}


def predicted(model: DeepModel, data) -> dict[str, np.ndarray]:
    return dict(model.predict_chips(data, "test_id"))


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray], atol: float = 0.0) -> bool:
    return one.keys() == two.keys() and all(np.allclose(one[unit], two[unit], rtol=0, atol=atol) for unit in one)


def test_listing_the_models_imports_nothing_heavy():
    code = "import sys; from rs05bench.models.deep import catalogue, model_card; [model_card(s) for s in catalogue().values()];"
    code += "print([m for m in ('torch', 'terratorch', 'lightning', 'peft') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_catalogue_has_every_tier_of_every_encoder_and_its_twin():
    names = catalogue()
    for name in (
        "prithvi-300/lora",
        "clay/adapter",
        "satlas/full",
        "dofa/frozen@random",
        "raw/segformer",
        "alphaearth/conv1x1",
        "presto/lora@random",
    ):
        assert name in names
    assert names["prithvi-300/lora@random"].random_twin
    with pytest.raises(DataError, match="unknown deep model"):
        create("prithvi-300/lorra")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prithvi-tiny/lora@random", {"alhpa": 3}),
        ("prithvi-tiny/frozen@random", {"rank": 4}),
        ("prithvi-tiny/frozen@random", {"decoder": "fpn"}),
        ("prithvi-tiny/full@random", {"bottleneck": 4}),
        ("raw/unet", {"weights": "x.pt"}),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(name: str, options: dict, chips: Callable):
    with pytest.raises(DataError, match=f"does not know the option {next(iter(options))}"):
        create(name, **options).build(chips())


@pytest.mark.parametrize(
    "name", ["raw/unet", "alphaearth/conv1x1", "alphaearth/unet", "hybrid/unet", "prithvi-tiny/frozen@random", "prithvi-tiny/lora@random"]
)
def test_a_tier_fits_and_predicts_probabilities(name: str, chips: Callable):
    data = chips(steps=2)
    model = create(name, **FAST).fit(data)
    result = predicted(model, data)
    assert sorted(result) == ["u6", "u7"]
    for probabilities in result.values():
        assert probabilities.shape == (2, 32, 32)
        assert probabilities.dtype == np.float32
        assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert model.history_.steps == 2
    assert 0 < model.card.parameters_trainable <= model.card.parameters_total


@pytest.mark.slow
def test_segformer_fits(chips: Callable):
    assert create("raw/segformer", **FAST).fit(chips(steps=2)).history_.steps == 2


def test_a_tier_learns_what_its_inputs_show(chips: Callable):
    data = chips(steps=60)
    model = create("alphaearth/conv1x1", **FAST | {"learning_rates": [0.05], "val_every": 10}).fit(data)
    for unit, probabilities in predicted(model, data).items():
        assert (probabilities.argmax(0) == data.samples[int(unit[1:])]["mask"].numpy()).mean() > 0.95


def test_one_seed_repeats_and_two_differ(chips: Callable):
    one, again, other = (create("prithvi-tiny/lora@random", seed=seed, **FAST).fit(chips(steps=3)) for seed in (1, 1, 2))
    data = chips()
    assert same(predicted(one, data), predicted(again, data))
    assert not same(predicted(one, data), predicted(other, data), atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        *(f"prithvi-tiny/{tier}@random" for tier in ("frozen", "decoder", "adapter", "lora", "full")),
        "terramind-tiny/lora@random",
        "satlas/lora@random",
        "raw/unet",
        "alphaearth/unet",
        "hybrid/unet",
    ],
)
def test_a_saved_model_predicts_the_same(name: str, chips: Callable, tmp_path: Path):
    data = chips(steps=2)
    model = create(name, seed=4, **FAST).fit(data)
    model.save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "weights.safetensors"]
    assert same(predicted(DeepModel.load(tmp_path / "m"), data), predicted(model, data), atol=1e-6)


def test_a_checkpoint_of_a_light_tier_holds_no_encoder(chips: Callable, tmp_path: Path):
    create("prithvi-tiny/frozen@random", **FAST).fit(chips(steps=2)).save(tmp_path / "m")
    assert (tmp_path / "m" / "weights.safetensors").stat().st_size < 10_000


def test_another_frozen_encoder_is_refused(chips: Callable, tmp_path: Path):
    create("prithvi-tiny/frozen@random", **FAST).fit(chips(steps=2)).save(tmp_path / "m")
    with pytest.raises(DataError, match="differs from the one this model was trained on"):
        DeepModel.load(tmp_path / "m", init_seed=9)


def test_fitting_never_asks_for_test_units(chips: Callable):
    data = chips(steps=6)
    model = create("prithvi-tiny/frozen@random", **FAST).fit(data)
    assert set(data.asked) == {"u0", "u1", "u2", "u3", "u4", "u5"}
    predicted(model, data)
    assert set(data.asked) >= {"u6", "u7"}


def test_early_stopping_keeps_the_best_validation_weights(chips: Callable):
    data = chips(steps=60)
    # Noise for labels: validation can only get worse once the network starts to fit it.
    generator = torch.Generator().manual_seed(0)
    for sample in data.samples:
        sample["mask"] = torch.randint(0, 2, sample["mask"].shape, generator=generator)
    model = create("alphaearth/unet", **FAST | {"learning_rates": [0.01], "patience": 2}).fit(data)
    history = model.history_
    assert history.stopped_early
    assert history.steps < 60
    assert history.best_validation == min(loss for _, loss in history.validation)
    assert history.best_step == min(history.validation, key=lambda point: point[1])[0]
    assert len([step for step, _ in history.validation if step > history.best_step]) == 2


def test_the_learning_rate_comes_from_the_declared_grid_by_validation_loss(chips: Callable):
    model = create("alphaearth/conv1x1", **FAST | {"learning_rates": [1e-6, 0.05]}).fit(chips(steps=12))
    assert model.history_.learning_rate == 0.05
    assert set(model.history_.tried) == {"1e-06", "0.05"}


def test_a_result_keeps_the_validation_curve_of_every_rate_of_the_grid(chips: Callable):
    record = create("alphaearth/conv1x1", **FAST | {"learning_rates": [1e-3, 0.05]}).fit(chips(steps=7)).training_record
    assert {rate: [step for step, _ in curve] for rate, curve in record.curves.items()} == {"0.001": [3, 6, 7], "0.05": [3, 6, 7]}
    assert record.tried == {rate: min(loss for _, loss in curve) for rate, curve in record.curves.items()}


def test_without_validation_labels_the_middle_rate_runs_all_steps(chips: Callable):
    data = chips(steps=4)
    data.val = False
    history = create("alphaearth/conv1x1", **FAST | {"learning_rates": [1e-1, 1e-3, 1e-2]}).fit(data).history_
    assert (history.learning_rate, history.steps, history.best_validation) == (1e-2, 4, None)
    assert "no validation labels" in history.note


def test_validation_labels_of_one_class_choose_no_rate_and_stop_nothing(chips: Callable):
    data = chips(steps=4)
    whole = data.val_dataloader

    class OneClass:
        def __iter__(self):
            return ({**batch, "mask": torch.zeros_like(batch["mask"])} for batch in whole())

    data.val_dataloader = OneClass
    history = create("alphaearth/conv1x1", **FAST | {"learning_rates": [1e-1, 1e-3, 1e-2], "patience": 1}).fit(data).history_
    assert (history.learning_rate, history.steps, history.best_validation) == (1e-2, 4, None)
    assert "no validation labels of two classes" in history.note


def test_a_fit_whose_last_look_was_the_best_is_said_not_to_have_converged(chips: Callable):
    short = create("alphaearth/conv1x1", **FAST | {"steps": 4, "val_every": 2, "learning_rates": [1e-3]}).fit(chips(steps=4)).history_
    assert short.best_step == 4
    assert "had not converged" in short.note
    assert not replace(short, best_step=2).still_falling, "the best look came before the last"
    assert not replace(short, stopped_early=True).still_falling, "patience ran out"


def test_the_card_decides_how_all_tiers_are_trained(chips: Callable):
    data = chips(steps=7)
    declared = {"steps": 99, "learning_rates": [3e-4], "patience": 2, "val_every": 5, "batch_size": 8}
    chips_of = {"kind": "segmentation", "name": "chips", "targets": ["t"], "classes": ["a", "b"], "splits": ["random"]}
    data.card = TaskCard.parse({**chips_of, "training": declared})
    assert training_of(data, {}) == Training(**{**declared, "steps": 7})
    assert training_of(data, {"patience": 0}).patience == 0
    with pytest.raises(DataError, match="patience: Input should be greater than or equal to 0"):
        training_of(data, {"patience": -1})


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("name", ["prithvi-tiny/frozen@random", "alphaearth/unet"])
def test_chips_can_be_classified_and_regressed(name: str, kind: str, chips: Callable):
    data = chips(kind=kind, steps=4)
    result = create(name, **FAST).fit(data).predict(data, "test_id")
    assert list(result.unit_id) == ["u6", "u7"]
    assert set(result.role) == {"test_id"}
    if kind == "classification":
        assert np.allclose(result.probabilities.sum(axis=1), 1, atol=1e-5)
        assert result.classes == ("unburnt", "burnt")
    else:
        # Untrained heads still predict in the target's units.
        assert np.all(np.abs(result.y - 20) < 30)


def test_several_dates_go_through_natively_and_folded_in(chips: Callable):
    for name in ("prithvi-tiny/decoder@random", "terramind-tiny/frozen@random", "raw/unet"):
        data = chips(steps=1, frames=3)
        assert predicted(create(name, **FAST).fit(data), data)["u6"].shape == (2, 32, 32)


def test_chips_larger_than_the_training_image_go_through_the_window(chips: Callable):
    model = create("alphaearth/conv1x1", **FAST).fit(chips(steps=2))
    large = chips(size=80)
    windowed = predicted(model, large)
    model.options = model.options.model_copy(update={"window": 80})
    assert same(windowed, predicted(model, large), atol=1e-6)


def test_ignored_pixels_do_not_train(chips: Callable):
    one, two = chips(steps=3), chips(steps=3)
    for sample in (*one.samples, *two.samples):
        sample["mask"][:16] = -1
    for sample in two.samples:
        sample["embedding"] = sample["embedding"].clone()
        sample["embedding"][:, :16] *= 1.0
    alone = create("alphaearth/conv1x1", **FAST).fit(one)
    for sample in one.samples:
        sample["mask"] = sample["mask"].clone()
    data = chips(steps=3)
    for sample in data.samples:
        sample["mask"][:16] = 1 - sample["mask"][:16]
    changed = create("alphaearth/conv1x1", **FAST).fit(data)
    assert same(predicted(alone, chips()), predicted(create("alphaearth/conv1x1", **FAST).fit(two), chips()))
    assert not same(predicted(alone, chips()), predicted(changed, chips()), atol=1e-5)


def five(data) -> dict:
    """A batch of five chips, one of them without a label."""
    samples = data.samples[:5]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in ("image", "embedding", "mask")}
    batch["mask"][0] = -1
    return batch | {"unit_id": [sample["unit_id"] for sample in samples]}


@pytest.mark.parametrize("name", ["alphaearth/unet", "prithvi-tiny/lora@random", "prithvi-tiny/frozen@random"])
def test_a_batch_in_parts_is_the_same_step(name: str, chips: Callable):
    data = chips()
    # A linear head: the decoders have batch norms, whose statistics are of a part.
    batch, network = five(data), create(name, **({"head": "linear"} if "lora" in name else {})).build(data)
    if "frozen" in name:
        batch["features"], batch["size"] = [part.detach() for part in network.encode(batch)], (32, 32)
    losses, gradients = [], []
    for chunk in (None, 2):
        module = TierModule(network, "segmentation", Training(), 1e-3, TrainingSummary(torch.tensor([0.5, 2.0])), chunk=chunk).train()
        network.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        losses.append(loss.item())
        gradients.append([value.grad.clone() for value in network.parameters() if value.requires_grad])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(*gradients, strict=True))


def test_running_statistics_count_every_part_once(chips: Callable):
    data = chips(size=64)
    batch, network = five(data), create("raw/unet").build(data)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    TierModule(network, "segmentation", Training(), 1e-3, chunk=3).train().training_step(batch, 0).backward()
    counted = {name: value.clone() for name, value in network.named_buffers() if name.endswith(("running_mean", "running_var"))}
    network.load_state_dict(start)
    for rows in (slice(0, 2), slice(2, 5)):
        network({key: value[rows] for key, value in batch.items()})
    assert counted
    assert all(torch.allclose(value, counted[name], atol=1e-6) for name, value in network.named_buffers() if name in counted)


def test_batches_without_a_label_do_no_harm(chips: Callable):
    data = chips(steps=6)
    for sample in data.samples[:2]:
        sample["mask"] = torch.full_like(sample["mask"], -1)
    model = create("alphaearth/conv1x1", **FAST).fit(data)
    assert all(torch.isfinite(value).all() for value in model.network_.parameters())


def test_a_budget_without_labels_is_an_error(chips: Callable):
    data = chips()
    for sample in data.samples:
        sample["mask"] = torch.full_like(sample["mask"], -1)
    with pytest.raises(DataError, match="no training label"):
        create("raw/unet", **FAST).fit(data)


def test_balanced_class_weights_favour_the_rare_class(chips: Callable):
    data = chips()
    for sample in data.samples:
        sample["mask"] = torch.zeros_like(sample["mask"])
        sample["mask"][:4] = 1
    network = create("alphaearth/conv1x1").build(data)
    weights = summarise(network, data, Training(class_weights="balanced")).class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([8 / 14, 4.0])


def test_running_out_of_memory_says_what_to_do(chips: Callable, monkeypatch: pytest.MonkeyPatch):
    from rs05bench.models.scratch import ScratchNetwork

    def fail(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."
        )

    data = chips()
    monkeypatch.setattr(ScratchNetwork, "forward", fail)
    with pytest.raises(BenchError, match="memory ran out") as caught:
        create("alphaearth/conv1x1", **FAST).fit(data)
    assert "training.batch_size" in str(caught.value)


def test_a_task_without_a_data_module_says_what_to_do():
    import lightning

    from rs05bench.models.task import TierTask

    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(ProtocolError, match="datamodule=dm"):
        trainer.fit(TierTask("alphaearth/conv1x1"), train_dataloaders=[{}])


def test_other_failures_keep_their_name(chips: Callable, monkeypatch: pytest.MonkeyPatch):
    from rs05bench.models.scratch import ScratchNetwork

    def fail(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(ScratchNetwork, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        create("alphaearth/conv1x1", **FAST).fit(chips())


def test_an_interrupted_fit_resumes_where_it_looked_last(chips: Callable, tmp_path: Path):
    class Interrupted(Exception):
        pass

    options = FAST | {"checkpoints": tmp_path, "learning_rates": [1e-3], "val_every": 4, "patience": 0}
    whole = create("alphaearth/unet", **FAST | {"val_every": 4, "patience": 0}).fit(chips(steps=12)).history_
    data = chips(steps=12)
    model = create("alphaearth/unet", **options)
    network = model.build(data)
    calls = 0

    def interrupt(*_):
        nonlocal calls
        calls += 1
        if calls > 6 + 4:  # some forward passes are validation's
            raise Interrupted

    handle = network.register_forward_pre_hook(interrupt)
    plan = training_of(data, {"learning_rates": [1e-3], "val_every": 4, "patience": 0})
    with pytest.raises(Interrupted):
        fit_network(network, data, plan, seed=0, checkpoints=tmp_path, accelerator="cpu")
    handle.remove()
    saved = torch.load(tmp_path / "lr-0.001" / "last.ckpt", weights_only=True)
    assert 4 <= saved["global_step"] < 12
    resumed = create("alphaearth/unet", **options).fit(chips(steps=12)).history_
    assert resumed.steps == whole.steps == 12
    assert [step for step, _ in resumed.validation] == [step for step, _ in whole.validation]
    again = create("alphaearth/unet", **options).fit(chips(steps=12)).history_
    assert again.validation == resumed.validation, "a finished rate is read, not run again"


def test_predicting_before_fitting_is_refused(chips: Callable):
    with pytest.raises(ProtocolError, match="before it was fitted"):
        list(create("alphaearth/conv1x1").predict_chips(chips(), "test_id"))


def test_cost_is_counted(chips: Callable):
    data = chips(size=64)
    cost = create("alphaearth/conv1x1").cost(data)
    assert cost["parameters_total"] == cost["parameters_trainable"] == 64 * 2 + 2
    assert cost["gflops_per_unit"] == pytest.approx(2 * 64 * 2 * 64 * 64 / 1e9)
    tiny, lora = (create(name).cost(data) for name in ("prithvi-tiny/decoder@random", "prithvi-tiny/lora@random"))
    assert lora["gflops_per_unit"] > tiny["gflops_per_unit"] > 0.1


def test_a_rate_that_diverges_is_never_kept(chips: Callable):
    for rates in ([0.01, 3e37], [3e37, 0.01]):
        history = create("alphaearth/conv1x1", **FAST | {"learning_rates": rates}).fit(chips(steps=6)).history_
        assert history.learning_rate == 0.01
        assert history.tried["3e+37"] is None
    with pytest.raises(BenchError, match="training diverged"):
        create("alphaearth/conv1x1", **FAST | {"learning_rates": [3e37]}).fit(chips(steps=6))


@pytest.mark.parametrize("name", ["prithvi-tiny/frozen@random", "prithvi-tiny/full@random"])
def test_a_rate_does_not_depend_on_the_others_of_the_grid(name: str, chips: Callable):
    alone, beside = (
        create(name, **FAST | {"learning_rates": rates}).fit(chips(steps=6)).history_ for rates in ([1e-3], [1e-3, 1e-7, 1e-6])
    )
    assert beside.tried["0.001"] == alone.tried["0.001"]


def test_a_fit_takes_up_no_other_fit_from_the_same_folder(chips: Callable, tmp_path: Path):
    def fitted(seed: int, steps: int) -> DeepModel:
        return create("alphaearth/conv1x1", seed=seed, **FAST, checkpoints=tmp_path).fit(chips(steps=steps))

    one, other, longer = fitted(1, 6), fitted(2, 6), fitted(1, 12)
    assert other.history_.best_validation != one.history_.best_validation
    assert longer.history_.steps == 12
    assert fitted(1, 6).history_.seconds < 60
    assert len(list(tmp_path.iterdir())) == 3


def test_steps_that_fill_no_interval_are_looked_at_too(chips: Callable):
    history = create("alphaearth/conv1x1", **FAST).fit(chips(steps=7)).history_
    assert [step for step, _ in history.validation] == [3, 6, 7]


def test_accumulated_batches_are_whole_steps_across_passes(chips: Callable):
    # Two batches a pass and three a step: a pass must not end a step.
    data = chips(steps=4)
    history = create("raw/unet", **FAST | {"accumulate": 3, "val_every": 2}).fit(data).history_
    assert [step for step, _ in history.validation] == [2, 4]
    assert sum(unit in ("u0", "u1", "u2", "u3") for unit in data.asked) >= 4 * 3 * 2


def test_flags_of_torch_are_as_they_were(chips: Callable):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        create("alphaearth/conv1x1", **FAST).fit(chips(steps=2))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_class_weights_are_summed_in_full_precision(chips: Callable):
    data = chips(size=96)
    network = create("alphaearth/conv1x1").build(data)
    module = TierModule(network, "segmentation", Training(), 1e-3, TrainingSummary(class_weights=torch.tensor([0.37, 1.71])))
    batch = next(iter(data.train_dataloader()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, count = module.loss(batch)
    expected = sum(weight * float((batch["mask"] == value).sum()) for value, weight in enumerate((0.37, 1.71)))
    assert float(count) == pytest.approx(expected, rel=1e-6)


def test_a_lone_unit_trains_a_pyramid_pooling_decoder(chips: Callable):
    data = chips(steps=2)
    data.train_dataloader = lambda: data._loader(range(1), labels=True)  # type: ignore[method-assign]
    model = create("prithvi-tiny/decoder@random", **FAST, decoder="upernet").fit(data)
    assert np.isfinite(model.history_.best_validation)


def test_memory_that_runs_out_while_encoding_for_a_prediction_says_what_to_do(chips: Callable, tmp_path: Path, monkeypatch):
    data = chips(steps=2)
    model = create("prithvi-tiny/frozen@random", **FAST, cache=str(tmp_path)).fit(data)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model.network_.backbone), "forward", full)
    with pytest.raises(BenchError, match="smaller window or batch"):
        predicted(model, data)


def test_a_scene_is_read_in_the_windows_of_the_options(chips: Callable):
    data = chips(steps=2)
    model = create("alphaearth/conv1x1", **FAST, window=16, batch=2).fit(data)
    asked = []

    def read(window) -> dict[str, np.ndarray]:
        asked.append((window.height, window.width))
        return {"embedding": np.zeros((64, window.height, window.width), np.float32)}

    list(model.predict_scene(read, 40, 40))
    assert set(asked) == {(16, 16)}


@pytest.mark.slow
def test_after_a_rehearsal_fitting_imports_nothing_more():
    """One process after the other would load the same libraries twice; that of chips comes second, because it needs most."""
    code = (
        "import sys\n"
        "from rs05bench.models.deep import create\n"
        "from tests.models.deep.conftest import Chips\n"
        "from tests.models.deep.test_presto import Series, raw_series\n"
        "import numpy as np\n"
        "x = raw_series(12)\n"
        "rows = {'train': np.arange(6), 'val': np.arange(6, 9), 'test_id': np.arange(9, 12)}\n"
        "options = {'accelerator': 'cpu', 'steps': 2, 'val_every': 1, 'learning_rates': [1e-3]}\n"
        "more = set()\n"
        "for name, data in (('presto/lora@random', Series(x, x[:, 0, 0], rows)), ('prithvi-tiny/lora@random', Chips(steps=2))):\n"
        "    create(name, **options).warm_up(data)\n"
        "    before = {module.split('.')[0] for module in sys.modules}\n"
        "    create(name, **options).fit(data)\n"
        "    more |= {module.split('.')[0] for module in sys.modules} - before\n"
        "print(sorted(more))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
