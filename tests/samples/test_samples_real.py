"""Published files of models."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from novelty_metric.crystal import clean
from novelty_metric.errors import InputError
from novelty_metric.samples import count_hint, detect_format, read_samples

FILES = {
    "diffcsp/DiffCSP_mp_20.pt": ("pt", 10_000),
    "diffcsp_pp/DiffCSP++_mp_20.pt": ("pt", 10_000),
    "flowmm/flowmm_mp20_all_result_filtered_withcif.csv": ("csv", 997),
    "crystalformer/CrystalFormer_mp_20.csv.gz": ("csv", 999),
    "wyckofftransformer/WyckoffTransformer_mp_20_DiffCSP++.json.gz": ("json", 1_000),
    "mattergen/generated_crystals.extxyz": ("extxyz", 2_048),
    "mattergen/generated_crystals_cif.zip": ("zip", 2_048),
}
SLOW = ("diffcsp_pp", "flowmm", "zip")  # of formats that the others have too
FAST = [name for name in FILES if not any(part in name for part in SLOW)]


def check_whole_file(path: Path, format_name: str, n_crystals: int) -> None:
    """Every crystal is read, passes `clean`, and has a unique id."""
    assert detect_format(path) == format_name
    assert count_hint(path) in (None, n_crystals)
    ids = set()
    for sample in read_samples(path):
        assert sample.error is None and sample.structure is not None
        ids.add(sample.id)
    assert len(ids) == n_crystals


@pytest.mark.parametrize("name", FAST)
def test_published_samples_are_read(name: str, shared_data: Path) -> None:
    check_whole_file(shared_data / "generated" / name, *FILES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if name not in FAST])
def test_more_published_samples_are_read(name: str, shared_data: Path) -> None:
    check_whole_file(shared_data / "generated" / name, *FILES[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_crystals"), [("train_subset", 6_171), ("val", 9_047), ("test", 9_046)]
)
def test_mp_20_is_read(name: str, n_crystals: int, shared_data: Path) -> None:
    check_whole_file(shared_data / "mp_20" / f"{name}.parquet", "parquet", n_crystals)


def test_mp_20_keeps_its_ids_and_agrees_with_pymatgen(shared_data: Path) -> None:
    from pyarrow import parquet

    path = shared_data / "mp_20" / "val.parquet"
    table = parquet.read_table(path, columns=["material_id", "cif"]).slice(0, 200).to_pylist()
    samples = list(read_samples(path, limit=200))
    assert [sample.id for sample in samples] == [row["material_id"] for row in table]
    for sample, row in zip(samples, table, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = Structure.from_str(row["cif"], fmt="cif")
        assert sample.structure == expected
        assert (sample.structure.frac_coords == expected.frac_coords).all()


def test_genes_are_refused(shared_data: Path) -> None:
    path = shared_data / "generated" / "wyckofftransformer" / "WyckoffTransformer_mp_20.json.gz"
    with pytest.raises(InputError, match="without cell or coordinates; realise them"):
        read_samples(path)


def test_energies_above_hull_are_not_crystals(shared_data: Path) -> None:
    for path in sorted((shared_data / "generated").glob("*/*.ehull.csv.gz")):
        with pytest.raises(InputError, match=r"the columns are .*chgnet_ehull"):
            read_samples(path)


def compare_mattergen(folder: Path, n_crystals: int) -> None:
    """Both files of MatterGen contain the same crystals in the same order."""
    first = read_samples(folder / "generated_crystals.extxyz")
    second = read_samples(folder / "generated_crystals_cif.zip")
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    n_compared = 0
    for one, other in itertools.islice(zip(first, second, strict=True), n_crystals):
        assert one.structure is not None and other.structure is not None
        assert other.id == f"gen_{n_compared}"
        assert one.structure.composition == other.structure.composition
        np.testing.assert_allclose(
            one.structure.lattice.parameters, other.structure.lattice.parameters, rtol=1e-5
        )
        if n_compared % 20 == 0:
            rms = matcher.get_rms_dist(clean(one.structure), clean(other.structure))
            assert rms is not None and rms[1] < 1e-3
        n_compared += 1
    assert n_compared == n_crystals


def test_both_files_of_mattergen_agree(shared_data: Path) -> None:
    compare_mattergen(shared_data / "generated" / "mattergen", 200)


@pytest.mark.slow
def test_both_files_of_mattergen_agree_completely(shared_data: Path) -> None:
    compare_mattergen(shared_data / "generated" / "mattergen", 2_048)


def test_small_files_from_reports_of_faults(shared_data: Path) -> None:
    """Numeric ids, a stress of six numbers, a sparse tensor, duplicate column names."""
    cases = shared_data.parent / "cases"
    expected = {
        "ids_like_numbers.extxyz": [("4e1234", "Na1 Cl1"), ("9e9999", "Sn1")],
        "voigt_stress.extxyz": [("voigt_stress-0", "Na1 Cl1")],
        "sparse_tensor.pt": [("sparse_tensor-0", "Na4 Cl4"), ("sparse_tensor-1", "Na4 Cl4")],
    }
    for name, crystals in expected.items():
        samples = list(read_samples(cases / name))
        assert [(s.id, s.structure and s.structure.formula) for s in samples] == crystals
    with pytest.raises(InputError, match="two columns are called 'cif'; rename one of them"):
        read_samples(cases / "two_columns_of_one_name.parquet")
