"""Graded novelty of single crystals from the search alone: a reward for reinforcement learning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from novelty_metric.report.graded import crystal_score
from novelty_metric.samples.base import Sample
from novelty_metric.scoring.case import Case

if TYPE_CHECKING:
    from novelty_metric.scoring.pipeline import Pipeline

UNKNOWN = 0.0
"""Reward of a crystal that cannot be scored: a model must not gain from such crystals."""


@dataclass(frozen=True, slots=True)
class Reward:
    """Reward of a crystal, with the reason."""

    value: float
    """From 0 to 1; see `novelty_metric.SubstitutionNovelty.reward`."""
    parent_id: str | None = None
    """The reference crystal that it equals, else its cheapest candidate parent."""
    cost: float | None = None
    """Mean modified Pettifor distance from that; None where there is none."""
    reason: str | None = None
    """The reason for the value 0 of a crystal that could not be scored."""


def is_crystal(given: object) -> bool:
    """True for one pymatgen Structure or ASE Atoms, False for several."""
    return hasattr(given, "lattice") or hasattr(given, "get_scaled_positions")


def rewards(pipeline: Pipeline, structures: Iterable[Any]) -> list[Reward]:
    """The rewards of these crystals, in order, by a pipeline without a potential.

    Objects that are not pymatgen Structures or ASE Atoms get `UNKNOWN`, with the reason.
    """
    cases: Sequence[Case] = [
        Case(Sample(str(at), structure)) for at, structure in enumerate(structures)
    ]
    pipeline.check(cases)
    pipeline.normalise(cases)
    pipeline.search(cases, plain_matching=False)
    return [_reward(pipeline, case) for case in cases]


def _reward(pipeline: Pipeline, case: Case) -> Reward:
    row = pipeline.row(case)
    value = crystal_score(row)
    if value is None or row.verdict is None:
        return Reward(UNKNOWN, reason=row.error)
    return Reward(value, row.parent_id, row.cost)
