"""Whether the charge and electronegativity tests agree with SMACT, and the time of both.

`smact_validity` and `smact_valid` test the compositions of the three parts of MP-20, of files of
generated crystals, and random ones of 2 to 8 elements, with every set of oxidation states. SMACT
tries combinations of oxidation states one by one; compositions with more than a million
combinations are excluded and counted::

    python benchmarks/composition.py --mp-20 SHARED/data/mp_20 --samples FILE …
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pymatgen.core import Composition, Element
from smact.screening import smact_validity

from novelty_metric.samples import read_samples
from novelty_metric.screening.composition import (
    OXIDATION_STATE_SETS,
    load_oxidation_states,
    neutral_and_ordered,
    smact_valid,
)

MOST_COMBINATIONS = 10**6

Counts = tuple[tuple[str, int], ...]


@dataclass
class Tally:
    """Results and processor times (s) with one set of oxidation states."""

    same: int = 0
    valid: int = 0
    left_out: int = 0
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def reduced(symbols: Iterable[str]) -> Counts:
    """Elements in alphabetical order with their numbers of atoms, divided by the common divisor."""
    counts = Counter(symbols)
    divisor = math.gcd(*counts.values())
    return tuple(sorted((symbol, count // divisor) for symbol, count in counts.items()))


def of_mp_20(folder: Path) -> Iterator[Counts]:
    """Every composition of MP-20."""
    table = pq.read_table(folder / "train_without_coordinates.parquet", columns=["atomic_numbers"])
    for numbers in table["atomic_numbers"].to_pylist():
        yield reduced(Element.from_Z(number).symbol for number in numbers)
    for part in ("val", "test"):
        for formula in pq.read_table(folder / f"{part}.parquet")["pretty_formula"].to_pylist():
            amounts = Composition(formula).get_el_amt_dict()
            yield reduced(el for el, count in amounts.items() for _ in range(int(count)))


def of_samples(path: Path) -> Iterator[Counts]:
    """Every composition of a file of samples."""
    for sample in read_samples(path):
        if sample.structure is not None and sample.structure.is_ordered:
            yield reduced(specie.symbol for specie in sample.structure.species)


def at_random(count: int, seed: int) -> Iterator[Counts]:
    """Random compositions of 2 to 8 of all elements, up to 12 atoms of each."""
    rng = np.random.default_rng(seed)
    symbols = [Element.from_Z(number).symbol for number in range(1, 119)]
    for _ in range(count):
        chosen = rng.choice(symbols, rng.integers(2, 9), replace=False).tolist()
        yield reduced(symbol for symbol in chosen for _ in range(rng.integers(1, 13)))


def asked_of_both(given: str | None, compositions: Iterable[Counts], most: int) -> Tally:
    """Results of both implementations for each composition."""
    states = load_oxidation_states(given)
    tally = Tally()
    for counts in compositions:
        if math.prod(len(states.states.get(symbol, (0,))) for symbol, _ in counts) > most:
            tally.left_out += 1
            continue
        composition = Composition(dict(counts))
        started = time.process_time()
        try:
            theirs = smact_validity(composition, oxidation_states_set=given)
        except KeyError:  # superheavy elements
            theirs = False
        between = time.process_time()
        ours = smact_valid(composition, states)
        tally.ours.append(time.process_time() - between)
        tally.theirs.append(between - started)
        tally.valid += theirs
        if ours == theirs:
            tally.same += 1
        else:
            tally.different.append(f"{composition.formula}: SMACT {theirs}, here {ours}")
    return tally


def many_elements(count: int, seed: int) -> list[float]:
    """Processor times (s) of random compositions of 20 elements that have oxidation states."""
    from smact.data_loader import lookup_element_data

    rng = np.random.default_rng(seed)
    states = load_oxidation_states("wiki").states
    known = [el for el in states if (lookup_element_data(el) or {}).get("el_neg") is not None]
    times = []
    for _ in range(count):
        ions = [
            (lookup_element_data(el)["el_neg"], int(rng.integers(1, 16)), states[el])
            for el in rng.choice(known, 20, replace=False).tolist()
        ]
        started = time.process_time()
        neutral_and_ordered(ions)
        times.append(time.process_time() - started)
    return times


def main() -> None:
    """Compare, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mp-20", type=Path, required=True, help="folder of its three parts")
    parser.add_argument("--samples", type=Path, nargs="*", default=[])
    parser.add_argument("--random", type=int, default=3000)
    parser.add_argument("--most", type=int, default=MOST_COMBINATIONS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[Counts, None] = dict.fromkeys(of_mp_20(options.mp_20))
    print(f"{len(found):,} different compositions of MP-20", end="", flush=True)
    for path in options.samples:
        found |= dict.fromkeys(of_samples(path))
    generated = len(found)
    found |= dict.fromkeys(at_random(options.random, options.seed))
    print(f", {generated:,} with the generated ones, {len(found):,} with random ones")
    for given in (None, *OXIDATION_STATE_SETS):
        tally = asked_of_both(given, found, options.most)
        theirs, ours = np.array(tally.theirs), np.array(tally.ours)
        print(
            f"{given or 'default'}: {tally.same:,} of {len(ours):,} equal ({tally.valid:,} valid; "
            f"{tally.left_out} left out); SMACT {theirs.sum():.0f} s, longest {theirs.max():.2f} s;"
            f" here {ours.sum():.1f} s, longest {1e3 * ours.max():.1f} ms",
            flush=True,
        )
        for line in tally.different[:10]:
            print(f"  {line}")
    times = many_elements(2000, options.seed)
    print(f"20 elements, 2,000 compositions: longest {1e3 * max(times):.2f} ms")


if __name__ == "__main__":
    main()
