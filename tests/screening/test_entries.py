"""Computed entries of pymatgen, and the hull of a user's entries."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monty.serialization import dumpfn
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import (
    CompositionEnergyAdjustment,
    ComputedEntry,
    ComputedStructureEntry,
    ConstantEnergyAdjustment,
)

from novelty_metric.errors import InputError
from novelty_metric.screening import entries as entries_module
from novelty_metric.screening.entries import (
    EntriesHull,
    EntryRow,
    content_hash,
    hull_of_entries,
    read_entries,
)
from novelty_metric.screening.hull import Energies, Hull, HullSource

OXYGEN = CompositionEnergyAdjustment(-0.687, 2, name="MP2020 anion correction (oxide)")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def some_entries() -> list[ComputedEntry]:
    """Entries of iron, lithium and oxygen; the oxides have corrections."""
    cell = Structure(Lattice.cubic(3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    iron = ConstantEnergyAdjustment(-2.256, name="MP2020 GGA/GGA+U mixing correction (Fe)")
    return [
        ComputedEntry("Fe2", -16.9, entry_id="iron", parameters={"run_type": "GGA"}),
        ComputedEntry("O8", -39.4, entry_id="oxygen"),
        ComputedEntry("Li", -1.9, entry_id="lithium"),
        ComputedStructureEntry(
            cell,
            -11.9,
            energy_adjustments=[CompositionEnergyAdjustment(-0.687, 1), iron],
            entry_id="wustite",
            parameters={"run_type": "GGA+U"},
        ),
        ComputedEntry("Li4O2", -27.0, energy_adjustments=[OXYGEN], entry_id="oxide"),
        ComputedEntry("Li2O", -12.9, correction=-0.3, entry_id="higher"),
    ]


def test_energies_agree_with_pymatgen(tmp_path: Path) -> None:
    given = some_entries()
    dumpfn(given, tmp_path / "mine.json.gz")
    got = read_entries(tmp_path / "mine.json.gz")
    assert len(got) == 6
    for one, entry in zip(got, given, strict=True):
        assert one.energy + one.correction == pytest.approx(entry.energy_per_atom, abs=1e-12)
        assert one.energy == pytest.approx(entry.uncorrected_energy_per_atom, abs=1e-12)
    assert got[3].key == ((8, 1), (26, 1)) and got[4].key == got[5].key == ((3, 2), (8, 1))
    assert [one.run_type for one in got] == ["GGA", "", "", "GGA+U", "", ""]


def test_layout_of_the_file_does_not_matter(tmp_path: Path) -> None:
    dictionaries = [entry.as_dict() for entry in some_entries()]
    ids = [entry["entry_id"] for entry in dictionaries]
    bare = [{key: d[key] for key in ("composition", "energy", "correction")} for d in dictionaries]
    layouts: dict[str, Any] = {
        "list": dictionaries,
        "mapping": dict(zip(ids, dictionaries, strict=True)),
        "held": {"entries": dictionaries, "source": "mine"},
        "bare": bare,
        "records": [{"id": i, "entry": d} for i, d in zip(ids, dictionaries, strict=True)],
    }
    written = {name: json.dumps(content) for name, content in layouts.items()}
    written["lines"] = "\n".join(map(json.dumps, dictionaries))
    hashes = set()
    for name, text in written.items():
        path = tmp_path / f"{name}.json"
        path.write_text(text, "utf-8")
        packed = tmp_path / f"{name}.json.gz"
        packed.write_bytes(gzip.compress(text.encode()))
        hashes |= {content_hash(read_entries(path)), content_hash(read_entries(packed))}
    assert len(hashes) == 1

    # pandas rounds to ten decimals.
    pd.DataFrame({"material_id": ids, "entry": dictionaries}).to_json(tmp_path / "table.json.gz")
    got, plain = read_entries(tmp_path / "table.json.gz"), read_entries(tmp_path / "list.json")
    for one, other in zip(got, plain, strict=True):
        assert (one.key, one.run_type) == (other.key, other.run_type)
        assert one[1:3] == pytest.approx(other[1:3], abs=1e-9)


def test_large_file_is_streamed_and_cached(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionaries = [entry.as_dict() for entry in some_entries()]
    # Fractional amounts are kept.
    dictionaries.append(ComputedEntry({"Fe": 0.1, "O": 0.2, "Li": 0.4}, -1.0).as_dict())
    path = tmp_path / "table.json"
    pd.DataFrame({"material_id": range(7), "entry": dictionaries}).to_json(path)
    at_once = read_entries(path)
    assert not (cache / "hulls").exists()

    from novelty_metric.screening import json_stream

    monkeypatch.setattr(entries_module, "KEEP_FROM", 0)
    monkeypatch.setattr(json_stream.json_values, "__kwdefaults__", {"whole": 900, "chunk": 700})
    told: list[tuple[str, int, int | None]] = []
    entered = read_entries(path, progress=lambda *arguments: told.append(arguments))
    assert told[-1] == ("read entries of the hull", path.stat().st_size, path.stat().st_size)
    (kept,) = (cache / "hulls").iterdir()
    monkeypatch.setattr(entries_module, "_parse", None)  # the cache is used
    again = read_entries(path)
    assert entered == again == at_once

    # A damaged cache, or one of another version, is replaced.
    monkeypatch.undo()
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(cache))
    monkeypatch.setattr(entries_module, "KEEP_FROM", 0)
    kept.write_bytes(b"PAR1 no more")
    assert read_entries(path) == at_once
    assert kept.stat().st_size > 100


def test_without_a_writable_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries_module, "KEEP_FROM", 0)
    cache.write_text("a file in the way")
    dumpfn(some_entries(), tmp_path / "mine.json")
    assert len(read_entries(tmp_path / "mine.json")) == 6


def test_hash_depends_on_the_content() -> None:
    rows = [
        EntryRow(((3, 1),), -1.9, 0.0, ""),
        EntryRow(((8, 1),), -4.9, 0.0, ""),
        EntryRow(((3, 2), (8, 1)), -4.0, -0.2, ""),
    ]
    assert content_hash(rows) == content_hash(rows[::-1])
    for place, value in ((1, -4.1), (2, -0.1), (0, ((3, 1), (8, 1)))):
        other = list(rows[2])
        other[place] = value
        assert content_hash([*rows[:2], EntryRow(*other)]) != content_hash(rows)


BROKEN = {
    "no text at all": ("", "not JSON, or cut short"),
    "cut short": ('[{"composition": {"Li": 1}, "ener', "not JSON, or cut short"),
    "an empty list": ("[]", "contains no entry"),
    "a number": ("17", "contains no entry"),
    "a list of names": ('["mp-1", "mp-2"]', "contains no entry"),
    "a structure": (json.dumps({"lattice": {}, "sites": []}), "contains no entry"),
    "no energy": ('[{"composition": {"Li": 1}}]', "entry 0 has no energy"),
    "no composition": ('[{"energy": 1, "entry_id": "x"}]', "entry x has no composition"),
    "energy as text": ('[{"composition": "Li", "energy": "-1"}]', "energy of entry 0 is '-1'"),
    "energy that is not a number": (
        '[{"composition": "Li", "energy": NaN}]',
        "must be a finite number",
    ),
    "unknown element": ('[{"composition": {"Xx": 1}, "energy": 1}]', "is not valid"),
    "amount of nothing": ('[{"composition": {"Li": 0}, "energy": 1}]', "is not valid"),
    "formula that is none": ('[{"composition": "L!", "energy": 1}]', "is not valid"),
    "null in between": (
        '[{"composition": "Li", "energy": -1}, null]',
        "entry 1 is not an entry",
    ),
    "free energy": (
        '[{"@class": "GibbsComputedStructureEntry", "composition": "Li", "energy": -1}]',
        "is a GibbsComputedStructureEntry; known: ComputedEntry",
    ),
    "adjustments without their sum": (
        '[{"composition": "Li", "energy": -1, "energy_adjustments": [{"value": 1}]}]',
        "but no correction",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_files_give_one_clear_error(name: str, tmp_path: Path) -> None:
    text, told = BROKEN[name]
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        EntriesHull(path).open("chgnet")
    assert str(path) in str(caught.value) and told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_binary_files_give_one_clear_error(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps([{"composition": "Li", "energy": -1}] * 50).encode())
    for content in (packed[:-12], b"\x1f\x8b nothing of the kind", b"\xff\xfe\x00", b"PK\x03\x04"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match="not JSON, or cut short"):
            read_entries(tmp_path / "bad.json")
    with pytest.raises(InputError, match="can't be read"):
        read_entries(tmp_path / "missing.json")
    with pytest.raises(InputError, match="can't be read"):
        read_entries(tmp_path)


def test_energies_follow_from_the_potential(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    dumpfn(some_entries(), path)
    oxide = Composition("Li2O")
    entry = some_entries()[4]
    for potential, asked, which in (
        ("chgnet", "auto", "corrected"),
        ("mace-medium-mpa-0", "auto", "uncorrected"),
        ("mace-mace-mpa-0-medium", "auto", "uncorrected"),
        ("my-potential", "corrected", "corrected"),
        ("chgnet", "uncorrected", "uncorrected"),
    ):
        hull = EntriesHull(path, energies=asked).open(potential)
        per_atom = (
            entry.energy_per_atom if which == "corrected" else entry.uncorrected_energy_per_atom
        )
        assert hull.e_above_hull(oxide, per_atom) == pytest.approx(0.0, abs=1e-9)
        assert hull.describe()["energies"] == which
    with pytest.raises(
        InputError, match=r"'my-potential' was trained on are not known; set hull.energies="
    ):
        EntriesHull(path).open("my-potential")
    with pytest.raises(InputError, match=r"hull.energies is 'both'; known: auto"):
        EntriesHull(path, energies="both").open("chgnet")

    # Without corrections there is only one scale.
    dumpfn([ComputedEntry("Li", -1.9), ComputedEntry("O2", -9.8)], path)
    assert EntriesHull(path).open("my-potential").e_above_hull(Composition("Li"), -1.8) is not None


def test_description_and_missing_elements(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    dumpfn(some_entries(), path)
    source = EntriesHull(str(path))
    hull: Hull = source.open("chgnet")
    assert isinstance(source, HullSource) and not isinstance(hull, HullSource)
    described = hull.describe()
    assert len(described.pop("content_hash")) == 64
    assert described == {
        "name": "entries",
        "file": "mine.json",
        "entries": 6,
        "energies": "corrected",
        "compositions": 5,
        "elements": 3,
    }
    assert hull.name == "entries"
    assert hull.e_above_hull(Composition("NaO"), -3.0) is None
    assert hull.e_above_hull(Composition("LiFeO2"), float("nan")) is None


def test_tilde_means_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    dumpfn(some_entries(), tmp_path / "mine.json")
    assert EntriesHull("~/mine.json").open("chgnet").describe()["entries"] == 6


SYMBOLS = ("Li", "O", "Fe", "Mn")


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 4), min_size=4, max_size=4).filter(any),
            st.floats(-4, 0),
        ),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
)
def test_hull_agrees_with_pymatgen(drawn: list[tuple[list[int], float]], target: list[int]) -> None:
    amounts = [{s: n for s, n in zip(SYMBOLS, given, strict=True) if n} for given, _ in drawn]
    made = [
        ComputedEntry(a, energy * sum(a.values()))
        for a, (_, energy) in zip(amounts, drawn, strict=True)
    ]
    made += [ComputedEntry({symbol: 1}, -0.3) for symbol in SYMBOLS]
    rows = [entries_module.entry_row(entry.as_dict(), "") for entry in made]
    hull = hull_of_entries(rows, "entries", Energies.CORRECTED)
    composition = Composition(dict(zip(SYMBOLS, target, strict=True)))
    diagram = PhaseDiagram([PDEntry(entry.composition, entry.energy) for entry in made])
    expected = -2.0 - diagram.get_hull_energy_per_atom(composition)
    assert hull.e_above_hull(composition, -2.0) == pytest.approx(expected, abs=1e-7)
