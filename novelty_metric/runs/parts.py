"""One part of a run, scored by whoever has it: this process, or a worker far away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.errors import InputError
from novelty_metric.report.rows import row_from_json, row_to_json
from novelty_metric.samples.base import Sample
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.scoring.case import Case

Numbered = tuple[int, Sample]
"""A sample with its position among all of the run."""


@dataclass(frozen=True)
class Part:
    """Samples to be scored together, and the file that tells how far this has come.

    Attributes
    ----------
    samples : sequence of (int, Sample)
    spool : path
        A line for each finished row is added here, so that it survives the worker.
    """

    samples: Sequence[Numbered]
    spool: Path


@dataclass(frozen=True)
class Job:
    """What all parts of a run share, small enough to go with each of them.

    Attributes
    ----------
    run : str
        Names the run: a worker opens its metric once.
    metric : SubstitutionNovelty
        Opens what it needs by itself, wherever it comes to.
    store_hash : str
        Of the reference that the run has open: the worker's must be the same.
    """

    run: str
    metric: SubstitutionNovelty
    store_hash: str


_OPEN: dict[str, SubstitutionNovelty] = {}
"""The metric of the run that this process works for."""


def score_part(job: Job, part: Part) -> dict[str, float]:
    """Score a part, each row into its spool; gives the time per step (s).

    Where another worker began with it, this one goes on.

    Raises
    ------
    InputError
        If the metric can't be opened here, or its reference is another one.
    """
    metric = _open(job)
    spool = Spool(part.spool)
    finished = {position for position, _ in spool.rows()}
    left = [numbered for numbered in part.samples if numbered[0] not in finished]
    score_into(metric, left, spool.add)
    return metric.take_seconds()


# The same in three stages, for a machine that relaxes while others search


def begin_part(job: Job, part: Part) -> tuple[list[Case], dict[str, float]]:
    """The relaxations of the samples that nobody finished before; and the time per step (s)."""
    metric = _open(job)
    finished = {position for position, _ in Spool(part.spool).rows()}
    left = [sample for position, sample in part.samples if position not in finished]
    return metric.begin(left), metric.take_seconds()


def search_part(job: Job, cases: list[Case]) -> tuple[list[Case], dict[str, float]]:
    """Their search."""
    metric = _open(job)
    metric.search(cases)
    return cases, metric.take_seconds()


def end_part(job: Job, part: Part, cases: list[Case]) -> dict[str, float]:
    """The relaxations of their parents, each row into the spool."""
    metric = _open(job)
    metric.end(cases, _teller(part.samples, Spool(part.spool).add))
    return metric.take_seconds()


def _open(job: Job) -> SubstitutionNovelty:
    if job.run not in _OPEN:
        for other in _OPEN.values():
            other.close()
        _OPEN.clear()
        job.metric.prepare()
        reference = job.metric.reference
        if reference.store_hash != job.store_hash:
            raise InputError(
                f"the reference {reference.name} that a worker finds is not the one of this run "
                "(its store_hash differs); name a file that all machines share"
            )
        _OPEN[job.run] = job.metric
    return _OPEN[job.run]


def score_into(
    metric: SubstitutionNovelty,
    samples: Sequence[Numbered],
    add: Callable[[int, CrystalResult], None],
) -> None:
    """Score samples, each row told with its position."""
    metric.score_each((sample for _, sample in samples), _teller(samples, add))


def _teller(
    samples: Sequence[Numbered], add: Callable[[int, CrystalResult], None]
) -> Callable[[Sample, CrystalResult], None]:
    """Adds the row of a sample by its position."""
    positions = {sample.id: position for position, sample in samples}

    def tell(sample: Sample, row: CrystalResult) -> None:
        add(positions[sample.id], row)

    return tell


class Spool:
    """Rows that a worker has finished, a line of JSON each, on a disk that the run shares."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, position: int, row: CrystalResult) -> None:
        """Add a line; it is whole, or at the end and cut short, whenever the process ends."""
        # What stands before it may have been cut short.
        line = f"\n{position} {row_to_json(row)}\n"
        with self.path.open("ab") as stream:
            stream.write(line.encode())

    def rows(self) -> list[tuple[int, CrystalResult]]:
        """Position and row of each whole line."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines[:-1]:
            position, _, text = line.partition(b" ")
            # Of a worker that was killed; its crystal is scored again.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found.append((int(position), row_from_json(text)))
        return found

    def remove(self) -> None:
        """Forget them."""
        self.path.unlink(missing_ok=True)
