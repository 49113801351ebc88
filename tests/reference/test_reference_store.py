"""`Reference`: content, hashes, and file."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.crystal import clean, reduce, symmetry
from novelty_metric.errors import InputError, StoreError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference, arrow_file
from novelty_metric.reference.manifest import FORMAT_VERSION, unique_ids
from novelty_metric.reference.prepare import crystal_digest


def rocksalt(a: float = 5.64, anion: str = "Cl") -> Structure:
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    coords = np.concatenate([corners, corners + 0.5])
    return Structure(Lattice.cubic(a), ["Na"] * 4 + [anion] * 4, coords)


def rutile() -> Structure:
    lattice = Lattice.tetragonal(4.594, 2.959)
    return Structure.from_spacegroup(
        "P4_2/mnm", lattice, ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )


def low_symmetry() -> Structure:
    lattice = Lattice.from_parameters(5.1, 6.3, 7.7, 81, 97, 103)
    coords = [[0.11, 0.22, 0.31], [0.43, 0.71, 0.64], [0.83, 0.37, 0.91]]
    return Structure(lattice, ["Li", "Fe", "O"], coords)


def crystals() -> list[Structure]:
    return [rocksalt(), rutile(), low_symmetry(), rocksalt()]


@pytest.fixture
def reference() -> Reference:
    return Reference.from_structures(crystals(), ["a", "b", "c", "d"], name="small")


@pytest.fixture
def saved(reference: Reference, tmp_path: Path) -> Path:
    path = tmp_path / "small.arrow"
    reference.save(path)
    return path


ARRAYS = (
    "lattices",
    "offsets",
    "n_sites",
    "frac_coords",
    "numbers",
    "space_groups",
    "wyckoff_letters",
    "orbits",
)


def test_contains_the_reduced_crystals_in_order(reference: Reference) -> None:
    assert reference.ids == ("a", "b", "c", "d")
    assert reference.n_sites.tolist() == [2, 6, 3, 2]
    assert reference.space_groups.tolist() == [225, 136, 1, 225]
    for index, structure in enumerate(crystals()):
        expected = reduce(clean(structure))
        sites = reference.sites(index)
        np.testing.assert_array_equal(reference.lattices[index], expected.lattice.matrix)
        np.testing.assert_array_equal(reference.frac_coords[sites], expected.frac_coords)
        assert reference.numbers[sites].tolist() == [site.specie.Z for site in expected]
        found = symmetry(expected, symprec=0.01, angle_tolerance=5.0)
        assert found is not None
        assert reference.orbits[sites].tolist() == list(found.orbits)
        assert "".join(map(chr, reference.wyckoff_letters[sites])) == "".join(found.letters)
        back = reference.structure(index)
        np.testing.assert_array_equal(back.lattice.matrix, expected.lattice.matrix)
        np.testing.assert_array_equal(back.frac_coords, expected.frac_coords)
        assert back.species == expected.species


def test_dtypes_and_protection(reference: Reference, saved: Path) -> None:
    dtypes = {
        "lattices": "<f8",
        "offsets": "<i8",
        "n_sites": "<i4",
        "frac_coords": "<f8",
        "numbers": "|u1",
        "space_groups": "<i2",
        "wyckoff_letters": "|u1",
        "orbits": "<i4",
    }
    for one in (reference, Reference.open(saved)):
        for name, dtype in dtypes.items():
            array = getattr(one, name)
            assert array.dtype == np.dtype(dtype), name
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_round_trip(reference: Reference, saved: Path) -> None:
    opened = Reference.open(saved)
    assert opened.ids == reference.ids
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name), getattr(reference, name), err_msg=name)
    assert opened.manifest == reference.manifest
    assert opened.path == saved
    opened.verify()
    again = pickle.loads(pickle.dumps(opened))
    assert again.store_hash == reference.store_hash and again.path == saved
    unsaved = pickle.loads(pickle.dumps(reference))
    np.testing.assert_array_equal(unsaved.frac_coords, reference.frac_coords)


def test_arrays_are_mapped_not_copied(saved: Path) -> None:
    opened = Reference.open(saved)
    assert not opened.frac_coords.flags.owndata
    assert not opened.numbers.flags.owndata
    other = Reference.open(saved)
    assert other.frac_coords.ctypes.data != opened.frac_coords.ctypes.data


def test_sequence_behaviour(reference: Reference) -> None:
    assert len(reference) == 4
    assert reference[1].composition.reduced_formula == "TiO2"
    assert reference[-1].composition.reduced_formula == "NaCl"
    assert [s.composition.reduced_formula for s in reference[:2]] == ["NaCl", "TiO2"]
    assert len(list(reference)) == 4
    assert reference.structure(0) is reference.structure(0)
    assert reference.position("c") == 2
    for bad in (4, -5):
        with pytest.raises(IndexError):
            reference.structure(bad)


def test_structure_cache_is_limited(monkeypatch: pytest.MonkeyPatch, reference: Reference) -> None:
    monkeypatch.setattr("novelty_metric.reference.store._CACHED_STRUCTURES", 2)
    for index in range(4):
        reference.structure(index)
    assert len(reference._structures) == 2


def test_same_composition(reference: Reference) -> None:
    assert reference.composition_key(1) == ((8, 2), (22, 1))
    assert reference.with_composition(reference.composition_key(0)).tolist() == [0, 3]
    assert reference.with_composition(((2, 1),)).tolist() == []


def test_crystals_hash_depends_only_on_crystals(reference: Reference) -> None:
    same = Reference.from_structures(
        crystals(), ["a", "b", "c", "d"], name="other name", symprec=0.1, angle_tolerance=3.0
    )
    assert same.crystals_hash == reference.crystals_hash
    assert same.store_hash != reference.store_hash


def test_store_hash_depends_on_each_setting() -> None:
    def made(**settings: float) -> str:
        return Reference.from_structures(crystals(), **settings).store_hash

    hashes = {made(), made(symprec=0.011), made(angle_tolerance=4.0)}
    assert len(hashes) == 3
    assert made() in hashes


def _moved(index: int, axis: int, by: float) -> list[Structure]:
    changed = crystals()
    coords = changed[2].frac_coords.copy()
    coords[index, axis] += by
    changed[2] = Structure(changed[2].lattice, changed[2].species, coords)
    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda: (crystals(), ["a", "b", "c", "e"]),
        lambda: (crystals()[::-1], ["a", "b", "c", "d"]),
        lambda: (crystals()[:3], ["a", "b", "c"]),
        lambda: ([*crystals()[:3], rocksalt(5.6401)], ["a", "b", "c", "d"]),
        lambda: ([*crystals()[:3], rocksalt(anion="Br")], ["a", "b", "c", "d"]),
        lambda: ([*crystals()[:3], reduce(rocksalt())], ["a", "b", "c", "d"]),
        lambda: (_moved(1, 2, 1e-6), ["a", "b", "c", "d"]),
        lambda: (crystals(), ["ab", "", "c", "d"]),
    ],
    ids=["id", "order", "fewer", "cell", "element", "other cell", "coordinate", "id borders"],
)
def test_crystals_hash_depends_on_any_change(reference: Reference, change) -> None:  # type: ignore[no-untyped-def]
    structures, ids = change()
    changed = Reference.from_structures(structures, ids)
    assert changed.crystals_hash != reference.crystals_hash
    assert changed.store_hash != reference.store_hash


def test_digest_ignores_last_bits_and_lattice_vectors() -> None:
    one = low_symmetry()
    shifted = Structure(one.lattice, one.species, one.frac_coords + [[1, -2, 3]] * 3)
    noisy = Structure(
        Lattice(one.lattice.matrix * (1 + 1e-14)), one.species, one.frac_coords - 1e-14
    )
    assert crystal_digest(clean(shifted)) == crystal_digest(clean(one))
    assert crystal_digest(clean(noisy)) == crystal_digest(clean(one))
    edge = Structure(one.lattice, one.species, [[0, 0, 0], *one.frac_coords[1:].tolist()])
    below = Structure(one.lattice, one.species, [[-1e-15, 0, 0], *one.frac_coords[1:].tolist()])
    assert crystal_digest(clean(edge)) == crystal_digest(clean(below))


def test_hashes_do_not_change_between_versions() -> None:
    """Published reports name data sets by these hashes."""
    lattice = Lattice([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 5.0]])
    structure = Structure(lattice, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.25, 0.125]])
    reference = Reference.from_structures([structure], ["x"])
    assert reference.crystals_hash == (
        "743a3b099bff119832de27b616c9c236a07ebb1a147bfe826e757599b23dd85f"
    )


def test_unusable_crystals_are_listed() -> None:
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Co": 0.5}], [[0, 0, 0]])
    clash = Structure(Lattice.cubic(3), ["Fe", "Fe"], [[0, 0, 0], [0.001, 0, 0]])
    reference = Reference.from_structures([alloy, rocksalt(), clash], ["x", "y", "z"])
    assert reference.ids == ("y",)
    assert reference.manifest.read == 3 and reference.manifest.count == 1
    assert [(s.id, s.source) for s in reference.manifest.skipped] == [
        ("x", "crystal 0"),
        ("z", "crystal 2"),
    ]
    assert "partly occupied" in reference.manifest.skipped[0].reason
    assert "coincident" in reference.manifest.skipped[1].reason
    with pytest.raises(InputError, match=r"none of its 1 crystals can be used.*partly occupied"):
        Reference.from_structures([alloy])
    with pytest.raises(InputError, match="no crystal"):
        Reference.from_structures([])
    with pytest.raises(InputError, match="1 reference crystals but 2 ids"):
        Reference.from_structures([rocksalt()], ["a", "b"])


def test_undetermined_symmetry_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("novelty_metric.reference.prepare.symmetry", lambda *_, **__: None)
    reference = Reference.from_structures([rocksalt()])
    assert reference.space_groups.tolist() == [0]
    assert reference.wyckoff_letters.tolist() == [0, 0]
    assert reference.orbits.tolist() == [0, 1]
    reference.verify()


def test_repeated_ids() -> None:
    ids, renamed = unique_ids(["a", "a", "a__2", "a", "b"])
    assert ids == ["a", "a__3", "a__2", "a__4", "b"]
    assert renamed == {"a__3": "a", "a__4": "a"}
    reference = Reference.from_structures([rocksalt(), rutile()], ["a", "a"])
    assert reference.ids == ("a", "a__2")
    assert reference.manifest.renamed_ids == {"a__2": "a"}


def test_progress_is_reported() -> None:
    calls: list[tuple[int, int | None]] = []
    Reference.from_structures(crystals(), progress=lambda *call: calls.append(call))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_wyckoff_letter_beyond_z(tmp_path: Path) -> None:
    # Pmmm has 27 Wyckoff positions; the letter of the general one is A.
    structure = Structure.from_spacegroup(
        "Pmmm", Lattice.orthorhombic(5, 6, 7), ["Si"], [[0.11, 0.21, 0.31]]
    )
    reference = Reference.from_structures([structure])
    assert set(reference.wyckoff_letters.tolist()) == {ord("A")}


# --- files that can't be used ---------------------------------------------------------------------


def _one_line(error: pytest.ExceptionInfo[StoreError], path: Path) -> str:
    text = str(error.value)
    assert "\n" not in text and str(path) in text
    return text


def test_store_truncated_anywhere_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    size = len(content)
    positions = {0, 1, 5, 6, 8, 12, 100, 1000, size // 4, size // 2, 3 * size // 4}
    positions |= {size - 1, size - 2, size - 6, size - 7, size - 10, size - 100, size - 1000}
    for position in sorted(positions):
        saved.write_bytes(content[:position])
        with pytest.raises(StoreError) as error:
            Reference.open(saved)
        _one_line(error, saved)


def test_store_without_its_middle_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    half = len(content) // 2
    for gap in (1, 8, 64, 512):
        saved.write_bytes(content[:half] + content[half + gap :])
        with pytest.raises(StoreError) as error:
            Reference.open(saved)
        _one_line(error, saved)


def test_any_changed_byte_is_detected(saved: Path) -> None:
    content = saved.read_bytes()
    rng = np.random.default_rng(3)
    seal = content.index(b"novelty_metric.reference.seal")
    positions = rng.choice(len(content), size=400, replace=False).tolist()
    positions += range(seal - 40, seal + 160, 3)
    for position in positions:
        changed = bytearray(content)
        changed[position] ^= int(rng.integers(1, 256))
        saved.write_bytes(changed)
        with pytest.raises(StoreError) as error:
            Reference.open(saved)
        _one_line(error, saved)


def test_id_that_contains_the_seal(tmp_path: Path) -> None:
    """An id like the seal must not make a store unreadable."""
    path = tmp_path / "odd.arrow"
    odd = "novelty-metric file sha256 " + "0" * 64
    reference = Reference.from_structures([rutile()], [odd])
    with pytest.raises(InputError, match="contains the text"):
        reference.save(path)
    assert list(tmp_path.iterdir()) == []


def test_every_array_is_hashed(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "changed.arrow"
    for name in ("lattices", "frac_coords", "numbers", "space_groups", "wyckoff_letters", "orbits"):
        fields = {key: getattr(reference.arrays, key) for key in reference.arrays.__slots__}
        changed = fields[name].copy()
        changed.flat[0] += 1
        fields[name] = changed
        arrow_file.write(path, type(reference.arrays)(**fields), reference.manifest.to_json())
        with pytest.raises(StoreError, match="content was changed"):
            Reference.open(path)
    arrays = dataclasses.replace(reference.arrays, ids=("a", "b", "c", "x"))
    arrow_file.write(path, arrays, reference.manifest.to_json())
    with pytest.raises(StoreError, match="ids or crystals were changed"):
        Reference.open(path)


def test_foreign_files(tmp_path: Path) -> None:
    import pyarrow as pa

    text = tmp_path / "text.arrow"
    text.write_text("id,cif\n1,data_\n")
    with pytest.raises(StoreError, match=r"not a prepared reference.*reference build"):
        Reference.open(text)
    empty = tmp_path / "empty.arrow"
    empty.write_bytes(b"")
    with pytest.raises(StoreError, match="an empty file"):
        Reference.open(empty)
    foreign = tmp_path / "foreign.arrow"
    table = pa.table({"x": [1, 2]})
    with pa.OSFile(str(foreign), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(StoreError, match="an Arrow file, but not a prepared reference"):
        Reference.open(foreign)
    with pytest.raises(StoreError, match="can't be read"):
        Reference.open(tmp_path / "missing.arrow")
    with pytest.raises(StoreError, match="a folder"):
        Reference.open(tmp_path)


def test_newer_format(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "newer.arrow"
    content = json.loads(reference.manifest.to_json())
    content["format_version"] = FORMAT_VERSION + 1
    arrow_file.write(path, reference.arrays, json.dumps(content))
    with pytest.raises(StoreError, match=r"written in format 2.*upgrade novelty-metric"):
        Reference.open(path)


def test_store_without_crystals(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "none.arrow"
    none = type(reference.arrays).from_prepared([])
    content = json.loads(reference.manifest.to_json())
    content["count"] = 0
    arrow_file.write(path, none, json.dumps(content))
    with pytest.raises(StoreError, match="contains no crystal"):
        Reference.open(path)


def test_inconsistent_protocol_is_refused(saved: Path) -> None:
    Reference.open(saved, protocol=Protocol())
    with pytest.raises(StoreError, match=r"prepared with symprec=0.01, .* asks for symprec=0.1"):
        Reference.open(saved, protocol=Protocol(symprec=0.1))
    with pytest.raises(StoreError, match=r"angle_tolerance=5.0"):
        Reference.open(saved).require(Protocol(symmetry_angle_tolerance=1.0))


def test_save_refuses_invalid_targets(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NAME\.arrow"):
        reference.save(tmp_path / "store.parquet")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        reference.save(tmp_path / "file" / "store.arrow")


def test_save_replaces_files_atomically(reference: Reference, saved: Path) -> None:
    before = Reference.open(saved)
    Reference.from_structures([rutile()], ["r"]).save(saved)
    # A mapped reference keeps its open file.
    np.testing.assert_array_equal(before.frac_coords, reference.frac_coords)
    assert Reference.open(saved).ids == ("r",)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_real_crystals_agree_with_pymatgen(shared_data: Path) -> None:
    """The arrays agree bit for bit with crystals that are read and reduced one by one."""
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data / "mp_20" / "test.parquet", columns=["material_id", "cif"])
    rows = table.slice(4000, 60).to_pylist()
    structures = [Structure.from_str(row["cif"], fmt="cif") for row in rows]
    reference = Reference.from_structures(structures, [row["material_id"] for row in rows])
    assert len(reference) == 60
    for index, structure in enumerate(structures):
        expected = structure.get_primitive_structure().get_reduced_structure("niggli")
        back = reference.structure(index)
        np.testing.assert_array_equal(back.lattice.matrix, expected.lattice.matrix)
        np.testing.assert_array_equal(back.frac_coords, expected.frac_coords)
        assert back.composition == expected.composition
