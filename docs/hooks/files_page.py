"""The page of the files that a run leaves: every column with its type and unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables import code, escaped, table

from novelty_metric.protocol import Protocol
from novelty_metric.report.context import RunContext
from novelty_metric.report.crystals import PROPERTIES
from novelty_metric.report.files import COLUMNS, SCHEMA_VERSION, summary
from novelty_metric.report.novelty_report import NoveltyReport

_ABOUT = f"""\
# Files of a run

`novelty-metric score … out=DIR` and `report.save(DIR)` write these files, and
`NoveltyReport.load(DIR)` reads them. Each file contains the version of its schema, now
{SCHEMA_VERSION}.

## report.json

The file holds one object. Proportions are `{{"value", "low", "high"}}` with their 95 % interval,
bounds are `{{"low", "high"}}`. A value that cannot be computed is `null`. `novelty_is_bound` is
true if nothing was relaxed; `novelty` is then its lower bound, and `novelty_bounds` gives both
bounds.
`timings` are the seconds of each step, summed over the commands of the run. They do not include the
start of Python, the import of libraries, the reading of samples and the writing of files.

## crystals.extxyz

The relaxed crystals, if the run stored them, as extended XYZ. ASE reads the file with
`ase.io.read(file, ":")`. They are the crystals with the role `relaxed` in `structures.parquet`, in
the same order. The comment line of each holds
{", ".join(map(code, PROPERTIES))}; an unknown value is absent.
`energy` is the energy of the whole cell in eV (`Atoms.get_potential_energy()` returns it);
`energy_per_atom` and `e_above_hull` are in eV/atom. `novelty-metric export` writes the crystals in
other formats, or the crystals of one verdict.
"""
ABOUT_FILES = {
    "verdicts.parquet": "A row per sample in input order, for all samples; `verdicts.csv` holds "
    "the same. If a sample was not scored, `verdict` is empty and `error` gives the reason. For an "
    "unmatched crystal, the columns of the parent describe the cheapest candidate. "
    "`element_map` is JSON that maps each element of the parent to the new elements with their "
    "numbers of sites.",
    "parents.parquet": "A row per candidate parent; `rank` counts from 1 within a route.",
    "quality.parquet": "A row per sample: the crystal as generated, and plain matching of the "
    "crystal that was compared (pymatgen's `StructureMatcher()` with its defaults). If plain "
    "matching did not finish, `novel_by_matching` is empty and `matching_error` gives the reason. "
    "`matching_id` is the matching reference crystal; `matching_group` numbers the groups of equal "
    "samples. For a duplicate, `sample_cells` and `parent_cells` are the numbers of reduced cells "
    "that the duplicate test compared: one of them is 1, and the other is the multiple of a "
    "supercell. `decomposition` gives the phases of the hull at the composition: JSON that maps "
    "each formula to its share of the atoms.",
    "evidence.parquet": "More data on each candidate: its position in the reference, its "
    "supercell, the new elements in the order of its sites, and how its relaxation ended. `row` is "
    "the position of the sample in `verdicts.parquet`.",
    "structures.parquet": "The crystals, if the run stored them: `role` says which "
    "crystal of the row it is. `novelty-metric explain` writes them as CIF.",
}


def markdown() -> str:
    """The page."""
    context = RunContext(
        protocol=Protocol.named("fast"),
        reference_name="",
        reference_size=0,
        crystals_hash="",
        store_hash="",
    )
    nothing = summary(NoveltyReport.from_results([], context))
    keys = ([code(key), _inside(value)] for key, value in nothing.items())
    parts = [_ABOUT, table(["key", "keys in it"], keys)]
    for name, columns in COLUMNS.items():
        rows = (
            [code(key), *map(escaped, (str(column.type), column.unit, column.meaning))]
            for key, column in columns.items()
        )
        heads = ["column", "type", "unit", "meaning"]
        parts += [f"## {name}\n", f"{ABOUT_FILES[name]}\n", table(heads, rows)]
    return "\n".join(parts)


def _inside(value: Any) -> str:
    return ", ".join(map(code, value)) if isinstance(value, Mapping) else ""
