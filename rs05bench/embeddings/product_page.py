"""The table of embedding products for people, from the records."""

from __future__ import annotations

from rs05bench.embeddings.products import EmbeddingProduct, all_products


def products_table() -> str:
    """Every packaged product as Markdown: a table of facts, then what goes wrong with each."""
    head = ["Product", "Size", "Components", "Years", "Stored as", "Licence", "Open weights", "Read from"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_row(record)) + " |" for record in all_products().values()]
    traps = [f"\n**`{record.name}`**: {record.title}. {record.citation}\n\n" + _traps(record) for record in all_products().values()]
    return "\n".join([*lines, "", "## What goes wrong", *traps]) + "\n"


def _row(record: EmbeddingProduct) -> list[str]:
    size = f"{record.pixel_m:g} m {record.unit}" if record.pixel_m else record.unit
    years = f"{record.years[0]}-{record.years[1]}" if record.years else "not recorded"
    weights = {True: "yes", False: "no", None: "not recorded"}[record.open_weights]
    count = str(record.dimensions) if record.dimensions else "as the file"
    return [
        f"`{record.name}`",
        size,
        count,
        years,
        f"{record.dtype}, {record.formula}".replace("|", "\\|"),
        record.licence,
        weights,
        ", ".join(record.layouts),
    ]


def _traps(record: EmbeddingProduct) -> str:
    return "\n".join(f"- {trap}" for trap in record.traps) or "- Nothing is recorded."
