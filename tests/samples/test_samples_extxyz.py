"""Extended XYZ agrees with ASE's reader, and unknown or invalid extra entries do not matter."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from novelty_metric.errors import InputError
from novelty_metric.samples import Sample, read_samples
from novelty_metric.samples.extxyz import Frame, comment

CELL = 'Lattice="3 0 0 0.5 3 0 0 0 4" Properties=species:S:1:pos:R:3'
ATOMS = "Li 0 0 0\nO 1.5 1.5 2.0\n"


def read_frame(line: str, atoms: str = ATOMS, **options: Any) -> Sample:
    """The sample of a frame with this comment line."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.extxyz")
        path.write_text(f"{len(atoms.splitlines())}\n{line}\n{atoms}", encoding="utf-8")
        (sample,) = read_samples(path, format="extxyz", **options)
        return sample


def by_ase(line: str, atoms: str = ATOMS) -> Any:
    """The frame according to ASE, or None if ASE fails."""
    from ase.io import read

    text = f"{len(atoms.splitlines())}\n{line}\n{atoms}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(io.StringIO(text), index=0, format="extxyz")
        except Exception:  # ASE's parser raises many kinds of exceptions
            return None


def assert_same(sample: Sample, atoms: Any) -> None:
    assert sample.structure is not None, sample.error
    assert sample.structure.atomic_numbers == tuple(atoms.numbers)
    assert np.allclose(sample.structure.lattice.matrix, np.array(atoms.cell), atol=1e-12)
    # Fractional coordinates and their rounding errors are large in a flat cell.
    rounding = (
        1e-15 * np.abs(sample.structure.frac_coords) @ np.abs(sample.structure.lattice.matrix)
    )
    apart = np.abs(sample.structure.cart_coords - atoms.positions)
    assert np.all(apart <= 1e-9 + 1e-5 * np.abs(atoms.positions) + rounding)


@pytest.mark.parametrize(
    "line",
    [
        f'{CELL} stress="1 2 3 4 5 6"',
        f'{CELL} stress="a b"',
        f'{CELL} virial="1 2 3"',
        f"{CELL} energy=high free_energy=",
        f'{CELL} info="_JSON {{not json"',
        f'{CELL} dipole="1 2" magmom=[1, 2, 3] charges',
        f'{CELL} note="an \\"odd\\" = note" {{and}} [more',
        f"{CELL} uid=1e5 x=1=2 =3",
        CELL.replace('"3 0 0 0.5 3 0 0 0 4"', "{3 0 0 0.5 3 0 0 0 4}"),
        CELL.replace('"3 0 0 0.5 3 0 0 0 4"', "[3, 0, 0, 0.5, 3, 0, 0, 0, 4]"),
        CELL.replace("Lattice=", "Lattice = "),
        CELL.replace("Lattice", "lattice").replace("Properties", "properties"),
        f"made by a model {CELL}",
    ],
)
def test_other_entries_of_a_frame_are_ignored(line: str) -> None:
    sample = read_frame(line)
    assert sample.structure is not None, sample.error
    assert sample.structure.formula == "Li1 O1"
    assert sample.structure.lattice.matrix.tolist() == [[3, 0, 0], [0.5, 3, 0], [0, 0, 4]]


@pytest.mark.parametrize(
    ("properties", "atoms"),
    [
        ("species:S:1:pos:R:3:forces:R:3", "Li 0 0 0 - - nan\nO 1 1 2 * * *\n"),
        ("pos:R:3:species:S:1", "0 0 0 Li\n1 1 2 O\n"),
        ("id:I:1:species:S:1:pos:R:3:move_mask:L:1", "1 Li 0 0 0 T\n2 O 1 1 2 maybe\n"),
        ("Z:I:1:pos:R:3", "3 0 0 0\n8 1 1 2\n"),
        ("numbers:R:1:positions:R:3", "3.0 0 0 0\n8.0 1 1 2\n"),
        ("element:S:1:pos:R:3", "LI 0 0 0\no 1 1 2\n"),
        ("species:S:1:Z:I:1:pos:R:3", "Li 3 0 0 0\nO 8 1 1 2\n"),
        ("species:S:1:pos:R:3", "3 0 0 0\n8 1 1 2\n"),
        ("species:S:1:pos:R:3", "Li 0 0 0 surplus\nO 1 1 2\n"),
        ("species:S:1:pos:R:3", "Li +0 0e0 .0\nO 1.0D0 1 2\n".replace("1.0D0", "1.0E0")),
    ],
)
def test_columns_of_atoms(properties: str, atoms: str) -> None:
    sample = read_frame(f'Lattice="3 0 0 0 3 0 0 0 4" Properties={properties}', atoms)
    assert sample.structure is not None, sample.error
    assert sample.structure.formula == "Li1 O1"
    assert sample.structure.cart_coords == pytest.approx(np.array([[0, 0, 0], [1, 1, 2]]))


@pytest.mark.parametrize(
    ("line", "atoms", "reason"),
    [
        ('Lattice="3 3 3"', ATOMS, "Lattice contains 3 numbers where the nine"),
        ('Lattice="3 0 0 0 3 0 0 0 a"', ATOMS, "Lattice contains 'a', which is not a number"),
        ("Lattice=", ATOMS, "no cell"),
        ('Lattice="3 0 0 3 0 0 0 0 4"', ATOMS, "the cell has no volume"),
        ('Lattice="nan 0 0 0 3 0 0 0 4"', ATOMS, "not finite"),
        (f'{CELL} pbc="T F T"', ATOMS, "not periodic in three directions"),
        (f'{CELL} pbc="1 1 0"', ATOMS, "not periodic in three directions"),
        (f'{CELL} pbc="T T"', ATOMS, "pbc is 'T T'; it must be three of T and F"),
        (f"{CELL} pbc=maybe", ATOMS, "pbc contains 'maybe', which is not a number"),
        (CELL.replace("pos:R:3", "pos:R:2"), ATOMS, "has no three columns pos"),
        (CELL.replace("pos:R:3", "forces:R:3"), ATOMS, "has no three columns pos"),
        (CELL.replace("species:S", "label:S"), ATOMS, "has no column species or Z"),
        (CELL.replace("pos:R:3", "pos:R"), ATOMS, "can't be read"),
        (CELL.replace("pos:R:3", "pos:R:-3"), ATOMS, "can't be read"),
        (CELL.replace("pos:R:3", "pos:R:3:pos:R:3"), ATOMS, "two columns pos"),
        (CELL, "Li 0 0 0\nO 1 1 .\n", "a position contains '.', which is not a number"),
        (CELL, "Li 0 0 0\nO 1 1\n", "'O 1 1' has 3 words where Properties has 4"),
        (
            CELL.replace("pos:R:3", "pos:R:3:forces:R:3"),
            "Li 0 0 0 1 1\nO 1 1 2 1 1 1\n",
            "has 6 words where Properties has 7",
        ),
        (
            CELL.replace("species:S:1", "species:S:1:label:S:1"),
            "Li my label 0 0 0\nO b 1 1 2\n",
            "has 6 words where Properties has 5",
        ),
        (CELL, "Li 0 0 0\nX 1 1 2\n", "'X' is not an element"),
        (CELL, "Li 0 0 0\nO1 1 1 2\n", "'O1' is not an element"),
        (
            CELL.replace("species:S:1", "species:S:1:Z:I:1"),
            "Li 3 0 0 0\nO 16 1 1 2\n",
            "an atom is O by its symbol and S by its number",
        ),
        (
            CELL.replace("species:S", "Z:R"),
            "3.5 0 0 0\n8 1 1 2\n",
            "'3.5' is not an element",
        ),
    ],
)
def test_invalid_frame_is_a_row_with_a_reason(line: str, atoms: str, reason: str) -> None:
    sample = read_frame(line, atoms)
    assert sample.structure is None
    assert reason in (sample.error or "")


@pytest.mark.parametrize(
    ("line", "sample_id"),
    [
        ("id=4e1234", "4e1234"),
        ("id=9e9999", "9e9999"),
        ("id=00123", "00123"),
        ("id=1_000", "1_000"),
        ("id=inf", "inf"),
        ("id=T", "T"),
        ("id=True", "True"),
        ("id=1.0", "1.0"),
        ("id=_JSON", "_JSON"),
        ("id = mp-7", "mp-7"),
        ("id=a=b", "a=b"),
        ('id=" two words "', " two words "),
        ('id="1 2 3"', "1 2 3"),
        ("id={a b}", "a b"),
        ("id='it''s'", "its"),
        (r'id="say \"hi\""', 'say "hi"'),
        (r"id=a\b", r"a\b"),
        ("id=Ünï金", "Ünï金"),
        ("material_id=mp-1 name=NaCl", "mp-1"),
        ("Material_ID=mp-1", "mp-1"),
        ("name=NaCl ID=7", "7"),
        ("name=1e5", "1e5"),
        ("id=old id=new", "new"),
        ('id="" material_id=mp-2', "mp-2"),
        ("id", "x-0"),
        ("grid=5", "x-0"),
    ],
)
def test_ids_are_kept_unchanged(line: str, sample_id: str) -> None:
    assert read_frame(f"{line} {CELL}").id == sample_id
    assert read_frame(f"{CELL} {line}").id == sample_id


def test_key_of_the_ids_can_be_chosen(tmp_path: Path) -> None:
    line = f"{CELL} run=00A id=7"
    assert read_frame(line, id_column="run").id == "00A"
    assert read_frame(line, id_column="RUN").id == "00A"
    with pytest.raises(InputError, match="id_column=label: there is no such key; the keys are L"):
        read_frame(line, id_column="label")
    path = tmp_path / "some.extxyz"
    path.write_text(f"2\n{line}\n{ATOMS}2\n{CELL}\n{ATOMS}")
    assert [s.id for s in read_samples(path, id_column="run")] == ["00A", "some-1"]


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1),
    st.text(st.sampled_from("ab01eT.-_ \"'[]{}=,"), min_size=1).filter(str.strip),
    st.integers().map(str),
    st.floats().map(str),
)


@given(VALUES, VALUES)
@example("1e5", "T")
def test_ids_written_by_ase(sample_id: str, other: str) -> None:
    """Text with backslashes is skipped: ASE neither escapes it nor reads it back."""
    from ase import Atoms
    from ase.io import write

    if "\\" in sample_id + other:
        return
    atoms = Atoms("Li", cell=[3, 3, 3], pbc=True, info={"note": other, "id": sample_id})
    stream = io.StringIO()
    write(stream, atoms, format="extxyz")
    line = stream.getvalue().splitlines()[1]
    assert comment(Frame(["1\n", line]))["id"] == sample_id


NUMBERS = st.floats(-50, 50, allow_nan=False).map(lambda value: round(value, 6))


@given(
    st.lists(NUMBERS, min_size=9, max_size=9),
    st.lists(
        st.tuples(st.sampled_from(["Li", "O", "Fe", "U"]), NUMBERS, NUMBERS, NUMBERS),
        min_size=1,
        max_size=6,
    ),
    st.tuples(
        st.sampled_from(
            ["", ' pbc="T T T"', ' pbc="F F F"', " pbc=T", ' pbc="1 1 1"', " pbc=[T F T]"]
        ),
        st.sampled_from(["", "energy=-1.5", 'a="x y" b', "free={1 2 3}", "flag=T key = 3"]),
    ).map(" ".join),
    st.permutations(["species", "pos", "forces"]),
    st.sampled_from(['""', "''", "{}", "[]"]),
)
def test_frames_agree_with_ase(
    cell: list[float],
    atoms: list[tuple[str, float, float, float]],
    extra: str,
    order: list[str],
    quotes: str,
) -> None:
    kinds = {"species": "species:S:1", "pos": "pos:R:3", "forces": "forces:R:3"}
    vectors = " ".join(map(repr, cell))
    properties = ":".join(kinds[name] for name in order)
    line = f"Lattice={quotes[0]}{vectors}{quotes[1]} Properties={properties} {extra}"
    text = ""
    for symbol, *position in atoms:
        columns = {"species": symbol, "pos": " ".join(map(repr, position)), "forces": "0.1 0 1e-3"}
        text += " ".join(columns[name] for name in order) + "\n"
    theirs, ours = by_ase(line, text), read_frame(line, text)
    assert theirs is not None
    volume = abs(np.linalg.det(np.array(theirs.cell)))
    if volume == 0 or (theirs.pbc.any() and not theirs.pbc.all()):
        assert ours.structure is None
    elif volume > 1e-6:  # rounding dominates the coordinates in flatter cells
        assert_same(ours, theirs)


def test_real_frames_agree_with_ase(shared_data: Path) -> None:
    """Every twentieth crystal of MatterGen, and 100 crystals of MP-20 with calculator results."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import iread, write

    path = shared_data / "generated" / "mattergen" / "generated_crystals.extxyz"
    for place, (sample, atoms) in enumerate(zip(read_samples(path), iread(path), strict=True)):
        if place % 20 == 0:
            assert_same(sample, atoms)
    count = 0
    for sample in read_samples(shared_data / "mp_20" / "val.parquet", limit=100, seed=1):
        assert sample.structure is not None
        atoms = sample.structure.to_ase_atoms()
        rng = np.random.default_rng(count)
        results = {"energy": -1.0, "forces": rng.normal(size=(len(atoms), 3))}
        atoms.calc = SinglePointCalculator(atoms, **results, stress=rng.normal(size=6))
        atoms.info["material_id"] = sample.id
        stream = io.StringIO()
        write(stream, atoms, format="extxyz", columns=["symbols", "positions", "numbers"])
        _, line, *rows = stream.getvalue().splitlines()
        ours = read_frame(line, "\n".join(rows) + "\n")
        assert_same(ours, by_ase(line, "\n".join(rows) + "\n"))
        assert ours.id == sample.id
        count += 1
    assert count == 100


def test_deuterium_and_left_handed_cells(tmp_path: Path) -> None:
    line = 'Lattice="0 3 0 3 0 0 0 0 4" Properties=species:S:1:pos:R:3'
    sample = read_frame(line, "D 0 0 0\nO 1 1 2\n")
    assert sample.structure is not None
    assert np.linalg.det(sample.structure.lattice.matrix) < 0
    assert sample.structure.lattice.matrix.tolist() == [[0, 3, 0], [3, 0, 0], [0, 0, 4]]
    assert sample.structure.atomic_numbers == (1, 8)


def test_json_and_extxyz_use_the_same_keys_of_ids(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        json.dumps({"Material ID": "007", "structure": read_frame(CELL).structure.as_dict()})  # type: ignore[union-attr]
        + "\n"
    )
    assert [s.id for s in read_samples(tmp_path / "x.jsonl")] == ["007"]
