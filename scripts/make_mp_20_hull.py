"""Write the packaged formation energies of MP-20, from which `hull=mp_20` is made.

Run from the repository root, with the folder that contains ``mp_20/`` and the table of elements,
and a reference of the crystals with known coordinates (`novelty-metric reference build`)::

    python scripts/make_mp_20_hull.py DATA STORE

If the distance of a crystal to the Materials Project's own hull is published, formation energy
minus distance is a point of that hull, which includes crystals that are not in MP-20 (more than 20
atoms). Otherwise the lowest formation energy of the composition is used. A second file contains the
same compositions on CHGNet's scale.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
from own_scale import (
    element_fractions,
    fit_offsets,
    formation_energies,
    lowest_own,
    on_own_scale,
)
from pymatgen.core import Composition, Element

from novelty_metric.reference import Reference, open_reference
from novelty_metric.reference.energies import reference_energies
from novelty_metric.reference.store import composition_key
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.screening.compositions import CompositionKey, Compositions
from novelty_metric.screening.formation_energies import MP_20, About, FormationEnergies, packaged

WITH_DISTANCE = ("val", "test", "train_subset")
ABOUT = About(
    name="mp_20",
    source=(
        "MP-20 (Xie et al., ICLR 2022): val.csv, test.csv and train.csv of the repository "
        "txie-93/cdvae, with published distances to the hull for val, test and a part of train; "
        "crystals of the Materials Project (materialsproject.org); elements of the table "
        "mp_elemental_energies.csv at zero"
    ),
    licence="CC BY 4.0",
    date="2021",
    scheme="GGA and GGA+U formation energies with the MP2020 corrections, eV/atom",
)


def points(folder: Path) -> dict[CompositionKey, tuple[float, bool]]:
    """Energy (eV/atom) by composition, and whether it is a point of the published hull."""
    found: dict[CompositionKey, tuple[float, bool]] = {}

    def add(key: CompositionKey, energy: float, on_hull: bool) -> None:
        if not math.isfinite(energy):  # missing in 130 rows of train_subset
            return
        known = found.get(key)
        if known is None or (-on_hull, energy) < (-known[1], known[0]):
            found[key] = (energy, on_hull)

    for element in _elements(folder / "mp_elemental_energies.csv"):
        add(((element, 1),), 0.0, True)
    train = pd.read_parquet(folder / "mp_20" / "train_without_coordinates.parquet")
    numbers_of = dict(zip(train["material_id"], train["atomic_numbers"], strict=True))
    for name in WITH_DISTANCE:
        table = pd.read_parquet(folder / "mp_20" / f"{name}.parquet")
        energies = table["formation_energy_per_atom"] - table["e_above_hull"]
        if "pretty_formula" in table:
            keys = [_key(formula) for formula in table["pretty_formula"]]
        else:
            keys = [composition_key(numbers_of[label]) for label in table["material_id"]]
        for key, energy in zip(keys, energies, strict=True):
            add(key, float(energy), True)
    for numbers, energy in zip(
        train["atomic_numbers"], train["formation_energy_per_atom"], strict=True
    ):
        add(composition_key(numbers), float(energy), False)
    return found


def _key(formula: str) -> CompositionKey:
    amounts = Composition(formula)
    return composition_key([e.Z for e, n in amounts.items() for _ in range(round(n))])


def _elements(path: Path) -> list[int]:
    with path.open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(line for line in handle if not line.startswith("#"))
        return [Element(row["element"]).Z for row in rows]


def published_energies(folder: Path) -> dict[str, float]:
    """Formation energy (eV/atom) of every crystal, by id."""
    found: dict[str, float] = {}
    for name in (*WITH_DISTANCE, "train_without_coordinates"):
        columns = ["material_id", "formation_energy_per_atom"]
        table = pd.read_parquet(folder / "mp_20" / f"{name}.parquet", columns=columns).dropna()
        found.update(zip(table[columns[0]], table[columns[1]], strict=True))
    return found


def on_scale_of_chgnet(
    known: FormationEnergies, published: dict[str, float], reference: Reference
) -> FormationEnergies:
    """The same compositions on CHGNet's scale."""
    relaxer = PotentialRelaxer(Chgnet("cpu"))
    own = formation_energies(reference, reference_energies(reference, relaxer))
    keys = (reference.composition_key(index) for index in range(len(reference)))
    differences = own - np.array([published.get(label, np.nan) for label in reference.ids])
    offsets = fit_offsets(element_fractions(Compositions.of(keys)), differences)
    lowest = lowest_own(known, reference, own)
    about = dataclasses.replace(
        known.about,
        scheme=(
            f"{relaxer.info.name} {relaxer.info.version}: its own energies, single points of "
            f"{len(reference)} crystals, for {int(np.isfinite(lowest).sum())} compositions; for "
            "the others MP2020-corrected formation energies, moved by an offset per element that "
            f"was fitted on {offsets.n_crystals} compounds (mean absolute error by "
            f"cross-validation {offsets.error:.4f} eV/atom, {offsets.error_before:.4f} without)"
        ),
    )
    return on_own_scale(known, lowest, offsets, about)


def main() -> None:
    """Write both files and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("store", type=Path)
    options = parser.parse_args()
    found = points(options.data)
    keys = sorted(found)
    values = [found[key] for key in keys]
    known = FormationEnergies(
        Compositions.of(keys),
        np.array([energy for energy, _ in values]),
        np.array([on_hull for _, on_hull in values]),
        ABOUT,
    )
    published = published_energies(options.data)
    chgnet = on_scale_of_chgnet(known, published, open_reference(options.store))
    for made, path in ((known, MP_20), (chgnet, packaged("chgnet"))):
        # Micro-electronvolts in single precision, as in the file.
        rounded = np.round(made.energies, 6).astype(np.float32).astype(np.float64)
        dataclasses.replace(made, energies=rounded + 0.0).write(path)
        print(
            f"{path.name}: {len(made)} compositions, {int(made.on_hull.sum())} of them points of "
            f"the Materials Project's hull; {path.stat().st_size} bytes\n  {made.about.scheme}"
        )


if __name__ == "__main__":
    main()
