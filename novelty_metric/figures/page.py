"""Self-contained pages: one style sheet, escaped text, inlined pictures."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Any

from novelty_metric.report.colors import NOT_ELIGIBLE_COLOR, VERDICT_COLORS
from novelty_metric.support.text import percent

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure

PNG, SVG = "image/png", "image/svg+xml"


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


def data_uri(content: bytes, kind: str = PNG) -> str:
    """A picture as the source of an ``img``, in which a script in an SVG does not run.

    Parameters
    ----------
    content : bytes
    kind : str
        `PNG` or `SVG`.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def svg(figure: Figure) -> bytes:
    """A matplotlib figure as SVG; equal figures give equal bytes."""
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "novelty-metric", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()
