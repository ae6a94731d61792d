"""A chip data module shows what the manifest and the budget allow, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rs05bench.datamodules import BurnScarDataModule, CropDataModule
from rs05bench.datamodules.augment import augment
from rs05bench.datamodules.chip_datamodule import ChipDataModule
from rs05bench.datamodules.chipsource import ChipSource, chip_card
from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.datasets.chip_image import ImageFormat
from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.registry import create


@pytest.fixture(scope="module")
def source(chip_folder):
    card = chip_card("burn-scars", chip_folder / "hls_burn_scars")
    card = card.with_preprocessing(patch_size=64)
    return ChipSource(chip_folder / "hls_burn_scars", card, embeddings=chip_folder / "alphaearth")


def burn(source, budget="full", seed=0, split="leave-state-out", fold="CA", fill=None, **options):
    return BurnScarDataModule(source, split=split, fold=fold, budget=budget, seed=seed, fill=fill, **options)


def shown(dm, role="train"):
    """Unit -> labels shown, on the chip's own grid: the union over all patches."""
    loader = dm.train_dataloader() if role == "train" else dm.val_dataloader()
    found: dict[str, list[torch.Tensor]] = {}
    for batch in loader:
        for unit, mask in zip(batch["unit_id"], batch["mask"], strict=True):
            found.setdefault(unit, []).append(mask)
    return found


# Budgets


def test_a_fire_budget_shows_whole_fires_and_counts_validation(source):
    dm = burn(source, "5-fires")
    fire = dict(zip(dm.manifest.units["unit_id"], dm.manifest.units["fire"], strict=True))
    train, val = set(shown(dm)), set(shown(dm, "val"))
    assert {fire[unit] for unit in train}.isdisjoint(fire[unit] for unit in val)
    assert len({fire[unit] for unit in train}) == 4
    assert len({fire[unit] for unit in val}) == 1
    assert train == set(dm.unit_ids("train"))


def test_fire_budgets_of_one_seed_are_nested_and_seeds_differ(source):
    few, many = set(shown(burn(source, "2-fires", seed=3))), set(shown(burn(source, "5-fires", seed=3)))
    assert few < many
    draws = {frozenset(burn(source, "2-fires", seed=seed).unit_ids("train")) for seed in range(6)}
    assert len(draws) > 1


def test_two_chips_of_one_fire_are_shown_together(source):
    for seed in range(8):
        units = set(burn(source, "2-fires", seed=seed, fold="GA").unit_ids("train"))
        pair = {"T10SEH.2018190", "T10SEH.2018200"}
        assert not units & pair or pair <= units


def test_a_pixel_budget_hides_labels_and_not_images(source):
    full, some = burn(source), burn(source, "10pct-pixels")
    assert some.unit_ids("train") == full.unit_ids("train")
    unit = some.unit_ids("train")[0]
    all_labels = torch.from_numpy(full.source.dataset.read(unit).labels)
    labels = some.budget.pixel_mask(unit, 96, 96) & (all_labels.numpy() != -1)
    assert 0.08 < labels.mean() < 0.12
    counted = some.view.labelled_pixels()
    everything = full.view.labelled_pixels()
    assert counted["train"] == pytest.approx(0.1 * everything["train"], rel=0.05)
    patch = next(batch for batch in some.train_dataloader())
    assert torch.isfinite(patch["image"]).float().mean() > 0.95


def test_the_same_pixels_are_shown_to_every_model_and_nest_in_the_fraction(source):
    masks = {}
    for budget in ("1pct-pixels", "10pct-pixels"):
        for name, options in (("images", {}), ("embeddings", {"batch_size": 2})):
            dm = burn(source, budget, **options)
            dm.view.shown.embedding = name == "embeddings"
            masks[budget, name] = {unit: torch.stack(patches).sum(0) for unit, patches in _sorted(dm).items()}
    for budget in ("1pct-pixels", "10pct-pixels"):
        one, two = masks[budget, "images"], masks[budget, "embeddings"]
        assert all(torch.equal(one[unit], two[unit]) for unit in one)
    dm_few, dm_many = burn(source, "1pct-pixels"), burn(source, "10pct-pixels")
    unit = dm_few.unit_ids("train")[0]
    few, many = dm_few.budget.pixel_mask(unit, 96, 96), dm_many.budget.pixel_mask(unit, 96, 96)
    assert few.sum() > 0
    assert (many | ~few).all()
    assert not np.array_equal(many, burn(source, "10pct-pixels", seed=1).budget.pixel_mask(unit, 96, 96))


def _sorted(dm):
    return {unit: sorted(patches, key=lambda mask: mask.tolist()) for unit, patches in shown(dm).items()}


def test_a_chip_budget_shows_that_share_of_chips(chip_folder):
    dm = CropDataModule(chip_folder / "crop_chips", split="leave-state-out", budget="50pct")
    assert len(dm.unit_ids("train")) + len(dm.unit_ids("val")) == 1
    assert dm.num_frames == 3
    assert next(iter(dm.train_dataloader()))["image"].shape[1:3] == (3, 6)


def test_labels_from_the_reserve_are_added_and_counted(source):
    plain, more = burn(source, "2-fires"), burn(source, "2-fires", split="leave-state-out+2")
    added = set(more.unit_ids("train")) - set(plain.unit_ids("train"))
    rows = more.manifest.fold("CA")
    assert len(added) == 2
    assert set(rows.loc[rows["unit_id"].isin(added), "role"].astype(str)) == {"reserve"}
    assert added <= set(shown(more))
    assert more.budget.labels_used == plain.budget.labels_used + 2


def test_a_batch_is_one_whole_fire(source):
    dm = burn(source, "5-fires", batch_size=2)
    fire = dict(zip(dm.manifest.units["unit_id"], dm.manifest.units["fire"], strict=True))
    batches = [batch["unit_id"] for batch in dm.train_dataloader()]
    assert all(len({fire[unit] for unit in batch}) == 1 for batch in batches)
    assert len({fire[batch[0]] for batch in batches}) == len(batches) == len(dm.train_dataloader()) == 4
    assert min(map(len, batches)) > dm.batch_size == 2
    again = [batch["unit_id"] for batch in burn(source, "5-fires").train_dataloader()]
    assert batches == again
    assert [batch["unit_id"] for batch in burn(source, "5-fires", seed=1).train_dataloader()] != batches


def test_a_fire_is_one_step_of_the_optimiser(source):
    """As many steps as the card says, each of a whole fire, however few patches go through the network at once."""
    from rs05bench.models.deep import create
    from rs05bench.models.tier_module import TierModule

    dm = burn(source, "5-fires", batch_size=2)
    shown = []
    original = TierModule.training_step

    def step(self, batch, index):
        shown.append(set(batch["unit_id"]))
        return original(self, batch, index)

    options = {"accelerator": "cpu", "steps": 8, "val_every": 4, "patience": 0, "learning_rates": [1e-3]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TierModule, "training_step", step)
        history = create("alphaearth/conv1x1", **options).fit(dm).history_
    assert history.steps == len(shown) == 8
    fires = [set(batch["unit_id"]) for batch in dm.train_dataloader()]
    assert all(units in fires for units in shown)
    assert all(shown.count(units) == 2 for units in fires)


def test_frozen_features_do_not_mix_fires_either(source):
    from rs05bench.models.cache import EncodedLoader, FeatureCache
    from rs05bench.models.deep import create

    dm = burn(source, "5-fires")
    network = create("prithvi-tiny/frozen@random").build(dm)
    loader = EncodedLoader(dm.train_dataloader(), network, FeatureCache(None), shuffle=True)
    fire = dict(zip(dm.manifest.units["unit_id"], dm.manifest.units["fire"], strict=True))
    for _ in range(3):
        assert all(len({fire[unit] for unit in batch["unit_id"]}) == 1 for batch in loader)


# Labels of test units


@pytest.mark.parametrize("role", ["test_id", "test_ood", "reserve", None])
def test_prediction_shows_no_label(source, role):
    dm = burn(source)
    loaders = dm.predict_dataloader(role)
    for loader in loaders if role is None else [loaders]:
        batches = list(loader)
        assert batches
        assert all(not {"mask", "label"} & set(batch) for batch in batches)
        assert all(batch["image"].shape[-2:] == (96, 96) for batch in batches)


def test_asking_for_test_labels_is_refused(source):
    with pytest.raises(ProtocolError, match="rs05bench score"):
        burn(source).test_dataloader()


@pytest.mark.parametrize("name", ["floor/mean", "raw/ridge"])
def test_a_model_of_tables_says_that_these_are_chips(source, name):
    with pytest.raises((DataError, ProtocolError), match="chips"):
        create(name, card=source.card).fit(burn(source))


def test_an_unknown_role_is_refused(source):
    with pytest.raises(ProtocolError, match="no role 'test'"):
        burn(source).unit_ids("test")


def test_training_reads_no_mask_but_the_budgets(chip_folder, monkeypatch):
    """Statistics, training, early stopping: every mask that a fit reads belongs to a chip of the budget."""
    from rs05bench.models.deep import create

    card = chip_card("burn-scars", chip_folder / "hls_burn_scars")
    schedule = card.training.model_copy(update={"steps": 4, "val_every": 2})
    dm = BurnScarDataModule(
        chip_folder / "hls_burn_scars",
        "leave-state-out",
        "CA",
        "5-fires",
        card=card.model_copy(update={"training": schedule}),
    )
    dm.setup("fit")
    read: list[str] = []
    inner = HLSBurnScars._labels
    monkeypatch.setattr(HLSBurnScars, "_labels", lambda self, chip: read.append(chip.unit_id) or inner(self, chip))
    model = create("raw/unet", accelerator="cpu").fit(dm.view)
    assert model.history_.validation, "early stopping must have looked at something"
    allowed = {*dm.unit_ids("train"), *dm.unit_ids("val")}
    assert set(read) == allowed
    rows = dm.manifest.fold("CA")
    roles = dict(zip(rows["unit_id"], rows["role"].astype(str), strict=True))
    assert {roles[unit] for unit in read} == {"train", "val"}


def test_statistics_are_those_of_the_training_chips_of_the_budget(source):
    from rs05bench.models.deep import create
    from rs05bench.models.summary import summarise
    from rs05bench.protocol.card import Training

    dm = burn(source, "2-fires")
    network = create("raw/unet").build(dm)
    summarise(network, dm, Training())
    pixels = torch.cat([torch.cat(list(batch["image"].flatten(2)), dim=1) for batch in dm.train_dataloader()], dim=1)
    assert torch.allclose(network.mean.flatten(), pixels.nanmean(dim=1), atol=1e-6)
    assert not torch.allclose(network.mean.flatten(), _mean(burn(source, "2-fires", seed=4)), atol=1e-5)


def _mean(dm):
    return torch.cat([torch.cat(list(batch["image"].flatten(2)), dim=1) for batch in dm.train_dataloader()], dim=1).nanmean(dim=1)


# Pixels


def test_patches_are_the_same_for_every_model_and_cover_the_chip(source):
    dm = burn(source, "2-fires")
    seen = {(unit, rows.start, columns.start) for unit, rows, columns in dm.train_dataloader().dataset.patches.items}
    unit = dm.unit_ids("train")[0]
    assert {place[1:] for place in seen if place[0] == unit} == {(0, 0), (0, 32), (32, 0), (32, 32)}


def test_the_embedding_lies_under_its_pixels(source):
    dm = burn(source, "5-fires")
    for batch in dm.train_dataloader():
        known = batch["mask"] != -1
        burnt = batch["embedding"][:, 0] > 0
        inner = torch.nn.functional.max_pool2d((~known).float(), 5, 1, 2) == 0
        edge = torch.nn.functional.max_pool2d(batch["mask"].clamp_min(0).float(), 5, 1, 2) != batch["mask"]
        edge |= torch.nn.functional.max_pool2d(1 - batch["mask"].clamp_min(0).float(), 5, 1, 2) != 1 - batch["mask"]
        sure = inner & ~edge
        assert sure.any()
        assert (burnt == (batch["mask"] == 1))[sure].all()


def test_missing_pixels_are_nan_or_what_is_asked_for(source):
    nan, zero = burn(source), burn(source, fill=0.0)
    assert any(torch.isnan(batch["image"]).any() for batch in nan.train_dataloader())
    assert all(torch.isfinite(batch["image"]).all() for batch in zero.train_dataloader())
    assert all((batch["mask"][torch.isnan(batch["image"]).any(dim=1)] == -1).all() for batch in nan.train_dataloader())


@pytest.mark.parametrize("name", ["raw/unet", "hybrid/unet", "prithvi-tiny/full@random"])
def test_missing_pixels_give_finite_predictions(source, name):
    from rs05bench.models.deep import create

    dm = burn(source)
    network = create(name).build(dm).eval()
    batch = next(iter(dm.predict_dataloader("test_ood")))
    batch = {key: value[..., :64, :64] if key in ("image", "embedding") else value for key, value in batch.items()}
    assert torch.isnan(batch["image"]).any()
    assert torch.isfinite(network(batch)).all()


def test_augmentation_turns_image_embedding_and_mask_together():
    """The corner pixel carries the same mark in every raster; wherever it goes it goes in all, and the rest stays exact, NaN included."""
    torch.manual_seed(0)
    side, count = 8, 64
    places = torch.arange(side * side).reshape(1, 1, side, side).expand(count, 1, side, side)
    unit = torch.arange(count).reshape(count, 1, 1, 1)
    image = (places + 100 * unit).float().expand(count, 6, side, side).clone()
    image[:, :, 3, 5] = float("nan")
    batch = {
        "image": image,
        "embedding": places.expand(count, 64, side, side).to(torch.int8),
        "mask": torch.where(places[:, 0] == 9, -1, places[:, 0]),
        "unit_id": [str(number) for number in range(count)],
    }
    turned = augment(batch, ["hflip", "vflip", "rot90"])
    where = turned["embedding"][:, 0].long()
    assert turned["mask"].dtype == torch.int64
    assert turned["embedding"].dtype == torch.int8
    assert torch.equal(torch.where(where == 9, -1, where), turned["mask"])
    expected = (where + 100 * unit[:, 0]).float()
    expected[where == 3 * side + 5] = float("nan")
    assert torch.equal(torch.nan_to_num(turned["image"][:, 2], nan=-7), torch.nan_to_num(expected, nan=-7))
    corners = {int(grid[0, 0]) for grid in where}
    assert corners == {0, side - 1, side * (side - 1), side * side - 1}
    assert turned["unit_id"] == batch["unit_id"]


def test_augmentation_turns_all_dates_alike():
    torch.manual_seed(1)
    image = torch.rand(8, 1, 6, 16, 16).expand(8, 3, 6, 16, 16).clone()
    turned = augment({"image": image, "mask": torch.zeros(8, 16, 16, dtype=torch.int64)}, ["hflip", "rot90"])["image"]
    assert turned.shape == image.shape
    assert torch.equal(turned[:, 0], turned[:, 2])
    assert not torch.equal(turned, image)


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(ProtocolError, match="unknown"):
        augment({"image": torch.zeros(1, 1, 4, 4)}, ["mixup"])


def test_only_training_batches_are_augmented(source):
    import lightning

    dm = burn(source, "5-fires", batch_size=4)
    trained, validated = [], []

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, index):
            trained.append(batch["image"])
            return self.weight**2

        def validation_step(self, batch, index):
            validated.append(batch["image"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    _trainer(max_steps=4, val_check_interval=2, check_val_every_n_epoch=None).fit(Watch(), dm)
    plain = [batch["image"] for batch in dm.val_dataloader()]
    assert torch.equal(validated[0].nan_to_num(), plain[0].nan_to_num())
    originals = [batch["image"].nan_to_num() for batch in dm.train_dataloader()]
    assert not all(any(torch.equal(batch.nan_to_num(), one) for one in originals) for batch in trained)


def _trainer(**options):
    import lightning

    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **options
    )


# In use


def test_three_lines_train_any_lightning_module(chip_folder):
    """As EXPERIENCE shows it: a data module of three arguments, and a Trainer that stops after its steps."""
    import lightning

    from rs05bench.models.tier_module import TierModule

    regions(chip_folder)
    dm = BurnScarDataModule(chip_folder / "hls_burn_scars", split="leave-ecoregion-out", fold="west", budget="5-fires", seed=0)
    my_module = Tiny()
    assert not isinstance(my_module, TierModule)
    assert dm.steps == 200
    dm.steps = 3
    trainer = lightning.Trainer(max_steps=dm.steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(my_module, dm)
    assert trainer.global_step == 3
    maps = trainer.predict(my_module, dm)
    assert [len(part) for part in maps] == [len(dm.unit_ids("test_id")), len(dm.unit_ids("test_ood"))]


def Tiny():
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.classify = torch.nn.Conv2d(6, 2, 1)

        def forward(self, batch):
            return self.classify(batch["image"].nan_to_num())

        def training_step(self, batch, index):
            return torch.nn.functional.cross_entropy(self(batch), batch["mask"], ignore_index=-1)

        def predict_step(self, batch, index, dataloader_idx=0):
            return self(batch).softmax(1)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), 1e-3)

    return Module()


def regions(chip_folder):
    import geopandas as gpd
    import shapely

    file = chip_folder / "regions" / "regions.gpkg"
    if not file.exists():
        file.parent.mkdir()
        boxes = {"west": (-130, 30, -115, 49), "middle": (-115, 30, -100, 49), "east": (-100, 20, -70, 49)}
        frame = gpd.GeoDataFrame({"ecoregion": list(boxes)}, geometry=[shapely.box(*box) for box in boxes.values()], crs="EPSG:4326")
        frame.to_file(file, layer="regions")


def test_every_tier_has_a_module_for_a_trainer_of_ones_own(source):
    from rs05bench.models import create

    dm = burn(source, "5-fires")
    module = create("prithvi-tiny/lora@random", seed=1).module(dm)
    before = {name: value.clone() for name, value in module.named_parameters() if not value.requires_grad}
    _trainer(max_steps=2, limit_val_batches=1).fit(module, dm)
    assert all(torch.equal(before[name], value) for name, value in module.named_parameters() if name in before)


def test_groups_without_a_layer_say_what_to_give(tmp_path, chip_folder):
    (tmp_path / "chips").symlink_to(chip_folder / "hls_burn_scars")
    with pytest.raises(DataError, match="biome"):
        BurnScarDataModule(tmp_path / "chips", split="leave-biome-out").setup("fit")


def test_embeddings_that_were_not_given_are_asked_for(chip_folder):
    import rs05bench as rb

    dm = BurnScarDataModule(chip_folder / "hls_burn_scars", split="leave-state-out", fold="CA", budget="2-fires")
    with pytest.raises(DataError, match="a model on alphaearth reads the pixels of an embedding, and the data have none"):
        rb.run(dm, "alphaearth/conv1x1", steps=1)


@pytest.mark.parametrize("name", ["prithvi-tiny/frozen@random", "prithvi-tiny/lora@random"])
def test_a_tier_whose_encoder_is_frozen_sees_the_pixels_as_they_are(name, source):
    dm = burn(source, "5-fires", batch_size=4)
    plain = [patch for batch in dm.train_dataloader() for patch in batch["image"].nan_to_num()]
    module = create(name).module(dm)
    seen = []
    module.network.register_forward_pre_hook(lambda _, batches: seen.extend(batches[0]["image"].nan_to_num()))
    _trainer(max_steps=2, limit_val_batches=0).fit(module, dm)
    untouched = all(any(torch.equal(patch, one) for one in plain) for patch in seen)
    assert untouched == ("frozen" in name)


# Chips that are kept


def test_chips_beyond_what_memory_keeps_are_mapped_and_the_same(source, chip_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("RS05BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("rs05bench.datamodules.array_cache.KEPT_BYTES", 0)
    mapped = ChipSource(chip_folder / "hls_burn_scars", source.card)
    reads = []
    decoded = ImageFormat.read
    monkeypatch.setattr(ImageFormat, "read", lambda self, header: (reads.append(header.path), decoded(self, header))[1])
    dm, plain = burn(mapped, "5-fires"), burn(source, "5-fires")
    expected = [batch for loader in [plain.train_dataloader()] for _ in range(2) for batch in loader]
    reads.clear()
    got = [batch for loader in [dm.train_dataloader()] for _ in range(2) for batch in loader]
    for one, two in zip(got, expected, strict=True):
        assert one["unit_id"] == two["unit_id"]
        for name in ("image", "mask", "time", "location"):
            assert torch.equal(one[name].nan_to_num(), two[name].nan_to_num())
    assert len(reads) == len(set(reads)) == len(dm.unit_ids("train"))
    assert len(list((tmp_path / "pixels").iterdir())) == 2 * len(reads)


def test_a_map_that_was_cut_short_is_made_again(source, chip_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("RS05BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("rs05bench.datamodules.array_cache.KEPT_BYTES", 0)
    unit = source.units().frame["unit_id"].iloc[0]
    whole = ChipSource(chip_folder / "hls_burn_scars", source.card).pixels.image(unit, keep=True)
    for path in (tmp_path / "pixels").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    again = ChipSource(chip_folder / "hls_burn_scars", source.card)
    for _ in range(2):
        assert np.array_equal(again.pixels.image(unit, keep=True), whole, equal_nan=True)


def test_what_workers_keep_of_one_budget_or_card_is_shown_to_no_other(source, chip_folder, monkeypatch, tmp_path):
    """Kept on the disk, as the workers of a loader do: the pixels of a budget, and the masks under a card's labels."""
    monkeypatch.setenv("RS05BENCH_CACHE", str(tmp_path))
    few, many = (burn(source, budget).view.labelled_pixels()["train"] for budget in ("1pct-pixels", "10pct-pixels"))
    monkeypatch.setattr("rs05bench.datamodules.array_cache.KEPT_BYTES", 0)
    assert [burn(source, budget).view.labelled_pixels()["train"] for budget in ("1pct-pixels", "10pct-pixels")] == [few, many]
    shares = []
    for labels in ({0: "a", 1: "b"}, {1: "a", 0: "b"}):
        said = {"images": "**/*_merged.tif", "masks": "**/*.mask.tif", "image_suffix": "_merged", "mask_suffix": ".mask"}
        said |= {"bands": list(source.dataset.bands), "scale": 1, "labels": labels, "ignore": [-1], "nodata": [-9999]}
        card = source.card.with_preprocessing(chips=said).model_copy(
            update={"reader": "chips", "classes": ["a", "b"], "groups": [], "splits": ["random"], "budgets": ["full"], "year": None}
        )
        card = card.model_copy(update={"split_options": type(card.split_options)()})
        dm = ChipDataModule(ChipSource(chip_folder / "hls_burn_scars", card), "random")
        dm.setup()
        masks = torch.cat([batch["mask"] for batch in dm.train_dataloader()])
        shares.append([int((masks == value).sum()) for value in (0, 1)])
    assert shares[0] == shares[1][::-1]
    assert shares[0][0] != shares[0][1]


@pytest.mark.slow
def test_workers_of_a_loader_live_on_and_give_the_same_patches(source, monkeypatch, tmp_path):
    monkeypatch.setenv("RS05BENCH_CACHE", str(tmp_path))
    loader = burn(source, "5-fires", num_workers=1).train_dataloader()
    plain = burn(source, "5-fires").train_dataloader()
    assert loader.persistent_workers
    for _ in range(2):
        for one, two in zip(loader, plain, strict=True):
            assert torch.equal(one["image"].nan_to_num(), two["image"].nan_to_num())
            assert torch.equal(one["mask"], two["mask"])
