"""A manifest in scikit-learn's own tools."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import ManifestCV, UnitTable, build_manifest
from tests.protocol.test_splits import SPLITS, card, places

FRAME = places(11, 200, 6, years=2)
UNITS = UnitTable.build(FRAME, groups=["state"])
MANIFEST = build_manifest(card(), UNITS, "leave-state-out")


def table(seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """Features and a target of every unit in shuffled order, indexed by unit id."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(FRAME["unit_id"].to_numpy())
    X = pd.DataFrame(rng.normal(size=(len(ids), 3)), index=ids, columns=["a", "b", "c"])
    return X, X["a"] * 2 + rng.normal(size=len(ids)) * 0.1


@settings(max_examples=10)
@given(split=st.sampled_from([*SPLITS, "next-year"]), seed=st.integers(0, 100))
def test_rows_get_the_roles_of_their_units_in_any_order(split, seed):
    manifest = build_manifest(card(), UNITS, split)
    X, _ = table(seed)
    cv = ManifestCV(manifest)
    assert cv.get_n_splits() == len(manifest.folds)
    for fold, (train, test) in zip(manifest.folds, cv.split(X), strict=True):
        rows = manifest.fold(fold)
        role = rows.set_index("unit_id")["role"].astype(str)
        held = "test_ood" if (role == "test_ood").any() else "test_id"
        assert set(X.index[train]) == set(role.index[role.isin(["train", "val"])])
        assert set(X.index[test]) == set(role.index[role == held])


def test_cross_val_score_scores_the_held_out_groups():
    X, y = table()
    model = make_pipeline(StandardScaler(), Ridge())
    scores = cross_val_score(model, X, y, cv=ManifestCV(MANIFEST), scoring="r2")
    expected = []
    for fold in MANIFEST.folds:
        role = MANIFEST.fold(fold).set_index("unit_id")["role"].astype(str)
        learnt, tested = role.index[role.isin(["train", "val"])], role.index[role == "test_ood"]
        expected.append(r2_score(y[tested], model.fit(X.loc[learnt], y[learnt]).predict(X.loc[tested])))
    assert scores == pytest.approx(expected, abs=1e-9)


def test_a_grid_is_searched_on_the_validation_units():
    X, y = table()
    cv = ManifestCV(MANIFEST, train=["train"], test="val")
    found = GridSearchCV(Ridge(), {"alpha": [0.1, 1e6]}, cv=cv).fit(X, y)
    assert found.best_params_ == {"alpha": 0.1}
    assert found.n_splits_ == len(MANIFEST.folds)


def test_ids_come_from_units_then_groups_then_the_index():
    X, y = table()
    bare = X.to_numpy()
    by_index = [test.tolist() for _, test in ManifestCV(MANIFEST).split(X)]
    assert [test.tolist() for _, test in ManifestCV(MANIFEST).split(bare, groups=X.index)] == by_index
    assert [test.tolist() for _, test in ManifestCV(MANIFEST, units=X.index).split(bare, groups=np.zeros(len(X)))] == by_index
    assert len(cross_val_score(Ridge(), bare, y, cv=ManifestCV(MANIFEST), groups=X.index)) == len(MANIFEST.folds)


def test_pixels_of_a_unit_share_its_role():
    X, _ = table()
    twice = pd.concat([X, X])
    for train, test in ManifestCV(MANIFEST).split(twice):
        assert not set(twice.index[train]) & set(twice.index[test])
        assert twice.index[test].value_counts().eq(2).all()


def test_rows_that_do_not_match_are_named():
    X, _ = table()
    with pytest.raises(DataError, match="nothing names the units"):
        next(ManifestCV(MANIFEST).split(X.to_numpy()))
    with pytest.raises(DataError, match="nothing names the units"):
        next(ManifestCV(MANIFEST).split(X.reset_index(drop=True)))
    with pytest.raises(DataError, match=r"400 of 400 rows are of units that toy/leave-state-out@v1 does not know, e\.g\. '0'"):
        next(ManifestCV(MANIFEST).split(X, groups=range(400)))
    with pytest.raises(DataError, match="399 unit ids were given for 400 rows"):
        next(ManifestCV(MANIFEST, units=X.index[1:]).split(X))
    with pytest.raises(ProtocolError, match="no row has the role train or val"):
        next(ManifestCV(MANIFEST).split(X[X.index.isin(MANIFEST.fold(MANIFEST.folds[0]).query("role == 'test_ood'")["unit_id"])]))
    with pytest.raises(ProtocolError, match="no role 'tests'"):
        ManifestCV(MANIFEST, test="tests")
    with pytest.raises(ProtocolError, match="both trained on and tested"):
        ManifestCV(MANIFEST, test="val")
