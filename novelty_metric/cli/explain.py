"""``novelty-metric explain``."""

from __future__ import annotations

import sys

from novelty_metric.cli.options import Option, Verb, parse
from novelty_metric.cli.run_folder import RUN, run_folder
from novelty_metric.support.folders import user_path

VERB = Verb(
    name="explain",
    usage="ID run=DIR [out=DIR]",
    about="""\
Show the evidence for one crystal of a run: its verdict and why, its parent and the elements
exchanged, costs, distances, energies, and every candidate parent with what became of it. The
crystals are written as CIF:

  generated.cif           as it came in
  relaxed.cif             relaxed and reduced: what was compared; of a run that
                          relaxed no samples reduced.cif
  parent.cif              the reference crystal
  parent_substituted.cif  that with its elements exchanged
  parent_relaxed.cif      and relaxed: what has to match that
""",
    options=(
        RUN,
        Option(
            "out",
            "DIR",
            "where the files go (default: explain/ID in the folder of the run)",
            user_path,
        ),
    ),
    least=1,
    most=1,
    needs="needs one ID",
    any_name=True,
)


def run(words: list[str]) -> int:
    """Run the verb on the words after it.

    Raises
    ------
    InputError
        If the call or the run can't be used, or has no such crystal.
    """
    given = parse(VERB, words)
    (identifier,) = given.names
    folder = run_folder(given)

    from novelty_metric.report.explanation import (
        TEXT_FILE,
        explain,
        folder_name,
        row_of,
        write_crystals,
    )
    from novelty_metric.report.files import read_structures
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.support.folders import write_atomically
    from novelty_metric.terminal.console import printable, stdout_console, without_trailing_blanks
    from novelty_metric.terminal.explanation import print_explanation

    report = NoveltyReport.load(folder)
    row = row_of(report, identifier)
    found = explain(report, row, read_structures(folder, row))
    out = given["out"] or folder / "explain" / folder_name(identifier)
    files = write_crystals(found.crystals, out)
    console = stdout_console(sys.stdout)
    print_explanation(found, console)
    with console.capture() as captured:
        print_explanation(found, console)
    write_atomically(out / TEXT_FILE, without_trailing_blanks(captured.get()).encode())
    shown = printable(out, console)
    print(f"\nWritten to {shown}: {', '.join([TEXT_FILE, *files])}")
    if not files:
        print("No crystal was kept for this sample.")
    return 0
