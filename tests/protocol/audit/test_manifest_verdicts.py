"""What the audit says of manifests drawn here."""

from __future__ import annotations

from rs05bench.protocol import UnitTable, build_manifest
from rs05bench.protocol.audit import audit_manifest, with_published_verdict, with_verdict
from tests.protocol.test_splits import card, places


def test_known_places_in_a_later_year_are_not_a_leak():
    manifest = build_manifest(card(), UnitTable.build(places(3, 120, 5), groups=["state"]), "next-year")
    assert audit_manifest(manifest).verdict == "clean"


def test_a_published_split_is_a_main_result_only_once_the_audit_finds_it_clean():
    frame = places(3, 120, 5, years=1)
    official = {"official": {"column": "official", "train": "train", "test": "test", "shift": "region"}}
    for east, clean in (("s0", True), ("", False)):
        # By state, or by every other unit.
        tested = frame["state"] == "s4" if east else frame.index % 2 == 0
        keep = frame["state"].isin(["s0", "s4"]) if east else frame["state"] != ""
        part = frame.assign(official=["test" if value else "train" for value in tested])[keep]
        manifest = build_manifest(card(**official), UnitTable.build(part, groups=["state"]), "official")
        assert manifest.card["can_be_main"] is False
        assert "audit" not in manifest.card
        assert with_published_verdict(manifest).card["can_be_main"] is clean


def test_a_verdict_moves_no_unit():
    manifest = build_manifest(card(), UnitTable.build(places(3, 120, 5), groups=["state"]), "leave-state-out")
    audited = with_verdict(manifest)
    assert audited.card["audit"]["verdict"] == "clean"
    assert audited.digest == manifest.digest
    assert with_published_verdict(manifest) is manifest
