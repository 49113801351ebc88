"""Figures as files: PNG and SVG for papers, and smaller pictures for pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.figures.page import PNG, SVG, data_uri, svg
from novelty_metric.figures.style import to_png, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_DPI = 160
LARGEST_SVG = 200_000
"""Maximum size of an SVG on a page (bytes); larger ones (thousands of points) become PNG."""
_SUFFIXES = ("png", "svg")


def page_source(figure: Figure, largest: int = LARGEST_SVG) -> str:
    """The figure as the source of an ``img``: SVG if it takes at most `largest` bytes, else PNG."""
    drawn = svg(figure)
    if len(drawn) <= largest:
        return data_uri(drawn, SVG)
    return data_uri(to_png(figure, dpi=PAGE_DPI), PNG)


def save_picture(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG, in the size of the figure.

    Parameters
    ----------
    figure : Figure
    folder : path
        Made if it does not exist.
    name : str
        Without a suffix; what file systems do not like in it becomes ``_``.

    Returns
    -------
    list of path

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    from novelty_metric.support.folders import write_atomically, writing

    stem = re.sub(r"[^\w.+-]+", "_", name).strip("._")[:100] or "picture"
    files = [folder / f"{stem}.{suffix}" for suffix in _SUFFIXES]
    with writing(folder, folder):
        for path, content in zip(files, (to_png(figure), to_svg(figure).encode()), strict=True):
            write_atomically(path, content)
    return files
