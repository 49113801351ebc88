"""A parent with the elements of the generated crystal on its sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.verdict import Parent


def substitute(reduced_parent: Structure, parent: Parent) -> Structure:
    """Put the elements of the generated crystal on the sites of a parent.

    Cell and positions stay those of the parent, or of its supercell.

    Parameters
    ----------
    reduced_parent : Structure
        The reference crystal in the reduced cell that the search saw; it is not changed.
    parent : Parent
        As the search found it.

    Raises
    ------
    ValueError
        If the crystal has not the number of sites that the parent was found with.
    """
    from pymatgen.core import Element, Lattice, Structure

    cell = reduced_parent
    if parent.supercell is not None:
        # Both `make_supercell` and the matcher repeat each site in place, over the same lattice
        # points in the same order, so the atom map holds for this supercell.
        cell = cell.make_supercell([list(row) for row in parent.supercell], in_place=False)
    if len(cell) != len(parent.elements):
        raise ValueError(
            f"{parent.parent_id!r} has {len(cell)} sites, but its atom map {len(parent.elements)}"
        )
    return Structure(
        Lattice(cell.lattice.matrix),
        [Element(name) for name in parent.elements],
        cell.frac_coords,
        to_unit_cell=False,
    )
