"""The page of a recipe, from its record: what the command prints and what the documentation shows."""

from __future__ import annotations

from rs05bench.datasets.recipes.recipe_record import Recipe, SourceFiles


def page(recipe: Recipe) -> str:
    """The page in Markdown."""
    parts = [
        f"# {recipe.name}",
        f"{recipe.title}. Task `{recipe.task}`, {recipe.kind}.",
        recipe.summary,
        f"```text\nrs05bench build {recipe.name} --root DIR --out {recipe.name}\n"
        f"rs05bench sweep {recipe.name}/card.yaml --data {recipe.name} --out runs\n```",
        "## What must be under `--root`",
        *(_source(source.described()) for source in recipe.sources),
        "## What leaks",
        _items(recipe.leaks),
        "## Which splits are possible",
        _items([f"`{split}`{' (main)' if split == recipe.main_split else ''}: {asks}" for split, asks in recipe.splits.items()]),
    ]
    if recipe.options:
        parts += [
            "## Options",
            _items(
                [
                    f"`--set {option.name}={_default(option.default)}`: {option.help}"
                    + (f" One of {', '.join(option.choices)}." if option.choices else "")
                    for option in recipe.options
                ]
            ),
        ]
    if recipe.verified or recipe.unverified:
        parts += ["## What of the formats was checked"]
        parts += [_items([*(f"Checked: {said}" for said in recipe.verified), *(f"Not checked: {said}" for said in recipe.unverified)])]
    return "\n\n".join(parts) + "\n"


def _source(source: SourceFiles) -> str:
    facts = [("Where", source.url), ("Licence", source.licence), ("Cite", source.citation), ("Size", source.size)]
    head = f"**{source.name}**{'' if source.required else ' (optional)'}: {source.title}"
    files = " or ".join(f"`{pattern}`" for pattern in _shortened(source.patterns))
    return "\n".join([f"{head}\n", f"- Files: {files}", f"- {source.format}", *(f"- {name}: {text}" for name, text in facts if text)])


def _shortened(patterns: tuple[str, ...]) -> list[str]:
    """`a*.shp`, `a*.gpkg` become `a*.{shp,gpkg}`."""
    endings: dict[str, list[str]] = {}
    for pattern in patterns:
        stem, _, ending = pattern.rpartition(".")
        endings.setdefault(stem, []).append(ending)
    return [f"{stem}.{found[0]}" if len(found) == 1 else f"{stem}.{{{','.join(found)}}}" for stem, found in endings.items()]


def _items(lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _default(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
