"""Reasons why a known substitution is not found: it is scored again with one setting changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from novelty_metric.analysis.sensitivity import scaled_tolerances
from novelty_metric.protocol import PRESETS, Protocol
from novelty_metric.verdict import CrystalResult, Route, Verdict

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.metric import SubstitutionNovelty

FOUND = (Verdict.DUPLICATE, Verdict.SUBSTITUTED)

MORE_PARENTS = 10
WIDER_SYMMETRY = 3.0
"""Factor of `symmetrise`; `LEAST_SYMMETRY` (Å) if the protocol has none."""
LEAST_SYMMETRY = 0.1
WIDER_TOLERANCES = 1.5
SAME_ENERGY = 0.005
"""Relaxed parents within this energy of the crystal (eV/atom) are neither higher nor lower."""


class Miss(StrEnum):
    """The reason why a crystal is not found; the first one that applies.

    The first six are settings: with that one changed the crystal is found. The others describe
    what its candidates do where no setting helps.
    """

    EARLY_END = "early end"
    SADDLE = "saddle point"
    SYMMETRY = "symmetry broken"
    COST = "not among the cheapest parents"
    OTHER_PROTOCOL = "found by the other protocol"
    TOLERANCES = "just outside the tolerances"
    UNDECIDED = "undecided"
    NO_FRAMEWORK = "no framework in the reference"
    HIGHER = "parents rest at a higher energy"
    LOWER = "parents rest at a lower energy"
    ELSEWHERE = "parents rest in another crystal of equal energy"


def explain_misses(
    metric: SubstitutionNovelty, missed: Mapping[str, tuple[Structure, CrystalResult]]
) -> dict[str, Miss]:
    """The reason for each unmatched or undecided crystal.

    Parameters
    ----------
    metric : SubstitutionNovelty
        That missed them; its relaxer is used.
    missed : mapping
        From the id to the crystal as it was scored and its row.

    Returns
    -------
    dict
        By id. Each crystal is scored again at most six times, fewer once a change finds it.
    """
    kinds: dict[str, Miss] = {}
    for kind, protocol in changes(metric.protocol):
        left = [name for name in missed if name not in kinds]
        if not left:
            break
        with metric.variant(protocol) as variant:
            report = variant([missed[name][0] for name in left], left)
        kinds |= {result.id: kind for result in report.results if result.verdict in FOUND}
    return {name: kinds.get(name) or by_candidates(missed[name][1]) for name in missed}


def changes(protocol: Protocol) -> Iterator[tuple[Miss, Protocol]]:
    """The protocol with one setting changed, by the reason that this setting tests."""
    if protocol.accept_early or protocol.refuse_after:
        yield Miss.EARLY_END, dataclasses.replace(protocol, accept_early=0.0, refuse_after=0)
    if protocol.minima != "escape":
        yield Miss.SADDLE, dataclasses.replace(protocol, minima="escape")
    wider = WIDER_SYMMETRY * protocol.symmetrise or LEAST_SYMMETRY
    yield Miss.SYMMETRY, dataclasses.replace(protocol, symmetrise=wider)
    if protocol.k < MORE_PARENTS:
        yield Miss.COST, dataclasses.replace(protocol, k=MORE_PARENTS)
    yield Miss.OTHER_PROTOCOL, PRESETS["fast" if protocol.name == "paper" else "paper"]
    yield Miss.TOLERANCES, scaled_tolerances(protocol, WIDER_TOLERANCES)


def by_candidates(result: CrystalResult) -> Miss:
    """The reason shown by the candidates of a crystal that no setting finds."""
    if result.verdict == Verdict.UNDECIDED:
        return Miss.UNDECIDED
    like_it = [one for one in result.parents if one.parent.route is Route.LATTICE_SITES]
    if not like_it:
        return Miss.NO_FRAMEWORK
    above = [
        one.energy_per_atom - result.energy_per_atom
        for one in like_it
        if one.energy_per_atom is not None and result.energy_per_atom is not None
    ]
    if above and min(above) > SAME_ENERGY:
        return Miss.HIGHER
    if above and min(above) < -SAME_ENERGY:
        return Miss.LOWER
    return Miss.ELSEWHERE
