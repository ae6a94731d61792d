"""What a network needs to know about its data, found in them once; and what makes two fits the same."""

from __future__ import annotations

import json

from pydantic import Field

from rs05bench.embeddings.products import EmbeddingProduct, product
from rs05bench.errors import DataError
from rs05bench.models.options import RUN_NAMES, DeepOptions
from rs05bench.models.plan import ChipData, Kind
from rs05bench.protocol.card import Training
from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.strict_record import Record


class ChipFacts(Record):
    """What was found in the data that a network was built for.

    Attributes:
        kind: Kind of the task.
        classes: Class names; None for regression.
        targets: Numbers that a regression predicts.
        bands: Bands of `image`, in channel order.
        scale: The number that stands for a reflectance of 1.
        num_frames: Dates of `image`.
        image_size: The longer side of a training patch, in pixels.
        resolution_m: Pixel size in metres; None where the data do not say.
        extra: Channels of `extra`.
        embedding: The product of `embedding`, and not its name: a saved model is loaded where a record of the user's own is not. None
            where batches hold none; models saved before there were several hold the default one.
        target: Mean and deviation of each target over the training role, known after a fit.
    """

    kind: Kind
    classes: list[str] | None
    targets: int = 1
    bands: list[str]
    scale: float
    num_frames: int
    image_size: int
    resolution_m: float | None = None
    extra: int = 0
    embedding: EmbeddingProduct | None = Field(default_factory=product)
    target: tuple[list[float], list[float]] | None = None

    @classmethod
    def of(cls, data: ChipData) -> ChipFacts:
        """Reads one training batch.

        Raises:
            DataError: The budget has no training unit.
        """
        batch = next(iter(data.train_dataloader()), None)
        if batch is None:
            raise DataError("no training unit in this budget", remedy="Use a larger budget.")
        return cls(
            kind=data.kind,
            classes=[str(name) for name in data.classes] if data.classes else None,
            targets=int(batch["label"].reshape(len(batch["label"]), -1).shape[1]) if data.kind == "regression" else 1,
            bands=list(data.bands),
            scale=data.scale,
            num_frames=data.num_frames,
            image_size=int(max(batch["image" if "image" in batch else "embedding"].shape[-2:])),
            resolution_m=data.resolution_m,
            extra=int(batch["extra"].shape[1]) if "extra" in batch else 0,
            embedding=data.view.embedding_product.sized(batch["embedding"].shape[1]) if "embedding" in batch else None,
        )

    @property
    def outputs(self) -> int:
        """Channels of a network's output."""
        return self.targets if self.classes is None else len(self.classes)


def fit_identity(name: str, seed: int, options: DeepOptions, plan: Training, shown: str) -> str:
    """Digest of a fit: an interrupted one is taken up only by itself.

    Args:
        name: Name of the model.
        seed: Its seed.
        options: Its options; where it runs and where things are kept do not count.
        plan: How it is trained.
        shown: Digest of everything that the fit sees: card, split, fold, budget, labels.
    """
    own = {key: value for key, value in options.given().items() if key not in RUN_NAMES}
    said = [name, seed, own, plan.model_dump(mode="json"), shown]
    return text_digest(json.dumps(said, sort_keys=True, default=str))[:16]
