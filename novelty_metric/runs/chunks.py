"""One chunk of a run, scored in this process or in a remote worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.report.rows import plain_row, row_from_json, row_to_json
from novelty_metric.samples.base import Sample
from novelty_metric.scoring.case import Case
from novelty_metric.scoring.pipeline import Pipeline
from novelty_metric.scoring.resources import Resources, ResourceSpec
from novelty_metric.scoring.rules import ScoringRules
from novelty_metric.scoring.step_clock import StepClock
from novelty_metric.verdict import CrystalResult

IndexedSample = tuple[int, Sample]
"""A sample with its position in the run."""

Seconds = dict[str, float]
"""Time per step (s)."""


@dataclass(frozen=True)
class Chunk:
    """Samples that are scored together, and the `ChunkLog` with their finished rows.

    The log survives the worker.
    """

    samples: Sequence[IndexedSample]
    log: Path


@dataclass(frozen=True)
class RunSpec:
    """Data that all chunks of a run share, small enough to be sent with each.

    `run` names the run, so that a worker opens the resources once. The worker's reference must
    have the `store_hash` of the one that the run has open.
    """

    run: str
    rules: ScoringRules
    resources: ResourceSpec
    store_hash: str


_OPEN: dict[str, Pipeline] = {}
"""The pipeline of the run for which this process works."""


def score_chunk(spec: RunSpec, chunk: Chunk) -> Seconds:
    """Score a chunk, and write each row to its log.

    If another worker has started it, this one continues.

    Raises
    ------
    InputError
        If something can't be opened here, or the reference is another one.
    """
    pipeline = _open(spec)
    score_into(pipeline, _left(chunk), ChunkLog(chunk.log).add)
    return pipeline.clock.take_seconds()


# The same in three stages, for a machine that relaxes while others search


def relax_samples_of(spec: RunSpec, chunk: Chunk) -> tuple[list[Case], Seconds]:
    """Relaxations of the samples that are not yet finished."""
    pipeline = _open(spec)
    cases = [Case(sample) for _, sample in _left(chunk)]
    pipeline.check(cases)
    pipeline.normalise(cases)
    pipeline.screen(cases)
    return cases, pipeline.clock.take_seconds()


def search(spec: RunSpec, cases: list[Case]) -> tuple[list[Case], Seconds]:
    """Search for the parents of these samples."""
    pipeline = _open(spec)
    pipeline.search(cases)
    return cases, pipeline.clock.take_seconds()


def relax_parents_of(spec: RunSpec, chunk: Chunk, cases: list[Case]) -> Seconds:
    """Relaxations of their parents; each row is written to the log."""
    pipeline = _open(spec)
    add = _by_position(chunk.samples, ChunkLog(chunk.log).add)
    pipeline.relax_parents(cases, lambda case: add(case.sample, pipeline.row(case)))
    return pipeline.clock.take_seconds()


def score_into(
    pipeline: Pipeline,
    samples: Sequence[IndexedSample],
    add: Callable[[int, CrystalResult], None],
) -> None:
    """Score samples; `add` receives each row with its position."""
    pipeline.score_each((sample for _, sample in samples), _by_position(samples, add))


def _open(spec: RunSpec) -> Pipeline:
    if spec.run not in _OPEN:
        for other in _OPEN.values():
            other.close()
        _OPEN.clear()
        clock = StepClock()
        with clock.timed("open"):
            resources = Resources.open(spec.resources, spec.rules, clock.progress)
        with clock.timed("prepare search"):
            resources.prepare_search()
        reference = resources.reference
        if reference.store_hash != spec.store_hash:
            raise InputError(
                f"the reference {reference.name} that a worker finds is not the one of this run "
                "(its store_hash differs); name a file that all machines share"
            )
        _OPEN[spec.run] = Pipeline(spec.rules, resources, clock)
    return _OPEN[spec.run]


def _left(chunk: Chunk) -> list[IndexedSample]:
    finished = {position for position, _ in ChunkLog(chunk.log).rows()}
    return [indexed for indexed in chunk.samples if indexed[0] not in finished]


def _by_position(
    samples: Sequence[IndexedSample], add: Callable[[int, CrystalResult], None]
) -> Callable[[Sample, CrystalResult], None]:
    positions = {sample.id: position for position, sample in samples}
    return lambda sample, row: add(positions[sample.id], plain_row(row))


class ChunkLog:
    """Finished rows of a worker, one line of JSON each, on a disk that all processes share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, position: int, row: CrystalResult) -> None:
        """Append a line. If the process ends meanwhile, only the last line can be incomplete."""
        # What stands before it may have been cut short.
        line = f"\n{position} {row_to_json(row)}\n"
        with self.path.open("ab") as stream:
            stream.write(line.encode())

    def rows(self) -> list[tuple[int, CrystalResult]]:
        """Position and row of each complete line."""
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
        """Delete the log."""
        self.path.unlink(missing_ok=True)
