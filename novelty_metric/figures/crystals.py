"""A generated crystal beside the reference crystal that its row names, drawn by ASE."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.crystal_records import CrystalRecords
from novelty_metric.report.crystal_viewer import ViewerData, viewer_pair
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from ase import Atoms

_ROTATION = "-75x,-20y,0z"


def draw_pair(row: CrystalResult, *, dpi: int = 80) -> bytes:
    """The crystal of a row and the reference crystal that it names, side by side, as PNG.

    They are the cells of `viewer_pair`; what `row.structures` does not hold is left empty.

    Parameters
    ----------
    row : CrystalResult
    dpi : int
        Dots per inch of a picture of 5 by 2.9 inches.
    """
    from ase.visualize.plot import plot_atoms
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 2.9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    records = row.structures or CrystalRecords()
    verdict = "" if row.verdict is None else f"\n{row.verdict.value}"
    titles = [f"{row.id}: {row.formula or ''}{verdict}", "no parent"]
    if records.parent is not None:
        formula = records.parent.to_structure().composition.reduced_formula
        cost = "" if row.cost is None else f"\ncost {row.cost:.2f}"
        titles[1] = f"{formula} ({row.parent_id}){cost}"
    for axes, data, title in zip(
        figure.subplots(1, 2), viewer_pair(row, records), titles, strict=True
    ):
        if data is not None:
            plot_atoms(_atoms(data), axes, rotation=_ROTATION, radii=0.45)
        axes.set_axis_off()
        # An id may hold a dollar sign, with which a formula would begin.
        axes.set_title(title, fontsize=9, parse_math=False)
    stream = io.BytesIO()
    canvas.print_png(stream, metadata={"Software": None}, pil_kwargs={"dpi": (dpi, dpi)})
    return stream.getvalue()


def _atoms(data: ViewerData) -> Atoms:
    """The sites of a cell, with the copies on its faces."""
    from ase import Atoms

    images = np.array(data["images"], dtype=int).reshape(-1, 4)
    sites, steps = images[:, 0], images[:, 1:]
    coords = np.array(data["positions"]).reshape(-1, 3)
    kinds = np.array(data["kinds"])
    return Atoms(
        [data["elements"][kind] for kind in (*kinds, *kinds[sites])],
        cell=data["cell"],
        scaled_positions=np.vstack([coords, coords[sites] + steps]),
    )
