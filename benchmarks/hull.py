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
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Element, Structure

from novelty_metric.crystal import clean, reduce
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference, open_reference
from novelty_metric.reference.energies import reference_energies
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.samples import read_samples
from novelty_metric.screening.elements import elemental_energies
from novelty_metric.screening.hull import ReferenceHull
from novelty_metric.statistics import wilson

SHARES = (0.125, 0.25, 0.5, 1.0)
METASTABLE = Protocol.named("paper").metastable


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


def measured(rows: pd.DataFrame, reference: Reference, tables: list[str]) -> pd.DataFrame:
    """The rows with energies above three hulls (eV/atom), and what is known of their systems.

    Adds ``ours``, from CHGNet's energies of the reference's crystals; ``dft``, from the energies of
    density functional theory of the same crystals; ``n_elements``; ``crystals_in_system``, those of
    the reference that have every element of the crystal; ``from_table``, whether an element of it
    has its energy from the packaged table.
    """
    energies = reference_energies(reference, PotentialRelaxer(Chgnet()))
    ours = ReferenceHull(reference, energies)
    thinned = {
        share: ReferenceHull(reference, _thinned(reference, energies, share)) for share in SHARES
    }
    dft = None
    if tables:
        of_theory = _dft_energies(reference, tables)
        dft = ReferenceHull(reference, of_theory)
        apart = 1000 * (energies - of_theory)
        print(
            "CHGNet's single points of the reference minus density functional theory, meV/atom: "
            f"mean {np.nanmean(apart):.0f}, standard deviation {np.nanstd(apart):.0f}"
        )
    systems = Counter(
        frozenset(z for z, _ in reference.composition_key(index)) for index in range(len(reference))
    )
    columns: dict[str, list[Any]] = {}
    for row in rows.itertuples():
        composition = Composition(row.formula)
        elements = frozenset(element.Z for element in composition)
        found = {
            "ours": ours.e_above_hull(composition, row.energy),
            **{
                f"ours_{share}": hull.e_above_hull(composition, row.energy)
                for share, hull in thinned.items()
            },
            "dft": None if dft is None else dft.e_above_hull(composition, row.energy),
            "n_elements": len(elements),
            "crystals_in_system": systems[elements],
            "from_table": any(e.symbol in ours.elements_from_table for e in composition),
        }
        for name, value in found.items():
            columns.setdefault(name, []).append(value)
    return rows.assign(**columns)


def _thinned(reference: Reference, energies: np.ndarray, share: float) -> np.ndarray:
    """The energies of a random share of the compounds, and of all elemental crystals (eV/atom)."""
    kept = np.random.default_rng(0).random(len(reference)) < share
    kept |= [len(reference.composition_key(index)) == 1 for index in range(len(reference))]
    return np.where(kept, energies, np.nan)


def _dft_energies(reference: Reference, tables: list[str]) -> np.ndarray:
    """Formation energies moved to the scale of the elemental table (eV/atom)."""
    columns = ["material_id", "formation_energy_per_atom"]
    table = pd.concat([pd.read_parquet(path, columns=columns) for path in tables])
    formation = table.set_index("material_id")["formation_energy_per_atom"].reindex(reference.ids)
    elemental = {Element(symbol).Z: energy for symbol, energy in elemental_energies().items()}
    energies = formation.to_numpy(dtype=np.float64, copy=True)
    for index in range(len(reference)):
        key = reference.composition_key(index)
        n_atoms = sum(n for _, n in key)
        energies[index] += sum(n * elemental.get(z, np.nan) for z, n in key) / n_atoms
    return energies


def agreement(options: argparse.Namespace) -> None:
    """Relax, measure from the reference's hull, and print how that agrees with the published."""
    rows = measured(relaxed_rows(options), open_reference(options.store), options.tables)
    if options.out:
        rows.to_csv(options.out, index=False)
    converged = rows[rows["converged"].astype(bool)]
    usable = converged[
        (converged["theirs"].between(-0.2, 1)) & (converged["ours"].between(-0.5, 1))
    ]
    print(
        f"{len(rows)} crystals, {len(converged)} converged; {len(usable)} of these with believable "
        "energies: published from -0.2 to 1 eV/atom, ours from -0.5 to 1"
    )
    known = usable[usable["their_energy"].notna()]
    apart = 1000 * (known["energy"] - known["their_energy"])
    print(
        f"relaxed energies, where the published one is told ({len(known)}), ours minus theirs, "
        f"meV/atom: median {apart.median():.3f}, within 1: {_share(apart.abs() < 1)}"
    )
    print("\nours minus published, meV/atom, and the label `metastable`")
    for name, group in [*usable.groupby("set"), ("all", usable)]:
        _print_group(name, group)
    print("\nall converged, whatever the energy")
    _print_group("all", converged)

    print("\nby category (of the believable)")
    categories = {
        "published at or below the hull": usable["theirs"] <= 1e-3,
        "published above the hull": usable["theirs"] > 1e-3,
        **{f"{n} elements": usable["n_elements"] == n for n in sorted(set(usable["n_elements"]))},
        "reference has crystals with all its elements": usable["crystals_in_system"] > 0,
        "reference has none with all its elements": usable["crystals_in_system"] == 0,
        "every element has a reference crystal": ~usable["from_table"],
        "an element from the table": usable["from_table"],
        "published 0.07 to 0.13 eV/atom": usable["theirs"].between(0.07, 0.13),
        "published elsewhere": ~usable["theirs"].between(0.07, 0.13),
    }
    for name, chosen in categories.items():
        if chosen.any():
            _print_group(name, usable[chosen])
    print("\nhow near to the published, by whose energies the reference's hull is made of")
    for column, whose in (("ours", "CHGNet's"), ("dft", "density functional theory's")):
        if usable[column].notna().any():
            apart = usable[column].astype(float) - usable["theirs"]
            print(f"{whose}: within 1 meV/atom {_share(apart.abs() < 1e-3)}")
            _print_group(whose, usable, column)
    print("\nwith fewer compounds in the reference")
    for share in SHARES:
        _print_group(f"{share:.0%} of the compounds", usable, f"ours_{share}")


def _print_group(name: str, group: pd.DataFrame, column: str = "ours") -> None:
    ours, theirs = group[column].astype(float), group["theirs"]
    apart = 1000 * (ours - theirs)
    ours_stable, theirs_stable = ours <= METASTABLE, theirs <= METASTABLE
    print(
        f"{name}: {len(group)} crystals; Pearson {ours.corr(theirs):.3f}, Spearman "
        f"{ours.corr(theirs, method='spearman'):.3f}; mean {apart.mean():.1f}, median "
        f"{apart.median():.1f}, 5 % to 95 % {apart.quantile(0.05):.0f} to "
        f"{apart.quantile(0.95):.0f}; label agrees {_share(ours_stable == theirs_stable)}, "
        f"{(ours_stable & ~theirs_stable).sum()} wrongly metastable, "
        f"{(~ours_stable & theirs_stable).sum()} wrongly not"
    )


def _share(hits: pd.Series) -> str:
    found = wilson(int(hits.sum()), len(hits))
    assert found is not None
    return f"{hits.sum()} of {len(hits)} [{found.low:.3f}-{found.high:.3f}]"


def main() -> None:
    """Answer one of the two questions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    single = verbs.add_parser("single-points")
    single.add_argument("tables", nargs="+")
    single.add_argument("--crystals", type=int, default=200)
    single.add_argument("--near", type=float, default=0.02, help="largest e_above_hull, eV/atom")
    single.set_defaults(run=single_points)
    agree = verbs.add_parser("agreement")
    agree.add_argument("store")
    agree.add_argument("--set", nargs=3, action="append", required=True)
    agree.add_argument("--tables", nargs="+", default=[])
    agree.add_argument("--crystals", type=int, default=0, help="drawn from each table; 0: all")
    agree.add_argument("--cache")
    agree.add_argument("--out")
    agree.set_defaults(run=agreement)
    for verb in (single, agree):
        verb.add_argument("--protocol", default="fast")
        verb.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.run(options)


if __name__ == "__main__":
    main()
