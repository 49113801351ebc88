"""Sizes, fonts and formats of figures: column widths of journals, without global settings."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN = 3.35
"""Width of a column (inches)."""

PAGE = 6.9
"""Width of a page of two columns (inches)."""

FONT, SMALL = 8.0, 7.0
"""Font sizes (points)."""

INK, GRID = "#333333", "#e6e6e6"

_SETTINGS_LOCK = threading.Lock()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, independent of matplotlib's windows and its list of figures.

    Width and height are in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(
    axes: Axes, *, x: str = "", y: str = "", title: str = "", grid: Literal["x", "y"] | None = None
) -> None:
    """Set labels, thin lines and small fonts; lines across an axis if `grid` names it."""
    axes.tick_params(labelsize=SMALL, width=0.6, length=2.5, color=INK, labelcolor=INK)
    axes.tick_params(which="minor", labelsize=SMALL, labelcolor=INK)
    for side, spine in axes.spines.items():
        spine.set(linewidth=0.6, color=INK, visible=side in ("left", "bottom"))
    axes.set_xlabel(x, fontsize=FONT, color=INK)
    axes.set_ylabel(y, fontsize=FONT, color=INK)
    if title:
        axes.set_title(title, fontsize=FONT, color=INK)
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def plain_numbers(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis as 0.3 and 4, not as powers of ten."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(minor_thresholds=(2, 0.4)))


def say_nothing_to_show(axes: Axes, why: str) -> None:
    """Show a sentence instead of a picture."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center",
        fontsize=FONT, color=INK, wrap=True,
    )  # fmt: skip


def small_text(axes: Axes, x: float, y: float, text: str, **given: Any) -> None:
    """Text in the small font and the ink of labels, unless others are given."""
    axes.text(x, y, text, **{"fontsize": SMALL, "color": INK, "va": "center", **given})


def legend_above(figure: Figure, handles: Any, labels: Any, columns: int = 4) -> None:
    """A legend outside the axes, above them."""
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
        handlelength=1.0,
        columnspacing=1.2,
    )


def to_png(figure: Figure, *, dpi: int = 300) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def to_svg(figure: Figure, *, text: Literal["none", "path"] = "none") -> str:
    """The figure as SVG, with text as text or as paths; equal figures give equal bytes."""
    import matplotlib as mpl

    stream = io.StringIO()
    settings: Any = {"svg.fonttype": text, "svg.hashsalt": "novelty-metric"}
    # Matplotlib knows these only as settings of the process.
    with _SETTINGS_LOCK, mpl.rc_context(settings):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def shortened(name: str, longest: int) -> str:
    """A name of at most `longest` characters."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def color_bar(figure: Figure, axes: Any, drawn: Any, label: str, *, shrink: float) -> Any:
    """A colour bar with thin lines and small fonts beside the axes."""
    bar = figure.colorbar(drawn, ax=axes, shrink=shrink, pad=0.02)
    bar.set_label(label, fontsize=SMALL, color=INK)
    bar.ax.tick_params(
        which="both", labelsize=SMALL, width=0.5, length=2, color=INK, labelcolor=INK
    )
    bar.outline.set_linewidth(0.4)
    return bar
