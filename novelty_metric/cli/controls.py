"""``novelty-metric controls``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from novelty_metric.cli import one_run
from novelty_metric.cli.options import Verb, one_of, parse, table, whole
from novelty_metric.errors import InputError
from novelty_metric.settings.compose import compose_config
from novelty_metric.settings.score_settings import ScoreSettings

if TYPE_CHECKING:
    pass

SETTINGS_OF_SCORE = (
    *("reference", "protocol", "relaxer", "hull", "workers", "device", "cache", "max_sites"),
    *("out", "overwrite", "column", "format", "progress"),
)


def _controls(text: str) -> tuple[str, ...]:
    from novelty_metric.analysis.controls import Control

    names = tuple(name for name in text.split(",") if name)
    unknown = [name for name in names if name not in list(Control)]
    if unknown:
        raise InputError(f"no control named {unknown[0]!r}; known: {', '.join(Control)}")
    return names


VERB = Verb(
    name="controls",
    usage="[KEY=VALUE ...]",
    about="""\
Score crystals whose correct verdict is known, made from the crystals of a reference. The output is
the share of correct verdicts for each kind, with its 95 % interval, and for wrong verdicts whether
the method or the code is the cause. The default is the small packaged reference.
""",
    options=table(
        """
n=N (20): number of crystals per control, and per size of a distortion
seed=N (0): the same seed makes the same crystals
only=NAME,NAME: only these controls:
    held_out: crystals of the reference, scored against the rest
    rotated, supercell: the same crystals in another setting
    perturbed, strained: copies with several sizes of distortion
    relaxed: crystals of the reference, relaxed
    substituted: exchanged elements, relaxed by another optimiser
    randomised: the same composition and volume, with random positions
held_out=FILE: real crystals, scored against the whole reference
column=, format=: for this file, as for `score`
exchange=NAME (ion_exchange): null model that makes `substituted`: ion_exchange or
  random_substitution
planted_by=NAME: potential that relaxes the crystals of `substituted` first; default: relaxer=
explain=true|false (true): score the misses of `substituted` again to find the reason for each; this
  takes long
out=DIR: write controls.json, controls.csv (a row per crystal), and the reports, for
  `novelty-metric explain`
overwrite=true: replace controls of other settings
""",
        {
            "seed": whole(),
            "only": _controls,
            "exchange": one_of("ion_exchange", "random_substitution"),
            "out": None,
            "overwrite": None,
        },
    ),
    closing="""\
reference=, protocol=, relaxer=, hull=, workers=, device=, cache=, max_sites= and progress= are the
same as for `novelty-metric score`. With relaxer=none only duplicates and the search are tested. The
share of known substitutions that the method finds (control substituted) is stored beside the
reference. Reports show it beside the base rate of real crystals, which contains the same misses.

examples
  novelty-metric controls relaxer=none out=controls
  novelty-metric controls reference=mp_20 n=100 out=controls
  novelty-metric controls reference=train.arrow only=held_out held_out=test.csv
""",
    passes=SETTINGS_OF_SCORE,
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments; `InputError` if they or their input cannot be used."""
    given = parse(VERB, words)
    if "held_out" in given and not given["held_out"].exists():
        raise InputError(f"held_out={given['held_out']}: no such file or folder")
    _, settings = one_run.settings_of(compose_config(given.passed))
    reference = one_run.check(settings, None)
    before = _before(settings)
    settings = dataclasses.replace(settings, scope="all")
    with one_run.opened_metric(settings, reference) as metric:
        from novelty_metric.analysis.calibrate import keep_sensitivity
        from novelty_metric.analysis.controls import Control, run_controls
        from novelty_metric.samples import read_samples

        held_out = given["held_out"]
        if held_out is not None:
            held_out = list(read_samples(held_out, format=settings.format, column=settings.column))
        found = run_controls(
            metric,
            held_out=held_out,
            only=given["only"] or tuple(Control),
            **{name: given[name] for name in ("n", "seed", "exchange", "planted_by", "explain")},
        )
        if found.sensitivity is not None:
            keep_sensitivity(metric, found.sensitivity)
    if settings.out is not None:
        if before is not None and before != found.settings and not settings.overwrite:
            raise InputError(
                f"out={settings.out} contains controls of other settings; name another folder or "
                "add "
                "overwrite=true"
            )
        found.save(settings.out)

    from novelty_metric.terminal.console import printable, stdout_console
    from novelty_metric.terminal.controls import print_controls

    console = stdout_console(sys.stdout)
    print_controls(found, console)
    if settings.out is None:
        print("\nNothing was written; add out=DIR to keep a row per crystal.")
    else:
        shown = printable(settings.out, console)
        folders = ", ".join(f"{name}/" for name in found.reports)
        print(f"\nWritten to {shown}: controls.json, controls.csv, {folders}")
    return 0


def _before(settings: ScoreSettings) -> Mapping[str, Any] | None:
    """Settings of the controls in the folder; an empty mapping if they cannot be read."""
    from novelty_metric.analysis.controls import JSON_FILE

    if settings.out is None or not (settings.out / JSON_FILE).exists():
        return None
    try:
        found = json.loads((settings.out / JSON_FILE).read_text("utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
