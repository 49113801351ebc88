"""CIF dialects: the correct crystal, or a row with a reason."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from cif_dialects import SYMMETRIES, Setting, Style, by_programs, settings, write
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from novelty_metric import open_reference
from novelty_metric.crystal import clean
from novelty_metric.errors import CrystalError
from novelty_metric.samples import cif_crystal, detect_format, read_samples
from novelty_metric.samples.checks import UnreadableCrystal
from novelty_metric.samples.cif_crystal import crystal_from_cif
from novelty_metric.samples.cif_symmetry import of_hall

COLUMNS = (
    "_atom_site_label",
    "_atom_site_type_symbol",
    "_atom_site_fract_x",
    "_atom_site_fract_y",
    "_atom_site_fract_z",
    "_atom_site_occupancy",
)
SALT = "Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1"


def cell(*lengths: float, angles: tuple[float, ...] | None = (90, 90, 90)) -> str:
    lengths = lengths if len(lengths) == 3 else lengths * 3
    lines = [f"_cell_length_{axis} {x}" for axis, x in zip("abc", lengths, strict=True)]
    for name, angle in zip(("alpha", "beta", "gamma"), angles or (), strict=False):
        lines.append(f"_cell_angle_{name} {angle}")
    return "\n".join(lines)


def cif(rows: str = SALT, more: str = "", box: str = "", columns: tuple[str, ...] = COLUMNS) -> str:
    return "\n".join(["data_x", box or cell(5.64), more, "loop_", *columns, rows, ""])


def outcome(text: str) -> str:
    """Formula of the crystal, or the reason for its absence."""
    try:
        return crystal_from_cif(text).formula.replace(" ", "")
    except UnreadableCrystal as error:
        assert "\n" not in str(error)
        return str(error)


IDENTITY = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'"
FACE_CENTRED = (
    "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\nx,y+1/2,z+1/2\nx+1/2,y,z+1/2\nx+1/2,y+1/2,z"
)
NAMED = "_symmetry_space_group_name_H-M 'F m -3 m'"
FOUR = "_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 4"


# Files from reports of faults, and related files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cif(more="_symmetry_space_group_name_Hall '-F 4 2 3'\n" + FOUR), "Na4Cl4"),
        (
            cif("Si1 Si 0 0 0 1", "_symmetry_space_group_name_H-M 'F d -3 m :1'", cell(5.43)),
            "Si8",
        ),
        (cif(more=f"{NAMED}\n{FOUR}\n{IDENTITY}"), "lists no operation but the identity"),
        (
            cif("Li1 0 0 0 1\nOH1 .5 .5 .5 1", columns=(COLUMNS[0], *COLUMNS[2:])),
            "the label 'OH1' does not determine the element",
        ),
        (
            cif(
                "Li1 Li 0 0 0 1\nO1 O .5 .5 .5 1\nH1 H .5 .5 .5 1",
                "_chemical_formula_sum 'Li H O'",
            ),
            "coincident atoms: O1, H1 are on one site; their occupancies sum to 2",
        ),
        (
            cif("Cs1 Cs 0 0 0 1\nCl1 Cl . 0.5 0.5 1"),
            "Cl1: _atom_site_fract_x is unknown ('.')",
        ),
        (
            cif(more="_publ_section_comment\n;\n data_ collected at 300 K\n;"),
            "Na1Cl1",
        ),
        (cif().replace("loop_", "LOOP_"), "Na1Cl1"),
    ],
)
def test_reported_files(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in outcome(text)
    (tmp_path / "x.cif").write_text(text)
    (sample,) = read_samples(tmp_path)
    assert expected in (sample.error or sample.structure.formula.replace(" ", ""))  # type: ignore[union-attr]


def test_shared_cases(shared_data: Path) -> None:
    expected = {
        "data_in_text_field": "Cs1Cl1",
        "hall_symbol_only": "Na4Cl4",
        "hydrogen_on_oxygen": "coincident atoms",
        "identity_only_z4": "lists no operation but the identity",
        "missing_coordinate": "unknown ('.')",
        "oh_label": "does not determine the element",
        "setting_suffix": "Si8",
        "upper_case_loop": "Na1Cl1",
    }
    paths = sorted((shared_data.parent / "cases").glob("*.cif"))
    assert {path.stem for path in paths} >= expected.keys()
    for path in paths:
        assert expected.get(path.stem, "") in outcome(path.read_text())


@pytest.mark.parametrize("word", [".", "?", "none", "nan", "inf", "1_0", "٣", "−1", "1e999", "1/0"])
@pytest.mark.parametrize("place", ["length", "angle", "coordinate", "occupancy"])
def test_invalid_numbers_are_refused(word: str, place: str) -> None:
    text = {
        "length": cif().replace("_cell_length_b 5.64", f"_cell_length_b {word}"),
        "angle": cif().replace("_cell_angle_beta 90", f"_cell_angle_beta {word}"),
        "coordinate": cif(f"Na1 Na 0 {word} 0 1\nCl1 Cl .5 .5 .5 1"),
        "occupancy": cif(f"Na1 Na 0 0 0 {word}\nCl1 Cl .5 .5 .5 1"),
    }[place]
    assert "is unknown (" in outcome(text) or ", not a number" in outcome(text)


def test_number_formats() -> None:
    rows = "Na1 Na +0.25 -1/3 2.5e-1 1.0\nCl1 Cl .5(2) 1.75(12) 0.1234(5 1."
    crystal = crystal_from_cif(cif(rows, box=cell(5.64).replace("5.64", "5.64(2)")))
    expected = [[0.25, 1 - 1 / 3, 0.25], [0.5, 0.75, 0.1234]]
    np.testing.assert_allclose(crystal.frac_coords, expected, atol=1e-12)
    assert crystal.lattice.abc == (5.64, 5.64, 5.64)


def test_missing_angles_are_90_degrees() -> None:
    assert crystal_from_cif(cif(box=cell(4, 5, 6, angles=None))).lattice.angles == (90, 90, 90)
    assert "'_cell_length_c' is missing" in outcome(cif(box=cell(5).rsplit("\n", 4)[0]))
    for angles, reason in [((30, 30, 90), "no cell has the angles"), ((90, 0, 90), "no cell has")]:
        assert reason in outcome(cif(box=cell(5, angles=angles)))
    assert "a cell length is not above 0" in outcome(cif(box=cell(5, 5, 0)))
    assert "thinner than" in outcome(cif(box=cell(5, 5, 0.001)))


@pytest.mark.parametrize(
    ("type_symbol", "label", "formula", "expected"),
    [
        ("Na+", "X1", "", "Na"),
        ("Na1+", "X1", "", "Na"),
        ("O2-", "Na1", "", "O"),
        ("Fe+3", "Q1", "", "Fe"),
        ("na", "x", "", "Na"),
        ("CL", "x", "", "Cl"),
        ("D", "D1", "", "H"),  # pymatgen's name in a formula
        ("?", "Li1", "", "Li"),
        (None, "Na1", "", "Na"),
        (None, "na1", "", "Na"),
        (None, "OW1", "", "O"),
        (None, "Ow", "", "O"),
        (None, "H2A", "", "H"),
        (None, "O", "", "O"),
        (None, "Fe2+", "", "Fe"),
        (None, "AL1", "", "Al"),
        (None, "CA1", "Ca O3", "Ca"),
        (None, "CA1", "C2 H6", "C"),
        (None, "OH1", "Li O", "O"),
        (None, "CA1", "", "does not determine the element"),
        (None, "HO1", "", "does not determine the element"),
        (None, "CO1", "Co C", "does not determine the element"),
        (None, "OH1", "Li O H", "does not determine the element"),
        (None, "OH", "", "does not determine the element"),
        (None, "Wat1", "", "is not an element"),
        (None, "T1", "", "is not an element"),
        (None, "M1", "", "is not an element"),
        (None, "Dum", "", "is not an element"),
        (None, "Vac1", "", "is not an element"),
        (None, "Q1", "", "is not an element"),
        (None, "Cent1", "", "is not an element"),
        ("OH", "O1", "", "'OH' is not an element"),
        ("Q", "O1", "", "'Q' is not an element"),
        ("?", "Q1", "", "'?' is not an element"),
        ("'0.8Nb + 0.2Zr'", "Nb1", "", "is not an element"),
        ("Nb,Zr", "Nb1", "", "is not an element"),
    ],
)
def test_element_of_a_site(
    type_symbol: str | None, label: str, formula: str, expected: str
) -> None:
    columns = COLUMNS if type_symbol else (COLUMNS[0], *COLUMNS[2:])
    text = cif(f"{label} {type_symbol or ''} 0 0 0 1", columns=columns)
    if formula:  # only the label: formulas of other atoms are a different error
        from novelty_metric.samples.cif_elements import formula_counts, site_symbol

        elements = frozenset(formula_counts(formula) or ())
        try:
            found = site_symbol(type_symbol, label, elements)
        except UnreadableCrystal as error:
            found = str(error)
        assert expected in found
        return
    found = outcome(text)
    assert found == f"{expected}1" if len(expected) < 3 else expected in found


def test_no_element_is_omitted_or_added() -> None:
    assert "element number 0 (X)" in outcome(cif("X1 X 0 0 0 1"))
    dummy = cif("X1 X0+ 0 0 0 1", box=cell(100))
    assert outcome(dummy).startswith("a dummy cell of 100 Å sides")
    columns = (*COLUMNS[:5], "_atom_site_attached_hydrogens")
    assert "O1 has attached hydrogens" in outcome(cif("O1 O 0 0 0 1", columns=columns))
    assert outcome(cif("O1 O 0 0 0 .", columns=columns)) == "O1"
    columns = (*COLUMNS[:5], "_atom_site_calc_flag")
    assert "O1 is a dummy atom" in outcome(cif("O1 O 0 0 0 dum", columns=columns))
    for occupancy in ("0", "-0.5"):
        assert f"the occupancy of Na1 is {occupancy}" in outcome(cif(f"Na1 Na 0 0 0 {occupancy}"))
    assert "the occupancy of Na1 is 1.5" in outcome(cif("Na1 Na 0 0 0 1.5"))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("Na1 Na 0 0 0 1\nNa2 Na 1.00001 0 0 1", "coincident atoms: Na1, Na2"),
        ("Na1 Na 0 0 0 1\nH1 H 0 0 0 1", "coincident atoms: Na1, H1"),
        ("Na1 Na 0 0 0 1\nD1 D 0 0 0 0.1", "coincident atoms: Na1, D1"),
        ("O1 O .5 .5 .5 1\nO2 O -.5 .5 .5 1", "coincident atoms"),
    ],
)
def test_coincident_atoms_are_refused(rows: str, reason: str) -> None:
    assert reason in outcome(cif(rows))


def test_rows_that_are_images_of_each_other_are_refused() -> None:
    rows = "Na1 Na 0 0 0 1\nNa2 Na 0 0.5 0.5 1\nCl1 Cl .5 .5 .5 1"
    for group in (NAMED, FACE_CENTRED):
        assert "coincident atoms: Na1, Na2" in outcome(cif(rows, group))


def test_mixed_sites_are_disordered() -> None:
    rows = "Fe1 Fe 0 0 0 0.5\nNi1 Ni 0 0 0 0.5\nAl1 Al .5 .5 .5 1"
    crystal = crystal_from_cif(cif(rows, "_chemical_formula_sum 'Fe0.5 Ni0.5 Al'"))
    assert crystal.formula == "Al1 Fe0.5 Ni0.5" and not crystal.is_ordered
    with pytest.raises(CrystalError, match="partly occupied"):
        clean(crystal)
    split = crystal_from_cif(cif("Fe1 Fe 0 0 0 0.25\nFe2 Fe 0 0 0 0.75"))
    assert split.is_ordered and split.formula == "Fe1"


# Formula


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("_chemical_formula_sum 'Na Cl'", "Na1Cl1"),
        ("_chemical_formula_sum 'Na4 Cl4'", "Na1Cl1"),
        ("_chemical_formula_sum 'Cl1 Na1'\n_cell_formula_units_Z 1", "Na1Cl1"),
        ("_chemical_formula_sum NaCl", "Na1Cl1"),
        ("_chemical_formula_sum '2(Na Cl), x(H2 O)'", "Na1Cl1"),
        ("_chemical_formula_sum ?\n_cell_formula_units_Z ?", "Na1Cl1"),
        ("_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 2", "say Na2 Cl2"),
        ("_chemical_formula.sum 'Na Cl'\n_cell.formula_units_Z 4", "say Na4 Cl4"),
        ("_chemical_formula_sum 'Na Cl2'", "_chemical_formula_sum is Na1 Cl2"),
        ("_chemical_formula_sum 'Na Cl H'", "_chemical_formula_sum is Na1 Cl1 H1"),
        ("_chemical_formula_sum 'K Cl'", "_chemical_formula_sum is K1 Cl1"),
    ],
)
def test_atoms_must_agree_with_the_formula(formula: str, expected: str) -> None:
    assert expected in outcome(cif(more=formula))


def test_formula_of_the_whole_cell_with_z() -> None:
    """In the format of pymatgen."""
    whole = "_chemical_formula_sum 'Na4 Cl4'\n_cell_formula_units_Z 4"
    assert outcome(cif(more=f"{whole}\n{NAMED}")) == "Na4Cl4"
    assert "say Na16 Cl16" in outcome(cif(more=whole))


# Symmetry


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (NAMED, "Na4Cl4"),
        ("_space_group_name_H-M_alt Fm-3m", "Na4Cl4"),
        ("_SPACE_GROUP_NAME_H-M_ALT 'F M -3 M'", "Na4Cl4"),
        ("_space_group.name_H-M_full 'F 4/m -3 2/m'", "Na4Cl4"),
        ("_symmetry_space_group_name_H-M 'F m 3 m'", "Na4Cl4"),
        ("_symmetry_space_group_name_H_M 'F_m_-3_m'", "Na4Cl4"),
        ("_symmetry_Int_Tables_number 225", "Na4Cl4"),
        ("_space_group_IT_number 225", "Na4Cl4"),
        ("_space_group.IT_number 225.0", "Na4Cl4"),
        ("_space_group_name_Hall -F_4_2_3", "Na4Cl4"),
        ("_space_group_name_Hall 'F m -3 m'", "Na4Cl4"),
        ("_space_group_name_Schoenflies O_h^5", "Na4Cl4"),
        ("_space_group_name_Schoenflies Oh.5", "Na4Cl4"),
        (f"{NAMED}\n_symmetry_Int_Tables_number 225", "Na4Cl4"),
        (f"{NAMED}\n_space_group_name_Hall ?", "Na4Cl4"),
        ("_symmetry_space_group_name_H-M 'P 1'", "Na1Cl1"),
        ("_symmetry_space_group_name_H-M ?\n_space_group_IT_number .", "Na1Cl1"),
        ("_symmetry_space_group_name_H-M 'F q -3 m'", "the space group 'F q -3 m' is not known"),
        ("_space_group_IT_number 999", "the space group '999' is not known"),
        ("_space_group_name_Hall nonsense", "the space group 'nonsense' is not known"),
        (f"{NAMED}\n_space_group_point_group_H-M m-3m\n_symmetry_cell_setting cubic", "Na4Cl4"),
        (f"{NAMED}\n_symmetry_Int_Tables_number 1", "contradict each other"),
        (f"{NAMED}\n_space_group.transform_Pp_abc a,b,c;0,0,0", "Na4Cl4"),
        (f"{NAMED}\n_space_group.transform_Pp_abc a-b,a+b,c;0,0,0", "named in another setting"),
        ("_space_group.name_H-M_ref 'F m -3 m'", "Na4Cl4"),
        (f"{NAMED}\n_space_group_name_Hall '-P 4 2 3'", "contradict each other"),
        ("_symmetry_space_group_name_H-M 'P 63/m m c'", "the cell contradicts the space group"),
        ("_space_group_IT_number 166", "Na1Cl1"),  # rhombohedral axes, like the cell
    ],
)
def test_names_of_space_groups(group: str, expected: str) -> None:
    assert expected in outcome(cif(more=group))


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (FACE_CENTRED, "Na4Cl4"),
        (
            FACE_CENTRED.replace("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz"),
            "",
        ),
        (
            FACE_CENTRED.replace("_symmetry_equiv_pos_as_xyz", "_space_group_symop.operation_xyz"),
            "",
        ),
        (FACE_CENTRED.replace("1/2", "0.5").upper().replace("LOOP_", "loop_"), "Na4Cl4"),
        (FACE_CENTRED.replace("x,y,z\n", "", 1), "Na4Cl4"),  # the identity can be omitted
        (FACE_CENTRED.replace("\nx+1/2,y+1/2,z", ""), "are not a group"),
        (FACE_CENTRED.replace("x+1/2,y+1/2,z", "x+1/2,y+1/2"), "is not a symmetry operation"),
        (FACE_CENTRED.replace("x+1/2,y+1/2,z", "2x,y,z"), "is not a symmetry operation"),
        (f"{NAMED}\n{IDENTITY}", "lists no operation but the identity"),
        (f"_space_group_name_Hall '-F 4 2 3'\n{IDENTITY}", "lists no operation but the identity"),
        (f"_space_group_IT_number 225\n{IDENTITY}", "lists no operation but the identity"),
        (f"_symmetry_space_group_name_H-M 'Q'\n{IDENTITY}", "lists no operation but the identity"),
        (f"_symmetry_space_group_name_H-M 'P m -3 m'\n{IDENTITY}", "Na1Cl1"),
        (
            f"_symmetry_space_group_name_H-M 'Q'\n_chemical_formula_sum 'Na Cl'\n{IDENTITY}",
            "lists no operation but the identity",
        ),
        (f"{NAMED}\n{FACE_CENTRED}", "Na4Cl4"),  # the sites have the symmetry of the named group
        (
            f"_symmetry_space_group_name_H-M 'P m -3 m'\n{FACE_CENTRED}",
            "lists the operations of number 1",
        ),
        (f"_symmetry_space_group_name_H-M 'P 1'\n{FACE_CENTRED}", "Na4Cl4"),
        (f"{NAMED}\n{FACE_CENTRED}\n{FOUR}", "Na4Cl4"),
        (f"{NAMED}\n_symmetry_equiv_pos_as_xyz ?", "Na4Cl4"),
        ("_symmetry_equiv_pos_as_xyz 'x,y,z'", "Na1Cl1"),
    ],
)
def test_operations_must_agree_with_names(group: str, expected: str) -> None:
    assert (expected or "Na4Cl4") in outcome(cif(more=group))


def test_multiplicities_without_matching_operations_are_refused() -> None:
    columns = (*COLUMNS, "_atom_site_symmetry_multiplicity")
    rows = SALT.replace(" 1\n", " 1 4\n") + " 4"
    assert "give 8 atoms" in outcome(cif(rows, columns=columns))
    assert outcome(cif(rows, NAMED, columns=columns)) == "Na4Cl4"


def test_magnetic_files() -> None:
    magnetic = (
        "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n-x,-y,-z,-1\n"
        "loop_\n_space_group_symop_magn_centering.xyz\nx,y,z,+1\nx,y+1/2,z+1/2,-1\n"
        "x+1/2,y,z+1/2,-1\nx+1/2,y+1/2,z,+1"
    )
    assert outcome(cif(more=f"_space_group_magn.number_BNS 2.7\n{magnetic}")) == "Na4Cl4"
    assert "no operations are listed" in outcome(cif(more="_space_group_magn.number_BNS 2.7"))
    assert "no operations are listed" in outcome(cif(more="_magnetic_space_group.name_BNS 'P -1'"))
    for tag in ("_cell_modulation_dimension 1", "_space_group_ssg_name 'Fm-3m(00g)'"):
        assert "modulated" in outcome(cif(more=tag))


SILICON = cell(5.43)


@pytest.mark.parametrize(
    ("row", "group", "expected"),
    [
        ("0 0 0", "'F d -3 m :1'", "Si8"),
        ("0 0 0", "'F d -3 m S'", "Si8"),
        ("0 0 0", "'F d -3 m :2'", "Si16"),
        (".125 .125 .125", "'F d -3 m Z'", "Si8"),
        (".125 .125 .125", "Fd-3m:2", "Si8"),
        ("0 0 0", "'F d -3 m'", "2 origins or settings"),
        ("0 0 0", "'F d -3 m'\n_chemical_formula_sum Si\n_cell_formula_units_Z 8", "Si8"),
        (".125 .125 .125", "Fd-3m\n_chemical_formula_sum Si\n_cell_formula_units_Z 8", "Si8"),
    ],
)
def test_both_origins(row: str, group: str, expected: str) -> None:
    text = cif(f"Si1 Si {row} 1", f"_symmetry_space_group_name_H-M {group}", SILICON)
    assert expected in outcome(text)
    if expected == "Si8":  # the same crystal with either origin
        first = crystal_from_cif(text)
        diamond = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
        assert StructureMatcher(primitive_cell=False, scale=False).fit(first, diamond)


@pytest.mark.parametrize(
    ("box", "name", "hall"),
    [
        (cell(5, 6, 7, angles=(90, 100, 90)), "P21/c", "-P 2ybc"),
        (cell(5, 6, 7, angles=(90, 100, 90)), "'P 1 21/n 1'", "-P 2yn"),
        (cell(5, 6, 7, angles=(90, 90, 100)), "P21/b", "-P 2bc"),
        (cell(5, 6, 7, angles=(90, 90, 100)), "'P 21'", "P 2c"),
        (cell(5, 6, 7, angles=(90, 100, 90)), "'C 1 2/c 1'", "-C 2yc"),
        (cell(5, 6, 7, angles=(90, 100, 90)), "'I 1 2/a 1'", "-I 2ya"),
        (cell(5, 6, 7), "Pnma", "-P 2ac 2n"),
        (cell(5, 6, 7), "'P b n m'", "-P 2c 2ab"),
        (cell(5, 6, 7), "Cmce", "-C 2ac 2"),
        (cell(5, 5, 7, angles=(90, 90, 120)), "'R -3 m'", '-R 3 2"'),
        (cell(5, 5, 5, angles=(70, 70, 70)), "'R -3 m'", "-P 3* 2"),
        (cell(5, 5, 5, angles=(70, 70, 70)), "'R -3 m :R'", "-P 3* 2"),
        (cell(5, 5, 7, angles=(90, 90, 120)), "R-3mH", '-R 3 2"'),
    ],
)
def test_setting_follows_from_name_and_cell(box: str, name: str, hall: str) -> None:
    tag = "_symmetry_space_group_name_H-M"
    crystal = crystal_from_cif(cif("Fe1 Fe 0.13 0.29 0.41 1", f"{tag} {name}", box))
    expected = crystal_from_cif(
        cif(
            "Fe1 Fe 0.13 0.29 0.41 1",
            f'_space_group_name_Hall "{hall}"'
            if '"' not in hall
            else f"_space_group_name_Hall '{hall}'",
            box,
        )
    )
    assert len(crystal) == len(of_hall(hall))
    assert StructureMatcher(primitive_cell=False, scale=False).fit(crystal, expected)
    np.testing.assert_allclose(
        np.sort(crystal.distance_matrix.ravel()), np.sort(expected.distance_matrix.ravel())
    )


def test_rounded_coordinates_on_a_special_position() -> None:
    """Images of one site that differ in the last digit are one atom."""
    box = cell(5.9, 5.9, 14.7, angles=(90, 90, 120))
    text = cif("O1 O 0.667 0.834 0.0753 1", "_space_group_IT_number 166", box)
    crystal = crystal_from_cif(text)
    assert len(crystal) == 18
    assert clean(crystal).formula == "O18"


# Grammar


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text + "\x1a",
        lambda text: text.replace(" ", "\t"),
        lambda text: text.upper().replace("CL1 CL", "Cl1 Cl").replace("NA1 NA", "Na1 Na"),
        lambda text: "# Müller\n" + text.replace("data_x", "data_x\n_publ_author Müller"),
        lambda text: text.replace("Na1 Na", "'Na1' \"Na\"").replace("0.5 0.5", "\n0.5\n'0.5'"),
        lambda text: text.replace("_cell_", "_cell.").replace("_atom_site_", "_atom_site."),
        lambda text: text + "loop_\n_atom_site_aniso_label\n_atom_site_aniso_U_11\nNa1 0.01\n",
        lambda text: text.replace("data_x", "data_x\n_note\n;\ndata_y\n_cell_length_a 1\n;"),
        lambda text: text.replace("Na1 Na", "Na Na").replace("Cl1 Cl", "Na Cl"),
    ],
)
def test_spelling_does_not_change_the_crystal(change, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    expected = crystal_from_cif(cif())
    text = change(cif())
    assert crystal_from_cif(text) == expected
    path = tmp_path / "x.cif"
    path.write_bytes(text.encode())
    assert detect_format(path) == "cif"
    for source in (path, tmp_path):
        (sample,) = read_samples(source)
        assert sample.structure == expected and sample.error is None


def test_site_outside_a_loop() -> None:
    values = zip(COLUMNS, ["Fe1", "Fe", "0", "0", "0", "1"], strict=True)
    text = "\n".join(["data_x", cell(2.9), *(" ".join(pair) for pair in values), ""])
    assert outcome(text) == "Fe1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (cif() + "and so on\n_a b c\n", "Wrong number of values in loop"),
        ("data_x\n_a b c\n", "line 2: not the grammar of CIF"),
        (cif("Na1 Na 0 0 0 1\nCl1 Cl 0.5"), "Wrong number of values in loop"),
        (cif() + "_cell_length_a 5.7\n", "duplicate tag _cell_length_a"),
        (cif() + "_cell.length_a 5.7\n", "_cell_length_a is given twice"),
        (cif().replace("fract", "Cartn"), "the coordinates are Cartesian"),
        (cif().replace("_atom_site_fract_z", "_other"), "'_atom_site_fract_z' is missing"),
        ("data_x\n_publ_author 'A B'\n", "no cell and no atoms"),
        ("data_x\n", "no cell and no atoms"),
        ("data_x\nsave_frame\n_cell_length_a 5\nsave_\n", "no cell and no atoms"),
        (cif().replace("data_x", "global_\n_a 1\ndata_x"), "2 data_ blocks"),
        ("the model wrote this", "not a CIF: there is no data_ line"),
        (cif() + "_a\n;\nnot closed\n", "unterminated text field"),
    ],
)
def test_text_that_is_not_a_crystal(text: str, reason: str) -> None:
    assert reason in outcome(text)


def test_unclosed_text_field_does_not_affect_other_blocks(tmp_path: Path) -> None:
    broken = cif().replace("_cell_length_a", "_a\n;\nnever closed\n_cell_length_a")
    whole = cif(more="_a\n;\ndata_y\n;")
    for texts in [[cif(), broken, cif()], [broken, cif(), cif()], [whole, whole, broken]]:
        path = tmp_path / "x.cif"
        path.write_text("".join(texts))
        samples = list(read_samples(path))
        assert [sample.structure is not None for sample in samples] == [t != broken for t in texts]
        assert [sample.id for sample in samples] == ["x-0", "x-1", "x-2"]


# Limits


def test_sizes_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "\n".join(
        f"Na{at} Na {at / 7919:.6f} {at * 31 % 977 / 977:.6f} 0 1" for at in range(900)
    )
    assert "900 sites and 192 symmetry operations make 172800" in outcome(cif(rows, NAMED))
    monkeypatch.setattr(cif_crystal, "MAX_POSITIONS", 100)
    assert "900 values of _atom_site_label, more than 100" in outcome(cif(rows))
    monkeypatch.setattr(cif_crystal, "MAX_WORDS", 1000)
    assert "million words" in outcome(cif(rows))
    monkeypatch.undo()
    operations = "\n".join(f"x+{at}/1009,y,z" for at in range(1009))
    listed = f"loop_\n_symmetry_equiv_pos_as_xyz\n{operations}"
    assert "more than 576 symmetry operations" in outcome(cif(more=listed))


@pytest.mark.parametrize("same", [True, False])
def test_many_sites_are_compared_with_a_tree(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cif_crystal, "_MOST_PAIRS", 1)
    last = "0.5 0.5 0.50001" if same else "0.5 0.5 0.6"
    found = outcome(cif(f"{SALT}\nNa2 Na {last} 1"))
    assert ("coincident atoms among 3 sites" in found) if same else found == "Na2Cl1"
    assert "coincident atoms among" in outcome(cif(f"{SALT}\nNa2 Na 0 0 0 1"))
    images = "Na1 Na 0 0 0 1\nNa2 Na 0 0.5 0.5 1\nCl1 Cl .5 .5 .5 1"
    assert "coincident atoms among" in outcome(cif(images, FACE_CENTRED))


# Real crystals in every dialect


def equal(one: Structure, other: Structure) -> bool:
    matcher = StructureMatcher(0.05, 0.05, 1, primitive_cell=False, scale=False)
    return len(one) == len(other) and bool(matcher.fit(one, other))


def dialects(setting: Setting, rng: random.Random) -> list[tuple[str, str]]:
    import gemmi

    standard = gemmi.get_spacegroup_reference_setting(setting.kind.number).hm
    texts = []
    for symmetry in SYMMETRIES:
        # The type alone means the standard setting.
        if symmetry in ("number", "schoenflies") and setting.entry.hm != standard:
            continue
        texts.append((symmetry, write(setting, Style.random(rng, symmetry), rng)))
    return texts


def check_dialects(crystals: list[Structure], n_texts: int) -> None:
    """Read texts in all dialects: each gives the correct crystal or a reason."""
    rng = random.Random(23)
    n_read = refused = written = 0
    groups = set()
    while written < n_texts:
        crystal = rng.choice(crystals)
        texts = list(by_programs(crystal))
        for setting in settings(crystal, rng, 4):
            groups.add(setting.kind.hall_number)
            texts += [(n, text, setting.structure) for n, text in dialects(setting, rng)]
        for name, text, expected in texts:
            written += 1
            try:
                found = crystal_from_cif(text)
            except UnreadableCrystal as error:
                refused += 1
                assert "origins or settings" in str(error), f"{name}: {error}\n{text}"
                continue
            n_read += 1
            assert equal(found, expected), f"{name}:\n{text}"
    print(f"{written} texts in {len(groups)} settings: {n_read} read, {refused} refused, 0 wrong")
    assert refused < 0.05 * written


def test_few_crystals_in_every_dialect() -> None:
    reference = open_reference("aflow")
    small = [at for at in range(len(reference)) if len(reference.structure(at)) < 9]
    check_dialects([reference.structure(at) for at in small[::40]], 100)


@pytest.mark.slow
def test_thousands_of_texts_in_every_dialect(shared_data: Path) -> None:
    crystals = [
        sample.structure
        for name in ("val", "test", "train_subset")
        for sample in read_samples(shared_data / "mp_20" / f"{name}.parquet", limit=700, seed=1)
        if sample.structure is not None
    ]
    check_dialects(crystals, 5_000)
