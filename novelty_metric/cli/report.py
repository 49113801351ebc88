"""``novelty-metric report``."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.cli.options import Verb, parse, table, whole
from novelty_metric.errors import InputError
from novelty_metric.support.folders import user_path

if TYPE_CHECKING:
    from novelty_metric.figures.report_page import Run
    from novelty_metric.reference import Reference

VERB = Verb(
    name="report",
    usage="RUN [RUN ...] [KEY=VALUE ...]",
    about="""\
Write a page about one run, or about several runs side by side: figures with intervals and tests,
pictures with descriptions, rotatable crystals beside their parents, settings and hashes. The page
is one self-contained HTML file. RUN is a folder that `novelty-metric score ... out=DIR` wrote, or a
folder of such folders, as `score -m` makes.
""",
    options=table(
        """
out=FILE.html: the page (default: report.html in the folder of the run, or in the folder that holds
  the runs)
reference=NAME|FILE: the reference, for the pictures that need it (default: opened by the name in
  the report)
figures=DIR: also write the pictures as PNG and SVG for papers
crystals=N (500): number of crystals with a card, over all runs
""",
        {"crystals": whole(0, 5000)},
    ),
    closing="""\
examples
  novelty-metric report run
  novelty-metric report all figures=figures
  novelty-metric report runs/a runs/b reference=mp_20.arrow out=two.html
""",
    least=1,
    most=10**6,
    needs="needs a run: the folder that `score ... out=DIR` wrote",
)
_REPORT, _PAGE = "report.json", "report.html"
_SUFFIXES = (".html", ".htm")


def run(words: list[str]) -> int:
    """Run the verb with its arguments. `InputError` if they or their input can't be used."""
    given = parse(VERB, words)
    named = [user_path(name) for name in given.names]
    folders = _run_folders(named)
    out = _out(given["out"], named, folders)
    figures = given["figures"]
    if figures is not None and figures.is_file():
        raise InputError(f"figures={figures} is a file; name a folder")

    from novelty_metric.support.quiet import quiet

    with quiet():
        from novelty_metric.figures.report_page import report_page
        from novelty_metric.support.folders import write_atomically, writing

        runs = _runs(folders, given["reference"])
        page = report_page(runs, n_crystals=given["crystals"], figures=figures, out=out)
        with writing(f"out={out}", out.parent):
            write_atomically(out, page.encode())
    print(f"Written to {_printable(out)}")
    if figures is not None:
        print(f"Pictures for papers in {_printable(figures)}")
    return 0


def _printable(path: Path) -> str:
    return str(path).encode("utf-8", "replace").decode()


def _run_folders(given: Sequence[Path]) -> list[Path]:
    """The runs; a folder of runs is replaced by its runs."""
    folders: list[Path] = []
    for folder in given:
        if not folder.exists():
            raise InputError(f"{folder}: no such folder")
        if (folder / _REPORT).is_file():
            folders.append(folder)
            continue
        inside = sorted(path.parent for path in folder.glob(f"*/{_REPORT}"))
        if not inside:
            raise InputError(
                f"{folder} is not a run: it has no {_REPORT}; name a folder that `score ... "
                "out=DIR` wrote"
            )
        folders += inside
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise InputError(f"{folder} is named twice")
        seen.add(folder.resolve())
    return folders


def _out(out: Path | None, given: Sequence[Path], folders: Sequence[Path]) -> Path:
    if out is None:
        if len(given) == 1:
            return given[0] / _PAGE
        parent = Path(os.path.commonpath([folder.resolve().parent for folder in folders]))
        return parent / _PAGE
    if out.is_dir():
        raise InputError(f"out={out} is a folder; name a file such as {out / _PAGE}")
    if out.suffix.lower() not in _SUFFIXES:
        raise InputError(f"out={out} is not a page; name a file *.html")
    return out


def _names(folders: Sequence[Path]) -> list[str]:
    """Names of the runs on the page: the parts of their paths that differ."""
    from novelty_metric.cli.summary import shown_names

    parts = [folder.resolve().parts for folder in folders]
    depth = next(
        depth
        for depth in range(1, max(map(len, parts)) + 1)
        if len({part[-depth:] for part in parts}) == len(parts)
    )
    names = ["/".join(part[-depth:]) for part in parts]
    # As in the table of a multirun.
    shown = shown_names(names)
    return [shown[name].encode("utf-8", "backslashreplace").decode() for name in names]


def _runs(folders: Sequence[Path], reference: str | None) -> list[Run]:
    from novelty_metric.figures.report_page import Run
    from novelty_metric.reference import open_reference
    from novelty_metric.report.novelty_report import NoveltyReport

    reports = [NoveltyReport.load(folder) for folder in folders]
    given = None
    if reference is not None:
        path = user_path(reference)
        given = open_reference(path if path.exists() else reference)
    runs, here = [], functools.cache(_on_this_machine)
    for name, report, folder in zip(_names(folders), reports, folders, strict=True):
        wanted = report.context.crystals_hash
        found = here(report.context.reference_name) if given is None else given
        known = found if found is not None and found.crystals_hash == wanted else None
        runs.append(Run(name=name, report=report, folder=folder, reference=known))
    if given is not None and not any(run.reference for run in runs):
        known_hashes = sorted({report.context.crystals_hash[:12] for report in reports})
        raise InputError(
            f"reference={reference} contains other crystals ({given.crystals_hash[:12]}) "
            f"than were scored against ({', '.join(known_hashes)}); name that reference"
        )
    return runs


def _on_this_machine(name: str) -> Reference | None:
    """The reference of a report, if it is available here by its name."""
    from novelty_metric.reference import open_reference
    from novelty_metric.reference.named import known_names

    try:
        return open_reference(name) if name in known_names() else None
    except InputError:
        return None
