"""``novelty-metric sensitivity``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO, TypeVar

from novelty_metric.cli.one_run import (
    check,
    instance,
    make_metric,
    read_settings,
    settings_of,
    warn,
)
from novelty_metric.cli.parsing import Parser
from novelty_metric.errors import InputError
from novelty_metric.settings import run_folder
from novelty_metric.settings.compose import compose_config
from novelty_metric.settings.score_settings import ScoreSettings, sample_paths, user_path
from novelty_metric.support.quiet import quiet

HELP = """\
usage: novelty-metric sensitivity [run=DIR] [WHAT=VALUES ...] [--config-dir DIR] [KEY=VALUE ...]

Score crystals again with one setting of the method changed at a time: how much
of the answer hangs on it? KEY=VALUE are the settings of `novelty-metric score`;
run=DIR takes those of a run that was kept there, whose relaxations are then
found in the cache. Samples are relaxed once, parents are searched once for all
k, and no relaxation is made twice.

  k=1,2,3,4,5                  parents kept per route
  tolerances=1,0.75,0.5,0.25   factors of ltol, stol and angle_tol: first of the
                               duplicate test and the confirmation alone, with the
                               parents as they are; then of the search as well
  symprec=0.001,0.01,0.1       tolerance of the symmetry search, Å
  potentials=NAME,NAME         relaxers beside the one of the run (none)
  WHAT=none                    leaves that out

  out=DIR      write sensitivity.csv and sensitivity.json there; with run=DIR
               they are written beside its report
  -h, --help   print this help

examples
  novelty-metric sensitivity
  novelty-metric sensitivity run=runs/diffcsp
  novelty-metric sensitivity samples=gen.zip reference=mp_20 k=none symprec=none
"""

Value = TypeVar("Value")

_BESIDE_A_RUN = ("out", "workers", "device", "cache", "progress")
"""Settings of `score` that may be given together with ``run=``: they change no answer."""


@dataclass(frozen=True, kw_only=True)
class _Varied:
    """Values of what is varied; None for the defaults."""

    ks: Sequence[int] | None = None
    tolerances: Sequence[float] | None = None
    symprecs: Sequence[float] | None = None
    potentials: Sequence[str] | None = None


def run(words: list[str]) -> int:
    """Run the verb on the words after it.

    Raises
    ------
    InputError
        If the call or its input can't be used.
    """
    given = _parse(words)
    if given.help:
        print(HELP, end="")
        return 0
    named, overrides = _split(given.overrides)
    varied = _Varied(
        ks=_values("k", named, int),
        tolerances=_values("tolerances", named, float),
        symprecs=_values("symprec", named, float),
        potentials=_values("potentials", named, str),
    )
    if "run" in named:
        folder = user_path(named["run"])
        config = _config_of_run(folder, overrides, given.config_dir)
    else:
        folder, config = None, compose_config(overrides, given.config_dir)
    _, settings = settings_of(config)
    reference = check(settings, given.config_dir)
    potentials = [_potential(name, given.config_dir) for name in varied.potentials or ()]
    out = settings.out or folder
    _vary(settings, reference, varied, potentials, out)
    return 0


def _vary(
    settings: ScoreSettings,
    reference: str | Path,
    varied: _Varied,
    potentials: Sequence[Any],
    out: Path | None,
) -> None:
    with quiet() as terminal, TemporaryDirectory() as scratch:
        from novelty_metric.analysis.sensitivity import KS, SYMPRECS, TOLERANCES, sensitivity
        from novelty_metric.terminal.console import Progress, print_sensitivity, stdout_console

        # Without a cache every variation would relax the same parents again.
        cache = settings.cache or Path(scratch) / "relaxations.sqlite"
        with (
            Progress(terminal, wanted=settings.progress) as progress,
            make_metric(settings, reference, progress, cache=cache) as metric,
        ):
            metric.update_samples(read_settings(settings))
            found = sensitivity(
                metric,
                ks=KS if varied.ks is None else varied.ks,
                tolerances=TOLERANCES if varied.tolerances is None else varied.tolerances,
                symprecs=SYMPRECS if varied.symprecs is None else varied.symprecs,
                potentials=potentials,
                tell=_teller(terminal, wanted=settings.progress),
            )
            warn(found.base.context.warnings, terminal)
    if out is not None:
        found.save(out)
    print_sensitivity(found, stdout_console(sys.stdout))
    if out is None:
        print("\nNothing was written; add out=DIR to keep the table.")
    else:
        print(f"\nWritten to {out}: sensitivity.csv, sensitivity.json")


def _teller(terminal: TextIO, *, wanted: bool) -> Callable[[str], None]:
    """Tells what is under way, a line each, where nobody sees bars."""

    def tell(words: str) -> None:
        if wanted and not terminal.isatty():
            print(f"novelty-metric: {words}", file=terminal, flush=True)

    return tell


def _parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(prog="novelty-metric sensitivity", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--config-dir", type=Path)
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args(words)


def _split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What this verb reads itself, by name, and the settings of `score`."""
    own, others = {}, []
    for word in words:
        name, sign, value = word.partition("=")
        if sign and name in ("run", "k", "tolerances", "symprec", "potentials"):
            if not value:
                raise InputError(f"{name}= has no value")
            own[name] = value
        else:
            others.append(word)
    return own, others


def _values(
    name: str, named: Mapping[str, str], kind: Callable[[str], Value]
) -> tuple[Value, ...] | None:
    """The values of a word such as ``k=1,2,3``; None if it was not given."""
    text = named.get(name)
    if text is None:
        return None
    if text == "none":
        return ()
    values = []
    for item in text.strip("[]").split(","):
        try:
            values.append(kind(item.strip()))
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise InputError(
                f"{name}={text}: {item!r} is none of the {what} that are expected, "
                f"such as {name}={'1,2,3' if kind is int else '1,0.5'}"
            ) from None
    return tuple(dict.fromkeys(values))


def _config_of_run(folder: Path, overrides: Sequence[str], config_dir: Path | None) -> Any:
    """The settings that a run was made with, its samples being what they were.

    Raises
    ------
    InputError
        If there is no such run, its samples are others now, or a word would change an answer.
    """
    from omegaconf import OmegaConf

    for word in overrides:
        name = word.partition("=")[0]
        if name not in _BESIDE_A_RUN:
            raise InputError(
                f"{word}: run={folder} settles what is scored and how; beside it only "
                f"{', '.join(_BESIDE_A_RUN)} can be given"
            )
    content = run_folder.read_config(folder)
    if content is None or run_folder.SAMPLES_HASH not in content:
        raise InputError(
            f"run={folder}: no settings of a run are kept there; name a folder that "
            "`novelty-metric score out=DIR` wrote"
        )
    known = content.pop(run_folder.SAMPLES_HASH)
    try:
        samples = sample_paths(content.get("samples"), content["model"]["name"])
    except InputError as error:
        raise InputError(f"run={folder}: its samples are no longer there ({error})") from error
    for sample in samples:
        if not sample.exists():
            raise InputError(f"run={folder}: its samples, {sample}, are no longer there")
    if run_folder.fingerprint(samples) != known:
        listed = ", ".join(map(str, samples))
        raise InputError(f"run={folder}: its samples, {listed}, have changed; score them again")
    given = OmegaConf.to_container(compose_config(overrides, config_dir), resolve=True)
    assert isinstance(given, dict)
    named = {word.partition("=")[0] for word in overrides}
    # A run of before there was a setting lacks it.
    later = {name for name in (*run_folder.NO_MATTER, "id_column") if name not in content}
    content |= {name: given[name] for name in named | later}
    if "out" not in named:
        content["out"] = None
    return content


def _potential(name: str, config_dir: Path | None) -> Any:
    """The relaxer of that name, made by its config."""
    _, settings = settings_of(compose_config([f"relaxer={name}"], config_dir))
    return instance("relaxer", settings.relaxer)
