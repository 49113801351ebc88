"""Reports in Weights & Biases: numbers, a table with pictures, charts, the files themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal import first_line
from novelty_metric.errors import InputError
from novelty_metric.figures.crystals import draw_pair, to_be_shown
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from novelty_metric.report import NoveltyReport

MAX_ROWS = 1000
"""Rows of a table of crystals; all are in the artifact."""

EPOCH = "novelty/epoch"
COLUMNS = (
    "id",
    "formula",
    "verdict",
    "parent_id",
    "element_map",
    "cost",
    "e_above_hull",
    "space_group",
    "crystal_system",
    "eligible",
    "picture",
)


class WandbReports:
    """Takes reports to a run of W&B, in any of its modes.

    Parameters
    ----------
    run : wandb Run, optional
        Default: the run that is active when the first report comes, or else one that is opened
        here, and is then the only kind that `close` finishes.
    n_pairs : int
        Crystals of each report that are drawn, each beside the reference crystal of its row.
    numbers : bool
        Log the scalars too; False where something else, such as Lightning's `WandbLogger`, does.
    **init
        For ``wandb.init``, such as ``project``, ``name``, ``mode`` and ``dir``.

    Notes
    -----
    A report that was not saved yet is saved in the run's own folder before W&B hears of it.
    """

    def __init__(
        self, run: Any = None, *, n_pairs: int = 16, numbers: bool = True, **init: Any
    ) -> None:
        self._run = run
        self._n_pairs = n_pairs
        self._numbers = numbers
        self._init = init
        self._owns = False
        self._defined: set[str] = set()

    @property
    def run(self) -> Any:
        """The run; joined or opened on first use.

        Raises
        ------
        InputError
            If W&B can open none.
        """
        if self._run is None:
            import wandb

            self._run = wandb.run
            if self._run is None:
                try:
                    self._run = wandb.init(**self._init)
                except Exception as error:  # of many types, some of them W&B's own
                    raise InputError(
                        f"W&B can't open a run ({first_line(error)}); log in with `wandb login`, "
                        "or use mode=offline"
                    ) from error
                self._owns = True
        return self._run

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
        """Log one report.

        Parameters
        ----------
        report : NoveltyReport
        epoch : int, optional
            The step that the metrics are shown over.
        scalars : mapping, optional
            Default: those of the report.
        folder : path, optional
            Where the report is saved.
        step : int, optional
            Optimiser step.
        prefix : str
            What the names of all values start with.

        Raises
        ------
        InputError
            If W&B can open no run, or the report can't be saved.
        """
        run = self.run
        if folder is None:
            folder = report.save(Path(run.dir, "novelty", _name(epoch)))
        numbers = dict(report.scalars(prefix) if scalars is None else scalars)
        if epoch is not None:
            numbers[EPOCH] = epoch
        content: dict[str, Any] = dict(numbers) if self._numbers else {}
        if epoch is not None:
            content[EPOCH] = epoch
        shown = set(to_be_shown(report, self._n_pairs))
        drawn = {
            row.id: (row, draw_pair(row))
            for row in report.results
            if row.id in shown and row.structures is not None
        }
        content["novelty/crystals"] = crystal_table(
            report, {name: picture for name, (_, picture) in drawn.items()}
        )
        if drawn:
            # Those of a table go to its artifact; these are in the run's own media.
            content["novelty/pictures"] = [
                _image(picture, caption=f"{row.id}: {row.formula}, {row.verdict}")
                for row, picture in drawn.values()
            ]
        content |= charts(report)
        if epoch is not None:
            self._define({*numbers, *content})
        run.config.update({"novelty": _config(report)}, allow_val_change=True)
        run.log(content)
        run.summary.update(numbers)
        self._add_files(report, epoch, folder, numbers)

    def close(self) -> None:
        """Finish the run, if it was opened here."""
        if self._owns and self._run is not None:
            self._run.finish()
        self._run, self._owns = None, False

    def _define(self, names: set[str]) -> None:
        """Show every metric over the epoch; by its full name, which goes before patterns."""
        for name in sorted(names - self._defined):
            step = None if name == EPOCH else EPOCH
            self.run.define_metric(name, step_metric=step, hidden=name == EPOCH or None)
        self._defined |= names

    def _add_files(
        self, report: NoveltyReport, epoch: int | None, folder: Path, numbers: Mapping[str, float]
    ) -> None:
        import wandb

        artifact = wandb.Artifact(
            f"novelty-{self.run.id}",
            type="novelty-report",
            description=f"{report.context.protocol_text}, against {report.context.reference_name}",
            metadata=dict(numbers),
        )
        artifact.add_dir(str(folder))
        self.run.log_artifact(artifact, aliases=["latest", _name(epoch)])


def crystal_table(report: NoveltyReport, pictures: Mapping[str, bytes]) -> Any:
    """A ``wandb.Table`` with a row per crystal, up to `MAX_ROWS`, those with a picture first."""
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


def charts(report: NoveltyReport) -> dict[str, Any]:
    """Bar charts by crystal system: eligible crystals, and the share of each verdict."""
    import wandb

    groups = report.breakdown("crystal_system")
    if not groups:
        return {}
    shown: dict[str, Any] = {}
    for verdict in Verdict:
        rows = [[str(key), group.counts[verdict.value] / group.n] for key, group in groups.items()]
        table = wandb.Table(columns=["crystal system", "share"], data=rows)
        shown[f"novelty/by_crystal_system/{verdict.value}"] = wandb.plot.bar(
            table, "crystal system", "share", title=f"{verdict.value}, share of the eligible"
        )
    rows = [[str(key), group.n] for key, group in groups.items()]
    table = wandb.Table(columns=["crystal system", "crystals"], data=rows)
    shown["novelty/by_crystal_system/eligible"] = wandb.plot.bar(
        table, "crystal system", "crystals", title="eligible crystals"
    )
    return shown


def _config(report: NoveltyReport) -> dict[str, Any]:
    """What a run's numbers can be compared by."""
    from novelty_metric.report_files import summary

    content = summary(report)
    names = (
        "protocol",
        "protocol_settings",
        "potential",
        "hull",
        "reference",
        "eligibility",
        "versions",
    )
    return {name: content[name] for name in names}


def _name(epoch: int | None) -> str:
    return "report" if epoch is None else f"epoch_{epoch:05d}"
