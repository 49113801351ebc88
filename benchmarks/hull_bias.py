"""How much the reference's hull is off because its crystals are not relaxed.

The hull of a reference is made of single points at the stored geometry; the generated crystal's
energy is that of its relaxed geometry. A stored crystal is no minimum of the potential, so its
energy is a little too high, the hull too, and energies above hull too low. This relaxes crystals
near the Materials Project hull and prints by how much::

    python benchmarks/hull_bias.py TABLE.parquet [TABLE.parquet ...] --crystals 200

The tables need the columns ``material_id``, ``cif`` and ``e_above_hull`` (eV/atom).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import deque

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from novelty_metric.crystal import clean, reduce
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer


def main() -> None:
    """Relax, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--crystals", type=int, default=200)
    parser.add_argument("--near", type=float, default=0.02, help="largest e_above_hull, eV/atom")
    parser.add_argument("--protocol", default="fast")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    table = pd.concat([pd.read_parquet(path) for path in options.tables])
    near = table[table["e_above_hull"] <= options.near]
    drawn = near.sample(options.crystals, random_state=options.seed)
    queue = deque(
        RelaxTask(row.material_id, reduce(clean(Structure.from_str(row.cif, fmt="cif"))))
        for row in drawn.itertuples()
    )
    protocol = Protocol.named(options.protocol)
    settings = RelaxSettings(
        fmax=protocol.fmax, max_steps=protocol.max_steps, optimizer=protocol.optimizer
    )
    started = time.perf_counter()
    gains, volumes, steps, unconverged = [], [], [], []
    for task, result in PotentialRelaxer(Chgnet()).relax(queue, settings):
        if not result.converged or result.structure is None:
            unconverged.append(f"{task.key} ({result.error or 'steps used up'})")
            continue
        assert result.energy_before is not None and result.energy_after is not None
        gains.append(result.energy_before - result.energy_after)
        volumes.append(result.structure.volume / task.structure.volume - 1)
        steps.append(result.steps)
    values = 1000 * np.array(gains)
    print(f"{len(near)} crystals within {options.near} eV/atom of the hull, {len(drawn)} drawn")
    print(f"converged: {len(values)}; not: {', '.join(unconverged) or 'none'}")
    print(
        "single point minus relaxed, meV/atom: "
        f"mean {values.mean():.1f}, median {np.median(values):.1f}, "
        f"95th percentile {np.percentile(values, 95):.1f}, largest {values.max():.1f}"
    )
    print(f"above 10 meV/atom: {(values > 10).sum()}; above 50: {(values > 50).sum()}")
    print(f"volume change: median {100 * np.median(volumes):.1f} %")
    print(f"steps: median {np.median(steps):.0f}; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
