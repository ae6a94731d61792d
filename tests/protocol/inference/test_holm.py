"""Holm's correction, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference.hypothesis_tests import holm


def test_holm_by_hand_and_with_missing_comparisons():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, np.nan, 0.9])[[0, 2]] == pytest.approx([0.02, 0.9])
    assert np.isnan(holm([0.01, np.nan])[1])
    assert holm([]).size == 0
    with pytest.raises(ProtocolError, match="between 0 and 1"):
        holm([1.2])
