"""References by name, and the packaged one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.errors import InputError, StoreError
from novelty_metric.reference import Reference, open_reference
from novelty_metric.reference.energies import energy_files, load_energies
from novelty_metric.reference.named import known_names, reference_path

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(folder))
    return folder


@pytest.fixture
def small() -> Reference:
    return Reference.from_structures(
        [Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])], name="small"
    )


def test_aflow_is_packaged() -> None:
    aflow = open_reference("aflow")
    assert aflow.name == "aflow" and len(aflow) == 288
    assert not aflow.manifest.skipped
    assert "A_cF8_227_a" in aflow.ids
    assert (aflow.space_groups > 0).all()
    assert aflow.space_groups[aflow.position("A_cF8_227_a")] == 227


def test_aflow_agrees_with_its_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thorough: bool
) -> None:
    """Every sixth crystal; with --slow all of them."""
    script = ROOT / "scripts" / "make_aflow_reference.py"
    spec = importlib.util.spec_from_file_location("make_aflow_reference", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    step = 1 if thorough else 6
    labels, structures = module.aflow_prototypes()
    monkeypatch.setattr(module, "aflow_prototypes", lambda: (labels[::step], structures[::step]))
    made = module.make_reference(tmp_path / "aflow.arrow")
    packaged = open_reference("aflow")
    assert len(labels) == len(packaged) and set(made.ids) <= set(packaged.ids)
    np.testing.assert_array_equal(made.arrays.digests, packaged.arrays.digests[::step])
    if thorough:
        assert made.crystals_hash == packaged.crystals_hash
        assert made.ids == packaged.ids
    # Other versions of the packages can change last bits, but not the symmetry.
    np.testing.assert_array_equal(made.space_groups, packaged.space_groups[::step])


def test_aflow_energies_are_packaged(chgnet: Any) -> None:
    aflow = open_reference("aflow")
    info = chgnet.info
    energies, done = load_energies(energy_files(aflow, info)[0], aflow, info)
    assert done.all()
    failed = {aflow.ids[i] for i in np.flatnonzero(np.isnan(energies))}
    # Californium: CHGNet only knows elements up to plutonium.
    assert failed == {"A_aP4_2_aci"}
    assert np.nanmax(energies) < 10


def test_reference_in_the_cache_folder(small: Reference, cache: Path) -> None:
    with pytest.raises(InputError, match=r"'mine'; known: aflow, .*mp_20, .*; make one with"):
        open_reference("mine")
    small.save(cache / "references" / "mine.arrow")
    assert "mine" in known_names()
    assert len(open_reference("mine")) == 1
    small.save(reference_path("mp_20"))
    assert open_reference("mp_20").path == cache / "references" / "mp_20.arrow"


def test_known_name_without_a_file(cache: Path) -> None:
    with pytest.raises(InputError) as error:
        open_reference("mp_20")
    text = str(error.value)
    assert "`novelty-metric reference fetch mp_20`" in text
    assert f"build it as {cache / 'references' / 'mp_20.arrow'}" in text


def test_paths(small: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.save(tmp_path / "here.arrow")
    assert len(open_reference(tmp_path / "here.arrow")) == 1
    monkeypatch.chdir(tmp_path)
    assert len(open_reference("here.arrow")) == 1
    with pytest.raises(StoreError, match=r"gone\.arrow: no such file"):
        open_reference("gone.arrow")
    with pytest.raises(InputError, match="nowhere/at/all: no such file"):
        open_reference("nowhere/at/all")
    for name in ("train.csv", "train.parquet", "train.csv.gz"):
        (tmp_path / name).write_text("material_id,cif\n")
        with pytest.raises(InputError, match=rf"reference build {name} out=train\.arrow"):
            open_reference(name)
    (tmp_path / "cifs").mkdir()
    with pytest.raises(InputError, match=r"reference build cifs out=cifs\.arrow"):
        open_reference("cifs")
    for empty in ("", "."):
        with pytest.raises(InputError):
            open_reference(empty)


def test_import_is_light(run_python: Callable[..., Any]) -> None:
    heavy = ("torch", "pymatgen", "pandas", "pyarrow", "scipy", "smact", "ase", "spglib")
    code = (
        "import sys, novelty_metric.reference, novelty_metric.reference.named,"
        "novelty_metric.screening.hull, novelty_metric.screening.composition;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    result = run_python("-c", code, check=True)
    assert result.stdout.strip() == "[]"
