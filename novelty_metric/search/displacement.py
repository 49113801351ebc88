"""Displacement of a crystal by its relaxation, as Matbench Discovery measures it."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any

from novelty_metric.primitive import niggli, primitive
from novelty_metric.protocol import Protocol
from novelty_metric.search.compiled import TooMuchToCompareError, load_kernels, where_equal
from novelty_metric.search.matching import MatcherWork

if TYPE_CHECKING:
    from pymatgen.core import Structure


@cache
def _matcher() -> tuple[Any, Protocol]:
    """The matcher, with its tolerances for the kernels."""
    from pymatgen.core.structure_matcher import StructureMatcher

    matcher = StructureMatcher(stol=1.0, scale=False)
    protocol = dataclasses.replace(
        Protocol.named("paper"),
        ltol=matcher.ltol,
        stol=matcher.stol,
        angle_tol=matcher.angle_tol,
    )
    return matcher, protocol


def rms_displacement(generated: Structure, relaxed: Structure) -> float | None:
    """RMS site distance between a crystal and its relaxed form, in (V/N)^(1/3).

    Parameters
    ----------
    generated, relaxed : Structure
        Clean, of one composition.

    Returns
    -------
    float or None
        None where pymatgen finds no match, as where the relaxed crystal has a smaller primitive
        cell. Matbench Discovery counts such a crystal as 1.

    Raises
    ------
    TooMuchToCompareError
        Past the limits of `novelty_metric.search.matching`.
    CrystalError
        If one can't be reduced, see `primitive`.

    Notes
    -----
    The value is the first one of ``StructureMatcher(stol=1.0, scale=False).get_rms_dist(generated,
    relaxed)``: the least over all lattices and translations. These are the settings with which
    Matbench Discovery (Riebesell et al., Nat. Mach. Intell. 7, 836 (2025)) measures geometries.
    """
    matcher, protocol = _matcher()
    first, second = (
        primitive(niggli(structure)) for structure in matcher._process_species([generated, relaxed])
    )
    if len(first) != len(second):
        return None
    if where_equal(load_kernels(), first, second, protocol)[0] is None:
        raise TooMuchToCompareError("too much to compare")
    counted = MatcherWork().counted(matcher)
    match = counted._match(first, second, 1, True, use_rms=True, break_on_match=False)
    return None if match is None else float(match[0])
