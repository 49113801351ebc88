"""One crystal: refusals of `clean`, reduction, symmetry."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import assume, given
from hypothesis import strategies as st
from pymatgen.core import (
    DummySpecies,
    Element,
    IStructure,
    Lattice,
    Molecule,
    Species,
    Structure,
)
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.symmetry.groups import SpaceGroup

from novelty_metric import crystal
from novelty_metric.crystal import (
    CRYSTAL_SYSTEMS,
    MAX_COORDINATE,
    MIN_DISTANCE,
    clean,
    crystal_system,
    in_site_order,
    reduce,
    shortest_distance,
    symmetry,
)
from novelty_metric.errors import CrystalError

CUBE = Lattice.cubic(4.0)
PAIR = [[0, 0, 0], [0.5, 0.5, 0.5]]
TOLERANCES = {"symprec": 0.01, "angle_tolerance": 5.0}


def rocksalt(a: float = 5.64, elements: tuple[str, str] = ("Na", "Cl")) -> Structure:
    """The conventional cell, with 8 sites."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), elements, PAIR)


def rutile() -> Structure:
    return Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )


def wurtzite() -> Structure:
    third = 1 / 3
    return Structure.from_spacegroup(
        "P6_3mc",
        Lattice.hexagonal(3.82, 6.26),
        ["Zn", "S"],
        [[third, 2 * third, 0], [third, 2 * third, 0.375]],
    )


def with_cell(rows: list[list[float]]) -> Structure:
    return Structure(Lattice(rows), ["Na", "Cl"], PAIR)


def with_coordinate(value: float) -> Structure:
    return Structure(CUBE, ["Na", "Cl"], [[value, 0, 0], [0.5, 0.5, 0.5]])


def grid(n_x: int, n_y: int, n_z: int) -> Structure:
    """A crystal of n_x × n_y × n_z atoms, 3 Å apart."""
    places = itertools.product(range(n_x), range(n_y), range(n_z))
    fractions = [[x / n_x, y / n_y, z / n_z] for x, y, z in places]
    lattice = Lattice.orthorhombic(3 * n_x, 3 * n_y, 3 * n_z)
    return Structure(lattice, ["Na"] * len(fractions), fractions)


REFUSED: dict[str, tuple[Any, str]] = {
    "nan in the cell": (
        with_cell([[math.nan, 0, 0], [0, 4, 0], [0, 0, 4]]),
        "the cell contains a number that is not finite",
    ),
    "infinite cell": (
        with_cell([[math.inf, 0, 0], [0, 4, 0], [0, 0, 4]]),
        "the cell contains a number that is not finite",
    ),
    "nan coordinate": (
        with_coordinate(math.nan),
        "the coordinates contain a number that is not finite",
    ),
    "infinite coordinate": (
        with_coordinate(-math.inf),
        "the coordinates contain a number that is not finite",
    ),
    "coordinate lost to rounding": (with_coordinate(1e300), "a fractional coordinate is 1e+300"),
    "no cell": (with_cell([[0, 0, 0]] * 3), "the cell has no volume (0 Å³)"),
    "flat cell": (with_cell([[4, 0, 0], [0, 4, 0], [4, 4, 1e-9]]), "the cell has no volume"),
    "two equal vectors": (with_cell([[4, 0, 0], [4, 0, 0], [0, 0, 4]]), "the cell has no volume"),
    "flat for its length": (
        with_cell([[900, 0, 0], [0, 900, 0], [0, 0, 1e-4]]),
        "the cell has no volume",
    ),
    "minute cell": (with_cell([[0.05, 0, 0], [0, 0.05, 0], [0, 0, 0.05]]), "no volume"),
    "cell too long": (with_cell([[2e4, 0, 0], [0, 2e4, 0], [0, 0, 2e4]]), "2e+04 Å long"),
    "coincident atoms": (
        Structure(CUBE, ["Na", "Cl"], [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]),
        "coincident atoms (0 Å apart)",
    ),
    "coincident through the wall": (
        Structure(CUBE, ["Na", "Cl"], [[0.999, 0, 0], [0.001, 0, 0]]),
        "coincident atoms (0.008 Å apart)",
    ),
    "one atom on its own image": (
        Structure(Lattice.orthorhombic(0.05, 10, 10), ["Na"], [[0, 0, 0]]),
        "coincident atoms (0.05 Å apart)",
    ),
    "one atom on its own image, skew": (
        Structure(Lattice([[10, 0, 0], [0, 10, 0], [30, 0, 0.05]]), ["Na"], [[0, 0, 0]]),
        "coincident atoms (0.05 Å apart)",
    ),
    "no element": (
        Structure(CUBE, [DummySpecies("X"), "Cl"], PAIR),
        "'X' is not an element",
    ),
    "atomic number 0": (
        Atoms(numbers=[0, 17], scaled_positions=PAIR, cell=[4, 4, 4], pbc=True),
        "'X' is not an element",
    ),
    "partly occupied": (
        Structure(CUBE, [{"Na": 0.5}, "Cl"], PAIR),
        "partly occupied or mixed sites",
    ),
    "mixed": (
        Structure(CUBE, [{"Na": 0.5, "K": 0.5}, "Cl"], PAIR),
        "partly occupied or mixed sites",
    ),
    "empty site": (Structure(CUBE, [{"Na": 0.0}, "Cl"], PAIR), "partly occupied or mixed sites"),
    "no atoms": (Structure(CUBE, [], []), "no atoms"),
    "no atoms, ASE": (Atoms(cell=[4, 4, 4], pbc=True), "no atoms"),
    "ASE without a cell": (
        Atoms("NaCl", positions=[[0, 0, 0], [2, 2, 2]]),
        "the cell has no volume (0 independent cell vectors)",
    ),
    "ASE with one vector": (
        Atoms("NaCl", positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 0, 0], pbc=[True, False, False]),
        "the cell has no volume (1 independent cell vectors)",
    ),
    "ASE with nan": (
        Atoms("NaCl", positions=[[math.nan, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True),
        "the coordinates contain a number that is not finite",
    ),
    "a cell of ASE": (
        Atoms("Na", cell=[4, 4, 4]).cell,
        "ASE Atoms could not be converted",
    ),
    "a molecule": (
        Molecule(["H", "H"], [[0, 0, 0], [0, 0, 0.74]]),
        "Molecule is neither a pymatgen Structure nor an ASE Atoms",
    ),
    "any object": (object(), "object is neither a pymatgen Structure nor an ASE Atoms"),
    "nothing": (None, "NoneType is neither a pymatgen Structure nor an ASE Atoms"),
    "text": ("NaCl", "str is neither a pymatgen Structure nor an ASE Atoms"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_crystals_give_one_clear_error(name: str) -> None:
    given_structure, message = REFUSED[name]
    with pytest.raises(CrystalError) as caught:
        clean(given_structure)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_max_sites() -> None:
    big = grid(5, 10, 10)
    assert len(clean(big)) == 500
    assert len(clean(big, max_sites=500)) == 500
    with pytest.raises(CrystalError, match=r"^500 sites, more than max_sites=499$"):
        clean(big, max_sites=499)


@pytest.mark.parametrize(
    "hydrogen", ["D", "T", Species("D", 1), Species("T", -1), "H", Species("H", 1)], ids=str
)
def test_isotopes_are_hydrogen(hydrogen: Any) -> None:
    cleaned = clean(Structure(CUBE, [hydrogen, "F"], PAIR))
    assert [site.specie for site in cleaned] == [Element("H"), Element("F")]
    assert cleaned.composition.reduced_formula == "HF"


def test_only_geometry_and_elements_are_kept() -> None:
    decorated = Structure(
        CUBE,
        [Species("Na", 1, {"spin": 2}), Species("Cl", -1)],
        PAIR,
        site_properties={"magmom": [1.0, 2.0]},
        labels=["first", "second"],
        properties={"source": "somewhere"},
        charge=1,
    )
    cleaned = clean(decorated)
    assert all(type(site.specie) is Element for site in cleaned)
    assert cleaned.site_properties == {}
    assert cleaned.labels == ["Na", "Cl"]
    assert cleaned.properties == {}
    assert cleaned.charge == 0
    # The original structure is unchanged.
    assert decorated[0].specie == Species("Na", 1, {"spin": 2})
    assert decorated.site_properties == {"magmom": [1.0, 2.0]}


def test_ase_atoms_are_accepted() -> None:
    atoms = Atoms("NaCl", scaled_positions=PAIR, cell=[4, 5, 6], pbc=True)
    cleaned = clean(atoms)
    assert type(cleaned) is Structure
    np.testing.assert_allclose(cleaned.lattice.matrix, np.diag([4, 5, 6]))
    np.testing.assert_allclose(cleaned.frac_coords, PAIR, atol=1e-12)
    assert [site.specie.symbol for site in cleaned] == ["Na", "Cl"]


def test_subclass_of_ase_atoms_is_accepted() -> None:
    class Described(Atoms):
        pass

    assert len(clean(Described("NaCl", scaled_positions=PAIR, cell=[4, 4, 4], pbc=True))) == 2


def test_immutable_structures_are_accepted() -> None:
    assert type(clean(IStructure(CUBE, ["Na", "Cl"], PAIR))) is Structure


def test_coordinates_are_not_wrapped() -> None:
    outside = Structure(CUBE, ["Na", "Cl"], [[-0.25, 3, 0], [0.5, 0.5, 1.5]])
    np.testing.assert_array_equal(clean(outside).frac_coords, outside.frac_coords)
    at_the_limit = with_coordinate(MAX_COORDINATE)
    assert clean(at_the_limit).frac_coords[0, 0] == MAX_COORDINATE


def test_left_handed_cells_are_accepted() -> None:
    matrix = [[0.0, 4, 0], [4, 0, 0], [0, 0, 4]]
    cleaned = clean(Structure(Lattice(matrix), ["Na", "Cl"], PAIR))
    np.testing.assert_array_equal(cleaned.lattice.matrix, matrix)


@pytest.mark.parametrize(("apart", "taken"), [(0.99 * MIN_DISTANCE, False), (0.101, True)])
def test_minimum_distance(apart: float, taken: bool) -> None:
    near = Structure(CUBE, ["Na", "Cl"], [[0, 0, 0], [apart / 4, 0, 0]])
    if taken:
        assert shortest_distance(clean(near)) == pytest.approx(apart)
    else:
        with pytest.raises(CrystalError, match="coincident"):
            clean(near)


def test_distance_of_a_single_site_is_to_its_image() -> None:
    assert shortest_distance(Structure(Lattice.orthorhombic(3, 4, 5), ["Na"], [[0, 0, 0]])) == 3
    skew = Structure(Lattice([[3, 0, 0], [9, 1, 0], [0, 0, 5]]), ["Na"], [[0.3, 0, 0]])
    assert shortest_distance(skew) == pytest.approx(1)
    # Also if the distance to another site is larger.
    chains = Structure(Lattice.orthorhombic(2, 12, 12), ["Na", "Cl"], PAIR)
    assert shortest_distance(chains) == 2


# Properties


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    lengths = [draw(st.floats(2.5, 9)) for _ in range(3)]
    angles = [draw(st.floats(65, 115)) for _ in range(3)]
    lattice = Lattice.from_parameters(*lengths, *angles)
    assume(lattice.volume > 0.3 * np.prod(lengths))
    return lattice


@st.composite
def structures(draw: st.DrawFn, max_sites: int = 4) -> Structure:
    lattice = draw(lattices())
    n_sites = draw(st.integers(1, max_sites))
    fractions = [[draw(st.floats(0, 1)) for _ in range(3)] for _ in range(n_sites)]
    elements = [draw(st.sampled_from(["Na", "Cl", "O", "Fe", "H"])) for _ in range(n_sites)]
    return Structure(lattice, elements, fractions)


def brute_distance(structure: Structure, reach: int = 3) -> float:
    """Shortest distance, over all images within `reach` cells."""
    images = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3)), dtype=float)
    wrapped = structure.frac_coords - np.floor(structure.frac_coords)
    found = []
    for first, second in itertools.combinations_with_replacement(range(len(structure)), 2):
        steps = wrapped[second] - wrapped[first] + images
        if first == second:
            steps = steps[np.any(images != 0, axis=1)]
        found.append(np.linalg.norm(steps @ structure.lattice.matrix, axis=1).min())
    return float(min(found))


@given(structures())
def test_shortest_distance_agrees_with_all_images(structure: Structure) -> None:
    assert shortest_distance(structure) == pytest.approx(brute_distance(structure), abs=1e-9)


@given(structures(), st.integers(0, 2**32 - 1))
def test_shortest_distance_depends_on_the_crystal_only(structure: Structure, seed: int) -> None:
    """It depends neither on the choice of the cell nor on the images of sites."""
    rng = np.random.default_rng(seed)
    basis = np.eye(3, dtype=int)
    for _ in range(3):
        row, other = rng.choice(3, 2, replace=False)
        basis[row] += rng.integers(-2, 3) * basis[other]
    cell = Lattice(basis @ structure.lattice.matrix)
    sheared = Structure(
        cell,
        structure.species,
        structure.frac_coords @ np.linalg.inv(basis) + rng.integers(-3, 4, (len(structure), 3)),
    )
    assert shortest_distance(sheared) == pytest.approx(shortest_distance(structure), abs=1e-6)


@given(structures())
def test_clean_keeps_the_crystal_and_is_idempotent(structure: Structure) -> None:
    distance = brute_distance(structure)
    assume(abs(distance - MIN_DISTANCE) > 1e-6)
    if distance < MIN_DISTANCE:
        with pytest.raises(CrystalError, match="coincident"):
            clean(structure)
        return
    once = clean(structure)
    for cleaned in (once, clean(once)):
        np.testing.assert_array_equal(cleaned.lattice.matrix, structure.lattice.matrix)
        np.testing.assert_array_equal(cleaned.frac_coords, structure.frac_coords)
        assert cleaned.species == structure.species


@given(structures(), st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_non_finite_numbers_are_refused(
    structure: Structure, bad: float, data: st.DataObject
) -> None:
    matrix = np.array(structure.lattice.matrix)
    fractions = np.array(structure.frac_coords)
    where = data.draw(st.sampled_from([matrix, fractions]))
    where[data.draw(st.integers(0, len(where) - 1)), data.draw(st.integers(0, 2))] = bad
    with pytest.raises(CrystalError, match="not finite"):
        clean(Structure(Lattice(matrix), structure.species, fractions))


# Reduction


@pytest.mark.parametrize(
    ("conventional", "n_primitive", "space_group"),
    [(rocksalt(), 2, 225), (rutile(), 6, 136), (wurtzite(), 4, 186)],
    ids=["rocksalt", "rutile", "wurtzite"],
)
@pytest.mark.parametrize("scaling", [(1, 1, 1), (2, 1, 1), (1, 2, 2)], ids=str)
def test_reduce_finds_the_primitive_cell(
    conventional: Structure, n_primitive: int, space_group: int, scaling: tuple[int, int, int]
) -> None:
    expanded = conventional.make_supercell(scaling, in_place=False)
    reduced = reduce(expanded)
    assert len(reduced) == n_primitive
    assert reduced.volume / len(reduced) == pytest.approx(expanded.volume / len(expanded))
    assert reduced.composition.reduced_formula == conventional.composition.reduced_formula
    found = symmetry(reduced, **TOLERANCES)
    assert found is not None and found.space_group == space_group
    # The result is the same crystal; this matcher reduces it independently.
    assert StructureMatcher(scale=False).fit(reduced, conventional)


def successive_minima(lattice: Lattice, reach: int = 4) -> list[float]:
    """Lengths of the shortest independent lattice vectors, by enumeration."""
    steps = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3)))
    vectors = steps @ lattice.matrix
    chosen: list[np.ndarray] = []
    for vector in vectors[np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")]:
        if np.linalg.matrix_rank(np.array([*chosen, vector]), tol=1e-6) > len(chosen):
            chosen.append(vector)
        if len(chosen) == 3:
            break
    return [float(np.linalg.norm(vector)) for vector in chosen]


@given(structures())
def test_reduce_keeps_density_and_composition(structure: Structure) -> None:
    assume(brute_distance(structure) > 0.6)
    reduced = reduce(clean(structure))
    assert len(structure) % len(reduced) == 0
    assert reduced.volume / len(reduced) == pytest.approx(structure.volume / len(structure))
    assert reduced.composition.fractional_composition.almost_equals(
        structure.composition.fractional_composition
    )
    # A Niggli cell consists of the shortest vectors.
    np.testing.assert_allclose(reduced.lattice.abc, successive_minima(reduced.lattice), atol=1e-3)
    # Rounding decides about a distance equal to pymatgen's tolerance of 0.25 Å.
    for scale in (0.999, 1.001):
        scaled = Structure(
            structure.lattice.matrix * scale, structure.species, structure.frac_coords
        )
        assume(len(reduce(clean(scaled))) == len(reduced))
    again = reduce(reduced)
    assert len(again) == len(reduced)
    np.testing.assert_allclose(again.lattice.parameters, reduced.lattice.parameters, atol=1e-3)


def test_reduce_gives_the_reason_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Structure:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(Structure, "get_reduced_structure", fail)
    with pytest.raises(CrystalError, match=r"^the cell could not be reduced \(first line\)$"):
        reduce(rocksalt())


# Symmetry


@pytest.mark.parametrize(
    ("structure", "space_group", "letters", "system"),
    [
        (rocksalt(), 225, {"Na": {"a"}, "Cl": {"b"}}, "cubic"),
        (rutile(), 136, {"Ti": {"a"}, "O": {"f"}}, "tetragonal"),
        (wurtzite(), 186, {"Zn": {"b"}, "S": {"b"}}, "hexagonal"),
    ],
    ids=["rocksalt", "rutile", "wurtzite"],
)
def test_symmetry_of_known_crystals(
    structure: Structure, space_group: int, letters: dict[str, set[str]], system: str
) -> None:
    found = symmetry(structure, **TOLERANCES)
    assert found is not None
    assert (found.space_group, found.crystal_system) == (space_group, system)
    by_element: dict[str, set[str]] = {}
    for site, letter in zip(structure, found.letters, strict=True):
        by_element.setdefault(site.specie.symbol, set()).add(letter)
    # Another origin exchanges the two positions of rock salt.
    assert by_element in (letters, {"Na": {"b"}, "Cl": {"a"}})
    first = {site.specie.symbol: at for at, site in reversed(list(enumerate(structure)))}
    assert found.orbits == tuple(first[site.specie.symbol] for site in structure)


@given(structures())
def test_orbits_partition_the_sites(structure: Structure) -> None:
    assume(brute_distance(structure) > 0.6)
    reduced = reduce(clean(structure))
    found = symmetry(reduced, **TOLERANCES)
    assert found is not None
    assert 1 <= found.space_group <= 230
    assert len(found.letters) == len(found.orbits) == len(reduced)
    for site, lowest in enumerate(found.orbits):
        assert lowest <= site
        assert found.orbits[lowest] == lowest
        assert found.letters[lowest] == found.letters[site]
        assert reduced[lowest].specie == reduced[site].specie


def test_symprec_is_used() -> None:
    bent = rocksalt()
    bent.translate_sites([0], [0.004, 0, 0])  # 0.02 Å
    loose = symmetry(bent, symprec=0.1, angle_tolerance=5)
    tight = symmetry(bent, symprec=0.01, angle_tolerance=5)
    assert loose is not None and tight is not None
    assert loose.space_group == 225
    assert tight.space_group < 225


def test_symmetry_of_extremely_thin_cells_is_unknown() -> None:
    thin = Structure(Lattice.tetragonal(6, 0.49), ["Fe"], [[0, 0, 0]])
    assert symmetry(thin, **TOLERANCES) is None
    assert symmetry(Structure(Lattice.tetragonal(6, 0.51), ["Fe"], [[0, 0, 0]]), **TOLERANCES)


def test_failed_symmetry_search_gives_none() -> None:
    coincident = Structure(CUBE, ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    assert symmetry(coincident, **TOLERANCES) is None


# Crystal systems

LIMITS = {
    "triclinic": (1, 2),
    "monoclinic": (3, 15),
    "orthorhombic": (16, 74),
    "tetragonal": (75, 142),
    "trigonal": (143, 167),
    "hexagonal": (168, 194),
    "cubic": (195, 230),
}


@pytest.mark.parametrize("system", LIMITS)
def test_limits_of_crystal_systems(system: str) -> None:
    assert [crystal_system(number) for number in LIMITS[system]] == [system, system]


def test_crystal_systems_agree_with_pymatgen(thorough: bool) -> None:
    """The first and the last of each system; with --slow all."""
    ends = [1, 2, 3, 15, 16, 74, 75, 142, 143, 167, 168, 194, 195, 230]
    for number in range(1, 231) if thorough else ends:
        expected = SpaceGroup.from_int_number(number).crystal_system
        assert crystal_system(number) == expected, number


def test_crystal_systems_are_in_order() -> None:
    assert tuple(LIMITS) == CRYSTAL_SYSTEMS
    assert crystal.CRYSTAL_SYSTEMS is CRYSTAL_SYSTEMS


@pytest.mark.parametrize("number", [-1, 0, 231])
def test_without_space_group_there_is_no_crystal_system(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} is not a space group number"):
        crystal_system(number)


def test_order_of_sites_agrees_with_pymatgen() -> None:
    """`get_sorted_structure`, with a unique order where that function depends on its input."""
    rng = np.random.default_rng(4)
    for symbols in (["O", "Fe", "O", "Li", "P", "Fe"], ["Xe", "F", "Cs"], ["Ne", "He", "Na", "Ar"]):
        n_sites = len(symbols)
        structure = Structure(
            Lattice.from_parameters(7, 8, 9, 80, 90, 100), symbols, rng.uniform(-1, 2, (n_sites, 3))
        )
        ordered = in_site_order(clean(structure))
        if "Ne" not in symbols:
            want = structure.get_sorted_structure()
            assert [site.specie for site in ordered] == [site.specie for site in want]
            assert np.array_equal(ordered.frac_coords, want.frac_coords)
        for _ in range(5):
            order = rng.permutation(n_sites)
            mixed = Structure.from_sites([structure[at] for at in order])
            again = in_site_order(clean(mixed))
            assert [site.specie for site in again] == [site.specie for site in ordered]
    same = Structure(Lattice.cubic(5), ["Si"] * 3, rng.uniform(0, 1, (3, 3)))
    assert np.array_equal(in_site_order(same).frac_coords, same.frac_coords)  # stable
