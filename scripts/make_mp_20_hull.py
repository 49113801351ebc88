"""Write the packaged formation energies of MP-20, of which `hull=mp_20` is made.

Run from the repository root, with the folder that holds ``mp_20/`` and the table of elements::

    python scripts/make_mp_20_hull.py DATA

Where the distance of a crystal to the Materials Project's own hull is published, formation energy
minus distance is a point of that hull: crystals that MP-20 leaves out (more than 20 atoms) are in
it. Elsewhere the lowest formation energy of the composition is taken.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Element

from novelty_metric.reference.store import composition_key
from novelty_metric.screening.compositions import CompositionKey, Compositions
from novelty_metric.screening.formation_energies import MP_20, About, FormationEnergies

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
    date="2021-12",
    scheme="GGA and GGA+U formation energies with the MP2020 corrections, eV/atom",
)


def points(folder: Path) -> dict[CompositionKey, tuple[float, bool]]:
    """Energy (eV/atom) by composition, and whether it is a point of the published hull."""
    found: dict[CompositionKey, tuple[float, bool]] = {}

    def add(key: CompositionKey, energy: float, on_hull: bool) -> None:
        if not math.isfinite(energy):  # 130 rows of train_subset lack theirs
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


def main() -> None:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    found = points(parser.parse_args().data)
    keys = sorted(found)
    values = [found[key] for key in keys]
    made = FormationEnergies(
        Compositions.of(keys),
        # Single precision, as the file keeps it; 1e-17 of a subtraction is zero.
        np.round([energy for energy, _ in values], 6).astype(np.float32).astype(np.float64),
        np.array([on_hull for _, on_hull in values]),
        ABOUT,
    )
    made.write(MP_20)
    print(
        f"{MP_20.name}: {len(made)} compositions, {int(made.on_hull.sum())} of them points of the "
        f"Materials Project's hull; {MP_20.stat().st_size} bytes; {made.content_hash}"
    )


if __name__ == "__main__":
    main()
