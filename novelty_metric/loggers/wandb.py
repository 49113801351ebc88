"""Reports in Weights & Biases: numbers, a table with pictures, charts, and the files."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.figures.crystals import draw_pair
from novelty_metric.report.crystals import to_be_shown
from novelty_metric.support.quiet import libraries_quiet
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from novelty_metric.report.novelty_report import NoveltyReport

log = logging.getLogger("novelty_metric")

MAX_ROWS = 1000
"""Maximum number of rows in a table of crystals; the artifact has all."""

_OPEN: WeakKeyDictionary[Any, dict[str, int | None]] = WeakKeyDictionary()
"""The step of the last logged evaluation, by run and prefix."""

COLUMNS = (
    *("id", "formula", "verdict", "parent_id", "element_map", "cost", "e_above_hull"),
    *("space_group", "crystal_system", "eligible", "picture"),
)


class WandbReports:
    """Logs reports to a run of W&B, in any of its modes.

    Parameters
    ----------
    run : wandb Run, optional
        Default: the run that is active when the first report comes, or else one that is opened
        here, and is then the only kind that `close` finishes.
    n_pairs : int
        Crystals of each report that are drawn, each beside the reference crystal of its row.
    numbers : bool
        Log the scalars too; False where something else, such as Lightning's `WandbLogger`, does.
    over : str
        ``epoch`` or ``step``: what the charts of W&B show the values over.
    **init
        For ``wandb.init``, such as ``project``, ``name``, ``mode`` and ``dir``.

    Notes
    -----
    W&B drops what is logged at a step below one that it has seen. So an evaluation is never given
    a step of its own: it joins the record that the run's next values complete. A second evaluation
    before that has to wait, for the next report or for the end of the run.

    A report that was not saved yet is saved in the run's own folder before W&B hears of it.
    """

    def __init__(
        self,
        run: Any = None,
        *,
        n_pairs: int = 16,
        numbers: bool = True,
        over: str = "epoch",
        **init: Any,
    ) -> None:
        if over not in ("epoch", "step"):
            raise InputError(f"over is {over!r}; known: epoch, step")
        self._run = run
        self._n_pairs = n_pairs
        self._numbers = numbers
        self._over = over
        self._init = init
        self._owns = False
        self._failure: InputError | None = None
        self._defined: set[str] = set()
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._ends_with_run = False

    @property
    def run(self) -> Any:
        """The run; joined or opened on first use.

        `InputError` if W&B is not installed or can open none; tried once.
        """
        if self._failure is not None:
            raise self._failure
        if self._run is None:
            try:
                import wandb

                self._run = wandb.run
                if self._run is None:
                    quiet = wandb.Settings(silent=True)
                    self._run = wandb.init(**{"settings": quiet, **self._init})
                    self._owns = True
                    online = not getattr(self._run, "offline", True)
                    where = self._run.url if online else self._run.dir
                    log.info("novelty is logged to W&B: %s", where)
            except ModuleNotFoundError as error:
                self._failure = InputError(f"W&B is not installed ({error}); pip install wandb")
                raise self._failure from error
            except Exception as error:  # of many types, some of them W&B's own
                self._failure = InputError(
                    f"W&B can't open a run ({first_line(error)}); log in with `wandb login`, "
                    "or use mode=offline"
                )
                raise self._failure from error
        return self._run

    @libraries_quiet()
    def log_report(
        self,
        report: NoveltyReport,
        *,
        epoch: int | None = None,
        scalars: Mapping[str, float] | None = None,
        folder: Path | None = None,
        step: int | None = None,
        prefix: str = "novelty",
    ) -> None:
        """Log one report; does nothing if W&B failed to open a run before.

        Parameters
        ----------
        report : NoveltyReport
        epoch : int, optional
            When the crystals were sampled.
        scalars : mapping, optional
            Default: those of the report.
        folder : path, optional
            Where the report is saved.
        step : int, optional
            Optimiser step, likewise.
        prefix : str
            What the names of all values start with.

        Raises
        ------
        InputError
            If W&B can open no run, the first time; or if the report can't be saved.
        """
        if self._failure is not None:
            return
        run = self.run
        name = self._name(epoch, step)
        if folder is None:
            folder = report.save(Path(run.dir, prefix, name))
        when = {"epoch": epoch, "step": step}
        own: dict[str, float] = {
            f"{prefix}/{key}": value for key, value in when.items() if value is not None
        }
        own |= by_crystal_system(report, prefix)
        numbers = {**(report.scalars(prefix) if scalars is None else scalars), **own}
        content = {**(numbers if self._numbers else own), **self._media(report, prefix)}
        if epoch is not None:
            self._define(prefix, {*numbers, *content})
        _configure(run, report, prefix)
        self._waiting.append((prefix, content))
        self._pass_on(run)
        run.summary.update(numbers)
        self._add_files(report, folder, numbers, prefix=prefix, name=name)

    def close(self) -> None:
        """Finish the run, if it was opened here."""
        run, owned = self._run, self._owns
        self._run, self._owns = None, False
        if run is None:
            return
        if owned or not self._ends_with_run:
            self._pass_on_all(run)
        if owned:
            run.finish()

    # How an evaluation gets into the run's history

    def _pass_on(self, run: Any) -> None:
        """Log waiting evaluations, one per record of the run."""
        while self._waiting:
            prefix, content = self._waiting[0]
            step = _step(run)
            if step is None:  # disabled, or shared with others: no order is asked for
                run.log(content)
                self._waiting.pop(0)
                continue
            open_at = _OPEN.setdefault(run, {})
            if open_at.get(prefix) == step:
                if not self._owns:
                    self._at_the_end(run)
                    return
                run.log({}, commit=True)  # nobody else does
            run.log(content, commit=False)
            self._waiting.pop(0)
            open_at[prefix] = _step(run)

    def _pass_on_all(self, run: Any) -> None:
        """Log all waiting evaluations, each in its own record, because no record follows."""
        if self._waiting and _step(run) in _OPEN.get(run, {}).values():
            run.log({}, commit=True)  # the evaluation before them is in the open record
        while self._waiting:
            run.log(self._waiting.pop(0)[1], commit=True)

    def _at_the_end(self, run: Any) -> None:
        """Log the waiting evaluations when the run is finished, by any caller."""
        if self._ends_with_run:
            return
        with contextlib.suppress(ImportError, AttributeError, TypeError):
            from wandb.sdk.wandb_run import TeardownHook, TeardownStage

            hook = TeardownHook(lambda: self._pass_on_all(run), TeardownStage.EARLY)
            run._teardown_hooks.append(hook)
            self._ends_with_run = True

    def _define(self, prefix: str, names: set[str]) -> None:
        """Use the epoch or the step as the axis of every metric.

        Also by its full name, which goes before patterns: `WandbLogger` has one for all names.
        """
        over = f"{prefix}/{self._over}"
        for name in [f"{prefix}/*", *sorted(names)]:
            if name not in self._defined:
                is_step = name == over
                self.run.define_metric(
                    name, step_metric=None if is_step else over, hidden=is_step or None
                )
        self._defined |= {f"{prefix}/*", *names}

    # What an evaluation gives to the run

    def _name(self, epoch: int | None, step: int | None) -> str:
        """Name of a report in the run."""
        if self._over == "step" and step is not None:
            return f"step_{step:08d}"
        return "report" if epoch is None else f"epoch_{epoch:05d}"

    def _media(self, report: NoveltyReport, prefix: str) -> dict[str, Any]:
        """The table of crystals, the pictures and the charts."""
        shown = set(to_be_shown(report, self._n_pairs))
        drawn = {
            row.id: (row, draw_pair(row))
            for row in report.results
            if row.id in shown and row.structures is not None
        }
        pictures = {name: picture for name, (_, picture) in drawn.items()}
        content: dict[str, Any] = {f"{prefix}/crystals": crystal_table(report, pictures)}
        if drawn:
            # Those of a table go to its artifact; these are in the run's own media.
            content[f"{prefix}/pictures"] = [
                _image(picture, caption=f"{row.id}: {row.formula}, {row.verdict}")
                for row, picture in drawn.values()
            ]
        return content | charts(report, prefix)

    def _add_files(
        self,
        report: NoveltyReport,
        folder: Path,
        numbers: Mapping[str, float],
        *,
        prefix: str,
        name: str,
    ) -> None:
        import wandb

        artifact = wandb.Artifact(
            f"{prefix.replace('/', '-')}-{self.run.id}",
            type="novelty-report",
            description=f"{report.context.protocol_text}, against {report.context.reference_name}",
            metadata=dict(numbers),
        )
        for path in sorted(folder.rglob("*")):  # `add_dir` talks about it on the screen
            if path.is_file():
                artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
        self.run.log_artifact(artifact, aliases=["latest", name])


def _step(run: Any) -> int | None:
    """The step of the run's current record; None if there is none."""
    try:
        step = run.step
    except Exception:  # of many types, some of them W&B's own
        return None
    return step if isinstance(step, int) else None


def _configure(run: Any, report: NoveltyReport, prefix: str) -> None:
    """Add the values by which runs can be compared to the run's config; nothing is overwritten."""
    from novelty_metric.report.files import summary

    names = ("protocol", "protocol_settings", "potential", "hull", "reference")
    content = summary(report)
    ours = {name: content[name] for name in (*names, "eligibility", "versions")}
    key, there = prefix, run.config.get(prefix, {})
    if not isinstance(there, Mapping) or 0 < len(there.keys() & ours.keys()) < len(ours):
        # The user has something of that name, with keys of ours.
        key, there = f"{prefix}_metric", {}
    run.config.update({key: {**there, **ours}}, allow_val_change=True)


def crystal_table(report: NoveltyReport, pictures: Mapping[str, bytes]) -> Any:
    """A ``wandb.Table`` with a row per crystal, up to `MAX_ROWS`; rows with a picture first."""
    import wandb

    with_picture = [row for row in report.results if row.id in pictures]
    others = [row for row in report.results if row.id not in pictures]
    table = wandb.Table(columns=list(COLUMNS))
    for row in (with_picture + others)[:MAX_ROWS]:
        table.add_data(*(_cell(row, name, pictures) for name in COLUMNS))
    return table


def _cell(row: CrystalResult, name: str, pictures: Mapping[str, bytes]) -> Any:
    if name == "picture":
        return _image(pictures[row.id]) if row.id in pictures else None
    value = getattr(row, name)
    if name == "element_map":
        return None if value is None else json.dumps(value)
    return value.value if isinstance(value, Verdict) else value


def _image(png: bytes, caption: str | None = None) -> Any:
    import PIL.Image
    import wandb

    return wandb.Image(PIL.Image.open(io.BytesIO(png)), caption=caption)


def charts(report: NoveltyReport, prefix: str) -> dict[str, Any]:
    """Bar charts by crystal system: eligible crystals, and the proportion of each verdict."""
    import wandb

    groups = report.breakdown("crystal_system")
    if not groups:
        return {}
    shown = {}
    for name, unit in [
        *((verdict.value, "share") for verdict in Verdict),
        ("eligible", "crystals"),
    ]:
        rows = [
            [str(key), one.counts[name] / one.n if unit == "share" else one.n]
            for key, one in groups.items()
        ]
        table = wandb.Table(columns=["crystal system", unit], data=rows)
        title = f"{name}, share of the eligible" if unit == "share" else "eligible crystals"
        shown[f"{prefix}/by_crystal_system/{name}"] = wandb.plot.bar(
            table, "crystal system", unit, title=title
        )
    return shown


def by_crystal_system(report: NoveltyReport, prefix: str) -> dict[str, float]:
    """Number of eligible crystals of each crystal system, and the novelty among them."""
    values: dict[str, float] = {}
    for key, group in report.breakdown("crystal_system").items():
        values[f"{prefix}/by_crystal_system/{key}"] = group.novelty.value
        values[f"{prefix}/n_by_crystal_system/{key}"] = group.n
    return values
