"""Exchanged elements, their cost, and the change of volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.search.pettifor import pettifor_number
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from novelty_metric.report.novelty_report import NoveltyReport


def exchanges(report: NoveltyReport) -> pd.DataFrame:
    """Elements of the confirmed parents, and the elements that replaced them.

    Over the eligible substituted crystals, each with the parent in its row; unchanged elements are
    left out.

    Returns
    -------
    DataFrame
        A row per pair, the most crystals first: ``parent_element``, ``new_element``,
        ``n_crystals``, ``n_sites``, ``cost`` (difference of the modified Pettifor numbers; missing
        where one has none).
    """
    import pandas as pd

    found: dict[tuple[str, str], list[int]] = {}
    for result in report.eligible:
        if result.verdict != Verdict.SUBSTITUTED:
            continue
        for old, into in (result.element_map or {}).items():
            for new, sites in into.items():
                if new != old:
                    counted = found.setdefault((old, new), [0, 0])
                    counted[0] += 1
                    counted[1] += sites
    rows = []
    for (old, new), (crystals, sites) in found.items():
        first, second = pettifor_number(old), pettifor_number(new)
        step = None if first is None or second is None else abs(first - second)
        rows.append((old, new, crystals, sites, step))
    rows.sort(key=lambda row: (-row[2], -row[3], row[:2]))
    columns = ["parent_element", "new_element", "n_crystals", "n_sites", "cost"]
    return pd.DataFrame(rows, columns=columns).astype({"cost": "Int64"})


def parent_changes(report: NoveltyReport) -> pd.DataFrame:
    """Relaxed parents of the eligible crystals: cost, and change of volume.

    Returns
    -------
    DataFrame
        A row per relaxed parent: ``id``, ``crystal_system`` (of the generated crystal),
        ``verdict``, ``route``, ``rank``, ``parent_id``, ``cost``, ``volume_ratio`` (volume after
        the relaxation over that before, of its last geometry), ``converged``, ``confirmed``,
        ``ended_early``.
    """
    import pandas as pd

    rows = [
        (
            result.id,
            result.crystal_system,
            None if result.verdict is None else result.verdict.value,
            tried.parent.route.value,
            tried.parent.rank,
            tried.parent.parent_id,
            tried.parent.cost,
            tried.volume_ratio,
            tried.converged,
            tried.confirmed,
            tried.ended_early,
        )
        for result in report.eligible
        for tried in result.parents
        if tried.relaxed
    ]
    columns = ["id", "crystal_system", "verdict", "route", "rank", "parent_id", "cost"]
    columns += ["volume_ratio", "converged", "confirmed", "ended_early"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"cost": "float64", "volume_ratio": "float64"})
