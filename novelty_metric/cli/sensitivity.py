"""``novelty-metric sensitivity``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from novelty_metric.cli.one_run import (
    check,
    instance,
    make_metric,
    read_settings,
    settings_of,
    warn,
)
from novelty_metric.cli.options import Verb, parse, table
from novelty_metric.errors import InputError
from novelty_metric.settings import run_folder
from novelty_metric.settings.compose import compose_config
from novelty_metric.settings.score_settings import sample_paths
from novelty_metric.support.quiet import quiet

Value = TypeVar("Value")


def _list_of(kind: Callable[[str], Value], what: str) -> Callable[[str], tuple[Value, ...]]:
    """Parses values such as ``1,2,3``, or ``none``."""

    def read(text: str) -> tuple[Value, ...]:
        values = []
        for item in [] if text == "none" else text.strip("[]").split(","):
            try:
                values.append(kind(item.strip()))
            except ValueError:
                raise ValueError(f"a list of {what}, and {item!r} is not") from None
        return tuple(dict.fromkeys(values))

    return read


VERB = Verb(
    name="sensitivity",
    usage="[run=DIR] [WHAT=VALUES ...] [--config-dir DIR] [KEY=VALUE ...]",
    about="""\
Score crystals again with one setting of the method changed at a time, to show how the verdicts
depend on it. KEY=VALUE are the settings of `novelty-metric score`. run=DIR takes the settings of a
run in this folder; its relaxations are reused from the cache. Samples are relaxed once, parents are
searched once for all k, and no relaxation is repeated. WHAT=none omits a setting.
""",
    options=table(
        """
run=DIR: a run, whose settings are used
k=1,2,3,4,5: number of parents per route
tolerances=1,0.75,0.5,0.25: factors of ltol, stol and angle_tol: first for the duplicate test and
  the confirmation only, with the same parents; then also for the search
symprec=0.001,0.01,0.1: tolerance of the symmetry search, Å
potentials=NAME,NAME: other relaxers than that of the run (none)
out=DIR: write sensitivity.csv and sensitivity.json there; with run=DIR they are written beside its
  report
--config-dir DIR: folder with your own configs
""",
        {
            "k": _list_of(int, "whole numbers such as 1,2,3"),
            "tolerances": _list_of(float, "numbers such as 1,0.5"),
            "symprec": _list_of(float, "numbers such as 0.01,0.1"),
            "potentials": _list_of(str, "names"),
            "out": None,
        },
    ),
    closing="""\
examples
  novelty-metric sensitivity
  novelty-metric sensitivity run=runs/diffcsp
  novelty-metric sensitivity samples=gen.zip reference=mp_20 k=none symprec=none
""",
    passes=None,
)

_BESIDE_A_RUN = ("out", "workers", "device", "cache", "progress")
"""Settings of `score` that can be given together with ``run=``: they do not change results."""


def run(words: list[str]) -> int:
    """Run the verb with its arguments; `InputError` if they or their input cannot be used."""
    given = parse(VERB, words)
    config_dir = given["config_dir"]
    folder = given["run"]
    compose = compose_config if folder is None else partial(_config_of_run, folder)
    _, settings = settings_of(compose(given.passed, config_dir))
    reference = check(settings, config_dir)
    potentials = [
        instance("relaxer", settings_of(compose_config([f"relaxer={name}"], config_dir))[1].relaxer)
        for name in given["potentials"] or ()
    ]
    out = settings.out or folder
    with quiet() as terminal, TemporaryDirectory() as scratch:
        from novelty_metric.analysis.sensitivity import KS, SYMPRECS, TOLERANCES, sensitivity
        from novelty_metric.terminal.console import stdout_console
        from novelty_metric.terminal.progress import Progress
        from novelty_metric.terminal.sensitivity import print_sensitivity

        def tell(stage: str) -> None:
            if settings.progress and not terminal.isatty():  # no bars are shown
                print(f"novelty-metric: {stage}", file=terminal, flush=True)

        # Without a cache every variation would relax the same parents again.
        cache = settings.cache or Path(scratch) / "relaxations.sqlite"
        cached = dataclasses.replace(settings, cache=cache)
        with (
            Progress(terminal, wanted=settings.progress) as progress,
            make_metric(cached, reference, progress) as metric,
        ):
            metric.update_samples(read_settings(settings))
            found = sensitivity(
                metric,
                ks=KS if given["k"] is None else given["k"],
                tolerances=TOLERANCES if given["tolerances"] is None else given["tolerances"],
                symprecs=SYMPRECS if given["symprec"] is None else given["symprec"],
                potentials=potentials,
                tell=tell,
            )
            warn(found.base.context.warnings, terminal)
    if out is not None:
        found.save(out)
    print_sensitivity(found, stdout_console(sys.stdout))
    if out is None:
        print("\nNothing was written; add out=DIR to keep the table.")
    else:
        print(f"\nWritten to {out}: sensitivity.csv, sensitivity.json")
    return 0


def _config_of_run(folder: Path, overrides: Sequence[str], config_dir: Path | None) -> Any:
    """The settings of a run, if its samples are unchanged."""
    from omegaconf import OmegaConf

    for word in overrides:
        name = word.partition("=")[0]
        if name not in _BESIDE_A_RUN:
            raise InputError(
                f"{word}: run={folder} fixes what is scored and how; with it only "
                f"{', '.join(_BESIDE_A_RUN)} can be given"
            )
    content = run_folder.read_config(folder)
    if content is None or run_folder.SAMPLES_HASH not in content:
        raise InputError(
            f"run={folder}: the folder contains no settings of a run; name a folder that "
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
    later = {
        name
        for name in (*run_folder.NO_MATTER, *run_folder.ADDED, "id_column")
        if name not in content
    }
    content |= {name: given[name] for name in named | later}
    if "out" not in named:
        content["out"] = None
    return content
