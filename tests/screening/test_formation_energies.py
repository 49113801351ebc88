"""Files of formation energies, and hulls from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition, Element

from novelty_metric.errors import InputError
from novelty_metric.screening.compositions import CompositionKey, Compositions
from novelty_metric.screening.formation_energies import MP_20, About, FormationEnergies
from novelty_metric.screening.formation_hull import FormationHull
from novelty_metric.screening.hull import Energies, Hull, LowerHull
from novelty_metric.screening.scales import EnergyScale, energies_scale

ABOUT = About(name="mine", source="made up", licence="none", date="2026-01-01", scheme="by hand")


def known(energies: dict[str, float]) -> FormationEnergies:
    keys: list[CompositionKey] = [
        tuple(sorted((e.Z, int(n)) for e, n in Composition(formula).items()))
        for formula in energies
    ]
    return FormationEnergies(
        Compositions.of(keys),
        np.array(list(energies.values())),
        np.array([len(key) == 1 for key in keys]),
        ABOUT,
    )


def test_written_files_are_read_back(tmp_path: Path) -> None:
    for factor in (1.0, 0.3):  # integer and fractional amounts
        made = known({"Li": 0.0, "S": 0.0, "Li2S": -1.5, "LiS3O12": -0.25})
        starts, numbers, amounts = (
            made.compositions.starts,
            made.compositions.numbers,
            made.compositions.amounts * factor,
        )
        made = FormationEnergies(
            Compositions(starts, numbers, amounts), made.energies, made.on_hull, ABOUT
        )
        made.write(tmp_path / "a.parquet")
        read = FormationEnergies.read(tmp_path / "a.parquet")
        assert read.about == ABOUT
        assert read.content_hash == made.content_hash
        assert read.on_hull.tolist() == [True, True, False, False]
        assert [read.compositions.key(i) for i in range(4)] == [
            made.compositions.key(i) for i in range(4)
        ]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(InputError, match=r"a\.parquet: can't be read"):
        FormationEnergies.read(path)
    path.write_text("nothing")
    with pytest.raises(InputError, match=r"a\.parquet: no formation energies"):
        FormationEnergies.read(path)
    made = known({"Li": 0.0, "S": 0.0})
    made.energies[1] = math.nan
    made.write(path)
    with pytest.raises(InputError, match="not a usable number"):
        FormationEnergies.read(path)


def test_hull_calculated_by_hand() -> None:
    scale = EnergyScale(name="by hand", elemental={"Li": -2.0, "S": -4.0})
    hull: Hull = FormationHull(known({"Li": 0.0, "S": 0.0, "Li2S": -1.0}), scale)
    assert hull.name == "mine"
    # LiS: 3/4 of the atoms are in Li2S (-1.0) and 1/4 in S, so -0.75.
    assert hull.e_above_hull(Composition("LiS"), -3.5) == pytest.approx(-0.5 + 0.75)
    assert hull.e_above_hull(Composition("Li4S2"), -8 / 3 - 1.2) == pytest.approx(-0.2)
    assert hull.e_above_hull(Composition("LiO"), -3.5) is None
    assert hull.e_above_hull(Composition("LiS"), math.nan) is None
    described = hull.describe()
    assert described["compositions"] == 3 and described["compositions_on_hull"] == 2
    assert described["scale"] == "by hand" and described["licence"] == "none"


def test_packaged_file() -> None:
    read = FormationEnergies.read(MP_20)
    assert MP_20.stat().st_size < 600_000
    assert read.about.licence == "CC BY 4.0" and "MP2020" in read.about.scheme
    sizes = read.compositions.n_elements
    keys = [read.compositions.key(i) for i in range(len(read))]
    assert len(set(keys)) == len(keys) > 37_000
    assert all(math.gcd(*(int(n) for _, n in key)) == 1 for key in keys)
    single = sizes == 1
    assert single.sum() == 89 and not np.abs(read.energies[single]).any()
    assert {Element.from_Z(key[0][0]).symbol for key in keys if len(key) == 1} == set(
        energies_scale(Energies.CORRECTED).elemental
    )
    # Rock salt in the published table: formation energy -2.10 eV/atom, on the hull.
    at = keys.index(((11, 1), (17, 1)))
    assert read.on_hull[at] and read.energies[at] == pytest.approx(-2.1, abs=0.1)


def test_packaged_points_agree_with_the_tables(shared_data: Path) -> None:
    """Every published distance is the formation energy of the crystal minus the hull."""
    import pandas as pd

    read = FormationEnergies.read(MP_20)
    lower = LowerHull(read.compositions, read.energies)
    table = pd.read_parquet(shared_data / "mp_20" / "test.parquet").sample(300, random_state=0)
    for row in table.itertuples():
        found = lower.distance(Composition(row.pretty_formula), row.formation_energy_per_atom)
        assert found is not None
        # Never above the published hull; below it only where the point of another row is not
        # convex.
        assert found.e_above_hull >= row.e_above_hull - 1e-4


def test_script_makes_the_packaged_file(shared_data: Path) -> None:
    import make_mp_20_hull as script

    found = script.points(shared_data)
    read = FormationEnergies.read(MP_20)
    assert read.about == script.ABOUT
    assert read.compositions.keys() == sorted(found)
    values = [found[key] for key in sorted(found)]
    np.testing.assert_allclose(read.energies, [energy for energy, _ in values], atol=1e-6)
    assert read.on_hull.tolist() == [on_hull for _, on_hull in values]
