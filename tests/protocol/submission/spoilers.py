"""Ways to spoil a bundle, each with the words its refusal must hold. Shared by the tests and the fuzzing study."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.protocol.submission.world import CLASSES, write_sums, write_tif

Spoiler = Callable[[Path], Path]
KINDS: dict[str, tuple[Spoiler, str]] = {}
CHIP_KINDS: dict[str, tuple[Spoiler, str]] = {}
MARK = "/tmp/rs05bench-was-here"
"""A file that only run code could make."""


def kind(words: str, *, chips: bool = False) -> Callable[[Spoiler], Spoiler]:
    """Registers a way to spoil a bundle; `words` must stand in the refusal."""

    def keep(spoiler: Spoiler) -> Spoiler:
        (CHIP_KINDS if chips else KINDS)[spoiler.__name__] = (spoiler, words)
        return spoiler

    return keep


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARK}",)


# Archives ------------------------------------------------------------------------------------------------------------------------


def zipped(bundle: Path, *more: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The bundle as a zip with entries of one's own."""
    target = bundle.parent / "bundle.zip"
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(bundle.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(bundle).as_posix())
        for name, data in more:
            archive.writestr(name, data)
    return target


def tarred(bundle: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    """The bundle as a .tar.gz with members of one's own."""
    target = bundle.parent / "bundle.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        archive.add(bundle, ".")
        for member, data in more:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data))
    return target


def member(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A tar member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, link
    return info


def zip_link(name: str) -> zipfile.ZipInfo:
    """A zip entry that says it is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@kind("leads outside")
def zip_slip(b: Path) -> Path:
    return zipped(b, ("../../evil.txt", b"x"))


@kind("leads outside")
def zip_slip_backslash(b: Path) -> Path:
    return zipped(b, ("cells\\..\\..\\evil.txt", b"x"))


@kind("absolute path")
def zip_absolute(b: Path) -> Path:
    return zipped(b, ("/tmp/evil-absolute.txt", b"x"))


@kind("absolute path")
def zip_drive(b: Path) -> Path:
    return zipped(b, ("C:/evil.txt", b"x"))


@kind("holds a NUL")
def zip_nul(b: Path) -> Path:
    target = zipped(b, ("cells/1/unitsXparquet", b"x"))
    target.write_bytes(target.read_bytes().replace(b"cells/1/unitsXparquet", b"cells/1/units\0parquet"))
    return target


@kind("symbolic link")
def zip_symlink(b: Path) -> Path:
    return zipped(b, (zip_link("cells/1/chips/a.tif"), b"/etc/passwd"))


@kind("RIGHT-TO-LEFT OVERRIDE")
def zip_bidi(b: Path) -> Path:
    return zipped(b, ("cells/1/\u202efit.snoitciderp", b"x"))


@kind("CYRILLIC SMALL LETTER ES")
def zip_confusable(b: Path) -> Path:
    return zipped(b, ("\u0441ells/1/predictions.json", b"{}"))


@kind("FULLWIDTH")
def zip_fullwidth_dots(b: Path) -> Path:
    return zipped(b, ("\uff0e\uff0e/evil.txt", b"x"))


@kind("reserved on Windows")
def zip_reserved(b: Path) -> Path:
    return zipped(b, ("cells/1/NUL", b"x"))


@kind("nested")
def zip_deep(b: Path) -> Path:
    return zipped(b, ("cells/" + "1/" * 400 + "a.tif", b"x"))


@kind("longer than 104")
def zip_long_name(b: Path) -> Path:
    return zipped(b, ("cells/1/chips/" + "a" * 5000 + ".tif", b"x"))


@kind("occurs twice")
def zip_twice(b: Path) -> Path:
    return zipped(b, ("submission.json", b"{}"))


@kind("occurs twice")
def zip_twice_by_case(b: Path) -> Path:
    return zipped(b, ("cells/1/chips/A.tif", b"x"), ("cells/1/chips/a.tif", b"x"))


@kind("decompression bomb")
def zip_bomb(b: Path) -> Path:
    return zipped(b, *((f"cells/1/chips/{i}.tif", bytes(8 << 20)) for i in range(16)))


@kind("CRC")
def zip_lying_size(b: Path) -> Path:
    """The entry says 10 bytes, and a megabyte lies behind it: no more than the ten are ever unpacked."""
    name = "cells/1/chips/lie.tif"
    target = zipped(b, (name, bytes(1 << 20)))
    data = bytearray(target.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(signature)
        while at >= 0:
            start = at + (30 if signature == b"PK\x03\x04" else 46)
            if data[start : start + len(name)] == name.encode():
                data[at + offset : at + offset + 4] = struct.pack("<L", 10)
            at = data.find(signature, at + 4)
    target.write_bytes(data)
    return target


@kind("")
def zip_overlapping(b: Path) -> Path:
    """Many directory entries point to one compressed body."""
    target = zipped(b, ("cells/1/chips/0.tif", bytes(1 << 20)))
    data = target.read_bytes()
    end = data.rfind(b"PK\x05\x06")
    start = struct.unpack("<L", data[end + 16 : end + 20])[0]
    at = data.rfind(b"PK\x01\x02", start, end)
    entry = data[at:end]
    copies = b"".join(entry.replace(b"chips/0.tif", f"chips/{i}.tif".encode()) for i in range(10))
    count = struct.unpack("<H", data[end + 10 : end + 12])[0] + 10
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", count, count)
    tail[12:16] = struct.pack("<L", end - start + len(copies))
    target.write_bytes(data[:end] + copies + bytes(tail))
    return target


@kind("1,000,000 entries")
def zip_million_files(b: Path) -> Path:
    """What the end record says is looked at before the directory is read."""
    target = zipped(b)
    data = bytearray(target.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    record = b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 10**6, 10**6, 46 * 10**6, 0)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, end, 1)
    data[end + 8 : end + 12] = b"\xff\xff\xff\xff"
    target.write_bytes(bytes(data[:end]) + record + locator + bytes(data[end:]))
    return target


@kind("encrypted")
def zip_encrypted(b: Path) -> Path:
    target = zipped(b)
    data = bytearray(target.read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    target.write_bytes(data)
    return target


@kind("only stored and deflated")
def zip_lzma(b: Path) -> Path:
    return zipped(b, method=zipfile.ZIP_LZMA)


@kind("damaged")
def zip_truncated(b: Path) -> Path:
    target = zipped(b)
    target.write_bytes(target.read_bytes()[:-3000])
    return target


@kind("leads outside")
def tar_slip(b: Path) -> Path:
    return tarred(b, (member("../../evil.txt"), b"x"))


@kind("absolute path")
def tar_absolute(b: Path) -> Path:
    return tarred(b, (member("/tmp/evil-absolute.txt"), b"x"))


@kind("symbolic link")
def tar_symlink_then_file(b: Path) -> Path:
    return tarred(b, (member("cells/9", tarfile.SYMTYPE, "/tmp"), b""), (member("cells/9/chips/evil.tif"), b"x"))


@kind("hard link")
def tar_hardlink(b: Path) -> Path:
    return tarred(b, (member("cells/1/chips/a.tif", tarfile.LNKTYPE, "/etc/passwd"), b""))


@kind("a device")
def tar_device(b: Path) -> Path:
    return tarred(b, (member("cells/1/chips/a.tif", tarfile.CHRTYPE), b""))


@kind("a pipe")
def tar_pipe(b: Path) -> Path:
    return tarred(b, (member("cells/1/chips/a.tif", tarfile.FIFOTYPE), b""))


@kind("a header of the archive")
def tar_huge_pax_header(b: Path) -> Path:
    info = member("cells/1/chips/a.tif")
    info.pax_headers = {"comment": "x" * 200_000}
    return tarred(b, (info, b"x"))


@kind("decompression bomb")
def gzip_bomb(b: Path) -> Path:
    target = b.parent / "bomb.tar.gz"
    with gzip.open(target, "wb", compresslevel=9) as out:
        info = member("cells/1/chips/a.tif")
        info.size = 100 << 20
        out.write(info.tobuf())
        for _ in range(100):
            out.write(bytes(1 << 20))
    return target


@kind("damaged")
def gzip_truncated(b: Path) -> Path:
    target = tarred(b)
    target.write_bytes(target.read_bytes()[:2000])
    return target


@kind("neither a folder nor")
def pickle_as_bundle(b: Path) -> Path:
    target = b.parent / "bundle.zip"
    target.write_bytes(pickle.dumps(Bomb()))
    return target


@kind("no such file belongs")
def pickle_inside_npz(b: Path) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Bomb()], dtype=object))
    return zipped(b, ("cells/1/units.npz", buffer.getvalue()))


# Folders -------------------------------------------------------------------------------------------------------------------------


@kind("symbolic link")
def folder_symlink(b: Path) -> Path:
    path = b / "cells/1/units.parquet"
    path.unlink()
    path.symlink_to("/etc/passwd")
    return b


@kind("symbolic link")
def folder_symlinked_directory(b: Path) -> Path:
    (b / "cells/99").symlink_to("/etc")
    return b


@kind("hard link")
def folder_hardlink(b: Path) -> Path:
    (b.parent / "secret").write_text("secret")
    os.link(b.parent / "secret", b / "cells/1/samples.parquet")
    return b


@kind("no plain file")
def folder_pipe(b: Path) -> Path:
    os.mkfifo(b / "cells/1/samples.parquet")
    return b


@kind("no such file belongs")
def folder_python(b: Path) -> Path:
    (b / "cells/1/conftest.py").write_text(f"open({MARK!r}, 'w')")
    return b


@kind("no such folder belongs")
def folder_hidden(b: Path) -> Path:
    (b / ".git/hooks").mkdir(parents=True)
    return b


@kind("symbolic link")
def bundle_is_a_link(b: Path) -> Path:
    (b.parent / "link").symlink_to(b)
    return b.parent / "link"


@kind("empty")
def empty_folder(b: Path) -> Path:
    (b.parent / "empty").mkdir()
    return b.parent / "empty"


# Records -------------------------------------------------------------------------------------------------------------------------


def text(b: Path, name: str, content: str | bytes) -> Path:
    """Replaces a file and its digest."""
    (b / name).write_bytes(content.encode() if isinstance(content, str) else content)
    write_sums(b)
    return b


def edited(b: Path, name: str, **changes: Any) -> Path:
    """Changes fields of a JSON file; a dotted key goes down."""
    record = json.loads((b / name).read_text())
    for key, value in changes.items():
        *down, last = key.split("__")
        place = record
        for part in down:
            place = place[part]
        place[last] = value
    return text(b, name, json.dumps(record))


@kind("nested")
def json_nested(b: Path) -> Path:
    return text(b, "cells/1/predictions.json", "[" * 100_000 + "]" * 100_000)


@kind("at most 1,048,576 are allowed")
def json_huge(b: Path) -> Path:
    return text(b, "submission.json", '{"a": "' + "x" * (2 << 20) + '"}')


@kind("occurs twice")
def json_twin_fields(b: Path) -> Path:
    path = b / "submission.json"
    return text(b, "submission.json", path.read_text()[:-1] + ', "slug": "other"}')


@kind("NaN is no number")
def json_nan(b: Path) -> Path:
    return text(b, "costs.json", (b / "costs.json").read_text().replace("0.2", "NaN"))


@kind("fit_s")
def json_infinity_by_exponent(b: Path) -> Path:
    return text(b, "costs.json", (b / "costs.json").read_text().replace("0.2", "1e999"))


@kind("no readable JSON")
def json_not_utf8(b: Path) -> Path:
    return text(b, "submission.json", b"\xff\xfe{}")


@kind("no readable JSON")
def json_huge_number(b: Path) -> Path:
    return text(b, "cells/1/predictions.json", (b / "cells/1/predictions.json").read_text().replace('"seed": 0', '"seed": ' + "9" * 5000))


@kind("Extra inputs")
def unknown_field(b: Path) -> Path:
    return edited(b, "submission.json", score=1.0)


@kind("valid boolean")
def number_for_a_flag(b: Path) -> Path:
    return edited(b, "submission.json", model__open_weights=1)


@kind("plain https")
def javascript_link(b: Path) -> Path:
    return edited(b, "submission.json", code="javascript:alert(1)")


@kind("plain https")
def link_with_a_password(b: Path) -> Path:
    return edited(b, "submission.json", code="https://github.com@evil.example/x")


@kind("cannot be seen")
def invisible_letters(b: Path) -> Path:
    return edited(b, "submission.json", title="A\u200bforest \u202egnp.exe")


@kind("normal form C")
def decomposed_letters(b: Path) -> Path:
    return edited(b, "submission.json", title="Zoe\u0308")


@kind("slug")
def slug_that_climbs(b: Path) -> Path:
    return edited(b, "submission.json", slug="../../evil")


@kind("may hold only ASCII")
def model_name_in_cyrillic(b: Path) -> Path:
    return edited(b, "submission.json", model__name="r\u0430w/rf")


@kind("statement")
def statement_not_made(b: Path) -> Path:
    return edited(b, "submission.json", statement__test_labels_unused=False)


@kind("format_version")
def another_version(b: Path) -> Path:
    return edited(b, "submission.json", format_version=2)


@kind("digest of manifest")
def another_manifest(b: Path) -> Path:
    return edited(b, "submission.json", manifests={"tiny/leave-region-out@v1": "0" * 64})


@kind("another preprocessing")
def another_preprocessing(b: Path) -> Path:
    return edited(b, "cells/1/predictions.json", preprocessing="0" * 64)


@kind("not on the board")
def unknown_task(b: Path) -> Path:
    return edited(b, "cells/1/predictions.json", cell__task="other")


@kind("fold")
def unknown_fold(b: Path) -> Path:
    return edited(b, "cells/1/predictions.json", cell__fold="atlantis")


@kind("is the same cell as")
def same_cell_twice(b: Path) -> Path:
    return edited(b, "cells/2/predictions.json", cell__seed=0)


@kind("labels used, the budget allows|used 500 labels")
def too_many_labels(b: Path) -> Path:
    return edited(b, "cells/1/predictions.json", budget__labels_used=500)


@kind("other labels than budget")
def other_labels(b: Path) -> Path:
    return edited(b, "cells/1/predictions.json", budget__digest="0" * 64)


@kind("early_stopping_role")
def stopped_on_the_test_region(b: Path) -> Path:
    return edited(b, "cells/1/predictions.json", training={"early_stopping_role": "test_ood"})


@kind("its classes must be those")
def classes_in_another_order(b: Path) -> Path:
    return edited(b, "cells/1/predictions.json", classes=CLASSES[::-1])


@kind("its digest is")
def wrong_digest(b: Path) -> Path:
    path = b / "cells/1/predictions.json"
    path.write_text(path.read_text() + " ")
    return b


@kind("SHA256SUMS: line 1")
def sums_of_nonsense(b: Path) -> Path:
    (b / "SHA256SUMS").write_text("../../etc/passwd\n")
    return b


@kind("no cost of")
def missing_cost(b: Path) -> Path:
    record = json.loads((b / "costs.json").read_text())
    record["costs"].pop()
    return text(b, "costs.json", json.dumps(record))


@kind("lacks fold")
def missing_fold(b: Path) -> Path:
    return without(b, lambda cell: cell["fold"] == "east" and cell["budget"] == "2-per-class")


@kind("budget 4-per-class is missing")
def missing_budget(b: Path) -> Path:
    return without(b, lambda cell: cell["budget"] == "4-per-class")


@kind("at least 5 are needed")
def missing_seed(b: Path) -> Path:
    return without(b, lambda cell: cell["seed"] == 4)


def without(b: Path, gone: Callable[[dict[str, Any]], bool]) -> Path:
    """Removes cells."""
    import shutil

    for path in list((b / "cells").iterdir()):
        if gone(json.loads((path / "predictions.json").read_text())["cell"]):
            shutil.rmtree(path)
    write_sums(b)
    return b


# Parquet -------------------------------------------------------------------------------------------------------------------------


def table(b: Path, change: Callable[[pa.Table], pa.Table], **options: Any) -> Path:
    """Rewrites the table of the first cell."""
    path = b / "cells/1/units.parquet"
    pq.write_table(change(pq.read_table(path)), path, **options)
    write_sums(b)
    return b


def values(b: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Rewrites the probabilities of the first cell."""

    def apply(found: pa.Table) -> pa.Table:
        p = change(np.stack([found[f"p_{name}"].to_numpy() for name in CLASSES], axis=1).copy())
        for i, name in enumerate(CLASSES):
            found = found.set_column(found.column_names.index(f"p_{name}"), f"p_{name}", pa.array(p[:, i]))
        return found

    return table(b, apply)


def _first(p: np.ndarray, value: float) -> np.ndarray:
    p[0, 0] = value
    return p


@kind("not finite")
def nan_probability(b: Path) -> Path:
    return values(b, lambda p: _first(p, np.nan))


@kind("not finite")
def infinite_probability(b: Path) -> Path:
    return values(b, lambda p: _first(p, np.inf))


@kind("divide by 255")
def probabilities_as_bytes(b: Path) -> Path:
    return values(b, lambda p: p * 255)


@kind("probabilities from 0 to 1")
def negative_probability(b: Path) -> Path:
    return values(b, lambda p: p - 0.2)


@kind("expected floating-point")
def probabilities_as_text(b: Path) -> Path:
    return table(b, lambda t: t.set_column(2, "p_crop", pa.array(["0.5"] * len(t))))


@kind("missing values")
def null_probability(b: Path) -> Path:
    return table(b, lambda t: t.set_column(2, "p_crop", pa.array([None, *[0.3] * (len(t) - 1)], pa.float32())))


@kind("occurs twice in one role")
def duplicate_unit(b: Path) -> Path:
    return table(b, lambda t: pa.concat_tables([t, t.slice(0, 1)]))


@kind("test units")
def missing_unit(b: Path) -> Path:
    return table(b, lambda t: t.slice(1))


@kind("not the same ones")
def renamed_unit(b: Path) -> Path:
    return table(b, lambda t: t.set_column(0, "unit_id", pa.array(["nowhere", *t["unit_id"].to_pylist()[1:]])))


@kind("role 'train' is not asked for")
def training_role(b: Path) -> Path:
    return table(b, lambda t: t.set_column(1, "role", pa.array(["train"] * len(t))))


@kind("should not be there")
def extra_column(b: Path) -> Path:
    return table(b, lambda t: t.append_column("label", t["role"]))


@kind("are missing")
def missing_column(b: Path) -> Path:
    return table(b, lambda t: t.drop_columns(["p_crop"]))


@kind("should not be there")
def ten_thousand_columns(b: Path) -> Path:
    return table(b, lambda t: pa.table({f"c{i}": [1.0] for i in range(5000)}))


@kind("longer than 200")
def very_long_ids(b: Path) -> Path:
    return table(b, lambda t: t.set_column(0, "unit_id", pa.array(["x" * 10_000 + str(i) for i in range(len(t))])))


@kind("Invalid UTF8")
def ids_that_are_no_text(b: Path) -> Path:
    path = b / "cells/1/units.parquet"
    pq.write_table(pq.read_table(path), path, compression="none")
    return text(b, "cells/1/units.parquet", path.read_bytes().replace(b"east-0", b"\xff\xfest-0"))


@kind("at most 2,000,000 are allowed")
def parquet_rows_bomb(b: Path) -> Path:
    rows = 3_000_000
    same = pa.array(np.zeros(rows, dtype=np.float32))
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array(["a"]))
    return table(b, lambda t: pa.table({"unit_id": names, "role": names} | {f"p_{n}": same for n in CLASSES}), compression="zstd")


@kind("its metadata have")
def parquet_huge_metadata(b: Path) -> Path:
    return table(b, lambda t: t.replace_schema_metadata({"x": "y" * (3 << 20)}))


@kind("its metadata have")
def parquet_lying_footer(b: Path) -> Path:
    path = b / "cells/1/units.parquet"
    data = path.read_bytes()
    return text(b, "cells/1/units.parquet", data[:-8] + struct.pack("<L", 0x7FFFFFFF) + b"PAR1")


@kind("no Parquet file")
def pickle_as_parquet(b: Path) -> Path:
    return text(b, "cells/1/units.parquet", pickle.dumps(Bomb()))


@kind("cannot be read as Parquet")
def parquet_of_noise(b: Path) -> Path:
    noise = np.random.default_rng(0).bytes(500)
    return text(b, "cells/1/units.parquet", b"PAR1" + noise + struct.pack("<L", 400) + b"PAR1")


# Chips ---------------------------------------------------------------------------------------------------------------------------


def chip(b: Path, band: np.ndarray, **profile: Any) -> Path:
    """Rewrites the first chip."""
    write_tif(b / "cells/1/chips/000.tif", band, **profile)
    write_sums(b)
    return b


GOOD = np.full((16, 16), 0.5, dtype=np.float32)


@kind("has no CRS", chips=True)
def chip_without_crs(b: Path) -> Path:
    return chip(b, GOOD, crs=None)


@kind("expected float", chips=True)
def chip_of_bytes(b: Path) -> Path:
    return chip(b, np.full((16, 16), 128, dtype=np.uint8))


@kind("has 3 bands", chips=True)
def chip_of_three_bands(b: Path) -> Path:
    chip(b, GOOD, count=3)
    return b


@kind("at most 4096 a side", chips=True)
def chip_of_giant_dimensions(b: Path) -> Path:
    """A header of a few hundred bytes that promises 90 gigapixels; nothing is behind it."""
    path = b / "cells/1/chips/000.tif"
    chip(b, GOOD)
    data = bytearray(path.read_bytes())
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack(f"{order}L", data[4:8])[0]
    for i in range(struct.unpack(f"{order}H", data[start : start + 2])[0]):
        at = start + 2 + 12 * i
        tag = struct.unpack(f"{order}H", data[at : at + 2])[0]
        if tag in (256, 257):  # ImageWidth, ImageLength
            data[at + 2 : at + 12] = struct.pack(f"{order}HLL", 4, 1, 300_000)
    return text(b, "cells/1/chips/000.tif", bytes(data))


@kind("is compressed as", chips=True)
def chip_in_jpeg(b: Path) -> Path:
    return chip(b, np.full((16, 16), 128, dtype=np.uint8), compress="jpeg")


@kind("is no TIFF", chips=True)
def chip_that_is_a_vrt(b: Path) -> Path:
    vrt = '<VRTDataset rasterXSize="16" rasterYSize="16"><VRTRasterBand dataType="Float32" band="1"><SimpleSource>'
    vrt += "<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    return text(b, "cells/1/chips/000.tif", vrt)


@kind("cannot be read as GeoTIFF", chips=True)
def chip_of_noise(b: Path) -> Path:
    return text(b, "cells/1/chips/000.tif", b"II*\0" + np.random.default_rng(0).bytes(300))


@kind("is not in the bundle", chips=True)
def chip_listed_outside(b: Path) -> Path:
    path = b / "cells/1/units.parquet"
    found = pq.read_table(path)
    files = ["../../../../etc/passwd", *found["file"].to_pylist()[1:]]
    pq.write_table(found.set_column(2, "file", pa.array(files)), path)
    write_sums(b)
    return b


@kind("is listed nowhere", chips=True)
def chip_not_listed(b: Path) -> Path:
    write_tif(b / "cells/1/chips/extra.tif", GOOD)
    write_sums(b)
    return b


@kind("no such file belongs", chips=True)
def chip_with_a_sidecar(b: Path) -> Path:
    return text(b, "cells/1/chips/000.tif.aux.xml", "<PAMDataset/>")
