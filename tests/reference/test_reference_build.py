"""Building a reference from files: the store, exclusions, resumption."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.errors import InputError
from novelty_metric.reference import Reference, arrow_file, build, build_reference

N_CRYSTALS = 25


def crystal(number: int) -> Structure:
    lattice = Lattice.orthorhombic(3 + 0.01 * number, 4, 5)
    return Structure(lattice, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def rows(numbers: range) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "material_id": [f"mp-{number}" for number in numbers],
            "band_gap": 0.0,
            "cif": [crystal(number).to(fmt="cif") for number in numbers],
        }
    )


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CHUNK", 10)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    rows(range(N_CRYSTALS)).to_csv(path)
    return path


def expected() -> Reference:
    structures = [
        Structure.from_str(crystal(number).to(fmt="cif"), fmt="cif") for number in range(N_CRYSTALS)
    ]
    return Reference.from_structures(structures, [f"mp-{n}" for n in range(N_CRYSTALS)])


@pytest.mark.usefixtures("small_chunks")
def test_build_equals_from_structures(source: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    out = tmp_path / "built.arrow"
    reference = build_reference(source, out, progress=lambda *call: calls.append(call))
    one_by_one = expected()
    assert reference.ids == one_by_one.ids
    assert reference.crystals_hash == one_by_one.crystals_hash
    assert reference.store_hash == one_by_one.store_hash
    assert reference.name == "built" and reference.path == out
    assert reference.manifest.source == ("train.csv",)
    assert [done for done, _ in calls] == [0, 10, 20, 25]
    assert not (tmp_path / "built.arrow.parts").exists()


@pytest.mark.usefixtures("small_chunks")
def test_formats_of_sources_give_the_same_crystals(source: Path, tmp_path: Path) -> None:
    table = rows(range(N_CRYSTALS))
    table.to_csv(tmp_path / "train.csv.gz")
    table[["cif", "band_gap", "material_id"]].to_parquet(tmp_path / "other_order.parquet")
    folder = tmp_path / "cifs"
    folder.mkdir()
    for row in table.itertuples():
        (folder / f"{row.material_id}.cif").write_text(row.cif)
    rows(range(12)).to_parquet(tmp_path / "first.parquet")
    rows(range(12, N_CRYSTALS)).to_csv(tmp_path / "second.csv")
    sources = {
        "csv": source,
        "gz": tmp_path / "train.csv.gz",
        "parquet": tmp_path / "other_order.parquet",
        "folder": folder,
        "two files": [tmp_path / "first.parquet", tmp_path / "second.csv"],
    }
    hashes = {
        name: build_reference(given, tmp_path / "out.arrow").crystals_hash
        for name, given in sources.items()
    }
    assert set(hashes.values()) == {expected().crystals_hash}, hashes


def test_unusable_crystals_are_recorded(tmp_path: Path) -> None:
    table = rows(range(3))
    table.loc[1, "cif"] = "data_broken\nnot a cif"
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Co": 0.5}], [[0, 0, 0]])
    table.loc[2, "cif"] = alloy.to(fmt="cif")
    table.to_parquet(tmp_path / "some.parquet")
    reference = build_reference(tmp_path / "some.parquet", tmp_path / "some.arrow")
    assert reference.ids == ("mp-0",)
    assert reference.manifest.read == 3
    assert [item.id for item in reference.manifest.skipped] == ["mp-1", "mp-2"]
    assert [item.source for item in reference.manifest.skipped] == [
        "some.parquet:row 1",
        "some.parquet:row 2",
    ]
    assert "partly occupied" in reference.manifest.skipped[1].reason
    assert Reference.open(tmp_path / "some.arrow").manifest == reference.manifest

    table.iloc[1:].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="none of its 2 crystals can be used"):
        build_reference(tmp_path / "none.parquet", tmp_path / "none.arrow")
    assert not (tmp_path / "none.arrow").exists()


def test_repeated_ids_over_files(tmp_path: Path) -> None:
    rows(range(2)).to_parquet(tmp_path / "a.parquet")
    rows(range(1, 3)).to_parquet(tmp_path / "b.parquet")
    reference = build_reference(
        [tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "ab.arrow"
    )
    assert reference.ids == ("mp-0", "mp-1", "mp-1__2", "mp-2")
    assert reference.manifest.renamed_ids == {"mp-1__2": "mp-1"}


def test_invalid_calls(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NAME\.arrow"):
        build_reference(source, tmp_path / "out.parquet")
    with pytest.raises(InputError, match="no source"):
        build_reference([], tmp_path / "out.arrow")
    with pytest.raises(InputError, match="workers is 0"):
        build_reference(source, tmp_path / "out.arrow", workers=0)
    with pytest.raises(InputError, match=r"missing.csv"):
        build_reference([source, tmp_path / "missing.csv"], tmp_path / "out.arrow")
    assert not list(tmp_path.glob("out*"))


class _Interrupted(Exception):
    pass


def _interrupt_after(n_crystals: int):  # type: ignore[no-untyped-def]
    def progress(done: int, total: int | None) -> None:
        if done >= n_crystals:
            raise _Interrupted

    return progress


@pytest.mark.usefixtures("small_chunks")
def test_interrupted_build_is_resumed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.arrow"
    parts = tmp_path / "out.arrow.parts"
    with pytest.raises(_Interrupted):
        build_reference(source, out, progress=_interrupt_after(20))
    assert not out.exists() and len(list(parts.iterdir())) == 2

    prepared: list[str] = []
    original = build._prepare_chunk

    def spy(batch, *settings):  # type: ignore[no-untyped-def]
        prepared.extend(sample.id for sample in batch)
        return original(batch, *settings)

    monkeypatch.setattr(build, "_prepare_chunk", spy)
    reference = build_reference(source, out)
    assert prepared == [f"mp-{number}" for number in range(20, 25)]
    assert reference.store_hash == expected().store_hash
    assert not parts.exists()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("change", ["settings", "source", "damage", "versions"])
def test_chunks_of_another_build_are_not_used(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out = tmp_path / "out.arrow"
    with pytest.raises(_Interrupted):
        build_reference(source, out, progress=_interrupt_after(20))
    symprec = 0.01
    if change == "settings":
        symprec = 0.1
    elif change == "source":
        table = rows(range(N_CRYSTALS))
        table.loc[3, "cif"] = crystal(99).to(fmt="cif")
        table.to_csv(source)
    elif change == "versions":
        monkeypatch.setattr(build, "package_versions", lambda: {"spglib": "0"})
    else:
        for part in (tmp_path / "out.arrow.parts").iterdir():
            part.write_bytes(part.read_bytes()[:-30])
    prepared: list[str] = []
    original = build._prepare_chunk

    def spy(batch, *settings):  # type: ignore[no-untyped-def]
        prepared.extend(sample.id for sample in batch)
        return original(batch, *settings)

    monkeypatch.setattr(build, "_prepare_chunk", spy)
    reference = build_reference(source, out, symprec=symprec)
    assert len(prepared) == N_CRYSTALS
    assert len(reference) == N_CRYSTALS
    assert reference.symprec == symprec
    assert not (tmp_path / "out.arrow.parts").exists()


def test_foreign_files_in_the_folder_of_chunks_are_kept(source: Path, tmp_path: Path) -> None:
    parts = tmp_path / "out.arrow.parts"
    parts.mkdir()
    (parts / "notes.txt").write_text("mine")
    build_reference(source, tmp_path / "out.arrow")
    assert [path.name for path in parts.iterdir()] == ["notes.txt"]


_SCRIPT = """
import sys, time
from novelty_metric.reference import build, build_reference
build.CHUNK = 5
real, left = build._prepare_chunk, [1, 2, 3]
def some(*arguments):
    if not left:
        time.sleep(3600)
    left.pop()
    return real(*arguments)
build._prepare_chunk = some
build_reference(sys.argv[1], sys.argv[2])
"""


def test_killed_build_is_resumed(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_python: Callable[..., Any],
) -> None:
    """SIGKILL at any moment leaves no incomplete store and no incomplete chunk."""
    out = tmp_path / "out.arrow"
    parts = tmp_path / "out.arrow.parts"
    process = start_python("-W", "ignore", "-c", _SCRIPT, source, out)
    while not (parts.is_dir() and len(list(parts.glob("chunk-*.arrow"))) >= 2):
        assert process.poll() is None, "the build did not start"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    kept = sorted(parts.glob("chunk-*.arrow"))
    for part in kept:
        arrays, _ = arrow_file.read(part)
        assert len(arrays) == 5
    monkeypatch.setattr(build, "CHUNK", 5)
    numbers: list[int] = []
    save = build._Parts.save
    monkeypatch.setattr(
        build._Parts, "save", lambda self, n, chunk: (numbers.append(n), save(self, n, chunk))
    )
    reference = build_reference(source, out)
    assert numbers == list(range(len(kept), 5))
    assert reference.store_hash == expected().store_hash


def test_workers_give_an_equal_store(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "CHUNK", 10)
    reference = build_reference(source, tmp_path / "out.arrow", workers=2)
    one_by_one = expected()
    assert reference.store_hash == one_by_one.store_hash
    np.testing.assert_array_equal(reference.frac_coords, one_by_one.frac_coords)


def test_real_files(shared_data: Path, tmp_path: Path) -> None:
    """Crystals of MP-20 by the readers agree with pymatgen's CIF parser."""
    table = pd.read_parquet(shared_data / "mp_20" / "val.parquet").iloc[300:330]
    table.to_parquet(tmp_path / "val.parquet")
    reference = build_reference(tmp_path / "val.parquet", tmp_path / "val.arrow")
    direct = Reference.from_structures(
        [Structure.from_str(cif, fmt="cif") for cif in table["cif"]], list(table["material_id"])
    )
    assert reference.store_hash == direct.store_hash
