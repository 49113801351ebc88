"""The variations of a report with other settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from novelty_metric.relaxation.potentials import model_title
from novelty_metric.report.agreement import Agreement
from novelty_metric.support.text import percent_interval, points_interval
from novelty_metric.terminal.console import printable
from novelty_metric.terminal.run_settings import print_settings
from novelty_metric.terminal.tables import novelty_cell, plain_table
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from novelty_metric.analysis.sensitivity import Sensitivity

_SETTINGS = {
    "tolerances, fixed parents": "tol. x, fixed",
    "tolerances, re-selected parents": "tol. x, again",
}


def print_sensitivity(found: Sensitivity, console: Console) -> None:
    """Print the variations of a report, one line each; the protocol's value is marked."""
    names = ("value", "elig", "dupl", "subst", "unm", "und", "novelty, %", "change", "other")
    table = plain_table("setting", *names, gap=0, wrap_name=False, wrap=False)
    before = None
    for variation in found.variations:
        report, change = variation.report, variation.change
        begins = before != variation.setting
        if before is not None and begins:
            table.add_section()
        value, potential = variation.value, report.context.potential
        if isinstance(value, str):  # a key with a hash, too long for a line
            shown = value if potential is None else printable(model_title(potential.name), console)
        else:
            shown = f"{value:g}"
        table.add_row(
            _SETTINGS.get(variation.setting, variation.setting.value) if begins else "",
            f"* {shown}" if variation.is_base else shown,
            str(report.n_eligible),
            *(str(report.counts[verdict]) for verdict in Verdict),
            novelty_cell(report),
            "" if variation.is_base else points_interval(change, pad=True),
            "" if variation.is_base else str(len(variation.changed)),
            style="bold" if variation.is_base else "",
        )
        before = variation.setting
    console.print(table)
    console.print(
        "\n* value of the protocol. Novelty in %, its change in points, with 95 % intervals "
        "(for the change: paired samples). other: crystals with another verdict. tol. x: factor "
        "of ltol, stol and angle_tol. fixed: only in the duplicate test and the confirmation, "
        "with the same parents. again: parents are searched again with this setting."
    )
    for agreement in found.agreements:
        _print_agreement(agreement, console)
    console.print()
    print_settings(found.base, console)


def _print_agreement(found: Agreement, console: Console) -> None:
    """Print the agreement of verdicts with another potential."""
    whole = found.groups[0]
    first, second = printable(found.first, console), printable(found.second, console)
    share = percent_interval(whole.share, 1, none="no crystal is eligible with both")
    console.print(
        f"\n{second} in place of {first}: {whole.kept} of {whole.total} crystals that are eligible "
        f"with both keep their verdict, % [95 %]: {share}",
        markup=False,
    )
    console.print(
        f"eligible with {first} only: {found.only_first}, "
        f"with {second} only: {found.only_second}\n",
        markup=False,
    )
    columns = ("keep", "of", "% [95 %]")
    table = plain_table(f"with {first}", *columns, wrap_name=False, wrap=False)
    before = None
    for group in found.groups[1:]:
        if before is not None and group.breakdown != before:
            table.add_section()
        before = group.breakdown
        share = percent_interval(group.share, 0, pad=True)
        table.add_row(group.group, str(group.kept), str(group.total), share)
    console.print(table)
