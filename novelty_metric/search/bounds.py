"""Fast rigorous bounds for pairs of crystals, computed without comparing their sites.

Two things, both compiled over many crystals (`kernels.cheap_bounds`): refusals of pairs that
pymatgen is sure to refuse, and a lower bound on the cost of any atom map. Every rule carries its
proof.

Words used below. A pair is a generated crystal G and a reference crystal T. pymatgen expresses the
lattice of the crystal with fewer sites, the *source*, near that of the other, the *target* (with
equal numbers the source is G, the first structure). It looks for three vectors v of the source's
lattice, one for each target vector of length l, with

    1/(1 + ltol) < |v|/l < 1 + ltol,   angles within angle_tol degrees of the target's,
    |det of their integer coefficients| = fu = (sites of target) / (sites of source).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.search.compiled import load_kernels
from novelty_metric.search.pettifor import pettifor_numbers

if TYPE_CHECKING:
    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference


@dataclass(frozen=True, slots=True)
class Cells:
    """Data of M reduced cells for the refusals.

    Attributes
    ----------
    n_sites : int64, (M,)
    rows : float64, (M, 9)
        Of each cell, one after the other:

        - its volume (Å³);
        - least and greatest volume of a cell whose lengths and angles are within the tolerances of
          this one's (Å³), see `cheap_bounds._volumes`;
        - lower bounds of the three successive minima of the lattice (Å), see
          `cheap_bounds._minima`;
        - lengths of the cell vectors in increasing order (Å).
    """

    n_sites: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(
        cls, lattices: np.ndarray, n_sites: np.ndarray, *, ltol: float, angle_tol: float
    ) -> Cells:
        """Compute the bounds of M cells.

        Parameters
        ----------
        lattices : float64, (M, 3, 3)
            Cell vectors as rows (Å).
        n_sites : integer, (M,)
        ltol : float
            Fractional length tolerance.
        angle_tol : float
            Degrees.
        """
        cells = load_kernels("kernels.cheap_bounds").cells
        rows = cells(lattices, ltol=ltol, angle_tol=angle_tol)
        return cls(np.asarray(n_sites, dtype=np.int64), rows)

    def take(self, indices: np.ndarray | slice) -> Cells:
        """The cells at these positions; a range gives a view without a copy."""
        return Cells(self.n_sites[indices], self.rows[indices])


def may_match(generated: Cells, references: Cells, *, ltol: float) -> np.ndarray:
    """A mask of the pairs that pymatgen might accept; it surely refuses the others.

    Parameters
    ----------
    generated : Cells
        One cell, of the first structure.
    references : Cells
        M cells, of the second structures.
    ltol : float

    Returns
    -------
    bool, (M,)

    Notes
    -----
    A pair is refused when

    - *neither number of sites divides the other*: pymatgen's supercell then has another number of
      sites than the target, and it demands equal numbers;
    - *a length shell is empty*: the three vectors are independent and below (1 + ltol) times the
      target's lengths, so the k-th successive minimum of the source is below (1 + ltol) times the
      k-th length of the target in increasing order;
    - *the volume is out of reach*: their determinant is fu, so they span fu times the source's
      volume exactly (`scale=False`), and that must lie in the target's window.
    """
    possible: np.ndarray = load_kernels("kernels.cheap_bounds").may_match(
        generated, references, ltol
    )
    return possible


class CostBounds:
    """Lower bounds on the cost of any atom map, over a whole reference.

    The cost of an atom map is the mean over sites of |p − q|, p and q the modified Pettifor numbers
    of the two elements on the site, the smaller cell being repeated to the size of the larger. The
    mean of |p − q| over the two *sorted* lists is the least that any one-to-one pairing reaches
    (optimal transport on a line), so no atom map costs less.

    An element without a number always costs 102 on its site. If g sites of G and t sites of T hold
    such elements, at least max(g, t) sites cost 102: that is the bound then.

    What is asked of the whole reference goes through it by number of sites, so that it lies in
    memory in that order.

    Attributes
    ----------
    order : int64, (M,)
        Positions in the reference by number of sites, then position.
    place : int64, (M,)
        Where each position is in `order`.
    """

    def __init__(self, reference: Reference) -> None:
        """Sort the Pettifor numbers of the reference once.

        Parameters
        ----------
        reference : Reference
        """
        n_sites = np.asarray(reference.n_sites, dtype=np.int64)
        offsets = np.asarray(reference.offsets, dtype=np.int64)
        numbers = pettifor_numbers(reference.numbers)
        self.order = np.argsort(n_sites, kind="stable")
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(len(self.order))
        sizes, starts = np.unique(n_sites[self.order], return_index=True)
        self._ranges: dict[int, slice] = {}
        self._sorted: dict[int, np.ndarray] = {}
        ends = [*starts[1:].tolist(), len(self.order)]
        for n, start, end in zip(sizes.tolist(), starts.tolist(), ends, strict=True):
            sites = offsets[self.order[start:end]][:, None] + np.arange(n)
            self._ranges[n] = slice(start, end)
            self._sorted[n] = np.sort(numbers[sites], axis=1)

    def candidates(
        self,
        pettifor: np.ndarray,
        generated: Cells,
        references: Cells,
        *,
        ltol: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The crystals that might match, with lower bounds on the cost of a match.

        Parameters
        ----------
        pettifor : uint8, (n_sites,)
            Modified Pettifor numbers of the generated crystal.
        generated : Cells
            Its cell.
        references : Cells
            Those of the whole reference, in the order of `order`.
        ltol : float
            Fractional length tolerance.

        Returns
        -------
        indices : int64, (C,)
            By number of sites, then position.
        bounds : float64, (C,)
        """
        look = load_kernels("kernels.cheap_bounds").look
        pettifor = np.sort(pettifor)
        n_sites = len(pettifor)
        indices, bounds = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for n, range_ in self._ranges.items():
            if n % n_sites and n_sites % n:
                continue
            cells = references.take(range_)
            found, of_size = look(pettifor, generated, cells, self._sorted[n], ltol)
            indices.append(self.order[range_][found])
            bounds.append(of_size)
        return np.concatenate(indices), np.concatenate(bounds)

    def of_equal_size(self, pettifor: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Bounds for reference crystals with the same number of sites as the generated one,
        float64, (C,).
        """
        n_sites = len(pettifor)
        rows = self.place[indices] - self._ranges[n_sites].start
        cost_bounds = load_kernels("kernels.cheap_bounds").cost_bounds
        found: np.ndarray = cost_bounds(np.sort(pettifor), self._sorted[n_sites], rows)
        return found


def cells_of_reference(reference: Reference, protocol: Protocol) -> Cells:
    """The cells of a whole reference, with a protocol's tolerances."""
    return Cells.of(
        reference.lattices,
        reference.n_sites,
        ltol=protocol.ltol,
        angle_tol=protocol.angle_tol,
    )
