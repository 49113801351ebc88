"""The page of the files that a run leaves: every column with its type and unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables import code, escaped, table

from novelty_metric.protocol import Protocol
from novelty_metric.report.context import RunContext
from novelty_metric.report.files import COLUMNS, SCHEMA_VERSION, summary
from novelty_metric.report.novelty_report import NoveltyReport

_ABOUT = f"""\
# Files of a run

What `novelty-metric score … out=DIR` and `report.save(DIR)` write, and `NoveltyReport.load(DIR)`
reads back. Each file carries the version of its schema, now {SCHEMA_VERSION}.

## report.json

One object. Shares are `{{"value", "low", "high"}}` with their 95 % interval, bounds
`{{"low", "high"}}`; what can't be computed is `null`. `novelty_is_bound` says that nothing
was relaxed: `novelty` is then the least that it can be, and `novelty_bounds` hold what is known.
`timings` are the seconds of each step,
summed over the commands that the run took; starting Python, loading libraries, reading the samples
and writing files are no steps.
"""
ABOUT_FILES = {
    "verdicts.parquet": "A row per sample in input order, none left out; `verdicts.csv` holds the "
    "same. `verdict` is empty, with the reason in `error`, for what was not scored. For an "
    "unmatched crystal the columns of the parent are those of the cheapest candidate. "
    "`element_map` is JSON from each element of the parent to the new ones with their numbers of "
    "sites.",
    "parents.parquet": "A row per candidate parent; `rank` counts from 1 within a route.",
    "quality.parquet": "A row per sample: as it was generated, and plain matching of what was "
    "compared, pymatgen's `StructureMatcher()` with its defaults. `novel_by_matching` is empty, "
    "with the reason in `matching_error`, where that did not end; `matching_id` is the reference "
    "crystal that it accepts, `matching_group` numbers the equal samples. Of a duplicate, "
    "`sample_cells` and `parent_cells` say how many reduced cells the duplicate test compared: one "
    "of them is 1, and the other is the multiple of a supercell. `decomposition` is what the hull "
    "is made of at its composition: JSON from each formula to its share of the atoms.",
    "evidence.parquet": "What else is known of each candidate: its position in the reference, its "
    "supercell, the new elements in the order of its sites, and how its relaxation ended. `row` is "
    "the position of the sample in `verdicts.parquet`.",
    "structures.parquet": "The crystals themselves, where the run kept them: `role` says which "
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
            [code(key), escaped(str(kind)), escaped(unit)] for key, (kind, unit) in columns.items()
        )
        parts += [f"## {name}\n", f"{ABOUT_FILES[name]}\n", table(["column", "type", "unit"], rows)]
    return "\n".join(parts)


def _inside(value: Any) -> str:
    return ", ".join(map(code, value)) if isinstance(value, Mapping) else ""
