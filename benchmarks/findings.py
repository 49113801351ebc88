"""Table and figure of `docs/findings.md`: finished runs compared with real crystals.

    python benchmarks/findings.py RUN [RUN ...] [--calibration FILE] [--picture FILE]

All runs have the same reference. A run uses the calibration of FILE if its settings agree (for
example, one made after the run), otherwise its own. Null models are recognised by the name of the
folder or the ids of their crystals.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from novelty_metric import NoveltyReport
from novelty_metric.errors import InputError
from novelty_metric.figures.ratios import is_null_model, novelty_ratios
from novelty_metric.figures.style import to_png
from novelty_metric.leaderboard.tables import metastable_text
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal, load_calibration
from novelty_metric.report.of_cases import key_of_context
from novelty_metric.report.real_crystals import BesideRealCrystals
from novelty_metric.support.ratios import Ratio
from novelty_metric.support.statistics import wilson
from novelty_metric.support.text import percent_interval
from novelty_metric.terminal.calibration import sensitivity_line
from novelty_metric.verdict import CrystalResult

TITLES = {
    "crystalformer": "CrystalFormer",
    "diffcsp": "DiffCSP",
    "diffcsp_pp": "DiffCSP++",
    "flowmm": "FlowMM",
    "mattergen": "MatterGen (lithium systems)",
    "wyckofftransformer": "WyckoffTransformer",
}
LOW_SYMMETRY = ("triclinic", "monoclinic")


def load(folder: Path, calibration: Calibration | None) -> NoveltyReport:
    report = NoveltyReport.load(folder)
    if calibration is None or calibration.key != key_of_context(report.context):
        if report.context.calibration is not None:
            return report
        raise InputError(f"{folder}: its reference was not calibrated with its settings")
    return replace(report, context=replace(report.context, calibration=calibration))


def beside_of(report: NoveltyReport) -> BesideRealCrystals:
    beside = report.beside_real_crystals
    if beside is None:
        raise InputError("no real crystal of the calibration is eligible")
    return beside


def ratio_of(report: NoveltyReport) -> float:
    ratio = beside_of(report).novelty_ratio
    return -1.0 if ratio is None or ratio.value is None else ratio.value


def text(ratio: Ratio | None) -> str:
    return "–" if ratio is None else ratio.text


def row(name: str, report: NoveltyReport) -> list[str]:
    beside = beside_of(report)
    expected, z = beside.standardised, beside.copying_z
    low = sum(one.crystal_system in LOW_SYMMETRY for one in report.eligible)
    return [
        f"{name} (null model)" if is_null_model(name, report) else name,
        f"{report.counts['unmatched']} of {report.n_eligible}",
        percent_interval(report.novelty_interval, none="–"),
        percent_interval(wilson(low, report.n_eligible), 0, none="–"),
        text(beside.novelty_ratio),
        "–" if expected is None else f"{expected.expected:.1f}",
        "–" if expected is None else text(expected.ratio),
        text(beside.duplicate_ratio),
        "–" if z is None else f"{z:.1f}",
        percent_interval(report.new_prototypes.share, 0, none="–"),
        metastable_text(report),
    ]


def by_symmetry(name: str, rows: Sequence[CrystalResult | LeftOutCrystal]) -> list[str]:
    """Unmatched crystals of low symmetry, and of other symmetries."""
    cells = [name]
    for low in (True, False):
        some = [one for one in rows if (one.crystal_system in LOW_SYMMETRY) == low]
        hits = sum(one.verdict == "unmatched" for one in some)
        share = percent_interval(wilson(hits, len(some)), 0, none="–")
        cells += [f"{hits} of {len(some)}", share]
    return cells


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")
    print()


def real_row(calibration: Calibration) -> list[str]:
    hits, total = calibration.count("unmatched")
    low = sum(one.eligible and one.crystal_system in LOW_SYMMETRY for one in calibration.crystals)
    return [
        "real crystals",
        f"{hits} of {total}",
        percent_interval(calibration.base_rate),
        percent_interval(wilson(low, total), 0),
        *("1", f"{hits}", "1", "1", "0", "–", "–"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--picture", type=Path, help="a PNG of the ratios")
    options = parser.parse_args()
    given = None if options.calibration is None else load_calibration(options.calibration)
    reports = {TITLES.get(folder.name, folder.name): load(folder, given) for folder in options.runs}
    ordered = dict(sorted(reports.items(), key=lambda item: ratio_of(item[1])))
    used = {report.context.calibration for report in reports.values()}
    if len(used) > 1:
        raise SystemExit("the runs have different calibrations")
    (calibration,) = used
    assert calibration is not None
    columns = [
        *("model", "unmatched, of eligible", "novelty, %", "triclinic or monoclinic, %"),
        *("novelty ratio", "expected for its crystal systems", "observed / expected"),
        *("ratio of duplicates", "copying z", "new prototypes, %", "metastable of these"),
    ]
    print_table(columns, [real_row(calibration), *(row(*one) for one in ordered.items())])
    real = [crystal for crystal in calibration.crystals if crystal.eligible]
    systems = [by_symmetry(name, report.eligible) for name, report in ordered.items()]
    print_table(
        ("unmatched, of eligible", "triclinic or monoclinic", "%", "higher symmetry", "%"),
        [by_symmetry("real crystals", real), *systems],
    )
    if calibration.sensitivity is not None:
        print(sensitivity_line(calibration.sensitivity))
    if options.picture is not None:
        options.picture.write_bytes(to_png(novelty_ratios(ordered), dpi=130))


if __name__ == "__main__":
    main()
