"""What a repository of manifests, labels and results says about itself: dataset card and Croissant metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from rs05bench.errors import DataError
from rs05bench.extras import require

INDEX = "rs05bench.json"
SPLIT = "manifest"
# The Hub's names of licences (https://huggingface.co/docs/hub/repositories-licenses).
HUB_LICENCES = {"mit": "mit", "apache-2.0": "apache-2.0", "cc-by-4.0": "cc-by-4.0", "cc0-1.0": "cc0-1.0", "cc-by-sa-4.0": "cc-by-sa-4.0"}

Item = Mapping[str, Any]


def config_name(item: Item) -> str:
    """Name of a manifest's config for `datasets.load_dataset`: `crop.leave-state-out.v1`."""
    return str(item["name"]).replace("/", ".").replace("@", ".")


def readme(repo: str, items: Sequence[Item]) -> str:
    """The dataset card: YAML header with licence, tags and a config a manifest; then a table of what is there, and what to cite."""
    manifests = [item for item in items if item["kind"] == "manifest"]
    header: dict[str, Any] = {
        "pretty_name": f"rs05bench: {repo.split('/')[-1]}",
        **_licence(items),
        "tags": ["remote-sensing", "benchmark", "spatial-split", "rs05bench", "croissant"],
    }
    if any(item.get("simulated") for item in items):
        header["tags"].append("simulated")
    if manifests:
        header["configs"] = [
            {"config_name": config_name(item), "data_files": [{"split": SPLIT, "path": next(iter(item["files"]))}]} for item in manifests
        ]
    lines = ["---", yaml.safe_dump(header, sort_keys=False, allow_unicode=True).rstrip(), "---", "", f"# {repo}", ""]
    lines += ["Frozen spatial splits, label packs and results made with rs05bench. Every item is pinned by a digest over its content;", ""]
    lines[-2] += " `rs05bench hub pull` refuses one that differs."
    if manifests:
        lines += ["## Manifests", "", "A row a fold and unit: `fold`, `unit_id`, `role`, `shift`, `region`, `block`.", ""]
        lines += ["```python", "from datasets import load_dataset", ""]
        lines += [f'folds = load_dataset("{repo}", "{config_name(manifests[0])}", split="{SPLIT}")', "```", ""]
        lines += ["| manifest | units | folds | audit | main result | digest |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {item['name']}{_simulated(item)} | {item['units']:,} | {item['folds']} | {item.get('verdict') or 'not recorded'} "
            f"| {'possible' if item.get('can_be_main') else 'never'} | `{item['digest'][:16]}` |"
            for item in manifests
        ]
        lines.append("")
    packs = [item for item in items if item["kind"] == "labels"]
    if packs:
        lines += ["## Labels", "", "| task | units | licence | digest |", "|---|---|---|---|"]
        lines += [
            f"| {item['name']}{_simulated(item)} | {item['units']:,} | {item['licence']} | `{item['digest'][:16]}` |" for item in packs
        ]
        lines.append("")
    results = [item for item in items if item["kind"] == "result"]
    if results:
        lines += ["## Results", "", "| task | split | model | digest |", "|---|---|---|---|"]
        lines += [f"| {item['task']}{_simulated(item)} | {item['split']} | {item['model']} | `{item['digest'][:16]}` |" for item in results]
        lines.append("")
    for title, key in (("Sources", "source"), ("Licences of the data they rest on", "licence"), ("Citation", "citation")):
        said = _different(items, key)
        if said:
            lines += [f"## {title}", "", *(f"- {text}" for text in said), ""]
    return "\n".join(lines)


def croissant(repo: str, items: Sequence[Item]) -> dict[str, Any]:
    """Croissant metadata: every file with its SHA-256, a record set a manifest.

    The format is ML Commons' (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).

    Raises:
        MissingExtraError: `mlcroissant` is not installed.
        DataError: It finds a fault.
    """
    mlc: Any = require("mlcroissant", purpose="writing Croissant metadata")
    distribution, record_sets = [], []
    for item in items:
        for file, digest in item["files"].items():
            distribution.append(mlc.FileObject(id=file, name=file, content_url=file, encoding_formats=[_media_type(file)], sha256=digest))
        if item["kind"] == "manifest":
            main, config = next(iter(item["files"])), config_name(item)
            fields = [
                mlc.Field(
                    id=f"{config}/{column}",
                    name=f"{config}/{column}",
                    description=column,
                    data_types=[mlc.DataType.TEXT],
                    source=mlc.Source(file_object=main, extract=mlc.Extract(column=column)),
                )
                for column in item["columns"]
            ]
            record_sets.append(mlc.RecordSet(id=config, name=config, description=f"Roles under {item['name']}", fields=fields))
    try:
        metadata = mlc.Metadata(
            date_published=datetime.now(UTC).replace(microsecond=0),
            name=repo.split("/")[-1],
            description="Frozen spatial splits, label packs and results made with rs05bench.",
            url=f"https://huggingface.co/datasets/{repo}",
            license=_different(items, "licence") or ["see the results' own records"],
            cite_as="; ".join(_different(items, "citation")) or None,
            version="1.0.0",
            distribution=distribution,
            record_sets=record_sets,
        )
    except mlc.ValidationError as error:
        raise DataError(f"the Croissant metadata are faulty: {error}", source=repo) from error
    return dict(metadata.to_json())


def _licence(items: Sequence[Item]) -> dict[str, str]:
    named = _different(items, "licence")
    if len(named) == 1 and named[0].lower() in HUB_LICENCES:
        return {"license": HUB_LICENCES[named[0].lower()]}
    return {"license": "other", "license_name": "see-each-item"}


def _different(items: Sequence[Item], key: str) -> list[str]:
    return list(dict.fromkeys(str(item[key]) for item in items if item.get(key)))


def _simulated(item: Item) -> str:
    return " (simulated)" if item.get("simulated") and not str(item["name"]).startswith("simulated/") else ""


def _media_type(file: str) -> str:
    known = {".parquet": "application/x-parquet", ".json": "application/json", ".tif": "image/tiff", ".yaml": "application/yaml"}
    return next((kind for suffix, kind in known.items() if file.endswith(suffix)), "application/octet-stream")
