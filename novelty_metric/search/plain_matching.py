"""Plain matching: equality by pymatgen's `StructureMatcher()` with its defaults.

Earlier papers count a crystal as novel, and two samples as one, by this rule. It differs from the
duplicate test: both crystals are reduced again and always scaled to the same volume, and a crystal
is never compared with a supercell of the other.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.errors import CrystalError
from novelty_metric.primitive import niggli, primitive
from novelty_metric.protocol import Protocol
from novelty_metric.search.compiled import Work
from novelty_metric.search.duplicates import EqualTest, Possible
from novelty_metric.search.matching import Matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure


class PlainTest:
    """The test whether pymatgen's `StructureMatcher()` accepts two crystals; see `EqualTest`.

    Parameters
    ----------
    kernels : module or None
        As those of `EqualTest`.

    Notes
    -----
    The decision is that of ``StructureMatcher().fit(first, second)``. `prepare` reduces a crystal
    as `fit` does, once for all its pairs. Crystals with other numbers of sites are refused by `fit`
    too. pymatgen scales the others to one volume; what `fit` then asks of them is what the
    duplicate test asks, with the default tolerances, so that its compiled refusals hold.
    """

    def __init__(self, kernels: ModuleType | None) -> None:
        """Create pymatgen's matcher."""
        from pymatgen.core.structure_matcher import StructureMatcher

        self._matcher: Any = StructureMatcher()
        protocol = dataclasses.replace(
            Protocol.named("paper"),
            ltol=self._matcher.ltol,
            stol=self._matcher.stol,
            angle_tol=self._matcher.angle_tol,
        )
        self._scaled = EqualTest(Matching(protocol), protocol, kernels)

    def prepare(self, structure: Structure) -> Structure:
        """The crystal as `fit` reduces it; unchanged beyond the limits of `primitive`."""
        try:
            return primitive(niggli(structure))
        except CrystalError:
            return structure

    def possible_among(self, structures: Sequence[Structure]) -> Possible:
        """The same as `EqualTest.possible_among`, for prepared crystals: equal numbers of sites."""
        n_sites = np.array([len(structure) for structure in structures])
        return lambda first, others: n_sites[others] == n_sites[first]

    def rms(self, first: Structure, second: Structure, work: Work | None = None) -> float | None:
        """RMS site distance of two prepared crystals of one composition if equal, else None.

        Raises
        ------
        TooMuchToCompareError
            As `EqualTest.rms`.
        """
        if len(first) != len(second):
            return None
        first, second, *_ = self._matcher._preprocess(first, second, skip_structure_reduction=True)
        return self._scaled.rms(first, second, work)
