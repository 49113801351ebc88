"""``novelty-metric controls``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.cli import one_run
from novelty_metric.errors import InputError, near_or_known
from novelty_metric.settings.compose import compose_config
from novelty_metric.settings.score_settings import ScoreSettings, user_path
from novelty_metric.support.quiet import quiet

if TYPE_CHECKING:
    from novelty_metric.analysis.controls import ControlsResult

HELP = """\
usage: novelty-metric controls [KEY=VALUE ...]

Score crystals whose right verdict is known, made from those of a reference:
what share of each kind comes out right, with its 95 % interval, and whether the
method or the code is at fault where one does not. By default against the small
packaged reference.

  n=N                   crystals per control, and per size of a distortion (20)
  seed=N                the same seed makes the same crystals (0)
  only=NAME,NAME        these controls alone:
    held_out            crystals of the reference, scored against the rest
    rotated, supercell  copies written otherwise
    perturbed, strained copies distorted, by several sizes
    relaxed             crystals of the reference, relaxed
    substituted         with elements exchanged, orbit by orbit
    randomised          of the same composition and volume, with random atoms
  held_out=FILE         real crystals to be scored against the whole reference
  column=, format=      of that file, as for `score`
  probability=P         with which an orbit's element is exchanged (0.5)
  out=DIR               write controls.json, controls.csv (a row per crystal),
                        and the reports, for `novelty-metric explain`
  overwrite=true        replace controls of other settings

reference=, protocol=, relaxer=, hull=, workers=, device=, cache=, max_sites= and
progress= are those of `novelty-metric score`. With relaxer=none only duplicates
and the search are tested.

examples
  novelty-metric controls relaxer=none out=controls
  novelty-metric controls reference=mp_20 n=100 out=controls
  novelty-metric controls reference=train.arrow only=held_out held_out=test.csv
"""
_OWN = {"n": "20", "seed": "0", "probability": "0.5", "only": "", "held_out": ""}
_PASSED = (
    *("reference", "protocol", "relaxer", "hull", "workers", "device", "cache", "max_sites"),
    *("out", "overwrite", "column", "format", "progress"),
)


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """What ``novelty-metric controls`` was asked to do, beyond what ``score`` knows."""

    n: int
    seed: int
    probability: float
    only: tuple[str, ...]
    held_out: Path | None


def run(words: list[str]) -> int:
    """Run the verb on the words after it.

    Raises
    ------
    InputError
        If the call or its input can't be used.
    """
    if {"-h", "--help"} & set(words):
        print(HELP, end="")
        return 0
    own, passed = _split(words)
    _, settings = one_run.settings_of(compose_config(passed))
    reference = one_run.check(settings, None)
    before = _before(settings)
    found = _found(own, settings, reference)
    if settings.out is not None:
        if before is not None and before != found.settings and not settings.overwrite:
            raise InputError(
                f"out={settings.out} holds controls of other settings; name another folder or add "
                "overwrite=true"
            )
        found.save(settings.out)

    from novelty_metric.terminal.console import print_controls, printable, stdout_console

    console = stdout_console(sys.stdout)
    print_controls(found, console)
    if settings.out is None:
        print("\nNothing was written; add out=DIR to keep a row per crystal.")
    else:
        shown = printable(settings.out, console)
        folders = ", ".join(f"{name}/" for name in found.reports)
        print(f"\nWritten to {shown}: controls.json, controls.csv, {folders}")
    return 0


def _split(words: list[str]) -> tuple[ControlSettings, list[str]]:
    own = dict(_OWN)
    passed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in own:
            if not value:
                raise InputError(f"{key}= has no value")
            own[key] = value
        elif equals and key.lstrip("+").split(".")[0] in _PASSED:
            passed.append(word)
        elif equals:
            known = [*own, *_PASSED]
            hint = near_or_known(key, known)
            raise InputError(f"controls has no setting {key!r}; {hint}")
        else:
            raise InputError(f"{word!r} is not of the form key=value")
    held_out = user_path(own["held_out"]) if own["held_out"] else None
    if held_out is not None and not held_out.exists():
        raise InputError(f"held_out={held_out}: no such file or folder")
    from novelty_metric.analysis.controls import Control

    only = tuple(name for name in own["only"].split(",") if name) or tuple(Control)
    unknown = [name for name in only if name not in list(Control)]
    if unknown:
        raise InputError(f"no control named {unknown[0]!r}; known: {', '.join(Control)}")
    settings = ControlSettings(
        n=_number("n", own["n"], 1),
        seed=_number("seed", own["seed"], 0),
        probability=_probability(own["probability"]),
        only=only,
        held_out=held_out,
    )
    return settings, passed


def _number(name: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise InputError(f"{name} is {text!r}; it must be a whole number from {least} up")
    return int(text)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"probability is {text!r}; it must be a number from 0 to 1")
    return value


def _before(settings: ScoreSettings) -> Mapping[str, Any] | None:
    """Settings of the controls that the folder holds; an empty mapping if they can't be read."""
    from novelty_metric.analysis.controls import JSON_FILE

    if settings.out is None or not (settings.out / JSON_FILE).exists():
        return None
    try:
        found = json.loads((settings.out / JSON_FILE).read_text("utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _found(own: ControlSettings, settings: ScoreSettings, reference: str | Path) -> ControlsResult:
    with quiet() as terminal:
        from novelty_metric.analysis.controls import run_controls
        from novelty_metric.samples import read_samples
        from novelty_metric.terminal.console import Progress

        held_out = None
        if own.held_out is not None:
            held_out = list(
                read_samples(own.held_out, format=settings.format, column=settings.column)
            )
        with (
            Progress(terminal, wanted=settings.progress) as progress,
            one_run.make_metric(settings, reference, progress, scope="all") as metric,
        ):
            return run_controls(
                metric,
                n=own.n,
                seed=own.seed,
                probability=own.probability,
                only=own.only,
                held_out=held_out,
            )
