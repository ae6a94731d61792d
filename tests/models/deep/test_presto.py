"""Presto on tables: inputs as it was pretrained, three tiers and their twins, and real weights on real fuel moisture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.backbones import ScaleWarning
from rs05bench.models.deep import create
from rs05bench.models.learners import LEARNERS
from rs05bench.models.presto import presto_encoder
from rs05bench.models.presto_series import RAW_CHANNELS, presto_series, scale_presto
from rs05bench.protocol.card import Training
from rs05bench.protocol.cell_record import TrainingRecord
from rs05bench.protocol.preprocessing import Preprocessing
from rs05bench.protocol.tuning_blocks import Tuning

FAST = {"accelerator": "cpu", "steps": 5, "val_every": 5, "batch_size": 16, "learning_rates": [1e-3]}


class Series:
    """A `TaskData` of series: rows by role."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, rows: dict[str, np.ndarray], *, classes: tuple[str, ...] | None = None, **sets: np.ndarray
    ) -> None:
        self.sets, self.labels, self.rows, self.classes = {"presto": x, **sets}, y, rows, classes
        self.card = SimpleNamespace(
            name="series",
            training=Training(batch_size=32),
            preprocessing=Preprocessing(),
            kind="regression" if classes is None else "classification",
        )
        self.split, self.fold, self.budget = "random", "random", SimpleNamespace(name="full", tuning=Tuning())
        self.feature_sets = list(self.sets)
        self.names = {name: [f"c{index}" for index in range(values[0].size)] for name, values in self.sets.items()}
        self.position = np.column_stack([np.full(len(x), -100.0), np.full(len(x), 40.0)])

    def X(self, role: str, features: str) -> np.ndarray:
        return self.sets[features][self.rows[role]].astype(np.float32)

    def columns(self, features: str) -> list[str]:
        return self.names[features]

    def y(self, role: str) -> np.ndarray:
        assert role in ("train", "val")
        return self.labels[self.rows[role]]

    def unit_ids(self, role: str) -> np.ndarray:
        return np.array([f"u{row}" for row in self.rows[role]], dtype=object)

    def tuning_fits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        count, judged = len(self.rows["train"]), len(self.rows["val"])
        return [(np.arange(count), np.arange(count, count + judged))]

    def coordinates(self, role: str) -> np.ndarray:
        return self.position[self.rows[role]]


def raw_series(count: int, dates: int = 3) -> np.ndarray:
    generator = np.random.default_rng(0)
    x = np.empty((count, dates, 18))
    x[..., :2] = generator.normal(-14, 3, (count, dates, 2))
    x[..., 2:13] = generator.uniform(200, 4000, (count, dates, 11))
    x[..., 13:18] = generator.uniform([270, 0, 0, 0, 0], [300, 0.02, 2500, 40, 1], (count, dates, 5))
    return x


@pytest.fixture
def series() -> Series:
    x = raw_series(60)
    y = x[:, :, 8].mean(axis=1) / 10
    return Series(
        x, y, {"train": np.arange(30), "val": np.arange(30, 40), "test_ood": np.arange(40, 60)}, month=np.tile([0, 5, 11], (60, 1))
    )


def test_raw_units_are_scaled_as_presto_was_pretrained():
    raw = np.arange(1, 19, dtype=float).reshape(1, 1, 18)
    scaled = dict(zip([name for name in RAW_CHANNELS if name != "B9"], scale_presto(raw)[0, 0], strict=True))
    assert scaled["VV"] == pytest.approx(26 / 25)
    assert scaled["B12"] == pytest.approx(13e-4)
    assert scaled["t2m"] == pytest.approx((14 - 272.15) / 35)
    assert scaled["tp"] == pytest.approx(15 / 0.03)
    assert scaled["elevation"] == pytest.approx(16 / 2000)
    assert scaled["slope"] == pytest.approx(17 / 50)
    # NDVI is computed of B8 (9) and B4 (5), whatever the file says.
    assert scaled["NDVI"] == pytest.approx(4 / 14)


def test_flat_named_and_shaped_inputs_agree():
    raw = raw_series(4).astype(np.float32)
    shaped, mask, _ = presto_series(raw, [])
    flat, _, _ = presto_series(raw.reshape(4, -1), ["x"] * 54)
    order = np.random.default_rng(1).permutation(54)
    names = np.array([f"{band}_{date}" for date in range(3) for band in RAW_CHANNELS])
    named, _, found = presto_series(raw.reshape(4, -1)[:, order], list(names[order]))
    assert np.allclose(shaped, flat)
    assert np.allclose(shaped, named)
    assert not mask.any()
    assert not found
    with pytest.raises(DataError, match="neither named"):
        presto_series(np.zeros((2, 5), dtype=np.float32), list("abcde"))


def test_absent_bands_are_masked_and_not_invented():
    names = [f"{band}_{date}" for date in (0, 1) for band in ("B2", "B3", "B04", "B08", "month")]
    values = np.full((3, 10), 1500, dtype=np.float32)
    values[:, [4, 9]] = [[3, 4]] * 3
    values[1, 0] = np.nan
    x, mask, found = presto_series(values, names)
    assert mask[0, 0, :2].all()
    assert not mask[0, 0, 2:5].any()
    assert mask[1, 0, 2] == 1
    assert (x[mask == 1] == 0).all()
    assert found["month"].tolist() == [[3, 4]] * 3


def test_a_wrong_scale_warns():
    with pytest.warns(ScaleWarning, match="95th percentile"):
        presto_series(np.full((3, 2, 17), 2500, dtype=np.float32), [])


@pytest.mark.parametrize("name", ["presto/frozen@random", "presto/lora@random", "presto/full@random"])
def test_a_tier_fits_and_predicts_in_the_targets_units(name: str, series: Series):
    model = create(name, **FAST | {"learning_rates": [1e-4]}).fit(series)
    result = model.predict(series, "test_ood")
    assert list(result.unit_id) == [f"u{row}" for row in range(40, 60)]
    assert np.isfinite(result.y).all()
    assert abs(result.y.mean() - series.labels.mean()) < 60
    trainable = model.card.parameters_trainable
    head = 2 * 128 + 128 + 1
    assert trainable == head if "frozen" in name else trainable > head
    again = create(name, **FAST | {"learning_rates": [1e-4]}).fit(series).predict(series, "test_ood")
    assert np.array_equal(result.y, again.y)


def test_frozen_features_go_through_the_shallow_learners_and_their_grid(series: Series):
    model = create("presto/frozen-ridge@random", accelerator="cpu").fit(series)
    assert model.training_record.grid == [dict(entry) for entry in LEARNERS["ridge"].grid]
    assert model.training_record.encoder == "random:0"
    encoder = create("presto/frozen@random", **FAST)
    train, test = (encoder.embed(series, role).astype(float) for role in ("train", "test_ood"))
    y = series.y("train")
    scaler = StandardScaler().fit(train)
    # A single-precision solver of the package stands against scikit-learn's.
    reference = Ridge(alpha=model.choice_.parameters["alpha"]).fit(scaler.transform(train), (y - y.mean()) / y.std())
    expected = reference.predict(scaler.transform(test)) * y.std() + y.mean()
    assert np.allclose(model.predict(series, "test_ood").y, expected, rtol=1e-2, atol=y.std() * 5e-3)
    assert model.card.tier == "frozen"
    assert model.card.parameters_trainable == 129
    encoder_only = sum(parameter.numel() for parameter in presto_encoder(pretrained=False).parameters())
    assert model.card.parameters_total == encoder_only + 129


@pytest.mark.parametrize("learner", ["logistic", "centroid", "rf"])
def test_classes_go_through_them_too(learner: str, series: Series):
    labels = np.digitize(series.labels, np.quantile(series.labels, [0.33, 0.66]))
    classes = Series(series.sets["presto"], labels, series.rows, classes=("a", "b", "c"), month=series.sets["month"])
    p = create(f"presto/frozen-{learner}@random", accelerator="cpu").fit(classes).predict(classes, "test_ood").probabilities
    assert p.shape == (20, 3)
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5)


def test_a_classifier_on_values_names_the_learner_to_use(series: Series):
    with pytest.raises(ProtocolError, match=r"does classification only[\s\S]*Use presto/frozen-ridge instead"):
        create("presto/frozen-logistic@random").fit(series)


def test_a_frozen_learner_takes_no_options_of_training(series: Series):
    with pytest.raises(DataError, match="does not know the option steps"):
        create("presto/frozen-ridge@random", steps=5)


@pytest.mark.parametrize("name", ["presto/frozen-ridge@random", "presto/frozen@random"])
def test_a_control_is_another_network_for_every_seed(name: str, series: Series):
    features = {}
    for seed in (0, 1):
        model = create(name, seed=seed, accelerator="cpu")
        encoder = getattr(model, "encoder", model)
        features[seed] = encoder.embed(series, "train")
        assert encoder.origin == f"random:{seed}"
        again = create(name, seed=seed, accelerator="cpu")
        assert np.array_equal(getattr(again, "encoder", again).embed(series, "train"), features[seed])
    assert not np.allclose(features[0], features[1], atol=1e-3)


def test_units_that_lack_different_things_share_a_batch(series: Series):
    cover = np.full((60, 3), 4)
    cover[::2, 1] = 9
    series.sets["dynamic_world"], series.feature_sets = cover, [*series.feature_sets, "dynamic_world"]
    series.sets["presto"][5, 0, 0] = np.nan
    model = create("presto/frozen@random", **FAST)
    together = model.embed(series, "train")
    series.rows = {**series.rows, "train": np.array([5])}
    assert np.allclose(together[5], model.embed(series, "train")[0], atol=1e-5)


def test_classes_work_too(series: Series):
    series.labels, series.classes = np.arange(60) % 3, ("a", "b", "c")
    result = create("presto/lora@random", **FAST).fit(series).predict(series, "test_ood")
    assert np.allclose(result.probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_cache_spares_the_encoder(series: Series, tmp_path: Path):
    plain = create("presto/frozen@random", **FAST).fit(series).predict(series, "test_ood")
    from rs05bench.models.cache import FeatureCache

    cache = FeatureCache(tmp_path)
    create("presto/frozen@random", seed=3, init_seed=0, cache=cache, **FAST).fit(series)
    assert (cache.hits, cache.misses) == (0, 40)
    cached = create("presto/frozen@random", cache=cache, **FAST).fit(series)
    assert (cache.hits, cache.misses) == (40, 40)
    assert np.allclose(plain.y, cached.predict(series, "test_ood").y, atol=1e-4)


def test_a_frozen_encoder_runs_once_a_unit_when_it_predicts_too(series: Series, tmp_path: Path):
    from rs05bench.models.cache import FeatureCache

    cache = FeatureCache(tmp_path)
    model = create("presto/frozen@random", cache=cache, **FAST).fit(series)
    for _ in range(3):
        model.predict(series, "test_ood")
    assert cache.misses == 60
    assert cache.hits == 40


def test_the_cache_changes_no_bit_whatever_it_holds_already(series: Series, tmp_path: Path):
    """Sums of another shape differ in the last bit, so what is encoded together must not matter."""
    series.sets["presto"][::7, 0, 0] = np.nan
    plain = create("presto/frozen@random", **FAST).fit(series).predict(series, "test_ood")
    rows = series.rows
    for taken in (np.arange(41, 60, 3), np.array([45]), np.arange(2, 49)):
        series.rows = rows | {"test_ood": taken, "train": np.arange(1, 9)}
        create("presto/frozen@random", cache=tmp_path, **FAST).fit(series).predict(series, "test_ood")
    series.rows = rows
    cached = create("presto/frozen@random", cache=tmp_path, **FAST).fit(series).predict(series, "test_ood")
    assert np.array_equal(plain.y, cached.y)


def test_a_result_says_where_the_encoder_is_from(series: Series, tmp_path: Path):
    model = create("presto/frozen@random", init_seed=4, **FAST)
    assert model.training_record == TrainingRecord()
    assert model.fit(series).training_record.encoder == "random:4"
    import hashlib
    import importlib

    torch.save(importlib.import_module("torchgeo.models.presto").Presto().state_dict(), tmp_path / "presto.pt")
    fitted = create("presto/lora", weights=tmp_path / "presto.pt", **FAST).fit(series)
    digest = hashlib.sha256((tmp_path / "presto.pt").read_bytes()).hexdigest()
    assert fitted.training_record.encoder == f"presto.pt:{digest[:16]}"


def test_operations_are_counted_for_one_unit(series: Series):
    series.rows = series.rows | {"test_id": np.array([], dtype=int)}
    counts = {tier: create(f"presto/{tier}@random", **FAST).fit(series).gflops_per_unit(series) for tier in ("frozen", "full")}
    assert counts["frozen"] == counts["full"] > 0
    series.rows = series.rows | {"test_ood": np.array([], dtype=int)}
    assert create("presto/frozen@random", **FAST).fit(series).gflops_per_unit(series) is None


def test_what_is_missing_is_named(series: Series, tmp_path: Path):
    with pytest.raises(DataError, match="no feature set 'spectra'"):
        create("presto/frozen@random", features="spectra", **FAST).fit(series)
    with pytest.raises(DataError, match="no such weights file"):
        presto_encoder(weights=tmp_path / "absent.pt")
    torch.save({"encoder.norm.weight": torch.ones(128)}, tmp_path / "part.pt")
    with pytest.raises(DataError, match="weights are missing"):
        presto_encoder(weights=tmp_path / "part.pt")


@pytest.fixture(scope="session")
def fuel_moisture(real: Callable[[str], Path]) -> tuple[Series, Path]:
    folder = real("lfmc_presto")
    x, y, test = (np.load(folder / f"{name}.npy") for name in ("s1_s2_era5_srtm", "target", "is_test"))
    train = np.flatnonzero(test == 0)
    # Whole sites validate, as the project's splits have it.
    site = np.load(folder / "site.npy")[train]
    held = np.isin(site, np.unique(site)[::6])
    rows = {"train": train[~held], "val": train[held], "test_ood": np.flatnonzero(test == 1)}
    data = Series(x, y, rows, dynamic_world=np.load(folder / "dynamic_world.npy"), month=np.load(folder / "month.npy"))
    data.position = np.load(folder / "latlon.npy")[:, ::-1].copy()
    return data, folder / "default_model.pt"


@pytest.mark.real
def test_the_real_weights_load_completely(fuel_moisture: tuple[Series, Path]):
    encoder = presto_encoder(weights=fuel_moisture[1])
    assert sum(value.numel() for value in encoder.parameters()) == pytest.approx(402_240, rel=0.02)


@pytest.mark.real
@pytest.mark.slow
def test_real_presto_predicts_real_fuel_moisture(fuel_moisture: tuple[Series, Path]):
    data, weights = fuel_moisture
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScaleWarning)
        model = create(
            "presto/full", weights=weights, accelerator="cpu", steps=150, val_every=50, batch_size=64, learning_rates=[1e-3]
        ).fit(data)
    target = data.labels[data.rows["test_ood"]]
    error = model.predict(data, "test_ood").y - target
    assert 1 - (error**2).sum() / ((target - target.mean()) ** 2).sum() > 0.2


@pytest.mark.gpu
@pytest.mark.parametrize("tier", ["frozen", "lora", "full"])
def test_a_tier_trains_on_the_gpu_and_repeats(tier: str, series: Series):
    options = FAST | {"accelerator": "auto"}
    one, again = (create(f"presto/{tier}@random", **options).fit(series).predict(series, "test_ood").y for _ in range(2))
    assert np.isfinite(one).all()
    assert np.array_equal(one, again)


@pytest.mark.parametrize("tier", ["frozen", "lora", "full"])
def test_only_the_declared_parameters_move(tier: str, series: Series):
    model = create(f"presto/{tier}@random", **FAST | {"steps": 3, "val_every": 3})
    start = {name: value.detach().clone() for name, value in model._network(series).named_parameters()}
    model.fit(series)
    moved = {name for name, value in model.network_.named_parameters() if not torch.equal(value, start[name])}
    declared = {name for name, value in model.network_.named_parameters() if value.requires_grad}
    assert moved <= declared
    # What the last token's mean never passes through gets no gradient; all the rest moves.
    assert len(moved) > 0.8 * len(declared)
    encoder = {name for name in moved if name.startswith("backbone.")}
    assert bool(encoder) == (tier != "frozen")
    assert (tier != "lora") or all("lora_" in name for name in encoder)
