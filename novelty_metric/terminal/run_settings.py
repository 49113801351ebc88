"""The settings of a report: reference, protocol, potential, hull, times, warnings."""

from __future__ import annotations

from rich.console import Console

from novelty_metric.relaxation.potentials import model_title
from novelty_metric.report.context import count_of_crystals
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.text import duration, percent, percent_range
from novelty_metric.terminal.tables import fact_grid

COPYING_Z = -3.0
"""Below this z score of the copying test, chance is not an explanation."""


def count_suspect(report: NoveltyReport) -> int:
    """Number of crystals, eligible or not, with implausible energies."""
    return sum(result.energy_suspect is True for result in report.results)


def notes(report: NoveltyReport) -> list[tuple[str, str]]:
    """Warnings as names and texts, the most important first."""
    found = []
    n_suspect = count_suspect(report)
    if n_suspect:
        trusted = report.novelty_without_suspect
        without = "unknown"
        if trusted is not None:
            without = f"{percent(trusted.value, 1)} ({percent_range(trusted)} %)"
        found.append(
            (
                "suspect",
                f"{count_of_crystals(n_suspect)}, {report.n_energy_suspect} of them eligible, "
                f"below {report.context.protocol.suspect:g} eV/atom above hull: the hull lacks "
                "their compounds, or the potential fails on them; novelty without them: "
                f"{without}",
            )
        )
    if report.n_saddles and report.context.protocol.minima == "check":
        found.append(
            (
                "saddles",
                f"{count_of_crystals(report.n_saddles)} at a saddle point: each has a minimum of "
                "lower energy, to which minima=escape relaxes it",
            )
        )
    n_alone = report.n_no_competing_compound
    if n_alone:
        found.append(
            (
                "hull gaps",
                f"no competing compound known for {count_of_crystals(n_alone)}, "
                f"{report.n_stable_no_competing_compound} of the {report.n_stable} stable ones: "
                "their energy above hull is measured from the elements alone",
            )
        )
    beside = report.beside_real_crystals
    if beside is not None and beside.copying_z is not None and beside.copying_z < COPYING_Z:
        found.append(
            (
                "copying",
                "the samples are closer to the reference than real crystals are (copying test: "
                f"z = {beside.copying_z:.1f}; below {COPYING_Z:g}: not by chance)",
            )
        )
    return [*found, *(("warning", line) for line in report.context.warnings)]


def print_settings(
    report: NoveltyReport, console: Console, *, seconds: float | None = None
) -> None:
    """Print the settings of a report, with the wall time of the command (s)."""
    context = report.context
    digest = f", {context.crystals_hash[:12]}" if context.crystals_hash else ""
    size = f"{count_of_crystals(context.reference_size)}{digest}"
    potential = context.potential
    title = "none" if potential is None else f"{model_title(potential.name)} {potential.version}"
    facts = [
        ("reference", f"{context.reference_name} ({size})", ""),
        ("protocol", context.protocol_text, ""),
        ("potential", title, ""),
        ("hull", context.hull_text, ""),
        ("eligible", context.eligibility, ""),
    ]
    steps = ", ".join(f"{step} {duration(took)}" for step, took in context.seconds.items())
    if steps:
        whole = "" if seconds is None else f"{duration(seconds)} for this command; "
        facts.append(("time", f"{whole}{steps}", ""))
    facts += [(name, text, "yellow") for name, text in notes(report)]
    console.print(fact_grid(facts, console))
