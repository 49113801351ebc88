"""The table of modified Pettifor numbers and the cost of an atom map."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import NUMBER
from pymatgen.core import Element

from novelty_metric.search import pettifor


def test_table_is_a_permutation_without_gaps() -> None:
    numbers = [pettifor.pettifor_number(z) for z in range(1, 104)]
    assert sorted(numbers) == list(range(103))  # type: ignore[type-var]


def test_table_agrees_with_a_second_copy() -> None:
    assert {name: pettifor.pettifor_number(name) for name in NUMBER} == NUMBER


@pytest.mark.parametrize(
    ("symbol", "number"),
    [
        *(("He", 0), ("Cs", 7), ("Lu", 18), ("La", 31), ("Lr", 46), ("Sc", 47), ("Mg", 72)),
        *(("Be", 76), ("B", 85), ("O", 96), ("At", 97), ("F", 101), ("H", 102)),
    ],
)
def test_numbers_of_the_documentation(symbol: str, number: int) -> None:
    assert pettifor.pettifor_number(symbol) == number
    assert pettifor.pettifor_number(Element(symbol).Z) == number


def test_symbols_agree_with_pymatgen() -> None:
    assert [pettifor.symbol(z) for z in range(1, 119)] == [
        Element.from_Z(z).symbol for z in range(1, 119)
    ]


def test_elements_without_a_number() -> None:
    assert pettifor.pettifor_number("Rf") is None
    assert (pettifor.pettifor_numbers([104, 118]) == pettifor.NONE).all()


@pytest.mark.parametrize("bad", [0, 119, -1, "Xx", ""])
def test_invalid_elements_are_refused(bad: int | str) -> None:
    with pytest.raises(ValueError, match="not an"):
        pettifor.pettifor_number(bad)


def test_cost() -> None:
    numbers = pettifor.pettifor_numbers
    assert pettifor.map_cost(numbers([8, 8, 1]), numbers([16, 8, 2])) == (1 + 0 + 102) / 3


def test_element_without_a_number_costs_102_even_against_itself() -> None:
    numbers = pettifor.pettifor_numbers([104, 8])
    assert pettifor.map_cost(numbers, numbers) == 102 / 2
    assert pettifor.site_costs(np.array([255], np.uint8), np.array([0], np.uint8))[0] == 102
