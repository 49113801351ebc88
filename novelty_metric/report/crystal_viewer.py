"""Data for the viewer of crystals, which is `crystal_viewer.js` beside this file.

`viewer_data` makes the data of one crystal, `viewer_pair` those of a crystal and its parent, which
are oriented alike. `viewer_script` is the JavaScript, whose ``mountCrystal(canvas, data)`` draws
such data on a canvas that turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal import SHORTEST_PERIOD
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.report.explanation import shown_parent
from novelty_metric.scoring.substitution import substitute
from novelty_metric.search.compiled import TooMuchToCompareError
from novelty_metric.search.matching import MatcherWork
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

ViewerData = dict[str, Any]

MOST_SITES = 200
"""If the conventional cell has more sites, the primitive cell is drawn."""
_ON_FACE = 0.02
"""A site within this fractional distance of a face is also drawn on the opposite face."""
_OLD = "element of the parent"


@cache
def viewer_script() -> str:
    """The viewer: JavaScript that loads nothing and defines only functions."""
    return files("novelty_metric.report").joinpath("crystal_viewer.js").read_text(encoding="utf-8")


def viewer_data(record: CrystalRecord) -> ViewerData:
    """The data of a crystal, in its conventional cell.

    Parameters
    ----------
    record : CrystalRecord

    Returns
    -------
    dict
        What ``mountCrystal`` draws, ready for `json.dumps`: ``cell`` (vectors as rows, Å);
        ``elements`` with their ``colors`` and ``radii`` (Å); for each site ``kinds`` (which
        element) and ``positions`` (three fractional coordinates); ``images`` (four numbers each: a
        site, and the cells to move a copy of it by) and ``exchanged`` (sites to be marked: none).
        The colours are those of Jmol, the radii the covalent ones of Cordero et al. (2008), both
        from ASE.
    """
    return _drawn((record.to_structure(), []))[0]


def viewer_pair(
    result: CrystalResult, records: CrystalRecords
) -> tuple[ViewerData | None, ViewerData | None]:
    """The data of a row's crystal and of the reference crystal that the row names.

    Both are drawn in the conventional cell of the larger one, turned and moved so that sites which
    the atom map pairs lie at the same place; those whose element is exchanged are marked. Where
    the two do not match, as some pairs of the Wyckoff route before the relaxation, each is drawn in
    its own conventional cell. One that matches as a mirror image is drawn as the mirror image.

    Parameters
    ----------
    result : CrystalResult
    records : CrystalRecords
        Its crystals, see `novelty_metric.report.files.read_all_structures`.

    Returns
    -------
    tuple
        As by `viewer_data`; None for a crystal that `records` lacks.

    Raises
    ------
    ValueError
        If the crystals are not those of the row.
    """
    crystal = records.generated if records.relaxed is None else records.relaxed
    if crystal is None or records.parent is None:
        first = None if crystal is None else viewer_data(crystal)
        return first, None if records.parent is None else viewer_data(records.parent)
    return paired(crystal.to_structure(), *filled_parent(records.parent.to_structure(), result))


def filled_parent(parent: Structure, result: CrystalResult) -> tuple[Structure, list[str]]:
    """The parent, as the search saw it, with the elements that the atom map of a row assigns.

    Returns
    -------
    filled : Structure
        The parent, or its supercell.
    own : list of str
        The parent's own element on each site of it.
    """
    tried = shown_parent(result)
    filled = parent if tried is None else substitute(parent, tried.parent)
    # A supercell repeats each site in place.
    own = np.repeat([site.specie.symbol for site in parent], len(filled) // len(parent))
    return filled, own.tolist()


def paired(
    generated: Structure, filled: Structure, own: Sequence[str]
) -> tuple[ViewerData, ViewerData]:
    """The data of a crystal and of a `filled_parent` with its own elements, see `viewer_pair`."""
    from pymatgen.core import Structure

    filled = filled.copy(site_properties={_OLD: list(own)})
    alike = _alike(generated, filled)
    if alike is not None:
        generated, filled = alike
    parent = Structure(filled.lattice, filled.site_properties[_OLD], filled.frac_coords)
    pairs = zip(parent.species, filled.species, strict=True)
    exchanged = [site for site, (old, new) in enumerate(pairs) if old != new]
    if alike is not None:
        first, second = _drawn((generated, exchanged), (parent, exchanged))
        return first, second
    # The map is known by the sites of the parent: an element is marked if none of its sites had it.
    kept = {new for old, new in zip(parent.species, filled.species, strict=True) if old == new}
    changed = [site for site, specie in enumerate(generated.species) if specie not in kept]
    return _drawn((generated, changed))[0], _drawn((parent, exchanged))[0]


def _alike(generated: Structure, filled: Structure) -> tuple[Structure, Structure] | None:
    """The two crystals in corresponding cells with sites in the same order; the larger is
    unchanged.

    None if they do not match, or if there is too much to compare.
    """
    from pymatgen.core.structure_matcher import StructureMatcher

    # Wider than the search: it is only a matter of how they are drawn.
    matcher = StructureMatcher(
        ltol=0.3,
        stol=0.5,
        angle_tol=10,
        primitive_cell=False,
        attempt_supercell=True,
        supercell_size="num_sites",
    )
    smaller = len(generated) < len(filled)
    target, moved = (filled, generated) if smaller else (generated, filled)
    try:
        like = MatcherWork().counted(matcher).get_s2_like_s1(target, moved)
    except (TooMuchToCompareError, ValueError, np.linalg.LinAlgError):
        return None
    if like is None or len(like) != len(target):
        return None
    return (like, target) if smaller else (target, like)


def _drawn(*cells: tuple[Structure, Sequence[int]]) -> list[ViewerData]:
    """The data of crystals, each with its exchanged sites, in the conventional cell of one.

    Their sites and cells correspond. Sites are moved into the cell, and repeated on its faces, as
    those of the first one are.
    """
    known = (found for cell, _ in cells if (found := _conventional(cell)) is not None)
    matrix, origin = next(known, (np.eye(3), np.zeros(3)))
    inverse = np.linalg.inv(matrix)
    points = _points(matrix)
    moved = [
        (cell.frac_coords[:, None] + points).reshape(-1, 3) @ inverse + origin for cell, _ in cells
    ]
    outside = np.floor(moved[0] + _ON_FACE)
    images = _images(moved[0] - outside)
    lattice = _upright(matrix @ cells[0][0].lattice.matrix)
    return [
        {
            "cell": _turned(matrix @ cell.lattice.matrix, lattice).round(3).tolist(),
            **_atoms(cell, n_each=len(points)),
            "positions": (coords - outside).round(4).ravel().tolist(),
            "images": images,
            "exchanged": [site * len(points) + k for site in exchanged for k in range(len(points))],
        }
        for (cell, exchanged), coords in zip(cells, moved, strict=True)
    ]


def _atoms(cell: Structure, *, n_each: int) -> ViewerData:
    """Elements and sites of a crystal in which each site stands for `n_each` consecutive ones."""
    from ase.data import atomic_numbers, covalent_radii
    from ase.data.colors import jmol_colors

    symbols = [specie.symbol for specie in cell.species]
    elements = sorted(set(symbols))
    numbers = [atomic_numbers[name] for name in elements]
    colors = (255 * jmol_colors[numbers]).round().astype(int).tolist()
    return {
        "elements": elements,
        "colors": [f"#{bytes(color).hex()}" for color in colors],
        "radii": [round(float(covalent_radii[one]), 2) for one in numbers],
        "kinds": np.repeat([elements.index(name) for name in symbols], n_each).tolist(),
    }


def _conventional(cell: Structure) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The conventional cell's vectors in terms of the cell's, as rows, and its origin.

    A crystal that is hardly off its symmetry is drawn as if it had it. None where the symmetry is
    not found, is that of a smaller cell, or asks for too many sites.
    """
    import spglib

    if min(cell.lattice.abc) < SHORTEST_PERIOD:
        return None
    atoms = (cell.lattice.matrix.tolist(), cell.frac_coords.tolist(), cell.atomic_numbers)
    for tolerance in (0.1, 0.01):
        try:
            found = spglib.get_symmetry_dataset(atoms, symprec=tolerance)
        except Exception:  # spglib raises types of its own, which change by version
            continue
        if found is None:
            continue
        matrix = np.linalg.inv(found.transformation_matrix).T
        whole = matrix.round()
        if np.abs(matrix - whole).max() > 0.01:
            continue
        if round(abs(np.linalg.det(whole))) * len(cell) <= MOST_SITES:
            return whole, found.origin_shift
    return None


def _points(matrix: NDArray[Any]) -> NDArray[Any]:
    """The lattice points within a cell of the lattice, in the vectors of the lattice."""
    reach = np.abs(matrix).sum(axis=0).astype(int)
    every = np.array(list(product(*(range(-far, far + 1) for far in reach))), dtype=float)
    within = every @ np.linalg.inv(matrix) + 1e-6
    return every[((within >= 0) & (within < 1)).all(axis=1)]


def _images(frac_coords: NDArray[Any]) -> list[int]:
    """Copies of sites near a face on the opposite face: the site, then its three steps."""
    found = []
    for site, coords in enumerate(frac_coords):
        steps = [(0, 1) if abs(x) <= _ON_FACE else (0,) for x in coords]
        found += [number for step in product(*steps) if any(step) for number in (site, *step)]
    return found


def _upright(lattice: NDArray[Any]) -> NDArray[Any]:
    """The same cell with a along x and b in the xy plane."""
    turned = np.linalg.cholesky(lattice @ lattice.T)
    if np.linalg.det(lattice) < 0:
        turned[:, 2] *= -1
    return turned


def _turned(lattice: NDArray[Any], onto: NDArray[Any]) -> NDArray[Any]:
    """A cell rotated, or mirrored, so that its vectors are closest to those of another."""
    left, _, right = np.linalg.svd(lattice.T @ onto)
    return lattice @ left @ right
