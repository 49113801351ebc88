"""Crystals and metrics for the tests of the training loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Structure
from salts import salt

from novelty_metric import Reference


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate cache folder for each test."""
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference.from_structures(
        [salt(5.64, "Na", "Cl"), salt(4.21, "Mg", "O")],
        ids=["NaCl", "MgO"],
        name="two",
    )


@pytest.fixture
def settings(reference: Reference) -> dict[str, Any]:
    """Without relaxation, copies are duplicates, and rock salt of other elements is undecided."""
    return {"reference": reference, "relaxer": "none", "hull": "none"}


@pytest.fixture
def sampler() -> Callable[[int], list[Structure]]:
    """A sampler that alternates copies and substituted crystals."""
    return lambda n: [[salt(5.64, "Na", "Cl"), salt(6.3, "K", "Cl")][i % 2] for i in range(n)]
