"""Whether the search agrees with pymatgen: every pair and every parent, for many real crystals.

There are two steps, which can be days apart:

- *plain*: for each crystal, pymatgen tests **all** commensurate pairs with the reference, by the
  simple implementation of ``tests/search/oracle.py`` (no bounds, refusals or index). All matches
  are stored with cost and RMS, together with the answers for duplicates and both routes. This takes
  minutes per crystal; finished crystals are appended to a log, and a later run continues it.
  ``--share 0/2`` processes every second crystal, for two processes with two logs.
- *compare*: the package against the logs. Errors are: a pair that pymatgen matched but the
  package's cheap refusals or compiled pair test refused; a bound above the real cost; another
  duplicate; and any difference in the parents, their order, costs, maps or RMS distances.

The crystals come from several models: half of each at random, half among those of low symmetry
(triclinic, monoclinic) with 18 to 20 sites::

    python benchmarks/agreement.py plain --reference STORE.arrow --log answers.jsonl \\
        --crystals 54 --samples GENERATED/diffcsp/DiffCSP_mp_20.pt GENERATED/flowmm/….csv …
    python benchmarks/agreement.py compare --reference STORE.arrow --log answers*.jsonl \\
        --crystals 54 --samples …

The exit status is 1 if there was an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from novelty_metric.crystal import clean, reduce, symmetry
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.samples import read_samples

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "search"))

LABELLED = tuple[str, Structure]


def crystals_of(path: Path, count: int, pool: int, seed: int) -> list[LABELLED]:
    """`count` reduced crystals: half at random, half of low symmetry with 18 to 20 sites."""
    samples = [s for s in read_samples(path, limit=20 * pool) if s.structure is not None]
    order = np.random.default_rng(seed).permutation(len(samples))[:pool].tolist()
    chosen: list[LABELLED] = []
    for place in order:
        if len(chosen) == count:
            break
        try:
            crystal = reduce(clean(samples[place].structure, max_sites=80))
        except CrystalError:
            continue
        if len(chosen) >= count // 2:
            if not 18 <= len(crystal) <= 20:
                continue
            found = symmetry(crystal, symprec=0.01, angle_tolerance=5.0)
            if found is None or found.space_group > 15:
                continue
        chosen.append((f"{path.parent.name}|{samples[place].id}", crystal))
    return chosen


def interleaved(options: argparse.Namespace) -> list[LABELLED]:
    """The crystals of all files, one of each in turn, so that every part contains all files."""
    by_file = [
        crystals_of(path, options.crystals, options.pool, options.seed + place)
        for place, path in enumerate(options.samples)
    ]
    longest = max(len(found) for found in by_file)
    return [found[i] for i in range(longest) for found in by_file if i < len(found)]


def stamp_of(reference: Reference, crystal: Structure) -> int:
    """A short number that identifies what an answer depends on."""
    return zlib.crc32(f"{reference.crystals_hash} {crystal}".encode())


def plain(options: argparse.Namespace) -> int:
    """Process the crystals without the package's search."""
    from oracle import first_duplicate, geometric_matches, plain_orbits, ranked, wyckoff_parents

    reference = Reference.open(options.reference)
    part, parts = map(int, options.share.split("/"))
    crystals = interleaved(options)[part::parts]
    done = {entry["stamp"] for entry in read_logs([options.log])}
    structures = list(reference)
    orbits = [plain_orbits(structure) for structure in structures]
    for label, crystal in crystals:
        stamp = stamp_of(reference, crystal)
        if stamp in done:
            continue
        started = time.process_time()
        matches, raised, pairs = geometric_matches(crystal, structures)
        entry = {
            "stamp": stamp,
            "label": label,
            "n_sites": len(crystal),
            "pairs": pairs,
            "seconds": time.process_time() - started,
            "raised": raised,
            "matches": [[m.index, m.cost, m.rms] for m in matches],
            "duplicate": first_duplicate(crystal, structures),
            "lattice_sites": [m.plain() for m in ranked(matches, structures)[:5]],
            "wyckoff": [m.plain() for m in wyckoff_parents(crystal, structures, orbits, 5)],
        }
        with options.log.open("a") as handle:
            handle.write(json.dumps(entry) + "\n")
        print(f"{label}: {pairs} pairs, {len(matches)} match, {entry['seconds']:.0f} s", flush=True)
    return 0


def read_logs(paths: list[Path]) -> list[dict]:
    """All finished answers."""
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def compare(options: argparse.Namespace) -> int:
    """Compare the package with the logs."""
    from oracle import disagreements

    from novelty_metric.search.engine import ParentSearch
    from novelty_metric.support.statistics import wilson

    reference, protocol = Reference.open(options.reference), Protocol()
    search = ParentSearch(reference, protocol)
    answers = {entry["stamp"]: entry for entry in read_logs(options.log)}
    n_sites = np.asarray(reference.n_sites)
    totals: Counter[str] = Counter()
    models: Counter[str] = Counter()
    wrong: list[str] = []
    agree = 0
    for label, crystal in interleaved(options):
        entry = answers.get(stamp_of(reference, crystal))
        if entry is None:
            continue
        n = len(crystal)
        indices = np.flatnonzero((n_sites % n == 0) | (n % n_sites == 0))
        assert len(indices) == entry["pairs"]
        models[label.split("|")[0]] += 1
        totals["crystals"] += 1
        found = symmetry(crystal, symprec=0.01, angle_tolerance=5.0)
        low = n in (18, 19, 20) and found is not None and found.space_group <= 15
        totals["low symmetry, 18-20 sites"] += low
        let_through = set(indices[search.may_match(crystal, indices)].tolist())
        matched = {index: cost for index, cost, _ in entry["matches"]}
        totals["pairs"] += len(indices)
        totals["matched by pymatgen"] += len(matched)
        totals["let through"] += len(let_through)
        totals["pymatgen raised"] += len(entry["raised"])
        for index in sorted(set(matched) - let_through):
            wrong.append(
                f"{label} with {reference.ids[index]} ({index}): refused, pymatgen matches"
            )
        test = search.compiled_test(crystal)
        for index in sorted(let_through) if test is not None else ():
            cost = test.first_match(index)[1]
            if cost > matched.get(index, np.inf):
                wrong.append(
                    f"{label} with {reference.ids[index]} ({index}): bound {cost} above the cost "
                    f"{matched[index]}"
                )
            totals["decided by the kernel alone"] += index not in matched and cost == np.inf
            totals["exact costs"] += matched.get(index) == cost
        result = search.parents(crystal, found)
        entry["lattice_sites"] = entry["lattice_sites"][: protocol.k]
        entry["wyckoff"] = entry["wyckoff"][: protocol.k]
        problems = disagreements(entry, search.duplicate(crystal), result.parents)
        agree += not problems
        wrong += [f"{label}: {problem}" for problem in problems]
    crystals = totals.pop("crystals")
    share = wilson(agree, crystals)
    assert share is not None
    print(f"{crystals} crystals ({', '.join(f'{m} {c}' for m, c in sorted(models.items()))})")
    for name, count in totals.items():
        print(f"  {name}: {count:,}")
    refused = totals["pairs"] - totals["let through"]
    print(f"  wrong refusals: below {3 / refused:.1e} of those refused (95 %), if none is listed")
    interval = f"[{share.low:.3f}-{share.high:.3f}]"
    print(f"same duplicate, parents, order, costs, maps and RMS: {agree} of {crystals} {interval}")
    for line in wrong:
        print(f"  ! {line}")
    return 1 if wrong else 0


def main() -> int:
    """Run one of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["plain", "compare"])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--samples", type=Path, nargs="+", required=True)
    parser.add_argument("--log", type=Path, nargs="+", required=True)
    parser.add_argument("--crystals", type=int, default=54, help="crystals of each file")
    parser.add_argument(
        "--pool", type=int, default=700, help="crystals of each file to choose from"
    )
    parser.add_argument("--share", default="0/1", help="part/number of parts, for plain")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.step == "compare":
        return compare(options)
    (options.log,) = options.log
    return plain(options)


if __name__ == "__main__":
    sys.exit(main())
