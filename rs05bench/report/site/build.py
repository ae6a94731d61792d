"""Setting the site: one folder of pages, written beside its place and moved there whole."""

from __future__ import annotations

import datetime
import gc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import writing
from rs05bench.protocol.splits import Split
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.setting import script_safe
from rs05bench.report.site.downloads import write_downloads
from rs05bench.report.site.pages import model_view, task_view
from rs05bench.report.site.ranking import Ranks, rank_table
from rs05bench.report.site.records import STANDING_MEANING, Leaderboard, Table, read_leaderboard
from rs05bench.report.site.svg import Ground
from rs05bench.report.site.view import table_view
from rs05bench.report.style import MARKER_PATHS, elsewhere, metric_name, split_title

MARK = ".rs05bench-site"
"""A file that says a folder is a built site, which the next build may replace."""
DARK = (
    "color-scheme: dark; --ink: #e6e9ec; --muted: #a3adb8; --line: #363d45; --hair: #262c33; --paper: #12161a; --wash: #1a2026; "
    "--accent: #7cc0ee; --warn: #ff9b6a; --now: #16293a; --faint: #4a525c; --warn-paper: #3a2d0c; --warn-line: #a67c1f; "
    "--warn-ink: #ffe2a0; --good: #63cfa8; --worse-0: #4a3427; --worse-1: #7b4a2c; --worse-2: #b26234; --worse-3: #e0824a; "
    "--worse-4: #ffb07f; --reserve: #6a727b; --buffer: #3a4149;"
)


def build_site(leaderboard_dir: str | Path, out: str | Path) -> Path:
    """Builds the leaderboard's site.

    Args:
        leaderboard_dir: `leaderboard/` of the repository.
        out: Folder of the site; one that was built before is replaced, any other that holds files is left alone.

    Returns:
        Path of `index.html`.

    Raises:
        DataError: A submission cannot be read, or `out` holds something else.
    """
    with _uncollected():
        return _build(read_leaderboard(leaderboard_dir), Path(out))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: a large board is millions of small records that all stay; looking through them is a quarter of it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _build(board: Leaderboard, target: Path) -> Path:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise DataError("is not a folder", source=target, remedy="Give an empty or a new folder.")
    if foreign := sorted(_files(target) - _built(target)):
        raise DataError(f"holds {foreign[0]}, which is not of a site built before", source=target, remedy="Give an empty or a new folder.")
    with writing(target) as part:
        part.mkdir()
        write_site(board, part)
    return target / "index.html"


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _built(folder: Path) -> set[str]:
    """The files that a build before this one wrote."""
    mark = folder / MARK
    return {MARK, *mark.read_text(encoding="utf-8").splitlines()} if mark.is_file() else set()


def write_site(board: Leaderboard, root: Path) -> None:
    """Writes every page of a leaderboard into an empty folder."""
    pages = Pages(board, root)
    ranks = {table.key: rank_table(table, board) for table in board.tables}
    pages.assets()
    pages.tables(ranks)
    pages.models(ranks)
    pages.tasks()
    pages.write("about.html", "about.html.j2", "", here="about", standings=STANDING_MEANING, tiers=TIER_STYLES)
    pages.write("README.md", "README.md.j2", "")
    (root / ".nojekyll").touch()
    write_downloads(board, ranks, root / "data")
    (root / MARK).write_text("\n".join(sorted(_files(root))) + "\n", encoding="utf-8")


class Pages:
    """Writes pages from templates."""

    def __init__(self, board: Leaderboard, root: Path) -> None:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        self.board, self.root = board, root
        self.environment = Environment(
            loader=PackageLoader("rs05bench.report.site", "templates"),
            autoescape=lambda name: name is not None and ".html" in name,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        from rs05bench import __version__

        self.common: dict[str, Any] = {
            "board": board,
            "markers": {name: MARKER_PATHS[style.marker] for name, style in TIER_STYLES.items()},
            "metric_name": metric_name,
            "version": __version__,
            "written": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y"),
        }

    def write(self, path: str, template: str, prefix: str, **context: Any) -> None:
        """Writes one page; `prefix` leads from it to the site's root."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = self.environment.get_template(template).render(root=prefix, **self.common, **context)
        target.write_text(text, encoding="utf-8")

    def assets(self) -> None:
        """Style and scripts; the colours of the tiers come from the one table of them."""
        own = resources.files("rs05bench.report.site") / "assets"
        folder = self.root / "assets"
        folder.mkdir()
        for name in ("theme.js", "site.js", "charts.js", "icon.svg"):
            (folder / name).write_text((own / name).read_text(encoding="utf-8"), encoding="utf-8")
        css = (own / "site.css").read_text(encoding="utf-8").replace("{ DARK }", "{ " + DARK + " " + _tier_variables(dark=True) + " }")
        (folder / "site.css").write_text(css + _tier_rules(), encoding="utf-8")

    def tables(self, ranks: dict[str, Ranks]) -> None:
        """A page a table; the first is the front page too."""
        from markupsafe import Markup

        for number, table in enumerate(self.board.tables):
            view = table_view(table, self.board, ranks[table.key])
            context = {
                "here": "table",
                "view": view,
                "content": Markup(script_safe(view["content"])),
                "where": elsewhere(table.split),
                "moved": _moved(table.split),
                **self._neighbours(table),
            }
            self.write(f"tables/{table.key}.html", "table.html.j2", "../", **context)
            if not number:
                self.write("index.html", "table.html.j2", "", **context)
        if not self.board.tables:
            self.write("index.html", "tasks.html.j2", "", here="table")

    def _neighbours(self, table: Table) -> dict[str, Any]:
        first: dict[str, Table] = {}
        for other in self.board.tables:
            first.setdefault(other.task, other)
        tasks = [{"name": name, "key": other.key, "simulated": other.simulated} for name, other in first.items()]
        splits = [
            {"split": other.split, "key": other.key, "title": split_title(other.split), "main": other.main}
            for other in self.board.tables
            if (other.task, other.target) == (table.task, table.target)
        ]
        targets = [
            {"target": other.target, "key": other.key}
            for other in self.board.tables
            if (other.task, other.split) == (table.task, table.split)
        ]
        return {"tasks": tasks, "splits": splits, "targets": targets}

    def models(self, ranks: dict[str, Ranks]) -> None:
        """A page a submission."""
        rows: dict[str, list[Any]] = defaultdict(list)
        for table in self.board.tables:
            for row in table.rows:
                rows[row.slug].append((table, row))
        grounds = {(task.name, info.split): Ground.of(info.places) for task in self.board.tasks.values() for info in task.splits}
        for slug, entry in self.board.entries.items():
            view = model_view(entry, rows.get(slug, []), self.board, ranks, grounds)
            self.write(f"models/{slug}.html", "model.html.j2", "../", here="model", **view)

    def tasks(self) -> None:
        """A page a task, and their list."""
        self.write("tasks/index.html", "tasks.html.j2", "../", here="task")
        for task in self.board.tasks.values():
            self.write(f"tasks/{task.name}.html", "task.html.j2", "../", here="task", **task_view(task, self.board))


def _moved(split: str) -> str:
    return Split(split).moved


def _lighter(colour: str, share: float) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def _tier_variables(*, dark: bool) -> str:
    return " ".join(f"--tier-{name}: {_lighter(style.colour, 0.32) if dark else style.colour};" for name, style in TIER_STYLES.items())


def _tier_rules() -> str:
    lines = [f":root {{ {_tier_variables(dark=False)} }}"]
    for name in TIER_STYLES:
        lines.append(f".tier-{name} {{ stroke: var(--tier-{name}); }}")
        lines.append(f".fill.tier-{name} {{ fill: var(--tier-{name}); stroke: none; }}")
        lines.append(f".dot.home.tier-{name} {{ fill: var(--tier-{name}); stroke: none; }}")
    return "\n" + "\n".join(lines) + "\n"
