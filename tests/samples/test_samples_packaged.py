"""The packaged sample contains the crystals that its ids name."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from novelty_metric import read_samples
from novelty_metric.samples.packaged import packaged_samples_path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_sample.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The names that `scripts/make_sample.py` defines."""
    return runpy.run_path(str(SCRIPT))


def test_formulas_cells_space_groups_and_bonds_of_the_packaged_sample(
    script: dict[str, Any],
) -> None:
    samples = list(read_samples(packaged_samples_path()))
    assert [sample.id for sample in samples] == [*script["EXPECTED"], "broken-half-a-file"]
    for sample in samples[:-1]:
        assert sample.structure is not None, sample.error
        script["check"](sample.id, sample.structure)
    kinds = Counter(sample.id.partition("-")[0] for sample in samples)
    assert kinds == {
        "copy": 13,
        "swap": 17,
        "other": 6,
        "refused": 3,
        "strained": 1,
        "broken": 1,
    }


@pytest.mark.slow
def test_script_makes_the_packaged_sample(script: dict[str, Any]) -> None:
    made = script["crystals"]()
    for sample in read_samples(packaged_samples_path()):
        if sample.structure is not None:
            crystal = made.pop(sample.id)
            assert crystal.composition == sample.structure.composition, sample.id
            # The order of atoms in a CIF differs.
            wanted, found = (
                np.sort(s.distance_matrix, axis=None) for s in (crystal, sample.structure)
            )
            np.testing.assert_allclose(found, wanted, atol=1e-3, err_msg=sample.id)
    assert not made


@pytest.mark.parametrize(
    ("name", "crystal", "problem"),
    [
        (
            "swap-ordered-fluorite-LiYF4",  # Li and Y at the positions of the other origin choice
            (
                "I4_1/a",
                (5.17, 10.74),
                ["Li", "Y", "F"],
                [[0, 0.25, 0.125], [0, 0.25, 0.625], [0.282, 0.1642, 0.0815]],
            ),
            r"its cell holds Li8 Y8 F16, not Li4 Y4 F16",
        ),
        (
            "other-CsNiCl3-type-CsMgCl3",  # Cs between three Cl, in the wrong plane
            (
                "P6_3/mmc",
                (7.27, 6.19),
                ["Cs", "Mg", "Cl"],
                [[1 / 3, 2 / 3, 0.25], [0, 0, 0], [0.156, 0.312, 0.25]],
            ),
            r"around Cs are Cl 2\.23 Cl 2\.23 Cl 2\.23, not 12 at 3\.73",
        ),
        (
            "swap-CsCl-CsBr",
            ("Fm-3m", (7.44,), ["Cs", "Br"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
            r"its space group is Fm-3m, not Pm-3m",
        ),
    ],
)
def test_wrong_crystal_is_refused(
    script: dict[str, Any], name: str, crystal: tuple[Any, ...], problem: str
) -> None:
    made = script["compound"](script["Textbook"](*crystal, cell="", shells={}))
    with pytest.raises(ValueError, match=f"^{name}: .*{problem}"):
        script["check"](name, made)
