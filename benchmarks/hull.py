"""The reference's own hull, held against what is known better.

Two questions. The hull of a reference is made of single points at the stored geometry, while the
generated crystal is relaxed: how much too high are those energies? This relaxes crystals near the
Materials Project hull and prints by how much::

    python benchmarks/hull.py single-points TABLE.parquet [TABLE.parquet ...] --crystals 200

The tables need the columns ``material_id``, ``cif`` and ``e_above_hull`` (eV/atom).

And how far are energies above that hull from those above the hull of the whole Materials Project?
Published tables give the latter, by CHGNet, for generated crystals (``str_ind``, ``formula``,
``error_str`` and ``corrected_chgnet_ehull`` in eV/atom). This relaxes the same crystals, measures
them from the reference's hull, and prints how the two agree, and on what they differ::

    python benchmarks/hull.py agreement STORE --set NAME SAMPLES EHULL.csv.gz [--set ...] \
        [--tables TABLE.parquet ...] [--crystals N] [--cache FILE] [--out ROWS.csv]

``--tables`` name the reference's crystals with ``formation_energy_per_atom`` (eV/atom): a hull of
the same crystals with the energies of density functional theory, which tells missing phases from
errors of the potential. Finished relaxations are kept in ``--cache``, so that an interrupted run
goes on.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Structure

from novelty_metric.crystal import clean, reduce
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.samples import read_samples


def settings_of(protocol: str) -> RelaxSettings:
    """How a protocol relaxes."""
    named = Protocol.named(protocol)
    return RelaxSettings(fmax=named.fmax, max_steps=named.max_steps, optimizer=named.optimizer)


def single_points(options: argparse.Namespace) -> None:
    """Relax crystals near the hull, and print what their single points are too high."""
    table = pd.concat([pd.read_parquet(path) for path in options.tables])
    near = table[table["e_above_hull"] <= options.near]
    drawn = near.sample(options.crystals, random_state=options.seed)
    queue = deque(
        RelaxTask(row.material_id, reduce(clean(Structure.from_str(row.cif, fmt="cif"))))
        for row in drawn.itertuples()
    )
    started = time.perf_counter()
    gains, volumes, steps, unconverged = [], [], [], []
    for task, result in PotentialRelaxer(Chgnet()).relax(queue, settings_of(options.protocol)):
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


def relaxed_rows(options: argparse.Namespace) -> pd.DataFrame:
    """The crystals of the published tables, relaxed here: a row each that could be read.

    Columns are those of the tables, and ``set``, ``converged``, ``energy`` (eV/atom),
    ``their_energy`` (eV/atom, where the published table gives it away) and ``volume_change``.
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    queue: deque[RelaxTask] = deque()
    for name, samples, energies in options.set:
        table = pd.read_csv(energies, index_col=0).sample(frac=1.0, random_state=options.seed)
        table = table.head(options.crystals) if options.crystals else table
        columns = ("cif",) if ".csv" in Path(samples).name else ()
        structures = [sample.structure for sample in read_samples(Path(samples), columns=columns)]
        for row in table.itertuples():
            structure = structures[int(row.str_ind)]
            try:
                reduced = reduce(clean(structure))
            except CrystalError as error:
                print(f"{name} {row.str_ind}: {error}")
                continue
            given = Composition(row.formula)
            assert given.reduced_formula == reduced.composition.reduced_formula
            told = re.search(r"with energy = (\S+?)!", row.error_str)
            key = (name, int(row.str_ind))
            rows[key] = {
                "set": name,
                "str_ind": int(row.str_ind),
                "formula": reduced.composition.reduced_formula,
                "n_sites": len(reduced),
                "theirs": float(row.corrected_chgnet_ehull),
                "their_energy": float(told[1]) / given.num_atoms if told else np.nan,
            }
            queue.append(RelaxTask(key, reduced))
    cache = RelaxationCache(options.cache) if options.cache else None
    total, started = len(queue), time.perf_counter()
    relaxer = PotentialRelaxer(Chgnet(), cache=cache)
    for done, (task, result) in enumerate(relaxer.relax(queue, settings_of(options.protocol)), 1):
        row = rows[task.key]
        row["converged"] = result.converged
        row["energy"] = result.energy_after
        row["steps"] = result.steps
        if result.structure is not None:
            row["volume_change"] = result.structure.volume / task.structure.volume - 1
        if done % 50 == 0:
            print(f"{done} of {total} relaxed, {time.perf_counter() - started:.0f} s", flush=True)
    return pd.DataFrame(rows.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--set", nargs=3, action="append")
    parser.add_argument("--crystals", type=int, default=0)
    parser.add_argument("--cache")
    parser.add_argument("--protocol", default="fast")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out")
    o = parser.parse_args()
    warnings.simplefilter("ignore")
    relaxed_rows(o).to_csv(o.out, index=False)
