"""``novelty-metric compare``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from novelty_metric.cli.options import Verb, parse, table
from novelty_metric.errors import InputError
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.folders import user_path


def _picture(text: str) -> Path:
    path = user_path(text)
    if path.suffix.lower() not in (".svg", ".png"):
        raise ValueError("a file *.svg or *.png")
    return path


VERB = Verb(
    name="compare",
    usage="RUN_A RUN_B\n--spread RUN RUN [RUN ...]",
    about="""\
Compare two reports, the folders that `novelty-metric score ... out=DIR` wrote: the change of each
share from A to B with its 95 % interval and a test, and the crystals whose verdict changed, with
the reason. Crystals that both runs scored are paired by id and formula, or by content. If the
references, protocols, potentials or hulls differ, the runs do not measure the same quantity, and a
warning is printed.

With --spread, or with more than two runs, the runs are treated as draws of one model with different
seeds. The output is the mean of each figure with its 95 % interval, the standard deviation between
the runs, and the standard deviation that sampling noise alone would give.
""",
    options=table(
        """
by=content: pair equal crystals, regardless of ids and order: the same cell and atoms, up to the
  rounding of file formats
--all: list every crystal that changed, not only the first 20
--spread: mean and spread over the runs
figure=FILE.svg: draw the novelty ratios of the runs, compared with real crystals; .svg or .png
""",
        {"figure": _picture},
    ),
    least=2,
    most=10**6,
    needs="needs two or more runs",
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments. `InputError` if they or their input can't be used."""
    given = parse(VERB, words)
    by = given["by"] or "id"
    folders = [user_path(name) for name in given.names]
    reports = [NoveltyReport.load(folder) for folder in folders]

    from novelty_metric.terminal.comparison import print_comparison, print_spread
    from novelty_metric.terminal.console import stdout_console

    console = stdout_console(sys.stdout)
    if given["figure"] is not None:
        _draw(given["figure"], folders, reports)
    if given["spread"] or len(reports) > 2:
        if "by" in given:
            raise InputError(f"by={by} needs exactly two runs; remove it")
        from novelty_metric.comparison.spread import spread

        print_spread(spread(reports), console)
        return 0
    from novelty_metric.comparison.compare import compare

    if by == "content":
        from novelty_metric.report.files import with_structures

        reports = [
            with_structures(report, folder) for report, folder in zip(reports, folders, strict=True)
        ]
    comparison = compare(*reports, by=by)
    print_comparison(comparison, console, all_changes=bool(given["all"]))
    if by == "id" and not comparison.n_shared:
        print("by=content pairs the same crystals under other ids")
    return 0


def _draw(path: Path, folders: Sequence[Path], reports: Sequence[NoveltyReport]) -> None:
    if not any(report.beside_real_crystals for report in reports):
        raise InputError(
            f"figure={path}: no run was scored against a calibrated reference "
            "(novelty-metric reference calibrate)"
        )
    from novelty_metric.figures.ratios import novelty_ratios
    from novelty_metric.figures.style import to_png, to_svg
    from novelty_metric.support.folders import write_atomically, writing

    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    figure = novelty_ratios(dict(zip(names, reports, strict=True)))
    content = to_svg(figure).encode() if path.suffix.lower() == ".svg" else to_png(figure)
    with writing(f"figure={path}"):
        write_atomically(path, content)
