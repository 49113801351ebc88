"""The controls: shares of correct verdicts, and the wrong verdicts."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from novelty_metric.analysis.controls import ControlsResult
from novelty_metric.support.text import percent_interval, percent_range
from novelty_metric.terminal.console import printable
from novelty_metric.terminal.tables import plain_table


def print_controls(found: ControlsResult, console: Console) -> None:
    """Print the controls: shares of correct verdicts, and the wrong verdicts."""
    table = plain_table("control", wrap_name=False)
    table.add_column("measure", no_wrap=True)
    for name in ("n", "% [95 %]", "bounds", "method", "code"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in found.rows:
        share, bounds = row.share, row.bounds
        open_ = bounds is not None and bounds.low < bounds.high
        measure = row.measure  # shortened for its column
        for long, short in (("sensitivity", "sens."), ("specificity", "spec."), (", of ", ", ")):
            measure = measure.replace(long, short)
        judged = row.control != last and not row.control.startswith("held_out")
        table.add_row(
            row.control if row.control != last else "",
            measure,
            str(row.n),
            percent_interval(share, 0, pad=True),
            percent_range(bounds, 0) if open_ else "",
            str(row.method) if judged else "",
            Text(str(row.code), style="red" if row.code else "") if judged else "",
        )
        last = row.control
    console.print(table)
    console.print(
        "\n%: share with the correct verdict (held_out: with this verdict, because no verdict "
        "is correct or wrong). bounds: for any outcome of the undecided. sens. (sensitivity): "
        "share of the crystals with this property that get this verdict. spec. (specificity): "
        "share of the crystals without it that do not get the verdict. known: duplicate or "
        "substituted. framework kept: the crystal still matches its structure before it was "
        "displaced and relaxed. cost: of the exchange of elements. planted: crystals that could "
        "be relaxed. method, code: wrong verdicts of the published method, and wrong verdicts "
        "of this program."
    )
    alike: dict[tuple[str, str, str], list[str]] = {}
    for case in found.cases:
        if case.fault is not None or case.miss is not None:
            # A distance behind a comma is of one crystal alone.
            fault = "method" if case.fault is None else case.fault.value
            key = (case.control, fault, case.why.split(", RMS")[0])
            alike.setdefault(key, []).append(case.id)
    if alike:
        console.print("\nwrong or missing verdicts, by the method or by the code:")
    most_first = sorted(alike.items(), key=lambda group: -len(group[1]))
    for (control, fault, why), names in most_first:
        line = f"  {control}, {len(names)} by the {fault}: {why}; such as {names[0]}"
        style = "red" if fault == "code" else ""
        console.print(Text(printable(line, console), style=style))
    settings = found.settings
    console.print(
        f"\nreference {settings['reference']}, {settings['protocol']}, seed {settings['seed']}"
    )
