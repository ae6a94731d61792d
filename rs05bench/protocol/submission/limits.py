"""How large a submission may be."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a submission; the defaults hold for a segmentation submission of some ten thousand chips.

    Attributes:
        yaml_bytes: `submission.yaml`.
        table_bytes: One Parquet file.
        map_bytes: One map.
        bytes: All files together.
        files: Number of files.
        rows: Rows of one Parquet file.
        parquet_footer_bytes: Metadata of one Parquet file.
        parquet_bytes: Uncompressed pages of one Parquet file, as its metadata state.
        chip_side: Rows or columns of a map.
    """

    yaml_bytes: int = MIB
    table_bytes: int = 2048 * MIB
    map_bytes: int = 256 * MIB
    bytes: int = 8192 * MIB
    files: int = 200_000
    rows: int = 20_000_000
    parquet_footer_bytes: int = 4 * MIB
    parquet_bytes: int = 4096 * MIB
    chip_side: int = 4096


LIMITS = Limits()
MOST_FAULTS = 200
"""More faults than this are counted and not listed."""
