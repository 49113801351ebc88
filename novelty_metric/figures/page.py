"""Self-contained pages: one style sheet, escaped text, inlined pictures; and figures as files."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.figures.style import to_png, to_svg
from novelty_metric.report.colors import NOT_ELIGIBLE_COLOR, VERDICT_COLORS
from novelty_metric.support.text import percent

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure

LARGEST_SVG = 200_000
"""Maximum size of an SVG on a page (bytes); larger ones (thousands of points) become PNG."""


@cache
def environment() -> jinja2.Environment:
    """The template engine of all pages.

    Every value is escaped, an undefined value is an error, and the colours of the verdicts are
    available. A page extends ``base.html.jinja``, whose blocks are ``title``, ``style``,
    ``content`` and ``script``; a table of the class ``sortable`` whose headers hold buttons sorts.
    """
    import jinja2

    engine = jinja2.Environment(
        loader=jinja2.PackageLoader("novelty_metric.figures", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    engine.globals["verdict_colors"] = {
        verdict.value: color for verdict, color in VERDICT_COLORS.items()
    }
    engine.globals["not_eligible_color"] = NOT_ELIGIBLE_COLOR
    engine.filters["percent"] = percent
    engine.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return engine


def render(template: str, **values: Any) -> str:
    """The page from a template of ``figures/templates`` and these values."""
    return environment().get_template(template).render(**values)


def page_source(figure: Figure, largest: int = LARGEST_SVG) -> str:
    """The figure as the source of an ``img``: SVG if it takes at most `largest` bytes, else PNG.

    A script in an SVG does not run there.
    """
    content, kind = to_svg(figure, text="path").encode(), "svg+xml"
    if len(content) > largest:
        content, kind = to_png(figure, dpi=160), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def save_picture(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG, in the size of the figure.

    The folder is created if necessary; what file systems do not like in the name becomes ``_``.
    `InputError` if the folder can't be written.
    """
    from novelty_metric.support.folders import write_atomically, writing

    stem = re.sub(r"[^\w.+-]+", "_", name).strip("._")[:100] or "picture"
    files = [folder / f"{stem}.{suffix}" for suffix in ("png", "svg")]
    with writing(folder, folder):
        for path, content in zip(files, (to_png(figure), to_svg(figure).encode()), strict=True):
            write_atomically(path, content)
    return files
