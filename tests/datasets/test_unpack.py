"""Archives of strangers: nothing lands outside, nothing half stays."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile

import pytest

from rs05bench.datasets.unpack import unpack
from rs05bench.errors import DataError


def tar_of(path, members, mode="w:gz"):
    """Members: (name, content), or (name, TarInfo.type as str) for links and devices."""
    with tarfile.open(path, mode) as packed:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = content.encode(), "/etc/passwd"
                packed.addfile(info)
            else:
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_is_unpacked_with_checksums(tmp_path, mode):
    archive = tar_of(tmp_path / "a.tar", [("training/x.tif", b"pixels"), ("./validation/y.tif", b"more")], mode)
    written = unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {"training/x.tif": b"pixels", "validation/y.tif": b"more"}
    assert written["training/x.tif"]["size"] == 6
    assert written["training/x.tif"]["sha256"] == hashlib.sha256(b"pixels").hexdigest()


def test_zip_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("d/x", b"1")
    assert set(unpack(tmp_path / "a.zip", tmp_path / "out")) == {"d/x"}


def test_what_a_mac_adds_is_left_out(tmp_path):
    archive = tar_of(tmp_path / "a", [("t/x.tif", b"1"), ("t/._x.tif", b"fork"), ("__MACOSX/t/x", b"2"), ("t/.DS_Store", b"3")])
    assert set(unpack(archive, tmp_path / "out")) == {"t/x.tif"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil", "a\\b", "//host/evil"])
def test_path_out_of_the_folder_is_refused_and_leaves_nothing(tmp_path, name):
    archive = tar_of(tmp_path / "a", [("good", b"1"), (name, b"2")])
    with pytest.raises(DataError, match="outside the folder"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_zip_path_out_of_the_folder_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("../evil", b"1")
    with pytest.raises(DataError, match="outside the folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = tar_of(tmp_path / "a", [("good", b"1"), ("odd", kind.decode())])
    with pytest.raises(DataError, match="link or a device"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_zip_symlink_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("members", [[("x", b"1"), ("x", b"2")], [("X", b"1"), ("x", b"2")], [("a", b"1"), ("a/b", b"2")]])
def test_one_name_for_two_files_is_refused(tmp_path, members):
    with pytest.raises(DataError, match=r"twice|one name"):
        unpack(tar_of(tmp_path / "a", members), tmp_path / "out")


def test_bomb_is_refused(tmp_path):
    archive = tar_of(tmp_path / "a", [("zeros", bytes(5_000_000))])
    with pytest.raises(DataError, match="unpacks to more"):
        unpack(archive, tmp_path / "out", max_bytes=1_000_000)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_cut_archive_is_refused(tmp_path, share):
    import numpy as np

    noise = np.random.default_rng(1)
    archive = tar_of(tmp_path / "a", [(f"f{n}", noise.bytes(2_000)) for n in range(8)])
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    with pytest.raises(DataError, match="unpack"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_cut_between_members_is_refused_although_it_looks_like_an_end(tmp_path):
    whole = tar_of(tmp_path / "whole.tar", [("a", b"1" * 512), ("b", b"2" * 512)], "w").read_bytes()
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as packed:
        packed.write(whole[:1024])
    (tmp_path / "a.tgz").write_bytes(stream.getvalue()[:-8])  # without the stream's own checksum and length
    with pytest.raises(DataError, match="unpack"):
        unpack(tmp_path / "a.tgz", tmp_path / "out")


def test_flipped_bit_is_refused(tmp_path):
    archive = tar_of(tmp_path / "a", [("x", b"abc" * 1000)])
    broken = bytearray(archive.read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    archive.write_bytes(bytes(broken))
    with pytest.raises(DataError, match="unpack"):
        unpack(archive, tmp_path / "out")


def test_something_else_is_refused(tmp_path):
    (tmp_path / "a").write_text("<html>not found</html>" * 100)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_what_is_in_the_way_is_kept_unless_asked(tmp_path):
    (tmp_path / "out" / "training").mkdir(parents=True)
    (tmp_path / "out" / "training" / "mine").write_text("mine")
    archive = tar_of(tmp_path / "a", [("training/x", b"1")])
    with pytest.raises(DataError, match="already in"):
        unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {"training/mine": b"mine"}
    unpack(archive, tmp_path / "out", replace=True)
    assert contents(tmp_path / "out") == {"training/x": b"1"}


def test_leftover_of_a_killed_run_is_cleared(tmp_path):
    (tmp_path / "out" / ".rs05bench-unpacking-old").mkdir(parents=True)
    (tmp_path / "out" / ".rs05bench-unpacking-old" / "half").write_text("half")
    unpack(tar_of(tmp_path / "a", [("x", b"1")]), tmp_path / "out")
    assert contents(tmp_path / "out") == {"x": b"1"}
