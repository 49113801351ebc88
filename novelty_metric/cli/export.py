"""``novelty-metric export``."""

from __future__ import annotations

import sys

from novelty_metric.cli.options import RUN, Verb, one_of, parse, run_folder, table
from novelty_metric.errors import InputError
from novelty_metric.verdict import UNDER_BOTH, Verdict

VERB = Verb(
    name="export",
    usage="run=DIR out=FILE [verdict=NAME]",
    about="""\
Write the crystals of a run to one file, in the form in which they were compared: relaxed (if the
run relaxes), primitive, Niggli-reduced. The properties of each crystal are id, verdict, eligible,
energy (eV, of the cell), energy_per_atom and e_above_hull (eV/atom), and parent. The ending of FILE
selects the format:

  *.extxyz, *.xyz  extended XYZ with the properties in the comment lines
  *.zip            a CIF for each crystal, and crystals.csv with the properties
  *.csv            a row for each crystal, with a column cif
  *.json           a list of pymatgen structures with the properties
""",
    options=table(
        f"""
{RUN}
out=FILE: the output file; an existing file is replaced
verdict=NAME: only crystals with this verdict, eligible or not: {", ".join(Verdict)}; or
  {UNDER_BOTH}, if the run has a second potential; by default all crystals, also those
  without a verdict
""",
        {"verdict": one_of(*Verdict, UNDER_BOTH)},
    ),
    closing="""\
examples
  novelty-metric export run=run out=crystals.zip
  novelty-metric export run=run verdict=unmatched out=unmatched.extxyz
""",
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments. `InputError` if they or their input can't be used."""
    given = parse(VERB, words)
    folder = run_folder(given)
    if "out" not in given:
        raise InputError("export needs out=FILE, such as out=crystals.extxyz")
    out = given["out"]

    from novelty_metric.support.quiet import quiet

    with quiet():
        from novelty_metric.report.crystals import export, format_of
        from novelty_metric.report.files import REPORT_FILES
        from novelty_metric.report.novelty_report import NoveltyReport
        from novelty_metric.terminal.console import printable, stdout_console

        format_of(out)  # before the run is read
        if any(out.resolve() == (folder / name).resolve() for name in REPORT_FILES):
            raise InputError(f"out={out} is a file of the run; name another")
        written = export(NoveltyReport.load(folder, structures=True), out, given["verdict"])
    n_eligible = sum(result.eligible is True for result in written)
    crystals = f"{len(written)} crystal{'' if len(written) == 1 else 's'}"
    shown = printable(out, stdout_console(sys.stdout))
    print(f"Written to {shown}: {crystals}, {n_eligible} of them eligible")
    return 0
