"""Every kind of tensor in a ``.pt`` file is read correctly or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pymatgen.core import Structure
from sample_layouts import diffcsp_arrays

from novelty_metric.errors import InputError
from novelty_metric.samples import Sample, read_samples


def saved(folder: Path, data: Any, **options: Any) -> Path:
    path = folder / "x.pt"
    torch.save(data, path, **options)
    return path


def assert_same(samples: list[Sample], crystals: list[Structure], tolerance: float) -> None:
    assert [sample.error for sample in samples] == [None] * len(crystals)
    for sample, crystal in zip(samples, crystals, strict=True):
        assert sample.structure is not None
        assert sample.structure.atomic_numbers == crystal.atomic_numbers
        assert sample.structure.lattice.parameters == pytest.approx(
            crystal.lattice.parameters, rel=tolerance
        )
        assert sample.structure.frac_coords == pytest.approx(crystal.frac_coords, abs=tolerance)


def test_lists_of_structures_are_read_from_pickles_only_if_allowed(
    tmp_path: Path, crystals: list[Structure]
) -> None:
    path = saved(tmp_path, crystals)
    with pytest.raises(InputError, match="allow_pickle=true"):
        read_samples(path)
    assert_same(list(read_samples(path, allow_pickle=True)), crystals, 1e-12)
    path = saved(tmp_path, [crystal.as_dict() for crystal in crystals])
    samples = list(read_samples(path))
    assert_same(samples, crystals, 1e-12)
    assert [sample.id for sample in samples] == [f"x-{n}" for n in range(len(crystals))]


def interleaved(tensor: torch.Tensor) -> torch.Tensor:
    """Every second row of a larger tensor, stored column by column."""
    twice = torch.repeat_interleave(tensor, 2, dim=0)
    return (twice.T.contiguous().T if twice.ndim == 2 else twice)[::2]


def quantised(tensor: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor.float(), scale=0.001, zero_point=0, dtype=torch.qint32)


def per_channel(tensor: torch.Tensor) -> torch.Tensor:
    n = len(tensor)
    return torch.quantize_per_channel(
        tensor.float(), torch.full((n,), 0.001), torch.zeros(n, dtype=torch.long), 0, torch.qint32
    )


CHANGES: dict[str, tuple[Callable[[torch.Tensor], Any], float]] = {
    "sparse COO": (lambda tensor: tensor.to_sparse(), 1e-12),
    "sparse, not coalesced": (
        lambda tensor: (tensor / 2).to_sparse() + (tensor / 2).to_sparse(),
        1e-12,
    ),
    "sparse CSR": (lambda tensor: tensor.to_sparse_csr(), 1e-12),
    "sparse CSC": (lambda tensor: tensor.to_sparse_csc(), 1e-12),
    "view": (interleaved, 1e-12),
    "parameter": (lambda tensor: torch.nn.Parameter(tensor.clone()), 1e-12),
    "conjugate view": (lambda tensor: torch.complex(tensor * 0, -tensor).conj().imag, 1e-12),
    "float32": (lambda tensor: tensor.float(), 1e-6),
    "float16": (lambda tensor: tensor.half(), 1e-3),
    "bfloat16": (lambda tensor: tensor.bfloat16(), 1e-2),
    "quantised": (quantised, 1e-3),
    "quantised per channel": (per_channel, 1e-3),
    "NumPy": (lambda tensor: tensor.numpy(), 1e-12),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", ["lengths", "angles", "frac_coords"])
@pytest.mark.parametrize("kind", CHANGES)
def test_storage_of_tensors_does_not_matter(
    kind: str, key: str, crystals: list[Structure], tmp_path: Path
) -> None:
    change, tolerance = CHANGES[kind]
    arrays = diffcsp_arrays(crystals)
    arrays[key] = change(arrays[key])
    if kind == "bfloat16":  # 112.25 degrees loses 0.125, which cannot be detected
        crystals = crystals[:2] + crystals[3:]
        samples = list(read_samples(saved(tmp_path, arrays)))
        del samples[2]
    else:
        samples = list(read_samples(saved(tmp_path, arrays)))
    assert_same(samples, crystals, tolerance)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.double])
def test_counts_and_elements_of_any_type(
    dtype: torch.dtype, crystals: list[Structure], tmp_path: Path
) -> None:
    arrays = diffcsp_arrays(crystals)
    for key in ("num_atoms", "atom_types"):
        arrays[key] = arrays[key].to(dtype)
    assert_same(list(read_samples(saved(tmp_path, arrays))), crystals, 1e-12)


@pytest.mark.filterwarnings("ignore")
def test_sparse_arrays_with_an_axis_of_evaluations(
    crystals: list[Structure], tmp_path: Path
) -> None:
    arrays = {k: v[None] for k, v in diffcsp_arrays(crystals).items() if k != "eval_setting"}
    for key in ("lengths", "num_atoms"):
        path = saved(tmp_path, {**arrays, key: arrays[key].to_sparse()})
        assert_same(list(read_samples(path)), crystals, 1e-12)
    lists = {key: [value[0].to_sparse()] for key, value in arrays.items()}
    assert_same(list(read_samples(saved(tmp_path, lists))), crystals, 1e-12)


@pytest.mark.filterwarnings("ignore")
def test_tensors_without_numbers_give_one_clear_error(
    crystals: list[Structure], tmp_path: Path
) -> None:
    arrays = diffcsp_arrays(crystals)
    lengths = arrays["lengths"]
    huge = torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (10**12, 3))
    refused = {
        "complex": (lengths.to(torch.complex64), "an array of complex64, not an array of"),
        "nested": (torch.nested.nested_tensor([lengths[0], lengths[1]]), "can't be read (a nested"),
        "jagged": (
            torch.nested.nested_tensor([lengths[0], lengths[1]], layout=torch.jagged),
            "x.pt",
        ),
        "meta": (lengths.to("meta"), "x.pt"),
        "huge": (huge, "can't be read (3000000000000 numbers, more than fit"),
        "expanded": (torch.ones(1, 1).expand(10**9, 3), "numbers, more than fit in 2 GB"),
        "scalar": (torch.tensor(3.0), "lengths has the shape ()"),
        "empty": (torch.zeros(0, 3), "lengths has the shape (0, 3)"),
        "text": ("abc", "lengths is a str, not an array of numbers"),
        "list": ([5.6, 5.6, 5.6], "x.pt"),
        "none": (None, "lengths is a NoneType, not an array"),
    }
    for name, (value, reason) in refused.items():
        with pytest.raises(InputError) as caught:
            list(read_samples(saved(tmp_path, {**arrays, "lengths": value})))
        assert reason in str(caught.value) and "\n" not in str(caught.value), name
    for key in ("num_atoms", "atom_types", "frac_coords"):
        for value in (torch.tensor(1), torch.zeros(0), torch.zeros(2, 2, 2), "x", None):
            with pytest.raises(InputError) as caught:
                list(read_samples(saved(tmp_path, {**arrays, key: value})))
            assert "x.pt" in str(caught.value) and "\n" not in str(caught.value)


def test_other_torch_files_give_one_clear_error(tmp_path: Path) -> None:
    module = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    torch.jit.save(module, str(tmp_path / "script.pt"))
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    for name in ("script.pt", "weights.pt", "tensor.pt"):
        with pytest.raises(InputError) as caught:
            read_samples(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
