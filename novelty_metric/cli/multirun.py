"""``novelty-metric score -m``: Hydra's multirun, with a report for each run and a table of all.

The runs are launched by Hydra itself, so that its launchers (``hydra/launcher=joblib``,
``hydra/launcher=submitit_slurm``) do what their users expect. Before that every run is composed
and checked here: a name that is wrong in the last one must not show after a day.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novelty_metric.cli import one_run, summary
from novelty_metric.cli.logging import logged
from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError, NoveltyMetricError
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.settings import run_folder
from novelty_metric.settings.compose import (
    checked_sweep,
    compose_config,
    config_folder,
    own_hydra,
    quoted,
    search_path,
    translate,
)
from novelty_metric.settings.score_settings import ScoreSettings, with_samples_together
from novelty_metric.support.folders import writing

JOB_FILE = "job.json"
_HYDRA = "hydra"
_FULL_ERROR = "HYDRA_FULL_ERROR"


@dataclass(frozen=True, slots=True)
class Sweep:
    """The arguments of a multirun: fixed as typed, swept, of Hydra itself, and all as Hydra's.

    `swept` has a list for each swept setting, with a ``key=value`` for each of its values.
    """

    fixed: list[str]
    swept: list[list[str]]
    hydra: list[str]
    translated: list[str]

    def runs(self) -> Iterator[tuple[str, ...]]:
        """The swept values of each run, in Hydra's order."""
        return itertools.product(*self.swept)


def run(overrides: Sequence[str], config_dir: Path | None) -> int:
    """Score every combination of the swept values.

    Returns
    -------
    int
        Exit status: 2 if a run could not be scored.

    Raises
    ------
    InputError
        If a word, or the settings of any run, can't be used; then nothing was scored.
    """
    sweep = _sorted(overrides, config_dir)
    runs = list(sweep.runs())
    outs = {_checked([*sweep.fixed, *words], words, config_dir).out for words in runs}
    (out,) = outs  # out= is free text, which is not swept
    place: AbstractContextManager[str | Path]
    if out is None:
        place = tempfile.TemporaryDirectory(prefix="novelty-metric-")
    else:
        place = nullcontext(out)
        with writing(f"out={out}", out):
            pass
    with place as opened:
        folder = Path(opened)
        for old in folder.glob(f"*/{JOB_FILE}"):
            old.unlink()
        _launch(sweep, folder, config_dir)
        jobs = [json.loads(path.read_text("utf-8")) for path in folder.glob(f"*/{JOB_FILE}")]
        jobs.sort(key=lambda item: item["number"])
        reports = {
            item["name"]: NoveltyReport.load(folder / item["name"])
            for item in jobs
            if item["error"] is None
        }
    if reports:
        summary.show(reports)
        if out is not None:
            summary.write(summary.rows(reports), out)
            print(
                f"\nWritten to {out}: {summary.CSV_FILE}, {summary.MARKDOWN_FILE}, and a folder "
                "for each run"
            )
    if out is None:
        print("\nNothing was written; add out=DIR to keep the reports.")
    n_failed = len(runs) - len(reports)
    if not n_failed:
        return 0
    failed = (f"{item['name']}: {item['error']}" for item in jobs if item["error"] is not None)
    reason = next(failed, "the others gave no status")
    print(
        f"novelty-metric: error: {n_failed} of {len(runs)} runs could not be scored; {reason}",
        file=sys.stderr,
    )
    return 2


def _sorted(overrides: Sequence[str], config_dir: Path | None) -> Sweep:
    """Separate swept arguments from others."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    fixed: list[str] = []
    swept: list[list[str]] = []
    hydra: list[str] = []
    translated: list[str] = []
    with (
        own_hydra(),
        initialize_config_dir(str(config_folder()), version_base="1.3", job_name="novelty-metric"),
    ):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        for word in with_samples_together(overrides):
            if word.startswith((f"{_HYDRA}/", f"{_HYDRA}.")):
                hydra.append(word)
                continue
            checked = checked_sweep(word, config_dir)
            words = [checked] if checked is not None else translate(word, config_dir)
            try:
                parsed = parser.parse_overrides(words)
                values = [
                    [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
                    for item in parsed
                    if item.is_sweep_override()
                ]
            except HydraException as error:
                raise InputError(f"{word!r} can't be read ({first_line(error)})") from error
            translated += words
            if values:
                swept += values
            else:
                fixed.append(word)
    return Sweep(fixed, swept, hydra, translated)


def _checked(words: Sequence[str], swept: Sequence[str], config_dir: Path | None) -> ScoreSettings:
    """The settings of one run; an error names the run."""
    try:
        settings = one_run.settings_of(compose_config(words, config_dir))[1]
        one_run.check(settings, config_dir)
    except InputError as error:
        raise InputError(f"{', '.join(swept)}: {error}" if swept else str(error)) from error
    return settings


def _launch(sweep: Sweep, folder: Path, config_dir: Path | None) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    keys = {word.split("=", 1)[0].lstrip("+") for word in sweep.fixed}
    if not sweep.swept:  # one run, named after its model
        keys.discard("model")
    excluded = ",".join(sorted({*keys, "reference.path", "out"}))
    words = [
        *(word for word in sweep.translated if not word.lstrip("+").startswith("out=")),
        f"out={quoted(str(folder))}",
        f"hydra.sweep.dir={quoted(str(folder))}",
        f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]",
        *search_path(config_dir),
        *sweep.hydra,
        *_logging_words(sweep.hydra),
    ]
    main = hydra.main(config_path=str(config_folder()), config_name="config", version_base="1.3")
    with own_hydra(), _called_with(["--multirun", *words]):
        try:
            main(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(_launcher_message(str(error), sweep.hydra)) from error


def _logging_words(given: Sequence[str]) -> list[str]:
    """Arguments that keep Hydra from setting up logging if the process has done so itself.

    It would close the log handlers of the caller.
    """
    if not logging.getLogger().handlers:
        return []
    keys = {word.partition("=")[0] for word in given}
    groups = (f"{_HYDRA}/hydra_logging", f"{_HYDRA}/job_logging")
    return [f"{group}=none" for group in groups if group not in keys]


@contextmanager
def _called_with(words: Sequence[str]) -> Iterator[None]:
    """Set the arguments for Hydra, which reads those of the process and exits on an error.

    Its changes to the root logger are undone.
    """
    kept, full_error = sys.argv, os.environ.get(_FULL_ERROR)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    sys.argv, os.environ[_FULL_ERROR] = ["novelty-metric", *words], "1"
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.argv = kept
        if full_error is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = full_error


def _launcher_message(message: str, words: Sequence[str]) -> str:
    launchers = [word.split("=", 1)[1] for word in words if word.startswith("hydra/launcher=")]
    for launcher in launchers:
        extra = launcher.split("_", 1)[0]
        if f"hydra/launcher/{launcher}" in message and extra in ("joblib", "submitit"):
            return (
                f"the launcher {launcher} is not installed; "
                f"pip install 'novelty-metric[{extra}]' brings it"
            )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"Hydra can't launch the runs: {' '.join(lines)[:300]}"


def job(config: Any) -> None:
    """One run: score, save the report, and store its status.

    Nothing is raised but an interruption, so that one run that fails does not end the others.
    """
    from hydra.core.hydra_config import HydraConfig

    own = HydraConfig.get().job
    name = (own.override_dirname or str(own.num)).replace("/", "_")
    content, settings = one_run.settings_of(config)
    assert settings.out is not None
    folder = settings.out / name
    error = None
    try:
        report, known = _report(content, settings, folder, config)
    except NoveltyMetricError as failure:
        error = " ".join(str(failure).split())
    except Exception as failure:  # a fault in one run, which the others do not have
        error = f"internal error: {type(failure).__name__}: {failure}"
    folder.mkdir(parents=True, exist_ok=True)
    word = {"number": int(own.num), "name": name, "error": error}
    (folder / JOB_FILE).write_text(json.dumps(word) + "\n", encoding="utf-8")
    message = error if error is not None else summary.headline(report, known=known)
    print(f"{name}: {message}", flush=True)


def _report(
    content: dict[str, Any], settings: ScoreSettings, folder: Path, config: Any
) -> tuple[NoveltyReport, bool]:
    """The report of a run, and whether it existed already."""
    from novelty_metric.support.versions import installed_versions

    content = {**run_folder.with_absolute_paths(content, settings.samples), "out": str(folder)}
    content[run_folder.SAMPLES_HASH] = run_folder.fingerprint(settings.samples)
    one_run.warn(run_folder.prepare(folder, content, overwrite=settings.overwrite), sys.stderr)
    kept = run_folder.read_config(folder)
    grows = kept is not None and run_folder.is_larger(kept, content)
    if (folder / run_folder.REPORT_FILE).exists() and not settings.overwrite and not grows:
        report = NoveltyReport.load(folder)
        if report.context.versions == installed_versions():
            return report, True
    with logged(settings, name=folder.name) as log:
        report = one_run.make_report(
            dataclasses.replace(settings, out=folder), one_run.check(settings, None), content
        )
        log(report, folder)
    return report, False
