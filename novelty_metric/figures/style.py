"""Sizes, fonts and formats of figures: column widths of journals, without global settings."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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

    Parameters
    ----------
    width, height : float
        Inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(
    axes: Axes, *, x: str = "", y: str = "", title: str = "", grid: Literal["x", "y"] | None = None
) -> None:
    """Set labels, thin lines and small fonts.

    Parameters
    ----------
    axes : Axes
    x, y, title : str
    grid : str, optional
        ``x`` or ``y``: lines across that axis.
    """
    axes.tick_params(labelsize=SMALL, width=0.6, length=2.5, color=INK, labelcolor=INK)
    for side, spine in axes.spines.items():
        spine.set(linewidth=0.6, color=INK, visible=side in ("left", "bottom"))
    axes.set_xlabel(x, fontsize=FONT, color=INK)
    axes.set_ylabel(y, fontsize=FONT, color=INK)
    if title:
        axes.set_title(title, fontsize=FONT, color=INK)
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def say_nothing_to_show(axes: Axes, why: str) -> None:
    """Show a sentence instead of a picture."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center",
        fontsize=FONT, color=INK, wrap=True,
    )  # fmt: skip


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


def to_svg(figure: Figure) -> str:
    """The figure as SVG with text as text; equal figures give equal bytes."""
    import matplotlib as mpl

    stream = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "novelty-metric"}
    # Matplotlib knows these only as settings of the process.
    with _SETTINGS_LOCK, mpl.rc_context(settings):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()
