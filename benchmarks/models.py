"""Score files of published models by the names of the models, and count unusable crystals.

``python benchmarks/models.py GENERATED --reference STORE --out OUT [--limit N] [KEY=VALUE ...]``

GENERATED contains one folder per model, as listed in `FILES`. The command scores one file after the
other into folders of OUT. Files with a finished report are skipped, so an interrupted run can
continue. The output contains, per file, the numbers of read, unreadable and refused crystals, with
reasons, and the error messages of refused files. Without ``--relax`` there is no relaxation
(``relaxer=none``).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from novelty_metric.report.novelty_report import NoveltyReport

FILES = {
    "diffcsp": "diffcsp/DiffCSP_mp_20.pt",
    "diffcsp_pp": "diffcsp_pp/DiffCSP++_mp_20.pt",
    "flowmm": "flowmm/flowmm_mp20_all_result_filtered_withcif.csv",
    "flowmm_relaxed": "flowmm/flowmm_mp20_all_result_filtered_withcif.csv",
    "crystalformer": "crystalformer/CrystalFormer_mp_20.csv.gz",
    "wyckofftransformer": "wyckofftransformer/WyckoffTransformer_mp_20_DiffCSP++.json.gz",
    "mattergen": "mattergen/generated_crystals.extxyz",
    "mattergen-zip": "mattergen/generated_crystals_cif.zip",
}
"""Name of the run, which begins with the name of its model -> its file."""

REFUSED = {
    "wyckofftransformer-genes": "wyckofftransformer/WyckoffTransformer_mp_20.json.gz",
    "diffcsp-energies": "diffcsp/DiffCSP_mp_20.ehull.csv.gz",
    "diffcsp_pp-energies": "diffcsp_pp/DiffCSP++_mp_20_CHGNet_relaxed_symmetry.ehull.csv.gz",
    "crystalformer-energies": "crystalformer/CrystalFormer_mp_20.ehull.csv.gz",
    "wyckofftransformer-energies": (
        "wyckofftransformer/WyckoffTransformer_mp_20_DiffCSP++.ehull.csv.gz"
    ),
}
"""Files without crystals."""


def score(run: str, file: Path, words: list[str], out: Path) -> tuple[int, str, float]:
    """Exit status, last line of standard error, and wall time of one call of the command."""
    model = run.split("-", 1)[0]
    command = [sys.executable, "-m", "novelty_metric.cli", "score", f"model={model}"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, f"samples={file}", f"out={out}", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    return done.returncode, lines[-1] if lines else "", time.perf_counter() - started


def tell(run: str, out: Path) -> None:
    """Print the results of one file's crystals."""
    report = NoveltyReport.load(out)
    unreadable = [result.error for result in report.results if not result.readable]
    refused = [
        result.error
        for result in report.results
        if result.readable and result.smact_valid is None  # ended before the chemistry
    ]
    counts = ", ".join(f"{verdict} {n}" for verdict, n in report.counts_all.items())
    print(
        f"{run}: {len(report.results)} samples, {report.n_read} read, {report.n_unreadable} "
        f"unreadable, {len(refused)} refused once read, {report.n_eligible} eligible; {counts}, "
        f"not searched {report.n_not_searched}"
    )
    tell_reasons(unreadable, refused)
    for line in report.context.warnings:
        print(f"    warning: {line}")


def tell_reasons(unreadable: list[str | None], refused: list[str | None]) -> None:
    """Print the number of each problem; numbers in messages differ between crystals."""
    for kind, reasons in (("unreadable", unreadable), ("refused", refused)):
        grouped = Counter(re.sub(r"[\d.]+(e-?\d+)?", "#", reason or "") for reason in reasons)
        for reason, n in grouped.most_common(8):
            print(f"    {kind}: {n} x {reason}")


def main() -> int:
    """Score every file, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generated", type=Path)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--relax", action="store_true")
    parser.add_argument("--only", nargs="*", default=[*FILES, *REFUSED])
    parser.add_argument("words", nargs="*", help="settings of the command, such as protocol=fast")
    given = parser.parse_intermixed_args()
    words = [f"reference={given.reference}", *given.words]
    words += [] if given.relax else ["relaxer=none"]
    words += [f"limit={given.limit}"] if given.limit else []
    failed = False
    for run, name in FILES.items():
        out = given.out / run
        if run not in given.only:
            continue
        if not (out / "report.json").exists():
            status, line, seconds = score(run, given.generated / name, words, out)
            print(f"{run}: status {status} after {seconds:.0f} s  {line}", flush=True)
            failed |= status != 0
            if status:
                continue
        tell(run, out)
    for run, name in REFUSED.items():
        if run in given.only:
            status, line, _ = score(run, given.generated / name, words, given.out / run)
            print(f"{run}: status {status}, refused as a whole: {line}", flush=True)
            failed |= status != 2
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
