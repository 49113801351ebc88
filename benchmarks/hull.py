"""Hulls: which hull suits a potential, and how accurate it is.

``single-points``: a reference's hull consists of single points at the stored geometry, but the
generated crystal is relaxed. How far are those energies too high? ::

    python benchmarks/hull.py single-points TABLE.parquet [TABLE.parquet ...] --crystals 200

The other verbs compare four hulls for CHGNet, each on the scale of its energies:

- ``reference``: the crystals of STORE with CHGNet's energies, elements from the table;
- ``mp_20 as it is``: the packaged formation energies of density functional theory;
- ``mp_20 + offsets``: the same, with an offset per element;
- ``mp_20 (auto)``: CHGNet's energies for available crystals, otherwise those with offsets.

DATA is the folder with ``mp_20/`` (``val``, ``test`` and ``train_subset`` as Parquet, with
``material_id``, ``cif``, ``formation_energy_per_atom`` and ``e_above_hull``); STORE is a reference
of these crystals. Finished relaxations are stored in ``--cache``, so an interrupted run can
continue. ::

    python benchmarks/hull.py published STORE DATA --set NAME SAMPLES EHULL.csv.gz [--set ...]
    python benchmarks/hull.py decomposition STORE DATA FOLDER [--max-sites 20] [--model 7net-0]
    python benchmarks/hull.py real STORE DATA
    python benchmarks/hull.py scale STORE DATA --model 7net-0

``published``: crystals with a published distance to CHGNet's own hull of the whole Materials
Project (``str_ind``, ``formula``, ``corrected_chgnet_ehull`` in eV/atom). ``decomposition``:
crystals with decomposition energies of density functional theory (a CSV for each zip of CIF files).
``real``: crystals on the Materials Project's hull, and the validation crystals that
``novelty-metric controls`` draws; also with their own composition left out of the hull, and without
CHGNet's energies for it. ``scale``: the energies for training of a SevenNet model, determined from
its formation energies of small crystals of many elements.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Structure

from novelty_metric.crystal import clean, reduce
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference, open_reference
from novelty_metric.reference.energies import reference_energies
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Chgnet, Potential, make_potential
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.samples import read_samples
from novelty_metric.screening.composition import smact_valid
from novelty_metric.screening.compositions import CompositionKey, Compositions
from novelty_metric.screening.formation_energies import MP_20, FormationEnergies
from novelty_metric.screening.formation_hull import FormationHull, Mp20Hull
from novelty_metric.screening.hull import Energies, Hull, ReferenceHull, hull_without
from novelty_metric.screening.scales import energies_scale
from novelty_metric.support.statistics import wilson

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from own_scale import (
    Offsets,
    element_fractions,
    fit_offsets,
    formation_energies,
    on_own_scale,
)

METASTABLE = Protocol.named("paper").metastable
SUSPECT = Protocol.named("paper").suspect
TABLES = ("val", "test", "train_subset")
AUTO = "mp_20 (auto)"
MATGEN = ("MatterGen", "CrystaLLM", "Ion-Exchange", "Random")


def settings_of(protocol: str) -> RelaxSettings:
    """Relaxation settings of a protocol."""
    named = Protocol.named(protocol)
    return RelaxSettings(fmax=named.fmax, max_steps=named.max_steps, optimizer=named.optimizer)


# The hulls


@dataclass(frozen=True)
class Hulls:
    """The four hulls, and the offsets of the third."""

    by_name: dict[str, Hull]
    offsets: Offsets


def four_hulls(options: argparse.Namespace) -> Hulls:
    """Make the hulls of the module docstring, and print the error of the offsets."""
    reference = open_reference(options.store)
    energies = reference_energies(reference, PotentialRelaxer(Chgnet()))
    offsets = offsets_of(reference, energies, Path(options.data))
    known = FormationEnergies.read(MP_20)
    moved = on_own_scale(known, np.full(len(known), np.nan), offsets, known.about)
    return Hulls(
        {
            "reference": ReferenceHull(reference, energies),
            "mp_20 as it is": Mp20Hull(Energies.CORRECTED).open("chgnet"),
            "mp_20 + offsets": FormationHull(moved, energies_scale(Energies.CORRECTED)),
            AUTO: Mp20Hull().open("chgnet"),
        },
        offsets,
    )


def offsets_of(reference: Reference, energies: np.ndarray, data: Path) -> Offsets:
    """CHGNet's offsets, fitted to the crystals of the reference."""
    table = tables(data).set_index("material_id")["formation_energy_per_atom"]
    own = formation_energies(reference, energies)
    published = table.reindex(reference.ids).to_numpy()
    keys = (reference.composition_key(index) for index in range(len(reference)))
    fractions = element_fractions(Compositions.of(keys))
    offsets = fit_offsets(fractions, own - published)
    apart = 1000 * (own - published)
    left = apart - 1000 * fractions @ offsets.per_element
    for name, values in (("as they are", apart), ("with offsets", left)):
        print(
            f"CHGNet's formation energies minus the published, {name}, meV/atom: mean "
            f"{np.nanmean(values):.1f}, standard deviation {np.nanstd(values):.1f}"
        )
    print(
        f"mean absolute error {1000 * offsets.error_before:.1f}, with offsets by cross-validation "
        f"{1000 * offsets.error:.1f} meV/atom, {offsets.n_crystals} compounds"
    )
    return offsets


def tables(data: Path) -> pd.DataFrame:
    """Crystals of MP-20 with published distances to the Materials Project's hull."""
    return pd.concat([pd.read_parquet(data / "mp_20" / f"{name}.parquet") for name in TABLES])


def key_of(formula: str) -> CompositionKey:
    """The key of a formula."""
    amounts = Composition(formula).reduced_composition
    return tuple(sorted((element.Z, int(n)) for element, n in amounts.items()))


# Relaxing


@dataclass(frozen=True)
class Drawn:
    """A crystal to relax; `truth` is its published distance (eV/atom)."""

    set: str
    id: str
    structure: Structure
    truth: float


def relaxed(drawn: Iterable[Drawn], options: argparse.Namespace) -> pd.DataFrame:
    """A row per converged crystal, with its energy (eV/atom)."""
    crystals = {(one.set, one.id): one for one in drawn}
    cache = RelaxationCache(options.cache) if options.cache else None
    relaxer = PotentialRelaxer(Chgnet(), cache=cache)
    queue = deque(RelaxTask(key, one.structure) for key, one in crystals.items())
    total, started, rows = len(queue), time.perf_counter(), []
    results = relaxer.relax(queue, settings_of(options.protocol))
    for done, (task, result) in enumerate(results, 1):
        one = crystals[task.key]  # type: ignore[index]
        if result.converged:
            formula = one.structure.composition.reduced_formula
            rows.append((one.set, one.id, formula, one.truth, result.energy_after))
        if done % 50 == 0:
            print(f"{done} of {total} relaxed, {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{total} crystals, {len(rows)} converged")
    return pd.DataFrame(rows, columns=["set", "id", "formula", "truth", "energy"])


def measured(rows: pd.DataFrame, hulls: dict[str, Hull]) -> pd.DataFrame:
    """The rows with their distance from each hull (eV/atom)."""
    pairs = list(zip(map(Composition, rows["formula"]), rows["energy"], strict=True))
    return rows.assign(
        **{
            name: np.array([hull.e_above_hull(*pair) for pair in pairs], dtype=float)
            for name, hull in hulls.items()
        }
    )


def structure_of(cif: str) -> Structure:
    """A crystal as the metric relaxes it."""
    return reduce(clean(Structure.from_str(cif, fmt="cif")))


# Agreement with published distances


def published(options: argparse.Namespace) -> None:
    """Compare the four hulls with CHGNet's own hull of the whole Materials Project."""
    hulls = four_hulls(options)
    rows = measured(relaxed(with_published(options), options), hulls.by_name)
    usable = rows[rows["truth"].between(-0.2, 1) & rows["reference"].between(-0.5, 1)]
    print(
        f"{len(usable)} with believable energies: published from -0.2 to 1 eV/atom, above the "
        "reference's hull from -0.5 to 1"
    )
    print_agreement(usable, list(hulls.by_name))
    print("\nall that converged, whatever the energy")
    print_group("all", rows, list(hulls.by_name))
    print(f"\nby the published distance, {AUTO}")
    near = usable["truth"].between(0.07, 0.13)
    print_group("published at 0.07 to 0.13 eV/atom", usable[near], [AUTO])
    print_group("published elsewhere", usable[~near], [AUTO])


def with_published(options: argparse.Namespace) -> Iterable[Drawn]:
    """The readable crystals of the published tables."""
    for name, samples, energies in options.set:
        table = pd.read_csv(energies, index_col=0).sample(frac=1.0, random_state=options.seed)
        table = table.head(options.crystals) if options.crystals else table
        columns = ("cif",) if ".csv" in Path(samples).name else ()
        structures = [sample.structure for sample in read_samples(Path(samples), columns=columns)]
        for row in table.itertuples():
            try:
                structure = reduce(clean(structures[int(row.str_ind)]))
            except CrystalError as error:
                print(f"{name} {row.str_ind}: {error}")
                continue
            given = Composition(row.formula).reduced_formula
            assert given == structure.composition.reduced_formula
            yield Drawn(name, str(row.str_ind), structure, float(row.corrected_chgnet_ehull))


def decomposition(options: argparse.Namespace) -> None:
    """Compare distances from the four hulls with decomposition energies of theory."""
    drawn = with_decomposition(options)
    if options.model is not None:
        hull = Mp20Hull().open(options.model)
        potential = (
            Chgnet()
            if options.model == "chgnet"
            else make_potential("sevennet", model=options.model)
        )
        energies = PotentialRelaxer(potential).energies([one.structure for one in drawn])
        rows = pd.DataFrame(
            [
                (
                    one.set,
                    one.truth,
                    hull.e_above_hull(one.structure.composition, energy, one.structure),
                )
                for one, energy in zip(drawn, energies, strict=True)
            ],
            columns=["set", "truth", options.model],
        )
        print_agreement(rows, [options.model])
        return
    hulls = four_hulls(options)
    rows = measured(relaxed(drawn, options), hulls.by_name)
    print_agreement(rows, list(hulls.by_name))


def with_decomposition(options: argparse.Namespace) -> list[Drawn]:
    """The sufficiently small crystals of the zips, in random order."""
    found = []
    for name in MATGEN:
        table = pd.read_csv(Path(options.folder) / f"{name}.csv")
        energies = {(row[1], row[2]): float(row[3]) for row in table.itertuples()}
        with zipfile.ZipFile(Path(options.folder) / f"{name}.zip") as archive:
            for member in sorted(archive.namelist()):
                formula, group = Path(member).stem.rsplit("_", 1)
                energy = energies.get((formula, int(group)))
                if energy is None:
                    print(f"{name} {member}: not in the table")
                    continue
                structure = structure_of(archive.read(member).decode())
                if len(structure) <= options.max_sites:
                    found.append(Drawn(name, Path(member).stem, structure, energy))
    order = np.random.default_rng(options.seed).permutation(len(found))
    return [found[place] for place in order[: options.crystals or None]]


def print_agreement(rows: pd.DataFrame, hulls: list[str]) -> None:
    """Print the agreement by set, and for all sets."""
    print("\nours minus published, meV/atom, and the label `metastable`")
    for name, group in [("all", rows), *rows.groupby("set")]:
        print_group(name, group, hulls)


def print_group(name: str, group: pd.DataFrame, hulls: list[str]) -> None:
    """Print one line per hull."""
    print(f"{name}: {len(group)} crystals, {(group['truth'] <= METASTABLE).sum()} metastable")
    theirs = group["truth"] <= METASTABLE
    for hull in hulls:
        apart = 1000 * (group[hull] - group["truth"])
        ours = group[hull] <= METASTABLE
        print(
            f"  {hull:16} mean {apart.mean():.1f}, median {apart.median():.1f}, std "
            f"{apart.std():.1f}, mean absolute {apart.abs().mean():.1f}; label agrees "
            f"{share(ours == theirs)}, {(ours & ~theirs).sum()} wrongly metastable, "
            f"{(~ours & theirs).sum()} wrongly not; below {SUSPECT:g}: "
            f"{(group[hull] < SUSPECT).sum()}; Spearman "
            f"{group[hull].corr(group['truth'], method='spearman'):.2f}"
        )


def share(hits: pd.Series) -> str:
    """A count with its interval."""
    found = wilson(int(hits.sum()), len(hits))
    if found is None:
        return "0 of 0"
    return (
        f"{hits.sum()} of {len(hits)} ({100 * hits.mean():.1f} % "
        f"[{100 * found.low:.1f}-{100 * found.high:.1f}])"
    )


# Real crystals


def real(options: argparse.Namespace) -> None:
    """Crystals on the Materials Project's hull, and the crystals of the controls."""
    hulls = four_hulls(options)
    table = tables(Path(options.data))
    on_hull = table[table["e_above_hull"] == 0].sample(300, random_state=options.seed)
    validation = pd.read_parquet(Path(options.data) / "mp_20" / "val.parquet")
    # The same selection as `novelty-metric controls` with seed=0.
    drawn = np.random.default_rng([0, 0]).permutation(len(validation))[:500]
    for name, crystals in (("on the hull", on_hull), ("controls", validation.iloc[drawn])):
        print(f"\n{name}")
        listed = (
            Drawn(name, row.material_id, structure_of(row.cif), row.e_above_hull)
            for row in crystals.itertuples()
        )
        rows = relaxed(listed, options)
        print_real(measured(rows, hulls.by_name), list(hulls.by_name))
        for what, hull_of in (
            ("its own composition left out of the hull", without_composition),
            ("without CHGNet's energies of its composition", without_own(hulls.offsets)),
        ):
            print(f"{AUTO}, {what}")
            left = [
                hull_of(key_of(formula)).e_above_hull(Composition(formula), energy)
                for formula, energy in zip(rows["formula"], rows["energy"], strict=True)
            ]
            print_real(rows.assign(**{AUTO: np.array(left, dtype=float)}), [AUTO])


def print_real(rows: pd.DataFrame, hulls: list[str]) -> None:
    """Print how many are metastable and how many are suspect, of all and of the eligible ones."""
    valid = np.array([smact_valid(Composition(formula)) for formula in rows["formula"]])
    for hull in hulls:
        eligible = valid & (rows[hull] <= METASTABLE)
        high = rows[rows[hull] > METASTABLE]
        print(
            f"  {hull:16} metastable {share(rows[hull] <= METASTABLE)}; suspect "
            f"{share(rows[eligible][hull] < SUSPECT)} of the eligible; not metastable: "
            + (", ".join(f"{row.formula}" for row in high.itertuples()) or "none")
        )


_OPEN = Mp20Hull().open("chgnet")
_PLACES = {key: at for at, key in enumerate(_OPEN.known.compositions.keys())}


def without_composition(key: CompositionKey) -> Hull:
    """The packaged hull on CHGNet's scale without one compound; elements are kept."""
    return hull_without(_OPEN, key)


def without_own(offsets: Offsets) -> Callable[[CompositionKey], FormationHull]:
    """The same hull, with the converted published energy of one compound."""
    published = FormationEnergies.read(MP_20)
    moved = published.energies + element_fractions(published.compositions) @ offsets.per_element

    def changed(key: CompositionKey) -> FormationHull:
        known, at = _OPEN.known, _PLACES[key]
        energies = known.energies.copy()
        energies[at] = moved[at]
        return FormationHull(
            FormationEnergies(known.compositions, energies, known.on_hull, known.about), _OPEN.scale
        )

    return changed


# Scale, time, and single points


def scale(options: argparse.Namespace) -> None:
    """Formation energies of a SevenNet model minus the published ones, with and without
    corrections.
    """
    reference = open_reference(options.store)
    drawn = of_many_elements(reference, options.crystals or 671, options.seed)
    structures = [reference.structure(index) for index in drawn]
    energies = list(PotentialRelaxer(potential_of(options.model)).energies(structures))
    table = tables(Path(options.data)).set_index("material_id")["formation_energy_per_atom"]
    known = table.reindex([reference.ids[index] for index in drawn]).to_numpy()
    for which in (Energies.CORRECTED, Energies.UNCORRECTED):
        moved = energies_scale(which)
        found = [
            moved.formation_energy(structure.composition, energy, structure)
            for structure, energy in zip(structures, energies, strict=True)
        ]
        apart = np.array(found, dtype=float) - known
        apart, listed = apart[np.isfinite(apart)], np.isfinite(apart)
        print(
            f"{options.model}, taken as {which}: {len(apart)} crystals, meV/atom: mean "
            f"{1000 * apart.mean():.1f}, median {1000 * np.median(apart):.1f}, mean absolute "
            f"{1000 * np.abs(apart).mean():.1f}"
        )
    keys = (reference.composition_key(index) for index in drawn[listed])
    offsets = fit_offsets(element_fractions(Compositions.of(keys)), apart, ridge=0.3)
    print(
        f"compounds: mean absolute error {1000 * offsets.error_before:.1f}, with an offset per "
        f"element by cross-validation {1000 * offsets.error:.1f} ({offsets.n_crystals} compounds)"
    )


def potential_of(model: str) -> Potential:
    """CHGNet, or a SevenNet model."""
    return Chgnet() if model == "chgnet" else make_potential("sevennet", model=model)


def of_many_elements(reference: Reference, wanted: int, seed: int) -> np.ndarray:
    """Positions of random crystals of at most 8 sites, in which no element is rare."""
    counts = np.zeros(128, dtype=int)
    drawn: list[int] = []
    small = np.flatnonzero(reference.n_sites <= 8)
    for index in np.random.default_rng(seed).permutation(small).tolist():
        elements = np.unique(reference.numbers[reference.sites(index)])
        if (counts[elements] < 14).any() and not (counts[elements] > 60).any():
            drawn.append(index)
            counts[elements] += 1
    return np.array(drawn[:wanted])


def single_points(options: argparse.Namespace) -> None:
    """Relax crystals near the hull, and print how far their single points are too high."""
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


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    single = verbs.add_parser("single-points")
    single.add_argument("tables", nargs="+")
    single.add_argument("--near", type=float, default=0.02, help="largest e_above_hull, eV/atom")
    single.set_defaults(run=single_points)
    for name, run in (
        ("published", published),
        ("decomposition", decomposition),
        ("real", real),
        ("scale", scale),
    ):
        verb = verbs.add_parser(name)
        verb.add_argument("store")
        verb.add_argument("data")
        verb.add_argument("--cache")
        verb.set_defaults(run=run)
    verbs.choices["scale"].add_argument("--model", default="7net-0")
    verbs.choices["decomposition"].add_argument("folder")
    verbs.choices["decomposition"].add_argument(
        "--model", help="single points of the given geometry instead, by chgnet or a SevenNet model"
    )
    verbs.choices["decomposition"].add_argument("--max-sites", type=int, default=20)
    verbs.choices["published"].add_argument("--set", nargs=3, action="append", required=True)
    for name, verb in verbs.choices.items():
        default = 200 if name == "single-points" else 0
        verb.add_argument("--crystals", type=int, default=default, help="random crystals; 0: all")
        verb.add_argument("--protocol", default="fast")
        verb.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.run(options)


if __name__ == "__main__":
    main()
