"""No name from outside leads out of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.errors import DataError
from rs05bench.protocol.safe_paths import checked_digest, checked_name, child, inside
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


@pytest.mark.parametrize(
    "name", ["nul", "CON", "com1.parquet", "aux.tif", "lpt9.tar.gz", "a" * 256, "é" * 128, "a\nb", "a\x1b[31mb", "\ud800"]
)
def test_devices_long_names_and_control_characters_are_no_names_of_files(name, tmp_path):
    for make in (inside, child):
        with pytest.raises(DataError, match="255 bytes"):
            make(tmp_path, name)
    with pytest.raises(DataError, match="not a name of a labels"):
        checked_name("labels", name)


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "console", "auxiliary.tif", "nullable", "München", "..a", "a..b"])
def test_names_that_only_look_like_those_are_kept(name, tmp_path):
    assert inside(tmp_path, name).parent == child(tmp_path, name).parent == tmp_path


@pytest.mark.parametrize("name", ["\u2024\u2024", "\uff0e\uff0e", "a\u2215b", "a\uff0fb", "a\u29f5b", "\u2025"])
def test_look_alikes_of_dots_and_slashes_stay_one_name_in_the_folder_and_name_nothing_of_ours(name, tmp_path):
    assert inside(tmp_path, name).resolve().parent == tmp_path.resolve()
    for kind in ("task", "labels", "manifest", "result"):
        with pytest.raises(DataError, match="is not a name of a"):
            checked_name(kind, name)


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
