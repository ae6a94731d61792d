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

from rs05bench import __version__
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import writing
from rs05bench.protocol.splits import Split
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report import setting
from rs05bench.report.setting import script_safe, written_before
from rs05bench.report.site.adapter import read_leaderboard
from rs05bench.report.site.downloads import write_downloads
from rs05bench.report.site.home import home_view
from rs05bench.report.site.pages import model_view, task_view
from rs05bench.report.site.pictures import GroupCentres, table_figures
from rs05bench.report.site.rank_words import Ranks, rank_table
from rs05bench.report.site.records import STANDING_MEANING, BoardTable, Leaderboard
from rs05bench.report.site.view import table_view
from rs05bench.report.style import elsewhere, split_title

MARK = ".rs05bench-site"
"""A file that says a folder is a built site, which the next build may replace."""


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
    if foreign := sorted(_files(target) - written_before(target / MARK) - {MARK}):
        raise DataError(f"holds {foreign[0]}, which is not of a site built before", source=target, remedy="Give an empty or a new folder.")
    with writing(target) as part:
        part.mkdir()
        write_site(board, part)
    return target / "index.html"


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def write_site(board: Leaderboard, root: Path) -> None:
    """Writes every page of a leaderboard into an empty folder."""
    pages = Pages(board, root)
    ranks = {table.key: rank_table(table, board) for table in board.tables}
    pages.assets()
    pages.write("index.html", "home.html.j2", "", here="home", **home_view(board, ranks))
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
        self.board, self.root = board, root
        self.environment = setting.environment("rs05bench.report.site")
        self.common: dict[str, Any] = {
            "board": board,
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
        for name in ("theme.js", "site.js", "icon.svg"):
            (folder / name).write_text((own / name).read_text(encoding="utf-8"), encoding="utf-8")
        (folder / "site.css").write_text(setting.theme() + (own / "site.css").read_text(encoding="utf-8"), encoding="utf-8")

    def tables(self, ranks: dict[str, Ranks]) -> None:
        """A page per table."""
        from markupsafe import Markup

        for table in self.board.tables:
            view = table_view(table, self.board, ranks[table.key])
            context = {
                "here": "table",
                "view": view,
                "figures": table_figures(table, self.board, view["chosen"]),
                "content": Markup(script_safe(view["content"])),
                "where": elsewhere(table.split),
                "moved": _moved(table.split),
                **self._neighbours(table),
            }
            self.write(f"tables/{table.key}.html", "table.html.j2", "../", **context)

    def _neighbours(self, table: BoardTable) -> dict[str, Any]:
        first: dict[str, BoardTable] = {}
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
        grounds = {(task.name, info.split): GroupCentres.of(info.places) for task in self.board.tasks.values() for info in task.splits}
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
