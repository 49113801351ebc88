"""``novelty-metric reference build``, ``reference fetch`` and ``reference calibrate``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.cli import one_run
from novelty_metric.cli.options import Verb, Words, parse, table, whole
from novelty_metric.errors import InputError
from novelty_metric.relaxation.potentials import model_title
from novelty_metric.settings.compose import compose_config
from novelty_metric.support.folders import user_path

if TYPE_CHECKING:
    from novelty_metric.analysis.calibrate import HeldOutFile
    from novelty_metric.reference import Reference
    from novelty_metric.settings.score_settings import ScoreSettings


def _published(_: str = "") -> Iterable[str]:
    from novelty_metric.reference.published import PUBLISHED

    return PUBLISHED


SETTINGS_OF_SCORE = (
    *("protocol", "relaxer", "hull", "workers", "device", "cache", "max_sites", "progress"),
    *("smact_oxidation_states", "column", "format"),
)
SETTINGS_OF_ENERGIES = ("relaxer", "hull", "device")
_PREPARING = """
workers=N (1): number of processes that prepare crystals
relaxer=, hull=, device=: as for `score`: compute the energies that the hull needs now, with this
  potential; by default the first run computes them
"""
VERB = Verb(
    name="reference",
    needs_verb=True,
    verbs=(
        Verb(
            name="build",
            usage="SOURCE... out=FILE.arrow [KEY=VALUE ...]",
            about="""\
prepare a reference once from the crystals of a training set. SOURCE is a file or folder in any
format that `novelty-metric score` reads; several sources are combined. After an interruption, the
same command continues.
""",
            options=table(
                f"""
out=FILE.arrow: file of the prepared reference
name=NAME: name of the reference in reports (default: the name of the file)
column=NAME: column of a table with the crystals
{_PREPARING}
"""
            ),
            least=1,
            most=10**6,
            needs="needs a SOURCE: the file or folder of the crystals",
            passes=SETTINGS_OF_ENERGIES,
        ),
        Verb(
            name="fetch",
            usage="NAME [--from FILE] [workers=N]",
            about="""\
fetch a published training set, check it, and prepare it for reference=NAME. It is downloaded from
its publisher, or read from FILE, a copy of the published file. If a content hash of the published
file is known, it must agree. If the transfer breaks, the same command continues it. The files are
stored in your cache folder.
""",
            options=table(
                f"""
NAME: {{NAME}}
--from FILE: a copy of the published file
{_PREPARING}
""",
                names=_published,
            ),
            passes=SETTINGS_OF_ENERGIES,
            least=1,
            most=1,
            needs="needs one NAME",
            hint=lambda: f"known: {', '.join(_published())}",
        ),
        Verb(
            name="calibrate",
            usage="REFERENCE [KEY=VALUE ...]",
            about="""\
score crystals of a reference, each against the reference without itself. The result is the novelty
of real crystals, and later reports against this reference compare with it. It is stored beside the
reference, for one protocol, potential and hull. After an interruption, the same command continues;
n= can be increased.
""",
            options=table(
                """
n=N (300): number of crystals to score
seed=N (0): the same seed draws the same crystals
held_out=FILE: real crystals that the reference lacks, such as a validation set; n of them are also
  scored, for a second estimate
protocol=, relaxer=, hull=, workers=, device=, cache=, column=, format=: as for `score`; the last
  two are for the held-out file
""",
                {"seed": whole()},
            ),
            least=1,
            most=1,
            needs="needs one REFERENCE: a name or a file",
            passes=SETTINGS_OF_SCORE,
        ),
    ),
    closing="""\
examples
  novelty-metric reference fetch mp_20
  novelty-metric reference fetch mp_20 --from train.csv
  novelty-metric reference build train.csv out=mp_20.arrow
  novelty-metric reference build train.csv val.csv out=mp_20_all.arrow workers=4
  novelty-metric reference calibrate mp_20 workers=2
  novelty-metric reference calibrate mp_20 held_out=val.csv
""",
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments; `InputError` if they or their input cannot be used."""
    given = parse(VERB, words)
    runs = {"build": _run_build, "fetch": _run_fetch, "calibrate": _run_calibrate}
    return runs[given.verb](given)


def _run_build(given: Words) -> int:
    sources = [user_path(name) for name in given.names]
    if "out" not in given:
        raise InputError("reference build needs out=FILE.arrow: where the reference is written")
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder")
    settings = _settings_of_energies(given["out"], given)

    from novelty_metric.terminal.progress import quiet_with_progress

    with quiet_with_progress() as progress:
        from novelty_metric.reference import build_reference

        reference = build_reference(
            sources if len(sources) > 1 else sources[0],
            given["out"],
            name=given["name"],
            workers=given["workers"],
            column=given["column"],
            progress=lambda done, total: progress("prepare reference", done, total),
        )
    _print(given["out"], reference)
    _compute_energies(settings)
    return 0


def _run_fetch(given: Words) -> int:
    (name,), source = given.names, given["from"]
    if source is not None and not source.is_file():
        raise InputError(f"--from {source}: no such file")
    settings = _settings_of_energies(name, given)

    from novelty_metric.terminal.progress import quiet_with_progress

    with quiet_with_progress() as progress:
        from novelty_metric.reference.fetch import fetch_reference

        fetched = fetch_reference(name, source=source, workers=given["workers"], progress=progress)
    _print(fetched.path, fetched.reference)
    print(f"{name}: {fetched.checked}")
    _compute_energies(settings)
    return 0


def _settings_of_energies(reference: str | Path, given: Words) -> ScoreSettings | None:
    """The potential for the energies of a reference; None if none is named."""
    if not given.passed:
        return None
    words = [f"reference={reference}", f"workers={given['workers']}", *given.passed]
    return one_run.settings_of(compose_config(words))[1]


def _compute_energies(settings: ScoreSettings | None) -> None:
    """Open the hull, which computes and stores its data of the reference."""
    if settings is None:
        return
    reference = one_run.check(settings, None)
    with one_run.opened_metric(settings, reference) as metric:
        resources = metric.pipeline.resources
    if resources.relaxer is not None and resources.hull is not None:
        title = model_title(resources.relaxer.info.name)
        print(f"the energies that the hull needs are computed with {title}")


def _run_calibrate(given: Words) -> int:
    (name,) = given.names
    if "held_out" in given and not given["held_out"].exists():
        raise InputError(f"held_out={given['held_out']}: no such file or folder")
    _, settings = one_run.settings_of(compose_config([f"reference={name}", *given.passed]))
    reference = one_run.check(settings, None)
    with one_run.opened_metric(settings, reference) as metric:
        from novelty_metric.analysis.calibrate import calibrate

        found = calibrate(
            metric, n=given["n"], seed=given["seed"], held_out=_held_out(given, settings)
        )

    from novelty_metric.terminal.calibration import print_calibration
    from novelty_metric.terminal.console import stdout_console

    print_calibration(name, found, stdout_console(sys.stdout))
    return 0


def _held_out(given: Words, settings: ScoreSettings) -> HeldOutFile | None:
    if "held_out" not in given:
        return None
    from novelty_metric.analysis.calibrate import HeldOutFile
    from novelty_metric.samples import read_samples
    from novelty_metric.settings.run_folder import fingerprint

    path = given["held_out"]
    sha256 = fingerprint([path])
    assert sha256 is not None
    samples = read_samples(
        path,
        format=settings.format,
        column=settings.column,
        limit=given["n"],
        seed=given["seed"],
    )
    return HeldOutFile(path.name, sha256, tuple(samples))


def _print(path: Path, reference: Reference) -> None:
    skipped = reference.manifest.skipped
    left_out = f"; {len(skipped)} could not be used" if skipped else ""
    print(f"{path}: {len(reference)} crystals{left_out}, crystals_hash {reference.crystals_hash}")
    for crystal in skipped[:10]:
        print(f"  {crystal}")
    if len(skipped) > 10:
        print(f"  and {len(skipped) - 10} more")
