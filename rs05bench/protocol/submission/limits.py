"""How large a bundle may be, and how much work it may cause."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a bundle; the defaults hold for a segmentation submission of some ten thousand chips.

    Attributes:
        archive_bytes: Size of the .zip or .tar.gz.
        unpacked_bytes: All files together.
        file_bytes: One file.
        json_bytes: One JSON file.
        sums_bytes: The file of digests.
        files: Number of files.
        ratio: Unpacked bytes a packed byte; small archives may exceed it up to `ratio_free_bytes`.
        ratio_free_bytes: Below this many unpacked bytes the ratio is not looked at.
        json_depth: Nesting of a JSON file.
        rows: Rows of one Parquet file.
        parquet_footer_bytes: Metadata of one Parquet file.
        parquet_bytes: Uncompressed pages of one Parquet file, as its metadata say.
        chip_side: Rows or columns of a chip.
        seconds: Processor time of the whole verification.
        memory_bytes: Memory of the verification, beyond what the libraries hold.
    """

    archive_bytes: int = 2048 * MIB
    unpacked_bytes: int = 8192 * MIB
    file_bytes: int = 256 * MIB
    json_bytes: int = MIB
    sums_bytes: int = 32 * MIB
    files: int = 200_000
    ratio: int = 200
    ratio_free_bytes: int = 16 * MIB
    json_depth: int = 20
    rows: int = 2_000_000
    parquet_footer_bytes: int = MIB
    parquet_bytes: int = 512 * MIB
    chip_side: int = 4096
    seconds: int = 1800
    memory_bytes: int = 4096 * MIB


LIMITS = Limits()
MOST_FAULTS = 200
"""More faults than this are counted, not told."""
