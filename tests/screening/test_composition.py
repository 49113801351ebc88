"""SMACT's validity of compositions, with the settings of the method."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from novelty_metric.errors import InputError
from novelty_metric.screening import composition as module
from novelty_metric.screening.composition import (
    OXIDATION_STATE_SETS,
    load_oxidation_states,
    neutral_and_ordered,
    oxidation_states_name,
    smact_valid,
)


@pytest.mark.parametrize(
    "formula",
    [
        "NaCl",
        "LiFePO4",
        "TiO2",
        "AcCl3",
        "FeCo",  # alloys are valid
        "CuZn",
        "Au",  # single elements are valid
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
        "Fe3O4",  # mixed valence is disabled
        "RfO2",  # SMACT raises an error for superheavy elements
        "OgO2",
        "DbN",
    ],
)
def test_invalid(formula: str) -> None:
    assert smact_valid(Composition(formula)) is False


def test_smact_does_raise_on_superheavy_elements() -> None:
    """`test_invalid` relies on this error."""
    from smact.screening import smact_validity

    with pytest.raises(KeyError):
        smact_validity(Composition("RfO2"))


def test_agrees_with_smact() -> None:
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


def test_invalid_formulas() -> None:
    with pytest.raises(ValueError, match="contains no element"):
        smact_valid(Composition({}))
    with pytest.raises(ValueError, match="invalid formula"):
        smact_valid("Na(Cl")


def test_formula_above_the_limit_is_refused() -> None:
    assert smact_valid("Na1000000Cl1000000")  # NaCl
    with pytest.raises(ValueError, match="2000001 atoms in a formula, more than 1000000"):
        smact_valid("Na1000001Cl1000000")
    with pytest.raises(ValueError, match="not finite"):
        smact_valid(Composition({"Na": float("inf"), "Cl": 1}))


def smact_itself(amounts: dict[str, float], given: str | None) -> bool:
    from smact.screening import smact_validity

    try:
        return bool(smact_validity(Composition(amounts), oxidation_states_set=given))
    except (KeyError, ZeroDivisionError):  # superheavy elements; amounts below one
        return False


SYMBOLS = [Element.from_Z(number).symbol for number in range(1, 119)]
SETS = (None, *OXIDATION_STATE_SETS)


@pytest.mark.filterwarnings("ignore:This set of oxidation states")
@given(
    amounts=st.dictionaries(
        st.sampled_from(SYMBOLS),
        st.one_of(st.integers(1, 12), st.floats(0.1, 5)),
        min_size=1,
        max_size=4,
    ),
    given_set=st.sampled_from(SETS),
)
def test_random_compositions_agree_with_smact(
    amounts: dict[str, float], given_set: str | None
) -> None:
    found = smact_valid(Composition(amounts), load_oxidation_states(given_set))
    assert found is smact_itself(amounts, given_set)


@pytest.mark.filterwarnings("ignore:This set of oxidation states")
@pytest.mark.parametrize("given_set", SETS)
def test_real_compositions_agree_with_smact(shared_data: Path, given_set: str | None) -> None:
    import pyarrow.parquet as pq

    formulas = pq.read_table(shared_data / "mp_20" / "val.parquet")["pretty_formula"].to_pylist()
    states = load_oxidation_states(given_set)
    verdicts = set()
    for formula in formulas[::40]:
        found = smact_valid(formula, states)
        verdicts.add(found)
        assert found is smact_itself(Composition(formula).get_el_amt_dict(), given_set), formula
    assert verdicts == {True, False}


ION = st.tuples(
    st.sampled_from([0.0, 0.7, 1.9, 2.2, 2.2, 3.4]),
    st.integers(0, 6),
    st.lists(st.integers(-5, 6), min_size=1, max_size=4, unique=True),
)


@given(ions=st.lists(ION, min_size=2, max_size=5))
def test_agrees_with_enumeration_of_all_combinations(
    ions: list[tuple[float, int, list[int]]],
) -> None:
    """With ties, state zero, no atoms, and elements that can be cations or anions."""

    def passes(charges: tuple[int, ...]) -> bool:
        if sum(q * count for q, (_, count, _) in zip(charges, ions, strict=True)):
            return False
        cations = [ion[0] for q, ion in zip(charges, ions, strict=True) if q > 0]
        anions = [ion[0] for q, ion in zip(charges, ions, strict=True) if q < 0]
        return max(cations, default=-1.0) < min(anions, default=9.0)

    every = itertools.product(*(states for _, _, states in ions))
    assert neutral_and_ordered(ions) is any(map(passes, every))


def test_compositions_of_many_elements_are_decided() -> None:
    """SMACT would try 10¹³ and 10¹⁵ combinations, which takes hours."""
    eighteen = "BeHfTaReAsMoPKCeICrBiPtTlBHCs"
    assert smact_valid(eighteen) is True
    assert smact_valid(eighteen.replace("HCs", "")) is True
    # Fluorine is the only anion: 19 metals allow a charge of 47, but not 150.
    metals_and_one = "FeMnCrVTiNbMoWReOsRuIrPtPdNiCoCuAgAu"
    assert smact_valid(f"{metals_and_one}F47") is True
    assert smact_valid(f"{metals_and_one}F150") is False


def test_only_finished_results_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    from smact import data_loader

    def full(symbol: str) -> None:
        raise MemoryError

    module._smact_valid.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(data_loader, "lookup_element_data", full)
        with pytest.raises(MemoryError):
            smact_valid("KBr")
    assert smact_valid("KBr") and smact_valid(Composition("K4Br4"))
    assert module._smact_valid.cache_info().hits == 1


def test_cache_separates_the_sets() -> None:
    answers = {
        name: [smact_valid(f, load_oxidation_states(name)) for f in ("AuF7", "OF2", "NaSi", "PdF")]
        for name in SETS
    }
    assert len({tuple(answer) for answer in answers.values()}) > 2


def test_file_of_oxidation_states(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\nNa 2\nCl -1\nXe\n")
    states = load_oxidation_states(path)
    assert states.name.startswith("mine.txt, sha256 ")
    formulas = ["NaCl", "NaCl2", "NaF", "XeCl"]
    answers = [smact_valid(formula, states) for formula in formulas]
    assert answers == [False, True, False, False]
    assert answers == [smact_itself(Composition(f).get_el_amt_dict(), str(path)) for f in formulas]
    path.write_text("Na 1\nCl -1\n")
    assert smact_valid("NaCl", load_oxidation_states(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Na one 1\n", "not in SMACT's format.*'one'"),
        ("# nothing\n", "contains no oxidation states"),
        (b"\xff\xfe1", "not in SMACT's format"),
    ],
)
def test_invalid_files_of_oxidation_states(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        oxidation_states_name(path)


def test_unknown_names_of_sets() -> None:
    with pytest.raises(
        InputError, match="no oxidation states named 'icsd'; known to SMACT: icsd24"
    ):
        oxidation_states_name("icsd")
