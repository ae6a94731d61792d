"""What notebooks show of records: a table and a picture, nothing cut."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest

from rs05bench.protocol import compare
from tests.protocol.toy import World


@pytest.fixture(scope="module")
def world() -> World:
    return World(n=160)


@pytest.fixture(scope="module")
def results(world: World) -> list:
    return [result for model in ("raw/rf", "alphaearth/rf") for result in world.results(model=model)[0]]


def picture(html: str) -> np.ndarray:
    from PIL import Image

    (uri,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("L"))


def test_a_result_shows_its_scores_and_a_picture_whose_title_is_whole(results: list) -> None:
    result = results[0].model_copy(deep=True)
    result.cell = result.cell.model_copy(update={"model": "a-very-long-backbone-name-of-a-foundation-model/lora-with-many-words@random"})
    html = result._repr_html_()
    assert f"{result.scores['test_ood'][result.main_metric]:.3g}" in html
    figure = result.plot()
    figure.canvas.draw()
    title, whole = figure._suptitle.get_window_extent(), figure.bbox
    assert title.x0 >= whole.x0
    assert title.x1 <= whole.x1


def test_a_comparison_shows_every_score_and_a_forest(results: list) -> None:
    found = compare(results)
    html = found._repr_html_()
    assert html.count("<tr") == 1 + len(found.scores)
    assert (picture(html) < 250).any()


def test_a_manifest_shows_units_per_fold_and_a_map(world: World) -> None:
    manifest = world.manifest("leave-state-out")
    html = manifest._repr_html_()
    for fold in manifest.folds:
        assert fold in html
    assert (picture(html) < 250).any()


def test_a_card_shows_its_splits(world: World) -> None:
    assert "leave-state-out" in world.card._repr_html_()
