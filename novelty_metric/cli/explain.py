"""``novelty-metric explain``: a crystal of a run, or a crystal of a file."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.cli.options import RUN, Verb, Words, parse, run_folder, table
from novelty_metric.errors import InputError
from novelty_metric.support.folders import user_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from novelty_metric.report.explanation import Explanation
    from novelty_metric.samples import Sample

VERB = Verb(
    name="explain",
    usage="ID run=DIR [out=DIR]\nFILE reference=NAME|FILE [KEY=VALUE ...]",
    about="""\
Show the evidence for one crystal: its verdict with the reason, its parent and the exchanged
elements, costs, distances, energies, and the result of every candidate parent. The crystal belongs
to a run, or is in a file. In a file, only this crystal and its candidate parents are relaxed, even
if it is not eligible. The crystals are written as CIF (for a file only with out=):

  generated.cif           as generated
  relaxed.cif             relaxed and reduced, as compared (reduced.cif if the
                          run relaxed no samples)
  parent.cif              the reference crystal
  parent_substituted.cif  the parent with exchanged elements
  parent_relaxed.cif      this crystal after relaxation, as compared
""",
    options=table(
        f"""
{RUN}
out=DIR: folder of the files (default: explain/ID in the folder of the run)
id=ID: the crystal, if a file has several
reference=, relaxer=, protocol=, model=, ...: for a FILE, as for `score`; relaxer=none only
  searches, in about a second
"""
    ),
    closing="""\
examples
  novelty-metric explain mp-12 run=run
  novelty-metric explain crystal.cif reference=mp_20
  novelty-metric explain samples.extxyz id=17 reference=mine.arrow relaxer=none
""",
)

_OF_RUN = Verb(
    name="explain",
    options=tuple(o for o in VERB.own if o.name != "id"),
    least=1,
    most=1,
    needs="needs one ID",
    any_name=True,
)
_OF_FILE = Verb(
    name="explain",
    options=tuple(o for o in VERB.own if o.name != "run"),
    least=1,
    most=1,
    needs="needs one FILE, or an ID and run=DIR",
    passes=(
        *("reference", "model", "protocol", "relaxer", "hull", "relax_samples", "max_sites"),
        *("energies", "energies_per", "energies_scale", "smact_oxidation_states", "exhaustive"),
        *("format", "column", "id_column", "allow_pickle", "device", "workers", "cache"),
        *("progress",),
    ),
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments. `InputError` if they or their input can't be used."""
    if any(word.startswith("run=") for word in words):
        return _explain_of_run(parse(_OF_RUN, words))
    return _explain_of_file(parse(_OF_FILE, words))


def _explain_of_run(given: Words) -> int:
    (identifier,) = given.names
    folder = run_folder(given)

    from novelty_metric.report.explanation import explain, folder_name, row_of
    from novelty_metric.report.files import read_structures
    from novelty_metric.report.novelty_report import NoveltyReport

    report = NoveltyReport.load(folder)
    row = row_of(report, identifier)
    found = explain(report, row, read_structures(folder, row))
    _show(found, given["out"] or folder / "explain" / folder_name(identifier))
    return 0


def _explain_of_file(given: Words) -> int:
    from novelty_metric.cli import one_run
    from novelty_metric.settings.compose import compose_config

    (name,) = given.names
    path = user_path(name)
    if not path.exists():
        raise InputError(f"{name}: no such file; for a crystal of a run add run=DIR")
    _, composed = one_run.settings_of(compose_config(given.passed))
    settings = dataclasses.replace(composed, samples=(path,), scope="all")
    reference = one_run.check(settings, None)
    with one_run.opened_metric(settings, reference) as metric:
        from novelty_metric.crystal_records import CrystalRecords
        from novelty_metric.report.explanation import explain

        metric.update_samples([_one_of(one_run.read_settings(settings), path, given["id"])])
        report = metric.compute()
        found = explain(report, 0, report.results[0].structures or CrystalRecords())
    _show(found, given["out"])

    from novelty_metric.terminal.screen import against

    print(f"\nagainst {against(report)}")
    for line in report.context.warnings:
        print(f"warning: {line}")
    return 0


def _one_of(samples: Iterable[Sample], path: Path, identifier: str | None) -> Sample:
    """The sample with this id, or the only sample."""
    from novelty_metric.report.explanation import no_such_sample

    found: Sample | None = None
    others = []
    for sample in samples:
        if identifier not in (None, sample.id):
            others.append(sample.id)
            continue
        if found is not None:
            ids = f"{found.id}, {sample.id}, ..."
            raise InputError(f"{path} contains several crystals ({ids}); name one: id=ID")
        found = sample
        if identifier is not None:
            break
    if found is None:
        raise InputError(no_such_sample(identifier or "", others, str(path)))
    if found.structure is None:
        raise InputError(f"{found.source or path} can't be read: {found.error}")
    return found


def _show(found: Explanation, out: Path | None) -> None:
    """Print the evidence, and write it with its crystals to a folder, if one is given."""
    from novelty_metric.report.explanation import TEXT_FILE, write_crystals
    from novelty_metric.support.folders import write_atomically
    from novelty_metric.terminal.console import (
        printable,
        stdout_console,
        without_trailing_blanks,
    )
    from novelty_metric.terminal.explanation import print_explanation

    console = stdout_console(sys.stdout)
    if out is None:
        print_explanation(found, console)
        return
    files = write_crystals(found.crystals, out)
    print_explanation(found, console)
    with console.capture() as captured:
        print_explanation(found, console)
    write_atomically(out / TEXT_FILE, without_trailing_blanks(captured.get()).encode())
    shown = printable(out, console)
    print(f"\nWritten to {shown}: {', '.join([TEXT_FILE, *files])}")
    if not files:
        print("No crystal is stored for this sample.")
