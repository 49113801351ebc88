"""Equivalent descriptions of a crystal must match the same reference crystals.

The description can change which of several maps pymatgen finds first, and therefore the cost
(`benchmarks/invariance.py` measures how often). The set of matching pairs must not change.
"""

from __future__ import annotations

import numpy as np
import pytest
from crystal_changes import CHANGES
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from novelty_metric.crystal import clean, reduce
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search.engine import ParentSearch

MANY = Protocol(k=300)


@pytest.fixture(scope="module")
def search(reference: Reference) -> ParentSearch:
    return ParentSearch(reference, MANY)


@settings(max_examples=30, derandomize=True)
@given(
    which=st.integers(0, 59), change=st.sampled_from(sorted(CHANGES)), seed=st.integers(0, 2**31)
)
def test_matching_pairs_do_not_depend_on_the_description(  # noqa: PLR0917
    search: ParentSearch,
    diffcsp: list[Structure],
    substituted: list[Structure],
    which: int,
    change: str,
    seed: int,
) -> None:
    crystals = [crystal for crystal in substituted[:20] + diffcsp if len(crystal) <= 12]
    crystal = crystals[which % len(crystals)]
    again = reduce(clean(CHANGES[change](crystal, np.random.default_rng(seed))))
    found, also = ({p.index for p in search.parents(s, None).parents} for s in (crystal, again))
    assert found == also
    duplicates = [search.duplicate(s) for s in (crystal, again)]
    assert len({d.index if d else None for d in duplicates}) == 1
