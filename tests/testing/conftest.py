"""Small projects with known verdicts, on which pytest runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from salts import rocksalt

from novelty_metric import Reference

PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


KINDS: dict[str, Structure] = {
    # A copy of the reference's perovskite: duplicate.
    "c": Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], PEROVSKITE),
    # The same formula on sites that no reference crystal has: unmatched.
    "n": Structure(
        Lattice.from_parameters(3.1, 4.7, 7.3, 83, 97, 101),
        ["Sr", "Ti", "O", "O", "O"],
        [[0, 0, 0], [0.47, 0.31, 0.38], [0.13, 0.71, 0.22], [0.61, 0.14, 0.71], [0.2, 0.55, 0.67]],
    ),
    # Rock salt of other elements: undecided, because nothing is relaxed.
    "s": rocksalt(6.29, "K", "Cl"),
    # An invalid composition: not eligible.
    "x": rocksalt(5.2, "Mg", "Cl"),
}
"""Crystals by their letter in `write_samples`."""

WriteSamples = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what a check imports: pytester removes modules that a run in this process imports."""
    import yaml

    from novelty_metric import SubstitutionNovelty, read_samples
    from novelty_metric.comparison.compare import compare
    from novelty_metric.testing import regression, scoring, session

    assert yaml and regression and scoring and session
    path = tmp_path_factory.mktemp("loaded") / "one.json"
    path.write_text(json.dumps({name: kind.as_dict() for name, kind in KINDS.items()}))
    metric = SubstitutionNovelty("aflow", relaxer=None)
    metric.update_samples(read_samples(path))
    report = metric.compute()
    compare(report, report)


@pytest.fixture(scope="session")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference of three crystals."""
    path = tmp_path_factory.mktemp("reference") / "three.arrow"
    crystals = [
        rocksalt(5.64, "Na", "Cl"),
        Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        KINDS["c"],
    ]
    Reference.from_structures(crystals, ids=["salt", "CsCl", "SrTiO3"], name="three").save(path)
    return path


@pytest.fixture
def write_samples(pytester: pytest.Pytester) -> WriteSamples:
    """Write one crystal per letter of `KINDS` to a file; ``b`` is unreadable."""

    def write(name: str, kinds: str) -> Path:
        path = pytester.path / name
        crystals = {
            f"gen_{i}": {"lattice": "lost"} if kind == "b" else KINDS[kind].as_dict()
            for i, kind in enumerate(kinds)
        }
        path.write_text(json.dumps(crystals))
        return path

    return write


@pytest.fixture
def project(
    pytester: pytest.Pytester, reference_file: Path, write_samples: WriteSamples, loaded: None
) -> pytest.Pytester:
    """A folder with a reference, ten samples, and settings without relaxation."""
    shutil.copy(reference_file, pytester.path / "three.arrow")
    write_samples("ten.json", "nnnnncccss")
    pytester.makeini(
        """
        [pytest]
        novelty_reference = three.arrow
        novelty_relaxer = none
        """
    )
    return pytester
