"""Where embeddings come from: a folder, a public mirror, a bucket, a Zarr store or Earth Engine, behind one call."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rs05bench.embeddings.bytesource import is_remote, store_for
from rs05bench.embeddings.npy_tiles import holds_npy, scan_npy
from rs05bench.embeddings.products import EmbeddingProduct, PixelScale, product
from rs05bench.embeddings.raster_files import open_raster
from rs05bench.embeddings.readers import EmbeddingReader, TileReader
from rs05bench.embeddings.tile_index import INDEX_NAME, TileIndex, as_index
from rs05bench.embeddings.vectors import Named
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.hashing import file_digest, text_digest
from rs05bench.protocol.safe_paths import cache_folder


@dataclass(frozen=True)
class Access:
    """How a published source is reached.

    Attributes:
        url: Another address for an access name.
        project: Cloud project: Earth Engine's, or the one that pays where the bucket asks for it.
        cache_dir: Where the published index is kept; default `$XDG_CACHE_HOME/rs05bench`.
        credentials: Earth Engine credentials.
    """

    url: str | None = None
    project: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    credentials: Any = "persistent"


def open_source(
    name: str | os.PathLike[str],
    *,
    of: Named | None = None,
    area: tuple[float, float, float, float] | None = None,
    years: Iterable[int] | None = None,
    access: Access | None = None,
    unfilled: str = "skip",
) -> EmbeddingReader:
    """Open a source by name.

    Args:
        name: A folder, a file, an index Parquet file, the address of a store, or a name under `access` of the product's record (for the
            default product `mirror`, `gcs`, `zarr`, `earthengine`).
        of: The product, or its record (YAML); None takes the one whose record has `name` as an access, else the default.
        area: Bounds in WGS84 degrees: only tiles that can meet them are listed.
        years: Years wanted; None for all.
        access: Address, project, credentials and cache of a published source.
        unfilled: What to do with zone-years that a store does not list as complete: `skip` or `refuse`.

    Raises:
        DataError: If the source cannot be opened.
    """
    text, how = os.fspath(name), access or Access()
    record = product(of) if of is not None else product()
    if text == "earthengine":
        from rs05bench.embeddings.earthengine import EarthEngine

        return EarthEngine(how.project, credentials=how.credentials, url=how.url, of=record)
    if text in ("mirror", "gcs") and text in record.access:
        base = (how.url or record.access[text]).rstrip("/")
        payer, cache = _payer(text, base, how.project), Path(how.cache_dir) if how.cache_dir else cache_folder()
        return TileReader(_published(base, record, area, years, payer, cache))
    text = (how.url or record.access[text]) if text in record.access else text
    store = is_remote(text) and "geoemb" in record.layouts and not text.lower().endswith((".tif", ".tiff"))
    if store or text.rstrip("/").endswith(".zarr") or name in ("zarr", "geoemb") or (Path(text) / "zarr.json").is_file():
        from rs05bench.embeddings.zarr_store import open_zarr

        index = open_zarr(text, of=record, unfilled=unfilled, area=area)
    elif is_remote(text):
        index = as_index(text, of=record)
    elif not Path(text).exists():
        known = ", ".join(record.access) or "none"
        raise DataError(
            "no such file or folder", source=text, remedy=f"A source of {record.name} is a path, an address or one of: {known}."
        )
    elif record.unit == "patch":
        from rs05bench.embeddings.patch_table import PatchReader

        return PatchReader(text, record)
    elif isinstance(record.scale, PixelScale) and Path(text).is_dir() and holds_npy(Path(text)):
        index = scan_npy(text, record)
    elif text.endswith(".parquet"):
        index = TileIndex.from_parquet(text, root=Path(text).parent, area=area, years=years, of=record)
    else:
        index = as_index(text, of=record)
    return TileReader(index.search(area, years))


def _published(
    base: str,
    record: EmbeddingProduct,
    area: tuple[float, float, float, float] | None,
    years: Iterable[int] | None,
    options: dict[str, Any],
    cache: Path,
) -> TileIndex:
    """The published index of a web server or bucket, fetched once, with tiles opened where the index lies."""
    local = cache / f"aef_index-{text_digest(base)[:12]}.parquet"
    checksum = local.with_suffix(".sha256")
    if not (local.is_file() and checksum.is_file() and checksum.read_text(encoding="utf-8") == file_digest(local)):
        _fetch(base, INDEX_NAME, local, options)
        write_text(checksum, file_digest(local))

    def opener(path: str) -> Any:
        return open_raster(path, record, **options)

    try:
        return TileIndex.from_parquet(local, root=base, area=area, years=years, of=record, opener=opener)
    except DataError:
        local.unlink(missing_ok=True)  # a damaged copy must not be found again
        raise


def _fetch(base: str, key: str, target: Path, options: dict[str, Any]) -> None:
    try:
        response = store_for(base, **options).get(key)
        with writing(target) as part, part.open("wb") as stream:
            for piece in response.stream(min_chunk_size=1 << 22):
                stream.write(piece)
    except Exception as error:  # the store raises exceptions of its own
        raise DataError(f"the tile index cannot be fetched: {str(error).strip().splitlines()[0][:300]}", source=f"{base}/{key}") from error


def _payer(name: str, base: str, project: str | None) -> dict[str, Any]:
    """Anonymous where the bucket allows it, else in the name of the user's project."""
    if name != "gcs":
        return {}
    try:
        store_for(base).head(INDEX_NAME)
        return {}
    except Exception as error:
        anonymous = str(error)
    project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise DataError(
            f"the bucket refused an anonymous request: {anonymous.strip().splitlines()[0][:200]}",
            source=base,
            remedy="Name a project that may be billed with --project, or use --from mirror.",
        )
    headers = {"x-goog-user-project": project}
    token = _google_token()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return {"client_options": {"default_headers": headers} | ({"allow_http": True} if base.startswith("http://") else {})}


def _google_token() -> str | None:
    """A token of the user's application default credentials, None where there are none."""
    try:
        import google.auth
        from google.auth.transport.requests import Request

        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_only"])
        credentials.refresh(Request())
        return str(credentials.token)
    except Exception:  # no library, no credentials, no metadata server: the bucket will say that it refuses
        return None
