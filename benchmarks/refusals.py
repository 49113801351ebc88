"""Parents that a protocol refuses early, compared with a run without early refusals.

Both runs must have equal relaxations, as from a shared cache, so that the second run needs no
evaluation::

    novelty-metric score … protocol.refuse_after=0 protocol.name=patient out=patient/NAME
    novelty-metric score … out=fast/NAME
    python benchmarks/refusals.py patient fast

In each run of the folders, a wrong refusal is a parent that the first run confirms and the second
refuses. Steps are the moves of all parents; those of a shared parent count for each crystal.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from novelty_metric import NoveltyReport
from novelty_metric.relaxation import Ended
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import TriedParent, Verdict

COUNTS = ("crystals", "changed", "match", "wrong", "others", "refused", "steps before", "steps now")


def main() -> None:
    """Print one row per run, and their sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("without", type=Path, help="folder of runs without early refusals")
    parser.add_argument("with_refusals", type=Path, help="folder of runs of the same names")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    print("run", *COUNTS, sep="  ")
    for folder in sorted(options.with_refusals.iterdir()):
        if not (folder / "report.json").exists():
            continue
        before = NoveltyReport.load(options.without / folder.name)
        counts = compared(before, NoveltyReport.load(folder))
        total += counts
        print(folder.name, *(counts[name] for name in COUNTS), sep="  ")
    print("all", *(total[name] for name in COUNTS), sep="  ")
    for of, among in (("wrong", "match"), ("refused", "others"), ("changed", "crystals")):
        found = wilson(total[of], total[among])
        if found is not None:
            share, low, high = (100 * part for part in (found.value, found.low, found.high))
            print(f"{of}: {share:.2f} % of {among} [{low:.2f}-{high:.2f}]")


def compared(before: NoveltyReport, after: NoveltyReport) -> Counter[str]:
    """Counts of one run, for crystals that the first run decides."""
    counts: Counter[str] = Counter()
    rows = {row.id: row for row in after.results}
    for row in before.results:
        now = rows[row.id]
        if row.verdict not in (None, Verdict.UNDECIDED):
            counts["crystals"] += 1
            changed = row.verdict != now.verdict
            counts["changed"] += changed
            if changed:
                print(f"  {row.id} {row.formula}: {row.verdict}, now {now.verdict}")
        counts["steps before"] += sum(tried.steps or 0 for tried in row.parents)
        counts["steps now"] += sum(tried.steps or 0 for tried in now.parents)
        for one, other in in_both(row.parents, now.parents):
            kind = "match" if one.confirmed else "others"
            counts[kind] += 1
            if other.ended_early == Ended.REFUSED:
                counts["wrong" if one.confirmed else "refused"] += 1
    return counts


def in_both(
    before: Sequence[TriedParent], after: Sequence[TriedParent]
) -> Iterator[tuple[TriedParent, TriedParent]]:
    """The parents that both runs relaxed."""
    known = {(one.parent.route, one.parent.rank): one for one in after}
    for one in before:
        other = known.get((one.parent.route, one.parent.rank))
        if other is not None and one.relaxed and other.relaxed and one.confirmed is not None:
            yield one, other


if __name__ == "__main__":
    main()
