"""A generated crystal beside the reference crystal that its row names, drawn by ASE."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from novelty_metric.crystal import symmetry
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


_ROTATION = "-75x,-20y,0z"
_MAX_SITES = 200
"""If the conventional cell has more sites, the primitive cell is drawn."""


def draw_pair(row: CrystalResult, *, dpi: int = 80, titled: bool = True) -> bytes:
    """The crystal of a row and the reference crystal that it names, side by side, as PNG.

    Both are drawn in their conventional cells, where crystals of the same kind look alike, with
    the atoms on a face on the opposite one too; what `row.structures` does not hold is left empty.

    Parameters
    ----------
    row : CrystalResult
    dpi : int
        Dots per inch of a picture of 5 by 2.9 inches.
    titled : bool
        Say above each crystal which it is.
    """
    from ase.visualize.plot import plot_atoms
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 2.9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    verdict = "" if row.verdict is None else f"\n{row.verdict.value}"
    kept = row.structures or CrystalRecords()
    generated = kept.generated if kept.relaxed is None else kept.relaxed
    titles = (f"{row.id}: {row.formula or ''}{verdict}", _parent_title(row, kept.parent))
    for axes, record, title in zip(
        figure.subplots(1, 2), (generated, kept.parent), titles, strict=True
    ):
        if record is not None:
            atoms = with_faces(_conventional(record.to_structure()))
            plot_atoms(atoms, axes, rotation=_ROTATION, radii=0.45)
        axes.set_axis_off()
        if titled:
            # An id may hold a dollar sign, with which a formula would begin.
            axes.set_title(title, fontsize=9, parse_math=False)
    stream = io.BytesIO()
    canvas.print_png(stream, metadata={"Software": None}, pil_kwargs={"dpi": (dpi, dpi)})
    return stream.getvalue()


def _parent_title(row: CrystalResult, parent: CrystalRecord | None) -> str:
    if parent is None:
        return "no parent"
    formula = parent.to_structure().composition.reduced_formula
    cost = "" if row.cost is None else f"\ncost {row.cost:.2f}"
    return f"{formula} ({row.parent_id}){cost}"


def with_faces(atoms: Atoms, tolerance: float = 0.01) -> Atoms:
    """The cell, with atoms on corners, edges and faces repeated on the opposite ones.

    Parameters
    ----------
    atoms : Atoms
    tolerance : float
        Fractional distance from a face within which an atom is on it.
    """
    import numpy as np

    coords = atoms.get_scaled_positions(wrap=True)
    coords[coords > 1 - tolerance] -= 1.0
    numbers = atoms.numbers
    for axis in range(3):
        on_face = np.abs(coords[:, axis]) <= tolerance
        opposite = coords[on_face] + np.eye(3)[axis]
        coords = np.vstack([coords, opposite])
        numbers = np.concatenate([numbers, numbers[on_face]])
    shown = atoms[:0]
    shown.extend(type(atoms)(numbers, positions=coords @ atoms.cell.array))
    return shown


def _conventional(structure: Structure) -> Atoms:
    from pymatgen.io.ase import AseAtomsAdaptor
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    shown = structure
    # One that is hardly off its symmetry is drawn as if it had it.
    for tolerance in (0.1, 0.01):
        if symmetry(structure, symprec=tolerance, angle_tolerance=5.0) is None:
            continue
        try:
            analyzer = SpacegroupAnalyzer(structure, symprec=tolerance)
            found = analyzer.get_conventional_standard_structure()
        except Exception:  # pymatgen raises types of its own on odd cells
            continue
        if len(found) <= _MAX_SITES:
            shown = found
            break
    return AseAtomsAdaptor.get_atoms(shown)
