"""Parts that `score`, its multirun and other scoring verbs share: settings, metric, report."""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from novelty_metric.cli import next_steps
from novelty_metric.errors import InputError, near_or_known
from novelty_metric.settings import run_folder
from novelty_metric.settings.compose import choices
from novelty_metric.settings.score_settings import GENERIC, ScoreSettings
from novelty_metric.support.folders import user_path
from novelty_metric.support.quiet import quiet

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.samples import Sample
    from novelty_metric.support.progress import ProgressCallback


def settings_of(composed: Any) -> tuple[dict[str, Any], ScoreSettings]:
    """The checked settings, composed or from a mapping of plain values.

    Raises
    ------
    InputError
        If one of them is missing, unknown or of the wrong kind.
    """
    from omegaconf import OmegaConf

    plain = isinstance(composed, dict)
    content = composed if plain else OmegaConf.to_container(composed, resolve=True)
    assert isinstance(content, dict)
    config = {str(name): value for name, value in content.items()}
    return config, ScoreSettings.from_config(config)


def check(settings: ScoreSettings, config_dir: Path | None) -> str | Path:
    """Early checks before slow imports; returns the reference for the metric.

    Raises
    ------
    InputError
        If there are no samples, or no reference of that name.
    """
    if not settings.samples and settings.model.name != GENERIC:
        raise InputError(f"model={settings.model.name} needs samples=: a file that the model wrote")
    reference = _reference(settings.reference, config_dir)
    for path in settings.samples:
        if not path.exists():
            raise InputError(f"samples={path}: no such file or folder")
    if settings.rediscover is not None and not settings.rediscover.exists():
        raise InputError(f"rediscover={settings.rediscover}: no such file or folder")
    return reference


def _reference(name: str, config_dir: Path | None) -> str | Path:
    """The reference for the metric, checked before slow imports."""
    from novelty_metric.reference.named import known_names, open_reference, reference_path

    names = known_names()
    if name in names:
        if not reference_path(name).exists():
            open_reference(name)  # says how to get it
        return name
    path = user_path(name)
    if path.exists():
        return path
    known = sorted({*names, *choices("reference", config_dir)})
    hint = near_or_known(name, known)
    raise InputError(f"reference={name}: neither a known reference nor a file; {hint}")


def make_report(
    settings: ScoreSettings,
    reference: str | Path,
    config: Mapping[str, Any],
    *,
    whole: bool = False,
) -> NoveltyReport:
    """Score, and write the files of `settings.out`; the output of libraries is suppressed.

    Parameters
    ----------
    config : mapping
        The composed settings, with `run_folder.SAMPLES_HASH`, to be kept beside the report.
    whole : bool
        Give the rows with their parents and crystals, as a logger also wants them: all are then
        in memory at once.
    """
    with quiet() as terminal, contextlib.ExitStack() as opened:
        from novelty_metric.report.files import save_report
        from novelty_metric.report.novelty_report import NoveltyReport
        from novelty_metric.runs.run import Run
        from novelty_metric.terminal.progress import Progress

        progress = opened.enter_context(Progress(terminal, wanted=settings.progress))
        metric = opened.enter_context(make_metric(settings, reference, progress))
        folder = settings.out
        if folder is None:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        samples = read_settings(settings)
        odd = not_of_model(settings)
        smaller = _smaller_report(settings, config, metric)
        run = Run(
            metric,
            folder,
            run_folder.identity(config, metric.reference.store_hash),
            overwrite=settings.overwrite,
            make_pool=None
            if settings.executor is None
            else functools.partial(instance, "executor", settings.executor),
            part=settings.part,
            progress=progress,
            total=count_settings(settings),
            warn=lambda lines: warn(lines, terminal),
            notes=() if odd is None else (odd,),
            draw=run_folder.draw_of(config),
        )
        opened.callback(run.close)
        if smaller is not None:
            run.keep(smaller)
        run.score(samples)
        report = metric.with_rediscovery(run.report(), run.rows())
        _keep_null_model(metric, report)
        if settings.out is not None:
            # The settings go first: a report without them could not be continued.
            run_folder.write_config(settings.out, config)
            save_report(report, settings.out, run.rows())
        if whole or settings.logger is not None:
            report = NoveltyReport.from_results(list(run.rows()), report.context)
        run.finish()
        return report


def _keep_null_model(metric: SubstitutionNovelty, report: NoveltyReport) -> None:
    """Store the crystals that a null model rediscovers, for comparison with models."""
    from novelty_metric.baselines import maker_of
    from novelty_metric.report.rediscovery import keep_null_model

    makers = {maker_of(row.id) for row in report.results}
    found = report.rediscovery
    if found is None or len(makers) != 1 or (name := makers.pop()) is None:
        return
    keep_null_model(metric.reference, found.test_set, found.as_null_model(name))


def _smaller_report(
    settings: ScoreSettings, config: Mapping[str, Any], metric: SubstitutionNovelty
) -> NoveltyReport | None:
    """The report in `settings.out` on fewer samples, if there is one. Its rows are kept."""
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.support.versions import installed_versions

    folder = settings.out
    if folder is None or settings.overwrite or not (folder / run_folder.REPORT_FILE).exists():
        return None
    before = run_folder.read_config(folder)
    if before is None or not run_folder.is_larger(before, config):
        return None
    report = NoveltyReport.load(folder, structures=True)
    if report.context.store_hash != metric.reference.store_hash:
        other = "another reference"
    elif report.context.versions != installed_versions():
        other = "other versions of its libraries"
    else:
        return report
    raise InputError(
        f"out={folder} contains a report made with {other}, so its rows can't be reused; name "
        "another folder, or add overwrite=true to score all samples again"
    )


_OF_METRIC = (
    *("protocol", "scope", "exhaustive", "relax_samples", "leave_one_out", "second_potential"),
    *("rediscover", "energies_per", "energies_scale", "workers", "device", "max_sites"),
    *("smact_oxidation_states", "cache"),
)
"""Settings that the metric takes as they are."""


def make_metric(
    settings: ScoreSettings, reference: str | Path, progress: ProgressCallback
) -> SubstitutionNovelty:
    """The configured metric, without samples."""
    from novelty_metric.metric import SubstitutionNovelty

    return SubstitutionNovelty(
        reference,
        relaxer=instance("relaxer", settings.relaxer),
        hull=instance("hull", settings.hull),
        progress=progress,
        **{name: getattr(settings, name) for name in _OF_METRIC},
    )


@contextlib.contextmanager
def opened_metric(settings: ScoreSettings, reference: str | Path) -> Iterator[SubstitutionNovelty]:
    """`make_metric`, with its progress on the screen and without the output of libraries."""
    from novelty_metric.terminal.progress import quiet_with_progress

    with (
        quiet_with_progress(wanted=settings.progress) as progress,
        make_metric(settings, reference, progress) as metric,
    ):
        yield metric


def warn(lines: Iterable[str], stream: TextIO) -> None:
    """Print one line each to standard error."""
    for line in lines:
        print(f"novelty-metric: warning: {line}", file=stream, flush=True)


def read_settings(settings: ScoreSettings) -> Iterator[Sample]:
    """The samples, read according to the settings and the model."""
    from novelty_metric.samples import read_samples

    return read_samples(**_reading(settings))


def _reading(settings: ScoreSettings) -> dict[str, Any]:
    paths = settings.samples
    if not paths:
        from novelty_metric.samples.packaged import packaged_samples_path

        paths = (packaged_samples_path(),)
    return {
        "path": paths,
        "format": settings.format,
        "column": settings.column,
        "columns": settings.model.columns,
        "energies": settings.energies,
        "id_column": settings.id_column,
        "arrays": settings.model.arrays,
        "allow_pickle": settings.allow_pickle,
        "limit": settings.limit,
        "seed": settings.seed,
    }


def not_of_model(settings: ScoreSettings) -> str | None:
    """Signs that the samples are not from the named model.

    Raises
    ------
    InputError
        If the samples are in no known format.
    """
    if not settings.model.formats:
        return None
    odd = (_not_of_model(path, settings) for path in settings.samples)
    return next((message for message in odd if message is not None), None)


def _not_of_model(path: Path, settings: ScoreSettings) -> str | None:
    from novelty_metric.samples.detect import detect_format
    from novelty_metric.samples.tables import table_columns

    model = settings.model
    found = settings.format or detect_format(path)
    if found not in model.formats:
        odd = f"is {found}, which model={model.name} does not write ({', '.join(model.formats)})"
    else:
        columns = table_columns(path, found)
        if columns is None or not model.columns or settings.column is not None:
            return None
        if set(columns) & set(model.columns):
            return None
        odd = f"has no column {' or '.join(model.columns)}, as what model={model.name} writes has"
    return (
        f"samples={path} {odd}; if another model wrote it, name that model: model= determines "
        "the training set, and whether the samples are already relaxed"
    )


def count_settings(settings: ScoreSettings) -> int | None:
    """Number of samples; None if counting is slow."""
    from novelty_metric.samples.reading import count_hint

    reading = _reading(settings)
    del reading["seed"]  # which are drawn, not how many
    return count_hint(**reading)


def instance(name: str, given: str | Mapping[str, Any]) -> Any:
    """A user-defined relaxer or hull from its ``_target_``; names are passed to the metric."""
    if isinstance(given, str):
        return given
    from hydra.utils import get_object, instantiate

    values = {key: value for key, value in given.items() if key != "_target_"}
    try:
        if any(key.startswith("_") or isinstance(value, Mapping) for key, value in values.items()):
            return instantiate(dict(given))
        # Hydra would read text such as ${x} a second time.
        return get_object(given["_target_"])(**values)
    except Exception as error:
        message = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{name}={given['_target_']} can't be made: {message[0]}") from error


def print_for(
    report: NoveltyReport,
    settings: ScoreSettings,
    words: Sequence[str] = (),
    *,
    seconds: float | None = None,
) -> None:
    """Print the report with the next steps.

    Parameters
    ----------
    words : sequence of str
        The settings as typed.
    seconds : float, optional
        What the command took.
    """
    from novelty_metric.terminal.console import stdout_console
    from novelty_metric.terminal.full_report import print_report
    from novelty_metric.terminal.screen import print_screen

    console = stdout_console(sys.stdout)
    calibrate = next_steps.calibrate(settings, words)
    steps = next_steps.next_steps(report, settings, words)
    if settings.detail == "short":
        print_screen(report, console, calibrate=calibrate, steps=steps)
        return
    print_report(
        report, console, calibrate=calibrate, steps=steps, out=settings.out, seconds=seconds
    )
