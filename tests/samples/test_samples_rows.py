"""Unreadable crystals are rows with a reason, and all others are still read."""

from __future__ import annotations

import gzip
import io
import json
import math
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from sample_layouts import add_to_tar, cif_text, write_extxyz, write_rows

from novelty_metric.crystal import clean
from novelty_metric.errors import CrystalError, InputError
from novelty_metric.samples import Sample, members, read_samples
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import MAX_MEMBER_BYTES

CIF = """data_made
_cell_length_a 3.0
_cell_length_b 3.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_Int_Tables_number 1
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{}
"""
GOOD = "Li Li1 0 0 0 1\nO O1 .5 .5 .5 1"


def outcome(samples: list[Sample]) -> list[str]:
    """Formula of each crystal that was read, error of each other one."""
    for sample in samples:
        assert (sample.structure is None) == (sample.error is not None)
        assert "\n" not in (sample.error or "")
    return [
        sample.error or sample.structure.formula.replace(" ", "")  # type: ignore[union-attr]
        for sample in samples
    ]


# --- CIF ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sites", "reason"),
    [
        ("Cx C1 0 0 0 1", "'Cx' is not an element"),
        ("X X1 0 0 0 1", "element number 0 (X) is not an element"),
        ("? Q1 0 0 0 1\nO O1 .5 .5 .5 1", "'?' is not an element"),
        ("OH O1 0 0 0 1\nLi Li1 .5 .5 .5 1", "'OH' is not an element"),
        (
            "Li Li1 0 0 0 1\nO O1 0 0 0 1",
            "coincident atoms: Li1, O1 are on one site; their occupancies sum to 2",
        ),
        ("Li Li1 0 here 0 1", "Li1: _atom_site_fract_y is 'here', not a number"),
        ("Li Li1 0 nan 0 1", "Li1: _atom_site_fract_y is 'nan', not a number"),
        ("Li Li1 0 0 0 1\nO O1", "Wrong number of values in loop"),
        ("", "a loop_ without columns or values"),
    ],
)
def test_unreadable_cif_is_a_row(sites: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "two.cif"
    path.write_text(CIF.format(sites) + CIF.format(GOOD))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = list(read_samples(path))
    error, formula = outcome(samples)
    assert error.startswith("CIF: ") and reason in error
    assert formula == "Li1O1"


def test_cif_without_cell_or_sites_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "x.cif"
    path.write_text("data_global\n_journal_year 2020\n" + CIF.format(GOOD))
    assert outcome(list(read_samples(path))) == ["CIF: no cell and no atoms", "Li1O1"]


def test_deuterium_partial_occupancy_and_charges_are_read(tmp_path: Path) -> None:
    for name, sites in {
        "d": "D D1 0 0 0 1\nO O1 .5 .5 .5 1",
        "half": "Li Li1 0 0 0 0.5\nO O1 .5 .5 .5 1",
        "ions": "Fe3+ Fe1 0 0 0 1\nO2- O1 .5 .5 .5 1",
    }.items():
        (tmp_path / f"{name}.cif").write_text(CIF.format(sites))
    deuterium, half, ions = list(read_samples(tmp_path))
    assert clean(deuterium.structure).formula == "H1 O1"
    assert half.structure is not None and not half.structure.is_ordered
    with pytest.raises(CrystalError, match="partly occupied"):
        clean(half.structure)
    assert clean(ions.structure).formula == "Fe1 O1"


def test_structure_agrees_with_from_str(crystals: list[Structure], tmp_path: Path) -> None:
    symmetrised = crystals[0].to(fmt="cif", symprec=0.01)
    for text in [*map(cif_text, crystals), symmetrised, CIF.format(GOOD)]:
        (tmp_path / "one.cif").write_text(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = Structure.from_str(text, fmt="cif")
        (sample,) = read_samples(tmp_path / "one.cif")
        assert sample.structure == expected and sample.id == "one"
        assert (sample.structure.frac_coords == expected.frac_coords).all()


def test_single_invalid_cif_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text("the model wrote this\n")
    (tmp_path / "b.cif").write_text("")
    assert outcome(list(read_samples(tmp_path))) == ["not a CIF: there is no data_ line", "empty"]
    assert outcome(list(read_samples(tmp_path / "a.cif"))) == ["not a CIF: there is no data_ line"]


# --- folders and archives ----------------------------------------------------------------------


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    names = ["gen_10.cif", "gen_2.cif", "gen_1.CIF", "more/gen_3.cif", "b.cif"]
    hidden = [".hidden.cif", ".git/gen_7.cif", "__MACOSX/._gen_1.cif", "notes.txt", "x.extxyz"]
    for name in names + hidden:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CIF.format(GOOD))
    (tmp_path / "gen_4.cif.gz").write_bytes(gzip.compress(CIF.format(GOOD).encode()))
    (tmp_path / "gen_5.cif").symlink_to(tmp_path / "nowhere")
    samples = list(read_samples(tmp_path))
    ids = [sample.id for sample in samples]
    assert ids == ["b", "gen_1", "gen_2", "gen_4", "gen_5", "gen_10", "more/gen_3"]
    assert [sample.id for sample in samples if sample.structure is None] == ["gen_5"]
    assert samples[-1].source == f"{tmp_path.name}:more/gen_3.cif"


def test_ids_of_nested_files_are_their_paths(tmp_path: Path) -> None:
    trees = {
        ("a/gen_0.cif", "b/gen_0.cif", "c/d/gen_0.cif"): ["a/gen_0", "b/gen_0", "c/d/gen_0"],
        ("out/gen_0.cif", "out/gen_1.cif"): ["gen_0", "gen_1"],
        ("out/a/gen_0.cif", "out/b/gen_0.cif", "out/last.cif"): ["a/gen_0", "b/gen_0", "last"],
        ("out/run/gen_0.cif",): ["gen_0"],
    }
    for number, (names, ids) in enumerate(trees.items()):
        folder, packed, tar = (tmp_path / f"{number}{end}" for end in ("", ".zip", ".tar"))
        with zipfile.ZipFile(packed, "w") as archive, tarfile.open(tar, "w") as other:
            for name in names:
                archive.writestr(name, CIF.format(GOOD))
                add_to_tar(other, name, CIF.format(GOOD).encode())
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(CIF.format(GOOD))
        for path in (folder, packed, tar):
            samples = list(read_samples(path))
            assert [sample.id for sample in samples] == ids
            assert [sample.source for sample in samples] == [f"{path.name}:{n}" for n in names]
            assert outcome(samples) == ["Li1O1"] * len(ids)


def test_equal_ids_become_distinct(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("gen_0.cif", "gen_0.CIF", "gen_0__2.cif", "gen_0.cif.gz"):
            archive.writestr(name, CIF.format(GOOD))
    for _ in range(2):
        ids = [sample.id for sample in read_samples(path)]
        assert ids == ["gen_0", "gen_0__2", "gen_0__2__2", "gen_0__3"]


def test_unreadable_members_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zip"
    good = CIF.format(GOOD)
    link = zipfile.ZipInfo("link.cif")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../outside.cif", good)
        archive.writestr(link, "/etc/passwd")
        archive.writestr("damaged.cif", good + "#MARK")
        archive.writestr("short.cif.gz", gzip.compress(good.encode())[:60])
        archive.writestr("long.cif", good + "#" * 5000)
        archive.writestr("two.cif", good + good)
        archive.writestr("__MACOSX/._two.cif", b"\x00\x05\x16\x07")
        archive.writestr("last.cif", good)
    path.write_bytes(path.read_bytes().replace(b"#MARK", b"#mark"))
    monkeypatch.setattr("novelty_metric.samples.source.MAX_MEMBER_BYTES", 4000)
    samples = list(read_samples(path))
    assert [sample.id for sample in samples] == (
        ["outside", "link", "damaged", "short", "long", "two-0", "two-1", "last"]
    )
    results = outcome(samples)
    assert results[0] == results[5] == results[6] == results[7] == "Li1O1"
    assert results[1] == "a link, not followed"
    assert "CRC" in results[2]
    assert "end-of-stream" in results[3]
    assert results[4].startswith("more than")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.zip"]


def test_member_without_a_name_does_not_affect_others(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.cif", CIF.format(GOOD))
        archive.writestr("?b.cif", CIF.format(GOOD))
    # zipfile truncates a name at a NUL character.
    path.write_bytes(path.read_bytes().replace(b"?b.cif", b"\0b.cif"))
    assert [sample.id for sample in read_samples(path)] == ["a"]


def test_encrypted_member_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.cif", CIF.format(GOOD))
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the encryption flag, in the local header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    (error,) = outcome(list(read_samples(path)))
    assert "encrypted" in error


def test_links_and_other_members_of_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    good = CIF.format(GOOD).encode()
    with tarfile.open(path, "w:gz") as archive:
        add_to_tar(archive, "./out/README.md", b"x" * 700)
        add_to_tar(archive, "/absolute/gen_0.cif", good)
        for name, kind in (("soft.cif", tarfile.SYMTYPE), ("hard.cif", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        fifo = tarfile.TarInfo("fifo.cif")
        fifo.type = tarfile.FIFOTYPE
        archive.addfile(fifo)
        folder = tarfile.TarInfo("folder.cif")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        add_to_tar(archive, "folder.cif/gen_1.cif", good)
        add_to_tar(archive, "n" * 150 + ".cif", good)
        add_to_tar(archive, "._gen_1.cif", b"\x00")
        add_to_tar(archive, "latin.cif", "# Müller\n".encode("latin-1") + good)
    samples = list(read_samples(path))
    assert [(sample.id, sample.structure is not None) for sample in samples] == [
        ("absolute/gen_0", True),
        ("soft", False),
        ("hard", False),
        ("fifo", False),
        ("folder.cif/gen_1", True),
        ("n" * 150, True),
        ("latin", True),
    ]
    assert samples[1].error == samples[2].error == "a link, not followed"


def test_size_of_a_member_is_limited() -> None:
    assert MAX_MEMBER_BYTES == 50_000_000
    endless = io.BytesIO(b"0" * (MAX_MEMBER_BYTES + 1))
    (entry,) = members._entries("cif", ["a.cif"], [lambda: endless], (), ReadOptions())
    sample = entry.sample("a", "x.zip:a.cif")
    assert (sample.id, sample.structure, sample.error) == ("a", None, "more than 50 MB")


# --- extxyz ------------------------------------------------------------------------------------

FRAME = '2\nLattice="3 0 0 0 3 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
ATOMS = "Li 0 0 0\nO 1.5 1.5 2.0\n"


def test_damaged_frame_does_not_affect_others(tmp_path: Path) -> None:
    path = tmp_path / "x.extxyz"
    frames = {
        "no number": "two\n",
        "good 1": FRAME + ATOMS,
        "too few": FRAME + "Li 0 0 0\n",
        "good 2": FRAME + ATOMS,
        "too many": FRAME + ATOMS + "O 0 1 0\n",
        "no element": FRAME + ATOMS.replace("Li", "Qq"),
        "placeholder": FRAME + ATOMS.replace("Li", "X"),
        "not a number": FRAME + ATOMS.replace("1.5", "abc"),
        "missing column": FRAME + "Li 0 0\nO 1.5 1.5 2.0\n",
        "no cell": "2\nmade by a model\n" + ATOMS,
        "numbered": "2\n17\n" + ATOMS,
        "flat cell": FRAME.replace("3 0 0 0 3 0", "3 0 0 3 0 0") + ATOMS,
        "slab": FRAME.replace("T T T", "T T F") + ATOMS,
        "molecule in a cell": FRAME.replace("T T T", "F F F") + ATOMS,
        "none": "0\n" + FRAME.split("\n", 1)[1],
        "no comment": "2\n",
        "good 3": FRAME + ATOMS + "\n\n",
        "glued": FRAME + ATOMS.rstrip("\n"),
        "headless": FRAME + ATOMS,
        "named": FRAME.replace("Lattice", "material_id=mp-7 Lattice") + ATOMS,
        "numbers": FRAME.replace("species:S:1", "Z:I:1").replace("Li", "3") + "3 0 0 0\n8 1 1 2\n",
        "cut": FRAME + "Li 0 0 0",
    }
    path.write_text("".join(frames.values()))
    samples = list(read_samples(path))
    results = dict(zip(frames, outcome(samples), strict=True))
    good = ["good 1", "good 2", "good 3", "molecule in a cell", "named", "numbers"]
    assert [name for name, text in results.items() if text == "Li1O1"] == sorted(
        good, key=list(frames).index
    )
    assert results["no number"] == "'two' where a number of atoms is expected"
    assert results["too few"] == results["cut"] == "ends after 1 of 2 atoms"
    assert results["too many"] == "more lines than its 2 atoms"
    assert results["no cell"] == results["numbered"] == "no cell (Lattice= in the comment line)"
    assert results["flat cell"] == "the cell has no volume"
    assert results["slab"] == "not periodic in three directions"
    assert results["none"] == "no atoms"
    assert results["placeholder"] == "'X' is not an element"
    assert samples[list(frames).index("named")].id == "mp-7"
    assert samples[1].source == "x.extxyz:frame 1"


def test_cartesian_positions_outside_the_cell(crystals: list[Structure], tmp_path: Path) -> None:
    moved = crystals[2].copy()
    moved.translate_sites([0], [1, -2, 0], to_unit_cell=False)
    (sample,) = read_samples(write_extxyz([moved], tmp_path))
    assert sample.structure is not None
    assert sample.structure.cart_coords == pytest.approx(moved.cart_coords, abs=1e-6)


# --- tables ------------------------------------------------------------------------------------


def test_rows_of_a_table(tmp_path: Path) -> None:
    good = CIF.format(GOOD)
    structure = Structure(Lattice.cubic(3), ["Cu"], [[0, 0, 0]])
    path = write_rows(
        tmp_path / "x.csv",
        ["material_id", "cif"],
        [
            ["mp-1", good],
            ["mp-2", ""],
            ["", "nan"],
            ["mp-1", repr(structure.as_dict())],
            ["mp-3", "{'lattice': __import__('os').getcwd(), 'sites': []}"],
            ["mp-4", good + good],
            ["mp-5", good, "surplus"],
            ["mp-6", good],
        ],
    )
    samples = list(read_samples(path))
    assert [sample.id for sample in samples] == (
        ["mp-1", "mp-2", "x-2", "mp-1__2", "mp-3", "mp-4", "x-6", "mp-6"]
    )
    results = outcome(samples)
    assert results[0] == results[7] == "Li1O1" and results[3] == "Cu1"
    assert results[1] == results[2] == "empty"
    assert results[4].startswith("neither JSON nor a Python literal (malformed node")
    assert results[5] == "2 data_ blocks where one crystal is expected"
    assert results[6] == "3 fields where the header has 2"
    assert samples[3].source == "x.csv:row 3"


def test_truncated_table_ends_with_a_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.csv", ["cif"], [[CIF.format(GOOD)]] * 2)
    path.write_text(path.read_text()[:-20])
    assert outcome(list(read_samples(path))) == [
        "Li1O1",
        "the file ends inside a quoted field: it is cut short",
    ]


def test_choice_of_the_column(tmp_path: Path) -> None:
    lithium, sodium = CIF.format(GOOD), CIF.format(GOOD.replace("Li", "Na"))
    path = tmp_path / "x.csv"

    def formulas(header: list[str], row: list[str], column: str | None = None) -> list[str]:
        return outcome(list(read_samples(write_rows(path, header, [row]), column=column)))

    assert formulas(["true", "Generated CIF"], [sodium, lithium]) == ["Li1O1"]
    assert formulas(["cif", "relaxed"], ["garbage", lithium]) == ["Li1O1"]
    assert formulas(["cif", "note"], ["garbage", "none"]) == ["not a CIF: there is no data_ line"]
    assert formulas(["a", "b"], [sodium, lithium], "b") == ["Li1O1"]
    assert formulas(["0"], [lithium]) == ["Li1O1"]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text(f'n{delimiter}cif\n1{delimiter}"{CIF.format(GOOD)}"\n')
    assert outcome(list(read_samples(path))) == ["Li1O1"]


def test_text_of_a_language_model(tmp_path: Path) -> None:
    texts = [
        "3.0 3.0 4.0\n90 90 90\nLi\n0 0 0\nO\n0.5 0.5 0.5",
        "3.0 3.0 4.0\n90 90 90\nLi\n0 0 0\nO",
        "3.0 3.0 4.0\n90 90 90\nLi\n0 zero 0",
        "3.0 3.0 4.0\n90 90 90\nLithium\n0 0 0",
        "3.0 3.0 4.0\n20 20 90\nLi\n0 0 0",
        "3.0 0.0 4.0\n90 90 90\nLi\n0 0 0",
        "3.0 3.0 4.0\n90 90 90",
    ]
    path = write_rows(tmp_path / "x.csv", ["gen_str", "y"], [[text, 1] for text in texts])
    assert outcome(list(read_samples(path))) == [
        "Li1O1",
        "the last atom has no coordinates",
        "'0 zero 0' is not three coordinates",
        "'Lithium' is not an element",
        "no cell has the angles 20, 20, 90 (degrees)",
        "a cell length is not above 0: 3, 0, 4",
        "no atoms",
    ]


# --- JSON --------------------------------------------------------------------------------------


def test_values_of_json(crystals: list[Structure], tmp_path: Path) -> None:
    good = crystals[3].as_dict()
    nan = json.loads(json.dumps(good))
    nan["lattice"]["matrix"][0][0] = math.nan
    unknown = json.loads(json.dumps(good).replace('"Fe"', '"Zz"'))
    slab = json.loads(json.dumps(good))
    slab["lattice"]["pbc"] = [True, True, False]
    ragged = json.loads(json.dumps(good))
    ragged["sites"][0]["abc"] = [0, 0]
    entry = {"@class": "ComputedStructureEntry", "structure": good, "energy": -8.0}
    values = {
        "plain": good,
        "nan": nan,
        "null": None,
        "number": 3,
        "unknown": unknown,
        "slab": slab,
        "ragged": ragged,
        "no sites": {**good, "sites": []},
        "gene": {"group": 1, "sites": [["1a"]], "species": ["Li"], "numIons": [1]},
        "cif": CIF.format(GOOD),
        "record": {"id": 7, "structure": good},
        "entry": entry,
        "other": {"id": "z", "structure": None},
    }
    path = tmp_path / "x.json"
    path.write_text(json.dumps(list(values.values())))
    samples = list(read_samples(path))
    results = dict(zip(values, outcome(samples), strict=True))
    assert [name for name in results if results[name] in ("Fe1", "Li1O1")] == [
        *("plain", "nan", "cif", "record", "entry")
    ]
    with pytest.raises(CrystalError, match="not finite"):
        clean(samples[1].structure)
    assert results["null"] == "empty" and results["number"] == "type int, not a crystal"
    assert results["unknown"] == "'Zz' is not an element"
    assert results["slab"] == "not periodic in three directions"
    assert results["ragged"] == "2 numbers where three are expected"
    assert results["no sites"] == "no atoms"
    assert "without cell or coordinates" in results["gene"]
    assert "keys: id, structure" in results["other"]
    assert [samples[i].id for i in (0, 10, 12)] == ["x-0", "7", "z"]
    lines = tmp_path / "x.jsonl"
    lines.write_text("".join(f"{json.dumps(value)}\n" for value in values.values()) + "{cut")
    assert outcome(list(read_samples(lines)))[:-1] == outcome(samples)
    assert outcome(list(read_samples(lines)))[-1].startswith("not JSON (")


def test_structure_imports_no_module(tmp_path: Path, crystals: list[Structure]) -> None:
    """Otherwise pymatgen would import the module that a site property names."""
    data = crystals[3].as_dict()
    data["sites"][0]["properties"] = {"magmom": {"@module": "antigravity", "@class": "x"}}
    data["sites"][0]["species"][0]["oxidation_state"] = 2
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data))
    (sample,) = read_samples(path)
    assert sample.structure is not None and sample.id == "x-0"
    assert sample.structure.site_properties == {} and str(sample.structure[0].specie) == "Fe2+"


def test_mixed_sites_of_json(tmp_path: Path) -> None:
    mixed = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    path = tmp_path / "x.json"
    path.write_text(json.dumps(mixed.as_dict()))
    (sample,) = read_samples(path)
    assert sample.structure == mixed


# --- random subsets ------------------------------------------------------------------------------


def test_random_subset_is_reproducible(tmp_path: Path) -> None:
    path = tmp_path / "many.cif"
    path.write_text("".join(CIF.format(GOOD).replace("data_made", f"data_{i}") for i in range(40)))
    every = [sample.id for sample in read_samples(path)]
    drawn = [sample.id for sample in read_samples(path, limit=10, seed=3)]
    assert len(drawn) == 10 and drawn == sorted(set(drawn), key=every.index)
    assert drawn == [sample.id for sample in read_samples(path, limit=10, seed=3)]
    assert drawn != [sample.id for sample in read_samples(path, limit=10, seed=4)]
    assert drawn != every[:10]
    assert [sample.id for sample in read_samples(path, limit=100, seed=3)] == every
    with pytest.raises(InputError, match="limit=N"):
        read_samples(path, seed=3)


@pytest.mark.parametrize("count", ["\x1c1", "9" * 5000, "²"])
def test_invalid_number_of_atoms_affects_only_one_frame(tmp_path: Path, count: str) -> None:
    comment = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\n'
    path = tmp_path / "frames.extxyz"
    path.write_text(f"{count}\n{comment}Na 0 0 0\n1\n{comment}K 0 0 0\n", encoding="utf-8")
    *refused, last = read_samples(path)
    assert refused and all(sample.error for sample in refused)
    assert last.error is None and last.structure.formula == "K1"
