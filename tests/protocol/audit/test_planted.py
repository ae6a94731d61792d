"""Planted leaks of every kind are found, clean lists pass: a few seeds here, 200 in the study."""

import importlib.util
import sys

import pytest

from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("audit_planted_leaks", ROOT / "studies" / "audit_planted_leaks.py")
assert SPEC is not None
study = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = study
SPEC.loader.exec_module(study)


@pytest.mark.parametrize("kind", study.KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
@pytest.mark.parametrize("seed", [1001, 1002])
def test_planted_leak_is_found_and_the_clean_lists_pass(kind, seed):
    assert study.faults(kind, seed) == []
