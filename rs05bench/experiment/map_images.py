"""Maps by deep tiers: a trained network slides over images of any size.

The area of applicability is that of pixels: whether the network has seen such spectra, not whether it has seen such shapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.map_files import CogWriter, class_colours, gdal_limits, write_preview
from rs05bench.experiment.map_grid import EmbeddingBlocks, part_of
from rs05bench.experiment.mapping import NO_CLASS, MapResult, Progress, names_of
from rs05bench.models.applicability import Applicability

if TYPE_CHECKING:
    from rs05bench.datasets.alphaearth import TileIndex
    from rs05bench.models.inference import Window

TRAINED_ON = "trained_on.json"
TRAINING_PIXELS = 2_000
"""Labelled training pixels the area of applicability is drawn from."""
_HLS_DATE = re.compile(r"\.(20\d\d)(\d{3})\.")


def fit_or_load(model: Any, data: Any, folder: str | Path | None) -> Any:
    """Trains a deep model, or takes it from a folder it was saved to before.

    Args:
        model: From `rs05bench.models.create`.
        data: The data module.
        folder: Where it is, or will be, saved; None keeps it in memory only.

    Raises:
        DataError: The folder holds another model, or one that was trained on other labels.
    """
    if not hasattr(model, "predict_scene"):
        raise ProtocolError(f"{model.card.name} predicts no images", remedy="Use a model for chips, e.g. raw/unet or prithvi-tiny/lora.")
    place = None if folder is None else Path(folder)
    if place is not None and (place / "model.json").is_file():
        name = json.loads((place / "model.json").read_text(encoding="utf-8")).get("name")
        if name != model.card.name:
            raise DataError(f"holds the model {name!r}, not {model.card.name!r}", source=place, remedy="Name another folder.")
        _refuse_others_labels(place, _trained_on(model, data))
        return type(model).load(place, **{key: value for key, value in model.options.items() if key in ("weights", "accelerator")})
    model.fit(data)
    if place is not None:
        model.save(place)
        (place / TRAINED_ON).write_text(json.dumps(_trained_on(model, data), indent=1), encoding="utf-8")
    return model


def _trained_on(model: Any, data: Any) -> dict[str, Any]:
    """What the weights depend on beside the model's name."""
    said = {key: value for key, value in model.options.items() if key not in ("accelerator", "cache", "checkpoints", "window", "batch")}
    labels = {"task": data.card.name, "card": data.card.digest, "split": data.split, "fold": data.fold, "budget": data.budget.name}
    return {**labels, "seed": model.seed, "options": json.loads(json.dumps(said, default=str))}


def _refuse_others_labels(place: Path, wanted: dict[str, Any]) -> None:
    try:
        found = json.loads((place / TRAINED_ON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    other = [f"{name} {found.get(name)!r} instead of {value!r}" for name, value in wanted.items() if found.get(name) != value]
    if other:
        raise DataError(
            f"holds a model that was trained otherwise: {', '.join(other)}", source=place, remedy="Name another folder, or remove this one."
        )


def pixel_area(data: Any, inputs: str, *, seed: int = 0) -> Applicability:
    """The area of applicability of the budget's labelled training pixels; chips are the folds, all bands weigh the same.

    Args:
        data: The data module.
        inputs: `alphaearth` takes the embedding, anything else the bands of all dates.
        seed: Of the pixels drawn.
    """
    generator = np.random.default_rng(seed)
    picked: list[NDArray[np.float32]] = []
    folds: list[str] = []
    patches = max(len(data.train_dataloader().dataset), 1)
    share = max(20, -(-TRAINING_PIXELS // patches))
    for batch in data.train_dataloader():
        values = predictors({name: batch[name].numpy() for name in ("image", "embedding") if name in batch}, inputs)
        for row, unit in enumerate(batch["unit_id"]):
            flat = values[row].reshape(values.shape[1], -1)
            usable = np.flatnonzero((batch["mask"][row].numpy().ravel() >= 0) & np.isfinite(flat).all(axis=0))
            chosen = generator.choice(usable, min(share, len(usable)), replace=False) if len(usable) else usable
            picked.append(flat[:, chosen].T)
            folds += [str(unit)] * len(chosen)
    return Applicability.fit(np.concatenate(picked), folds=np.array(folds, dtype=object), seed=seed)


def predictors(arrays: Mapping[str, NDArray[Any]], inputs: str) -> NDArray[np.float32]:
    """Per-pixel predictors (n, d, h, w) of a batch: the decoded embedding, or all bands of all dates."""
    if inputs == "alphaearth":
        from rs05bench.datasets.alphaearth import decode

        return decode(arrays["embedding"])
    image = arrays["image"]
    return np.asarray(image.reshape(len(image), -1, *image.shape[-2:]), dtype=np.float32)


def draw_images(
    model: Any,
    data: Any,
    area: Applicability,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    index: TileIndex | None = None,
    year: int | None = None,
    block: int = 512,
    on_progress: Progress | None = None,
) -> MapResult:
    """Draws a trained network over images, a folder an image.

    Args:
        model: A fitted `DeepModel`.
        data: The data module it was trained on; says which bands an image has.
        area: From `pixel_area`.
        images: GeoTIFFs with the bands of the training chips, in their order (all dates of the first, then the next).
        out: Folder.
        index: AlphaEarth tiles, for models that read them.
        year: Year of the embedding; default the one in the image's name.
        block: Side of the blocks written.
        on_progress: Called with images done and images in all.

    Raises:
        DataError: An image has other bands, no CRS, or needs tiles that were not given.
    """
    files: dict[str, dict[str, Path]] = {}
    counts: dict[str, dict[str, Any]] = {}
    names = [Path(image).stem for image in images]
    if len(set(names)) < len(names):
        raise DataError("two images have the same name", remedy="Maps are named after their images: rename one.")
    for done, (name, image) in enumerate(zip(names, images, strict=True), start=1):
        scene = _Scene(Path(image), model, data, index, year)
        try:
            with gdal_limits():
                files[name], counts[name] = _draw_one(model, data, area, scene, Path(out) / name, block)
        finally:
            scene.close()
        if on_progress is not None:
            on_progress(done, len(names))
    return MapResult(Path(out), files, {"years": counts, "grid": None, "tiles": None if index is None else index.description})


class _Scene:
    """One image, read window by window as the data module reads chips."""

    def __init__(self, path: Path, model: Any, data: Any, index: TileIndex | None, year: int | None) -> None:
        import rasterio
        from rasterio.errors import RasterioIOError

        from rs05bench.datasets.alphaearth.resample import Target

        self.path, self.inputs = path, model.card.inputs
        self.dates, self.bands = int(data.num_frames), list(data.bands)
        wanted = self.dates * len(self.bands)
        try:
            self._src: Any = rasterio.open(path)
        except RasterioIOError as error:
            raise DataError(f"cannot be read: {error}", source=path) from error
        src = self._src
        if src.count != wanted:
            dates = f"{self.dates} dates of " if self.dates > 1 else ""
            raise DataError(f"has {src.count} bands; {dates}{', '.join(self.bands)} were expected ({wanted} bands)", source=path)
        if src.crs is None or src.transform.b or src.transform.d or src.transform.e >= 0:
            raise DataError("is not a north-up raster with a coordinate reference system", source=path, remedy="Warp it first (gdalwarp).")
        from rs05bench.datasets.alphaearth.grid import name_of, transformer

        transform = src.transform
        self.target = Target(name_of(src.crs), transform.c, transform.f, transform.a, -transform.e, src.height, src.width)
        dataset = getattr(data.source, "dataset", None)
        self._anywhere = tuple(getattr(dataset, "_nodata_anywhere", (-9999.0, 9999.0)))
        self._everywhere = tuple(getattr(dataset, "_nodata_everywhere", (0.0,)))
        if src.nodata is not None and src.nodata != 0:
            self._anywhere += (float(src.nodata),)
        self._to_degrees = transformer(self.target.crs, "EPSG:4326")
        self.date = _HLS_DATE.search(path.name)
        self._embedding: EmbeddingBlocks | None = None
        if self.inputs in ("alphaearth", "hybrid"):
            chosen = year if year is not None else int(self.date[1]) if self.date else None
            if index is None or chosen is None:
                missing = "tiles (--from)" if index is None else "a year (--years)"
                raise DataError(f"{model.card.name} reads AlphaEarth, and no {missing} was given", source=path)
            self._embedding = EmbeddingBlocks(index, self.target, chosen)

    def read(self, window: Window) -> dict[str, NDArray[Any]]:
        """Arrays of a window by their batch names."""
        from rasterio.windows import Window as Pixels

        from rs05bench.datasets.alphaearth import encode
        from rs05bench.datasets.rasters import missing_pixels

        image = self._src.read(window=Pixels(window.column, window.row, window.width, window.height)).astype(np.float32)
        if self.dates > 1:
            image = image.reshape(self.dates, len(self.bands), *image.shape[-2:])
        missing = missing_pixels(image, anywhere=self._anywhere, everywhere=self._everywhere)
        image[np.broadcast_to(missing[..., None, :, :], image.shape)] = np.nan
        part = part_of(self.target, window.row, window.column, window.height, window.width)
        west, south, east, north = part.bounds
        lon, lat = self._to_degrees.transform((west + east) / 2, (south + north) / 2)
        arrays: dict[str, NDArray[Any]] = {"image": image, "location": np.array([lat, lon], dtype=np.float32)}
        if self.date:
            when = [float(self.date[1]), float(self.date[2])]
            arrays["time"] = np.array([when] * self.dates, dtype=np.float32)
        if self._embedding is not None:
            arrays["embedding"] = encode(self._embedding.read(part), axis=0)
        return arrays

    def close(self) -> None:
        """Closes the image."""
        self._src.close()


def _draw_one(
    model: Any, data: Any, area: Applicability, scene: _Scene, folder: Path, block: int
) -> tuple[dict[str, Path], dict[str, Any]]:
    from rs05bench.models.inference import Window

    classes = names_of(data)
    assert classes is not None
    colours = {"class": class_colours(len(classes)), "applicable": ["#BBBBBB", "#009E73"]}
    kinds: dict[str, tuple[str, float]] = {"class": ("uint8", NO_CLASS), "applicable": ("uint8", NO_CLASS)}
    kinds |= {name: ("float32", float("nan")) for name in ("confidence", "dissimilarity")}
    files = {name: folder / f"{name}.tif" for name in kinds}
    tags = {"TASK": data.card.name, "MODEL": model.card.name, "IMAGE": scene.path.name, "SOFTWARE": "rs05bench"}
    tags |= {f"CLASS_{code}": name for code, name in enumerate(classes)} | ({"SIMULATED": "yes"} if data.card.simulated else {})
    totals = np.zeros((2, len(classes)), dtype=np.int64)
    confidence = 0.0
    writers = {
        name: CogWriter(files[name], scene.target, dtype, nodata, description=name, tags=tags, colours=colours.get(name, ()))
        for name, (dtype, nodata) in kinds.items()
    }
    failed: tuple[Any, ...] = (None, None, None)
    try:
        for window, probabilities in model.predict_scene(scene.read, scene.target.height, scene.target.width, block=block):
            arrays = scene.read(Window(window.row, window.column, window.height, window.width))
            X = predictors({name: value[None] for name, value in arrays.items()}, model.card.inputs)[0]
            di = area.dissimilarity(X.reshape(len(X), -1).T).reshape(window.height, window.width)
            # A pixel without any image is not predicted; one that lacks some dates is, and no distance can be given.
            seen = np.isfinite(X).any(axis=0)
            inside = seen & area.inside(di)
            best = probabilities.argmax(axis=0)
            sure = np.where(seen, probabilities.max(axis=0), np.nan).astype(np.float32)
            planes: dict[str, NDArray[Any]] = {
                "class": np.where(seen, best, NO_CLASS).astype(np.uint8),
                "applicable": np.where(seen, inside, NO_CLASS).astype(np.uint8),
                "confidence": sure,
                "dissimilarity": np.where(seen, di, np.nan).astype(np.float32),
            }
            for name, plane in planes.items():
                writers[name].write(plane, window.row, window.column)
            for which, mask in enumerate((seen, inside)):
                totals[which] += np.bincount(best[mask], minlength=len(classes))
            confidence += float(sure[seen].sum(dtype=np.float64))
    except BaseException as error:
        failed = (type(error), error, error.__traceback__)
        raise
    finally:
        for writer in writers.values():
            writer.__exit__(*failed)
    files["preview"] = write_preview(
        folder / "preview.png",
        files,
        title=f"{data.card.title or data.card.name}, {scene.path.stem} ({model.card.name})",
        classes=classes,
        simulated=data.card.simulated,
    )
    pixels, inside_all = (int(row.sum()) for row in totals)
    found: dict[str, Any] = {"pixels": pixels, "inside": inside_all, "share_inside": inside_all / max(pixels, 1)}
    found["classes"] = {name: {"pixels": int(a), "inside": int(b)} for name, a, b in zip(classes, *totals, strict=True)}
    return files, found | {"mean_confidence": confidence / max(pixels, 1), "pixel_area": scene.target.xres * scene.target.yres}
