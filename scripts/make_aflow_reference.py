"""Write the packaged reference ``aflow`` and its CHGNet energies.

The 288 AFLOW prototypes come from pymatgen (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)).
Run from the repository root: ``python scripts/make_aflow_reference.py``.
"""

from __future__ import annotations

import gzip
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.reference.energies import reference_energies
from novelty_metric.reference.named import reference_path
from novelty_metric.reference.store import Reference
from novelty_metric.support.folders import DATA_FOLDER

if TYPE_CHECKING:
    from pymatgen.core import Structure


def aflow_prototypes() -> tuple[list[str], list[Structure]]:
    """AFLOW labels and crystals in pymatgen's order; labels may repeat."""
    from pymatgen.core import Lattice, Structure

    # That package itself is not imported: it would build all of its structures.
    packed = files("pymatgen.analysis") / "prototypes" / "aflow_prototypes.json.gz"
    labels, structures = [], []
    for entry in json.loads(gzip.decompress(packed.read_bytes())):
        snl = entry["snl"]
        labels.append(entry["tags"]["aflow"])
        structures.append(
            Structure(
                Lattice(snl["lattice"]["matrix"]),
                [{s["element"]: s["occu"] for s in site["species"]} for site in snl["sites"]],
                [site["abc"] for site in snl["sites"]],
            )
        )
    return labels, structures


def make_reference(path: Path) -> Reference:
    """Prepare the prototypes, write the reference, and open it again."""
    labels, structures = aflow_prototypes()
    Reference.from_structures(structures, labels, name="aflow").save(path)
    return Reference.open(path)


def main() -> None:
    """Write the reference and its energies."""
    from novelty_metric.relaxation.potentials import Chgnet
    from novelty_metric.relaxation.relaxer import PotentialRelaxer

    reference = make_reference(reference_path("aflow"))
    print(f"{reference.path}: {len(reference)} crystals, {reference.crystals_hash}")
    for item in reference.manifest.skipped:
        print(f"  left out: {item.id}: {item.reason}")
    relaxer = PotentialRelaxer(Chgnet("cpu"))
    energies = reference_energies(reference, relaxer, directory=DATA_FOLDER)
    failed = [reference.ids[i] for i, energy in enumerate(energies) if math.isnan(energy)]
    print(f"energies with {relaxer.info.key}; failed: {', '.join(failed) or 'none'}")


if __name__ == "__main__":
    main()
