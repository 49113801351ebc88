"""Equal crystals give equal rows in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import write
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from novelty_metric import SubstitutionNovelty, read_samples
from novelty_metric.reference import Reference
from novelty_metric.samples.base import Sample
from novelty_metric.samples.packaged import packaged_samples_path


def answers(metric: SubstitutionNovelty, samples: list[Sample]) -> list[list[Any]]:
    """For each sample: verdict and candidates, with costs and distances.

    Atom maps are not compared: crystals of high symmetry have several equivalent maps, and the last
    digit of a coordinate, which writers round, decides which one comes first.
    """
    metric.reset()
    metric.update_samples(samples)
    found = []
    for row in metric.compute().results:
        shown: list[Any] = [row.formula, row.space_group, row.verdict, row.parent_id]
        for parent in (tried.parent for tried in row.parents):
            # Writers round coordinates, so distances agree only approximately.
            rms = None if parent.match_rms is None else round(parent.match_rms, 3)
            shown.append((parent.parent_id, round(parent.cost, 9), parent.element_map, rms))
        found.append(shown)
    return found


def written(structures: list[Structure], folder: Path) -> list[Path]:
    """The crystals as extxyz, CIF, JSON and `.pt`, with any order of sites."""
    import torch

    atoms = [AseAtomsAdaptor.get_atoms(structure) for structure in structures]
    write(folder / "all.extxyz", atoms, format="extxyz")
    (folder / "cifs").mkdir()
    for at, structure in enumerate(structures):
        structure.to(folder / "cifs" / f"gen_{at:02d}.cif")
    text = json.dumps([structure.as_dict() for structure in structures])
    (folder / "all.json").write_text(text)
    arrays = {
        "num_atoms": torch.tensor([len(structure) for structure in structures]),
        "atom_types": torch.tensor(
            [z for structure in structures for z in structure.atomic_numbers]
        ),
        "frac_coords": torch.tensor(np.concatenate([s.frac_coords for s in structures])),
        "lengths": torch.tensor([structure.lattice.abc for structure in structures]),
        "angles": torch.tensor([structure.lattice.angles for structure in structures]),
    }
    torch.save(arrays, folder / "all.pt")
    return [folder / name for name in ("all.extxyz", "cifs", "all.json", "all.pt")]


def test_rows_do_not_depend_on_format_or_order_of_elements(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    structures = []
    for sample in list(read_samples(packaged_samples_path()))[::2]:
        if sample.structure is None:
            continue
        elements = rng.permutation(sorted({site.specie for site in sample.structure}, key=str))
        order = {element: at for at, element in enumerate(elements.tolist())}
        # Sites of one element keep their order, as in every writer.
        sites = sorted(sample.structure, key=lambda site, order=order: order[site.specie])
        structures.append(Structure.from_sites(sites))
    metric = SubstitutionNovelty("aflow", relaxer=None, hull="none", scope="all")
    first, *others = [
        answers(metric, list(read_samples(path))) for path in written(structures, tmp_path)
    ]
    assert sum(len(row) > 4 for row in first) > 5
    for other in others:
        assert other == first


def test_published_samples_agree_in_two_formats(shared_data: Path, reference: Reference) -> None:
    metric = SubstitutionNovelty(reference, relaxer=None, hull="none", scope="all")
    folder = shared_data / "generated" / "mattergen"
    names = ("generated_crystals.extxyz", "generated_crystals_cif.zip")
    first, second = [answers(metric, list(read_samples(folder / n, limit=60))) for n in names]
    assert sum(len(row) > 4 for row in first) > 20
    assert first == second
