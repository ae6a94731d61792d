"""No name from outside leads out of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.errors import DataError
from rs05bench.protocol.safe_paths import checked_digest, checked_name, inside
from rs05bench.protocol.shipped import shipped_manifests


@given(st.lists(st.text(alphabet="./\\ab:\x00~\u2024", min_size=0, max_size=8), min_size=1, max_size=4))
def test_a_path_is_inside_its_folder_or_refused(parts):
    try:
        path = inside("folder", *parts)
    except DataError:
        return
    resolved = path.resolve()
    assert resolved != Path("folder").resolve()
    assert Path("folder").resolve() in resolved.parents


@pytest.mark.parametrize("part", ["..", "a/../../b", "/etc", "C:evil", "a\\b", "", "a\x00b", "."])
def test_parts_that_lead_outside_are_refused(part, tmp_path):
    with pytest.raises(DataError, match="leads outside"):
        inside(tmp_path, part)


def test_a_link_that_leads_outside_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leads outside"):
        inside(tmp_path / "root", "link/file")


def test_names_of_what_is_shipped_have_the_form():
    for name in shipped_manifests():
        assert checked_name("manifest", name) == name


@pytest.mark.parametrize("digest", ["0" * 63, "0" * 65, "A" * 64, "g" * 64, 7, None, "0" * 64 + "\n"])
def test_a_digest_is_64_hexadecimal_digits(digest):
    assert checked_digest("0a" * 32) == "0a" * 32
    with pytest.raises(DataError, match="64 hexadecimal"):
        checked_digest(digest)
