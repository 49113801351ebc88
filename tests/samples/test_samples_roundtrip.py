"""Files in a model's layout are read back as the same crystals."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Element, Lattice, Structure
from sample_layouts import WRITERS

from novelty_metric.crystal import clean, shortest_distance
from novelty_metric.samples import FORMATS, count_hint, detect_format, read_samples

ELEMENTS = [Element.from_Z(z) for z in range(1, 95)]


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """A crystal of 1 to 6 sites in a random cell, with distances above 0.5 Å."""
    lengths = [draw(st.floats(2.5, 30)) for _ in range(3)]
    angles = [draw(st.floats(60, 118)) for _ in range(3)]
    lattice = Lattice.from_parameters(*lengths, *angles)
    assume(lattice.volume > 0.2 * np.prod(lengths))
    n_sites = draw(st.integers(1, 6))
    species = [draw(st.sampled_from(ELEMENTS)) for _ in range(n_sites)]
    coordinates = [[draw(st.floats(0, 0.9999)) for _ in range(3)] for _ in range(n_sites)]
    structure = Structure(lattice, species, coordinates)
    assume(shortest_distance(structure) > 0.5)
    return structure


def assert_same(read: Structure | None, written: Structure) -> None:
    """Equal cells, and a one-to-one match of sites with the same elements."""
    assert read is not None
    np.testing.assert_allclose(read.lattice.parameters, written.lattice.parameters, atol=2e-5)
    assert read.composition == written.composition
    left = list(range(len(read)))
    for site in written:
        difference = read.frac_coords[left] - site.frac_coords
        difference -= np.round(difference)
        # pymatgen's CIF parser rounds coordinates within 1e-4 of a third to the third.
        near = np.abs(difference).max(axis=1) < 2e-4
        same = [k for k, i in enumerate(left) if near[k] and read[i].specie == site.specie]
        assert len(same) == 1
        del left[same[0]]
    assert not left


@pytest.mark.parametrize("layout", WRITERS)
@settings(max_examples=12)
@given(written=st.lists(structures(), min_size=1, max_size=3))
def test_every_layout_is_read_back(layout: str, written: list[Structure]) -> None:
    name, write = WRITERS[layout]
    with tempfile.TemporaryDirectory() as folder:
        path = write(written, Path(folder))
        # A file of one JSON line is JSON; both are read in the same way.
        assert detect_format(path) == name or (name, len(written)) == ("jsonl", 1)
        samples = list(read_samples(path))
        assert [sample.error for sample in samples] == [None] * len(written)
        for sample, structure in zip(samples, written, strict=True):
            assert_same(sample.structure, structure)
            assert clean(sample.structure).composition == structure.composition
        assert count_hint(path) in (None, len(written))


@pytest.mark.parametrize("layout", WRITERS)
def test_ids_and_sources_contain_file_and_position(
    layout: str, crystals: list[Structure], tmp_path: Path
) -> None:
    path = WRITERS[layout][1](crystals, tmp_path)
    samples = list(read_samples(path))
    prefix = {"cifs": "gen_", "json mapping": "c"}
    stem = path.name.split(".")[0]
    start = prefix.get(stem) or prefix.get(layout) or f"{stem}-"
    assert [sample.id for sample in samples] == [f"{start}{i}" for i in range(len(crystals))]
    assert all(sample.source.startswith(f"{path.name}:") for sample in samples)
    assert len({sample.source for sample in samples}) == len(crystals)
    assert samples[2].source.endswith((" 2", "gen_2.cif", ":c2"))


@pytest.mark.parametrize("layout", WRITERS)
def test_limit_and_count(layout: str, crystals: list[Structure], tmp_path: Path) -> None:
    path = WRITERS[layout][1](crystals, tmp_path)
    assert len(list(read_samples(path, limit=2))) == 2
    assert len(list(read_samples(path, limit=99))) == len(crystals)
    if WRITERS[layout][0] in ("folder", "zip", "parquet", "pt"):
        assert count_hint(path) == len(crystals)
        assert count_hint(path, limit=2) == 2


def test_file_name_does_not_determine_the_format(crystals: list[Structure], tmp_path: Path) -> None:
    for layout, (name, write) in WRITERS.items():
        if name == "folder":
            continue
        folder = tmp_path / layout.replace(" ", "_")
        folder.mkdir()
        path = write(crystals, folder).rename(folder / "samples.dat")
        assert detect_format(path) == name
        assert sum(sample.structure is not None for sample in read_samples(path)) == len(crystals)


def test_every_format_has_a_writer_here() -> None:
    one_crystal = {"poscar"}  # tested in test_samples_poscar.py
    assert {name for name, _ in WRITERS.values()} == set(FORMATS) - one_crystal
    assert all(entry.description and "\n" not in entry.description for entry in FORMATS.values())


def test_import_is_light(run_python: Callable[..., Any]) -> None:
    heavy = ["torch", "pymatgen", "ase", "numpy", "pandas", "pyarrow", "hydra", "wandb"]
    code = (
        "import sys, novelty_metric.samples; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = run_python("-c", code, check=True)
    assert done.stdout.strip() == "[]"
