"""SMACT's verdict on compositions, as the method wants it."""

from __future__ import annotations

import pytest
from pymatgen.core import Composition

from novelty_metric.screening import composition as module
from novelty_metric.screening.composition import smact_valid


@pytest.mark.parametrize(
    "formula",
    [
        "NaCl",
        "LiFePO4",
        "TiO2",
        "AcCl3",
        "FeCo",  # alloys count as valid
        "CuZn",
        "Au",  # so do single elements
        "He",
        "O2",
    ],
)
def test_valid(formula: str) -> None:
    assert smact_valid(Composition(formula)) is True


@pytest.mark.parametrize(
    "formula",
    [
        "Na2Cl",
        "NaCl2",
        "HoHe",
        "Fe3O4",  # mixed valence is off
        "RfO2",  # SMACT raises on superheavy elements
        "OgO2",
        "DbN",
    ],
)
def test_invalid(formula: str) -> None:
    assert smact_valid(Composition(formula)) is False


def test_smact_does_raise_on_superheavy_elements() -> None:
    """Otherwise `test_invalid` would not test what it says."""
    from smact.screening import smact_validity

    with pytest.raises(KeyError):
        smact_validity(Composition("RfO2"))


def test_same_as_smact_itself() -> None:
    from smact.screening import smact_validity

    formulas = ["Na3N", "MgO", "Al2O3", "CaTiO3", "Li2S", "K3P", "CsAu", "SiC", "BN", "GaAs"]
    formulas += ["CoSb3", "Bi2Te3", "NaO", "LiO2", "XeF2", "CaF"]
    verdicts = {formula: smact_validity(Composition(formula)) for formula in formulas}
    assert {formula: smact_valid(formula) for formula in formulas} == verdicts
    assert set(verdicts.values()) == {True, False}


def test_multiples_and_order_do_not_matter() -> None:
    for formula in ("NaCl", "Na2Cl", "CaTiO3"):
        one = Composition(formula)
        assert smact_valid(one * 4) is smact_valid(one)
        assert smact_valid(Composition(dict(reversed(one.as_dict().items())))) is smact_valid(one)


def test_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    import smact.screening

    original = smact.screening.smact_validity
    monkeypatch.setattr(
        smact.screening, "smact_validity", lambda c: (calls.append(c), original(c))[1]
    )
    module._smact_valid.cache_clear()
    assert smact_valid("KBr") and smact_valid(Composition("KBr"))
    assert len(calls) == 1


def test_no_formula() -> None:
    with pytest.raises(ValueError, match="holds no element"):
        smact_valid(Composition({}))
    with pytest.raises(ValueError, match="invalid formula"):
        smact_valid("Na(Cl")
