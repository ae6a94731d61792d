"""Setting pages: one environment of templates, one style, one way to put data into a page; for reports and the site."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.safe_paths import inside
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.style import MARKER_PATHS, metric_name, plain

LIGHT = (
    "color-scheme: light; --ink: #1b1f24; --muted: #56606b; --line: #d9dde2; --hair: #eceff2; --paper: #fff; --wash: #f5f6f8; "
    "--accent: #0b5c8f; --warn: #a33b00; --now: #eaf3f9; --faint: #c9ced4; --axis: #87909b; --warn-paper: #fff1cf; --warn-line: #e0a92b; "
    "--warn-ink: #4a3500; --good: #00694d;"
)
DARK = (
    "color-scheme: dark; --ink: #e6e9ec; --muted: #a3adb8; --line: #363d45; --hair: #262c33; --paper: #12161a; --wash: #1a2026; "
    "--accent: #7cc0ee; --warn: #ff9b6a; --now: #16293a; --faint: #4a525c; --axis: #7d8791; --warn-paper: #3a2d0c; --warn-line: #a67c1f; "
    "--warn-ink: #ffe2a0; --good: #63cfa8;"
)


def theme(*more: str) -> str:
    """The style of every page: colours of light, dark and print, the tiers, and the style sheets named."""
    text = "\n".join(
        (resources.files("rs05bench.report") / "templates" / name).read_text(encoding="utf-8") for name in ("theme.css", *more)
    )
    light, dark = f"{LIGHT} {_tiers(dark=False)}", f"{DARK} {_tiers(dark=True)}"
    return text.replace("{ LIGHT }", "{ " + light + " }").replace("{ DARK }", "{ " + dark + " }")


def _tiers(*, dark: bool) -> str:
    return " ".join(f"--tier-{name}: {_lighter(style.colour, 0.32) if dark else style.colour};" for name, style in TIER_STYLES.items())


def _lighter(colour: str, share: float) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def environment(*packages: str) -> Any:
    """The templates, with what all of them may use; those of other packages extend them."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in ("rs05bench.report", *packages)]),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    made.globals |= {
        "markers": {name: MARKER_PATHS[style.marker] for name, style in TIER_STYLES.items()},
        "metric_name": metric_name,
        "tier_styles": TIER_STYLES,
    }
    return made


def page(template: str, *packages: str, **context: Any) -> str:
    """A page that is one file: its style and script are inside, and it asks no server for anything.

    Args:
        template: The template.
        *packages: Packages whose `templates` are searched too.
        **context: What the template shows.
    """
    from markupsafe import Markup

    own = resources.files("rs05bench.report") / "templates"
    script = Markup((own / "page.js").read_text(encoding="utf-8"))
    return str(environment(*packages).get_template(template).render(css=Markup(theme("page.css")), script=script, **context))


def make_room(root: Path, mark: str, names: Iterable[str]) -> None:
    """Removes what was written into a folder before, and notes what will be; nothing of anybody else is replaced.

    Args:
        root: The folder; made where missing.
        mark: Hidden file in it that names what was written.
        names: Files to be written, relative to the folder.

    Raises:
        DataError: One of these files is there and was not written by us.
    """
    before, wanted = written_before(root / mark), sorted(names)
    if foreign := next((name for name in wanted if name not in before and os.path.lexists(root / name)), None):
        raise DataError(f"{foreign} already exists, and was not written by this command", source=root, remedy="Give another --out.")
    for name in before:
        inside(root, name).unlink(missing_ok=True)
    write_text(root / mark, "".join(f"{name}\n" for name in wanted))


def written_before(mark: Path) -> set[str]:
    """The files that a mark names; none where there is no mark."""
    return set(mark.read_text(encoding="utf-8").splitlines()) if mark.is_file() else set()


def write_page(path: Path, text: str) -> Path:
    """Writes a page whole."""
    return write_text(path, text)


def script_safe(content: Any) -> str:
    """JSON that cannot end the script element it is in."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, default=lambda value: value.item(), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
