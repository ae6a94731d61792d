"""Areas on the page of a map: with the error of the sample they are corrected by, or with a word that pixels were counted."""

from __future__ import annotations

import numpy as np

from rs05bench.report.map_page import parts_of

# Olofsson et al. 2014, table 8: rows are the map, columns the reference.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = {"deforestation": 200_000, "gain": 150_000, "forest": 3_200_000, "other": 6_450_000}


def page_of(sample) -> object:
    record = {
        "title": "Forest", "target": "cover", "model": "alphaearth/rf", "tier": "embedding", "trained_on": "all", "labels_train": 1,
        "labels_val": 1, "metres": True, "notes": [], "attribution": [], "applicability": {"threshold": 1.0, "folds": 5, "predictors": 64},
        "expected": {"known": False, "sample": sample},
        "years": {
            "2012": {
                "pixels": sum(PIXELS.values()), "pixel_area": 900.0, "share_inside": 1.0,
                "classes": {name: {"pixels": count, "inside": count} for name, count in PIXELS.items()},
            }
        },
    }  # fmt: skip
    return next(part for part in parts_of(record) if part.title == "Area by class, 2012")


def test_areas_and_their_errors_are_those_of_the_paper():
    part = page_of(COUNTS.T.tolist())
    assert [row[1] for row in part.table.rows][:2] == ["18,000.0", "13,500.0"]
    # Section 5.1 of the paper, hectares.
    assert [row[3] for row in part.table.rows] == ["21,158 ± 6,158", "11,686 ± 3,756", "285,770 ± 15,510", "581,386 ± 16,282"]
    assert "640 in-domain test units" in part.lines[0]


def test_without_a_sample_the_page_states_that_pixels_were_counted():
    part = page_of(None)
    assert "Counting pixels gives the area of a map, not of the ground" in part.lines[0]
    assert {row[3] for row in part.table.rows} == {""}


def test_a_class_that_no_test_unit_was_mapped_as_gives_no_area():
    lost = COUNTS.copy()
    lost[1] = 0
    part = page_of(lost.T.tolist())
    assert "No area with an error can be given" in part.lines[0]
