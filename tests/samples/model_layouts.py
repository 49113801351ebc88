"""Write crystals to files in the layout of each model's repository.

Reimplemented here from the code of the models: keys, file names, shapes, element types, and what
else the files contain. Numbers have the precision of the models.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import pickle
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

Crystals = Sequence[Structure]
Writer = Callable[[Crystals, Path], Path]


def flat(crystals: Crystals) -> dict[str, Any]:
    """The arrays of DiffCSP and later models: float32, integers as int64."""
    import numpy as np
    import torch

    return {
        "frac_coords": torch.tensor(np.concatenate([c.frac_coords for c in crystals])).float(),
        "num_atoms": torch.tensor([len(c) for c in crystals]),
        "atom_types": torch.tensor([z for c in crystals for z in c.atomic_numbers]),
        "lengths": torch.tensor(np.array([c.lattice.abc for c in crystals])).float(),
        "angles": torch.tensor(np.array([c.lattice.angles for c in crystals])).float(),
    }


def lattices(crystals: Crystals) -> Any:
    import numpy as np
    import torch

    return torch.tensor(np.array([c.lattice.matrix for c in crystals])).float()


def saved(data: Any, path: Path) -> Path:
    import torch

    torch.save(data, path)
    return path


def arguments() -> argparse.Namespace:
    return argparse.Namespace(model_path="out/mp_20", dataset="mp_20", step_lr=5e-6, label="")


def diffcsp(crystals: Crystals, folder: Path) -> Path:
    return saved({"eval_setting": arguments(), **flat(crystals)}, folder / "eval_gen.pt")


def symmcd(crystals: Crystals, folder: Path) -> Path:
    import torch

    groups = torch.tensor([c.get_space_group_info()[1] for c in crystals])
    extra = {"spacegroups": groups, "site_symmetries": torch.zeros(sum(map(len, crystals)), 15, 13)}
    return saved({"eval_setting": arguments(), **flat(crystals), **extra}, folder / "eval_gen_x.pt")


def symmcd_without_groups(crystals: Crystals, folder: Path) -> Path:
    return saved(
        {"eval_setting": arguments(), **flat(crystals), "spacegroups": None},
        folder / "eval_gen.pt",
    )


def crystalflow(crystals: Crystals, folder: Path) -> Path:
    return saved(
        {"eval_setting": arguments(), **flat(crystals), "time": 12.5}, folder / "eval_gen.pt"
    )


def cdvae(crystals: Crystals, folder: Path) -> Path:
    arrays = {key: array[None] for key, array in flat(crystals).items()}
    extra = {"all_frac_coords_stack": [], "all_atom_types_stack": [], "time": 1.0}
    return saved({"eval_setting": arguments(), **arrays, **extra}, folder / "eval_gen.pt")


def cdvae_reconstruction(crystals: Crystals, folder: Path) -> Path:
    """With the PyTorch Geometric batch from which the crystals were reconstructed."""
    with geometric() as (data, batch):
        made = batch._from(data(num_atoms=flat(crystals)["num_atoms"]))
        arrays = {key: array[None] for key, array in flat(crystals).items()}
        return saved(
            {"eval_setting": arguments(), "input_data_batch": made, **arrays},
            folder / "eval_recon.pt",
        )


def flowmm_consolidated(crystals: Crystals, folder: Path) -> Path:
    """One evaluation; ``consolidated_reconstruct.pt`` contains several."""
    import torch

    arrays = {**flat(crystals), "lattices": lattices(crystals)}
    extra = {"batch_indices": [torch.arange(len(crystals))]}
    return saved(
        {**{key: [array] for key, array in arrays.items()}, **extra},
        folder / "consolidated_generate.pt",
    )


def flowmm_eval(crystals: Crystals, folder: Path) -> Path:
    import torch

    extra = {"batch_indices": torch.arange(len(crystals)), "eval_setting": None}
    return saved(
        {**flat(crystals), "lattices": lattices(crystals), **extra}, folder / "eval_for_dft.pt"
    )


def flowmm_lattices_alone(crystals: Crystals, folder: Path) -> Path:
    arrays = {key: array for key, array in flat(crystals).items() if key[0] not in "l"}
    del arrays["angles"]
    return saved({**arrays, "lattices": lattices(crystals)}, folder / "eval_for_dft.pt")


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def cif(structure: Structure, symprec: float | None = None) -> str:
    """The CIF of a crystal, symmetrised if `symprec` is given and pymatgen's result is correct.

    pymatgen's writer always uses spglib's default tolerance of 5° for angles. A cell with angles of
    65°, 66° and 67° gets the operations of three equal angles, which contradict the cell.
    """
    if symprec is not None:
        strict, loose = (
            SpacegroupAnalyzer(structure, symprec, angle).get_space_group_number()
            for angle in (0.01, 5)
        )
        symprec = symprec if strict == loose else None
    return str(CifWriter(structure, symprec=symprec, angle_tolerance=0.01))


def flowmm_table(crystals: Crystals, folder: Path) -> Path:
    rows = [[index, -5.1, cif(c)] for index, c in enumerate(crystals)]
    return table(folder / "flowmm_withcif.csv", ["", "energy", "relxed_structure"], rows)


def crystalformer(crystals: Crystals, folder: Path) -> Path:
    rows = [[repr(c.as_dict())] for c in crystals]
    return table(folder / "output_225_struct.csv", ["cif"], rows)


def crystalformer_packed(crystals: Crystals, folder: Path) -> Path:
    rows = [[index, repr(c.as_dict())] for index, c in enumerate(crystals)]
    return table(folder / "CrystalFormer_mp_20.csv.gz", ["", "cif"], rows)


def wyckofftransformer(crystals: Crystals, folder: Path) -> Path:
    path = folder / "WyckoffTransformer_mp_20_DiffCSP++.json.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        json.dump([c.as_dict() for c in crystals], file)
    return path


def wyckofftransformer_relax(crystals: Crystals, folder: Path) -> Path:
    header = ["model", "id", "formula", "energy", "energy_per_atom", "cif"]
    rows = [
        ["wyformer", index, c.formula.replace(" ", ""), -9.5, -1.9, cif(c)]
        for index, c in enumerate(crystals)
    ]
    return table(folder / "wyformer_id_formula_energy.csv", header, rows)


def crystalite_tokens(structure: Structure, nmax: int) -> dict[str, Any]:
    import numpy as np
    import torch

    n_sites = len(structure)
    atom_types, padding = np.zeros(nmax, dtype=np.int64), np.ones(nmax, dtype=np.bool_)
    coordinates = np.zeros((nmax, 3), dtype=np.float32)
    atom_types[:n_sites], padding[:n_sites] = structure.atomic_numbers, False
    coordinates[:n_sites] = structure.frac_coords % 1.0
    cell = [*np.log(structure.lattice.abc), *np.cos(np.radians(structure.lattice.angles))]
    return {
        "A0": torch.from_numpy(atom_types),
        "F1": torch.from_numpy(coordinates),
        "Y1": torch.tensor(cell, dtype=torch.float32),
        "pad_mask": torch.from_numpy(padding),
    }


def crystalite(crystals: Crystals, folder: Path) -> Path:
    nmax = max(map(len, crystals)) + 3
    return saved([crystalite_tokens(c, nmax) for c in crystals], folder / "samples.pt")


def crystalite_stacked(crystals: Crystals, folder: Path) -> Path:
    import torch

    items = [crystalite_tokens(c, 80) for c in crystals]
    stacked = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    return saved(stacked, folder / "samples.pt")


def extxyz(crystals: Crystals, path: Path, *, append: bool = False) -> Path:
    from ase.io import write

    atoms = [c.to_ase_atoms() for c in crystals]
    write(path, atoms, format="extxyz", append=append)
    return path


def crystalite_xyz(crystals: Crystals, folder: Path) -> Path:
    return extxyz(crystals, folder / "samples.xyz")


def cif_folder(crystals: Crystals, folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    for index, c in enumerate(crystals):
        formula = c.composition.reduced_formula
        (folder / name.format(i=index, formula=formula)).write_text(cif(c))
    return folder


def crystalite_cifs(crystals: Crystals, folder: Path) -> Path:
    return cif_folder(crystals, folder / "cifs", "sample_{i:05d}.cif")


def chemeleon_folder(crystals: Crystals, folder: Path) -> Path:
    """Written by ASE, together with the JSON of the same crystals."""
    path = folder / "results"
    path.mkdir()
    for index, c in enumerate(crystals):
        atoms = c.to_ase_atoms()
        atoms.write(path / f"sample_{index}_{atoms.get_chemical_formula()}.cif")
    monty(crystals, path)
    return path


def monty(crystals: Crystals, folder: Path) -> Path:
    from monty.serialization import dumpfn

    path = folder / "generated_structures.json.gz"
    dumpfn(list(crystals), path)
    return path


def adit(crystals: Crystals, folder: Path) -> Path:
    return cif_folder(crystals, folder / "crystals", "crystal_{i}.cif")


def omatg(crystals: Crystals, folder: Path) -> Path:
    """Two runs; the second appends to the file of the first."""
    path = folder / "generated.xyz"
    for part in (crystals[:1], crystals[1:]):
        if part:
            extxyz(part, path, append=True)
    return path


def mattergen_xyz(crystals: Crystals, folder: Path) -> Path:
    return extxyz(crystals, folder / "generated_crystals.extxyz")


def mattergen_zip(crystals: Crystals, folder: Path) -> Path:
    path = folder / "generated_crystals_cif.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index, c in enumerate(crystals):
            archive.writestr(f"gen_{index}.cif", cif(c))
    return path


def crystallm(crystals: Crystals, folder: Path) -> Path:
    """Symmetrised CIFs; a truncated copy follows each."""
    path = folder / "gen_post.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for index, c in enumerate(crystals):
            text = cif(c, symprec=1e-4)  # a tolerance too small to change the crystal
            for name, content in ((f"mp-{index}__1.cif", text), (f"mp-{index}__2.cif", text[:90])):
                member = tarfile.TarInfo(name)
                member.size = len(content.encode())
                archive.addfile(member, io.BytesIO(content.encode()))
    return path


def crystallm_pi(crystals: Crystals, folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    path = folder / "generated_structures.parquet"
    columns = {
        "Prompt": ["data_"] * len(crystals),
        "True CIF": [cif(crystals[0])] * len(crystals),
        "Generated CIF": [cif(c) for c in crystals],
    }
    parquet.write_table(pa.table(columns), path)
    return path


PROMPT = (
    "Below is a description of a bulk material. Generate a description of the lengths and angles "
    "of the lattice vectors and then the element type and coordinates for each atom within the "
    "lattice:\n"
)


def text_form(structure: Structure) -> str:
    """Lengths, angles, then the element and the coordinates of each site."""
    lines = [" ".join(f"{value:.6f}" for value in structure.lattice.abc)]
    lines.append(" ".join(f"{value:.4f}" for value in structure.lattice.angles))
    for site in structure:
        lines.append(site.specie.symbol)
        lines.append(" ".join(f"{value:.6f}" for value in site.frac_coords))
    return "\n".join(lines)


def crystal_text_llm(crystals: Crystals, folder: Path) -> Path:
    rows = [[PROMPT + text_form(c), cif(c), "7b"] for c in crystals]
    return table(folder / "llm_samples.csv", ["gen_str", "cif", "model_name"], rows)


def crystal_text_llm_text(crystals: Crystals, folder: Path) -> Path:
    rows = [[PROMPT + text_form(c), "7b"] for c in crystals]
    return table(folder / "llm_samples.csv", ["gen_str", "model_name"], rows)


MODEL_LAYOUTS: dict[str, tuple[Writer, ...]] = {
    "adit": (adit,),
    "cdvae": (cdvae, cdvae_reconstruction),
    "chemeleon2": (monty, chemeleon_folder),
    "chemeleon_dng": (monty, chemeleon_folder),
    "crystal_text_llm": (crystal_text_llm, crystal_text_llm_text),
    "crystalflow": (crystalflow,),
    "crystalformer": (crystalformer, crystalformer_packed),
    "crystalite": (crystalite, crystalite_stacked, crystalite_xyz, crystalite_cifs),
    "crystallm": (crystallm,),
    "crystallm_pi": (crystallm_pi,),
    "diffcsp": (diffcsp,),
    "diffcsp_pp": (diffcsp,),
    "flowmm": (flowmm_consolidated, flowmm_eval, flowmm_lattices_alone, flowmm_table),
    "flowmm_relaxed": (flowmm_table,),
    "generic": (diffcsp, mattergen_zip, crystal_text_llm),
    "mattergen": (mattergen_xyz, mattergen_zip),
    "omatg": (omatg,),
    "symmcd": (symmcd, symmcd_without_groups),
    "wyckofftransformer": (wyckofftransformer, wyckofftransformer_relax),
    "wyckofftransformer_relaxed": (wyckofftransformer_relax,),
}
"""Config of the model -> writers of its files."""


# --- PyTorch Geometric, as far as pickles need it ------------------------------------------------


class _Getter:
    def __call__(self, *bases: type) -> Any:
        raise AssertionError("only to be written, never to be called")


class _Storage:
    def __init__(self, mapping: dict[str, Any]) -> None:
        self._mapping = mapping


class _Data:
    def __init__(self, **arrays: Any) -> None:
        self._store = _Storage(arrays)


class _Batch:
    """A batch class that is built at loading, as in PyTorch Geometric."""

    @classmethod
    def _from(cls, data: _Data) -> _Batch:
        batch = cls()
        batch.__dict__.update(_store=data._store, _slice_dict=defaultdict(dict), _num_graphs=1)
        return batch

    def __reduce__(self) -> tuple[Any, ...]:
        return _Getter(), (_Batch, _Data), self.__dict__.copy()


_GEOMETRIC = {
    "torch_geometric.data.batch": {"DynamicInheritanceGetter": _Getter, "Batch": _Batch},
    "torch_geometric.data.data": {"Data": _Data},
    "torch_geometric.data.storage": {"GlobalStorage": _Storage},
}


@contextmanager
def geometric() -> Iterator[tuple[type[_Data], type[_Batch]]]:
    """Provide modules with the names of PyTorch Geometric for pickling; remove them at the end."""
    kept = [
        (item, item.__module__, item.__qualname__)
        for names in _GEOMETRIC.values()
        for item in names.values()
    ]
    absent = [name for name in _GEOMETRIC if name not in sys.modules]
    try:
        for name, members in _GEOMETRIC.items():
            module = sys.modules.setdefault(name, ModuleType(name))
            for member, item in members.items():
                item.__module__, item.__qualname__ = name, member
                setattr(module, member, item)
        for parent in ("torch_geometric", "torch_geometric.data"):
            if parent not in sys.modules:
                sys.modules[parent] = ModuleType(parent)
                absent.append(parent)
        assert pickle.dumps(_Data(a=1))
        yield _Data, _Batch
    finally:
        for item, module_name, qualname in kept:
            item.__module__, item.__qualname__ = module_name, qualname
        for name in absent:
            sys.modules.pop(name, None)
