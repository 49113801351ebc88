"""A run from its samples to its report, of any size, and resumable after any interruption."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.rows import plain_row
from novelty_metric.runs.chunks import (
    Chunk,
    ChunkLog,
    IndexedSample,
    RunSpec,
    relax_parents_of,
    relax_samples_of,
    score_chunk,
    score_into,
    search,
)
from novelty_metric.runs.journal import EVERYTHING, Journal
from novelty_metric.runs.pools import Pool
from novelty_metric.samples.base import Sample
from novelty_metric.samples.draw import Draw
from novelty_metric.samples.plausibility import Plausibility
from novelty_metric.scoring.case import Case, is_same_crystal
from novelty_metric.scoring.sample_energies import odd_energies
from novelty_metric.search.duplicates import warnings_of
from novelty_metric.support.progress import WHOLE, ProgressCallback, no_progress
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from novelty_metric.metric import SubstitutionNovelty

PART = 256
"""Number of samples scored together: they fill a relaxer's batches, and limit the memory."""

FAR_PART = 16
"""The same for a worker of an executor: small, so that all workers are busy until the end."""

EARLY = 1000
"""Number of samples after which implausible samples are reported, before hours of work."""

TRIES = 3
"""Number of attempts for a part whose workers die."""

LOG_FOLDER = "parts"


@dataclass(eq=False)
class Run:
    """Scores a stream of samples into a journal, and makes the report from it.

    The journal is in `folder`, which exists, until `finish`; `identity` and `draw` are those of
    `Journal`. `make_pool` gives a `Pool`, to be used within ``with``; by default all is done in
    this process. `part` samples are scored together. `warn` is called with what is odd about the
    samples, once it can be seen; `notes` are such lines that are known before.

    Raises
    ------
    InputError
        As `Journal`.
    """

    metric: SubstitutionNovelty
    folder: Path
    identity: Mapping[str, Any]
    _: KW_ONLY
    overwrite: bool = False
    make_pool: Callable[[], AbstractContextManager[Pool]] | None = None
    part: int | None = None
    progress: ProgressCallback = no_progress
    total: int | None = None
    warn: Callable[[list[str]], None] | None = None
    notes: Sequence[str] = ()
    draw: Draw = EVERYTHING

    def __post_init__(self) -> None:
        self.part = self.part or (PART if self.make_pool is None else FAR_PART)
        self._notes = list(self.notes)
        self._told: list[str] = []
        self._seen = Plausibility()
        self._known_groups: NDArray[np.int64] | None = None
        self._work_limit_reached = (0, 0)
        self._done = 0
        # Positions are of this draw; a log of another one has rows by their ids alone.
        self._log_prefix = f"{self.draw.limit}-{self.draw.seed}-"
        self.journal = Journal(self.folder, self.identity, overwrite=self.overwrite, draw=self.draw)

    def keep(self, report: NoveltyReport) -> None:
        """Take over the rows of a finished report on some of the samples, with their crystals.

        They replace the samples with the same id, if the crystals are the same.
        """
        self.journal.add_earlier(
            (
                dataclasses.replace(row, duplicate_group=None, matching_group=None)
                for row in report.results
            ),
            report.context.seconds,
        )

    def score(self, samples: Iterable[Sample]) -> None:
        """Score the samples that are not in the journal.

        Raises
        ------
        InputError
            If the journal can't be written, or no worker can do the work.
        """
        if self.make_pool is None:
            _ = self.metric.pipeline  # the search is compiled while the samples relax
        else:
            self.metric.prepare()
        self._known_groups, self._work_limit_reached = None, (0, 0)
        self._done = len(self.journal)
        self._tell()
        try:
            for log in self._logs():
                self._collect(log)
            parts = self._parts(self._looked_at(samples))
            if self.make_pool is None:
                pipeline = self.metric.pipeline
                for part in parts:
                    score_into(pipeline, part, self._add)
                    self.journal.add_seconds(pipeline.clock.take_seconds())
                    self.journal.flush()
            else:
                self._score_far(parts, self.make_pool)
            n_left = self.journal.n_earlier
            if n_left:
                self._notes.append(
                    f"{n_left} rows of the earlier run are not kept: their ids are not among "
                    "those of the samples drawn now"
                )
        finally:
            self.journal.flush()

    def report(self) -> NoveltyReport:
        """The report on the samples scored so far; its rows have no crystals and no candidates."""
        groups = self._groups()
        seen = Plausibility()
        seen.take_crystals(self._seen)
        slim = []
        for place, row in enumerate(self.journal.rows()):
            seen.add_error(row.error if row.formula is None or row.smact_valid is None else None)
            slim.append(_slim(_grouped(row, groups[:, place])))
        warnings = [*self._notes, *seen.findings(), *warnings_of(*self._work_limit_reached)]
        context = self.metric.context(seconds=self.journal.seconds(), warnings=warnings)
        if context.sample_energies is not None:
            warnings += odd_energies(slim)
            context = dataclasses.replace(context, warnings=tuple(warnings))
        self._warn_of([line for line in warnings if line not in self._told])
        return NoveltyReport.from_results(slim, context)

    def rows(self) -> Iterator[CrystalResult]:
        """The complete rows of the report, one by one."""
        groups = self._groups()
        for place, row in enumerate(self.journal.rows()):
            yield _grouped(row, groups[:, place])

    def finish(self) -> None:
        """Delete the journal; the report is stored."""
        self.journal.remove()
        folder = self.folder / LOG_FOLDER
        if folder.is_dir():
            for log in self._logs():
                log.remove()
            folder.rmdir()

    def close(self) -> None:
        """Keep the journal for a later run."""
        self.journal.close()

    def _add(self, position: int, row: CrystalResult) -> None:
        self.journal.add(position, row)
        self._done += 1
        self._tell()

    # By an executor

    def _score_far(
        self,
        parts: Iterator[list[IndexedSample]],
        make_pool: Callable[[], AbstractContextManager[Pool]],
    ) -> None:
        (self.folder / LOG_FOLDER).mkdir(exist_ok=True)
        again: deque[_Try] = deque()
        while True:
            with make_pool() as pool:
                lost = self._with_pool(pool, parts, again)
            if not lost:
                return
            for broken in lost:
                again.extend(self._after_a_death(broken))

    def _with_pool(
        self, pool: Pool, parts: Iterator[list[IndexedSample]], again: deque[_Try]
    ) -> list[_Try]:
        """Work until all is done. If the pool breaks, the unfinished parts are returned."""
        stages = _Stages(self.metric, pool)
        under_way: dict[Future[Any], tuple[_Try, Chunk, int]] = {}
        lost: list[_Try] = []
        while True:
            # A part that may kill its worker is alone, so that it takes no other with it.
            alone = bool(again) and again[0].number >= TRIES - 1
            while not lost and len(under_way) < (1 if alone else pool.ahead):
                tried = again.popleft() if again else _Try(next(parts, []), 0)
                if not tried.samples:
                    break
                name = f"{self._log_prefix}{uuid.uuid4().hex}.jsonl"
                chunk = Chunk(tried.samples, self.folder / LOG_FOLDER / name)
                try:
                    under_way[stages.submit(0, chunk)] = tried, chunk, 0
                except BrokenExecutor:
                    lost.append(tried)
            if not under_way:
                return lost
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                tried, chunk, stage = under_way.pop(future)
                try:
                    cases, seconds = stages.result(stage, future)
                    self.journal.add_seconds(seconds)
                    if cases is not None and not lost:
                        following = stages.submit(stage + 1, chunk, cases)
                        under_way[following] = tried, chunk, stage + 1
                        continue
                    if cases is not None:
                        lost.append(tried)
                except Exception as error:
                    # Only the death of a worker, which Dask reports by an error of its own.
                    if not isinstance(error, BrokenExecutor) and (
                        type(error).__name__ != "KilledWorker"
                    ):
                        raise
                    lost.append(tried)
                self._collect(ChunkLog(chunk.log))

    def _after_a_death(self, tried: _Try) -> Iterator[_Try]:
        """The rest of a part whose worker died; the last attempts have one crystal each."""
        left = [indexed for indexed in tried.samples if indexed[0] not in self.journal]
        number = tried.number + 1
        if left and number < TRIES - 1:
            yield _Try(left, number)
        elif number == TRIES - 1:
            yield from (_Try([indexed], number) for indexed in left)
        else:
            for position, sample in left:
                died = CrystalResult(
                    id=sample.id,
                    source=sample.source or None,
                    readable=sample.structure is not None,
                    error="the worker process died repeatedly on this crystal",
                )
                self._add(position, plain_row(died))

    def _logs(self) -> Iterator[ChunkLog]:
        for path in sorted((self.folder / LOG_FOLDER).glob("*.jsonl")):
            yield ChunkLog(path)

    def _collect(self, log: ChunkLog) -> None:
        of_this_draw = log.path.name.startswith(self._log_prefix)
        for position, row in log.rows():
            if not of_this_draw:
                self.journal.set_aside(row)
            elif position not in self.journal:
                self._add(position, row)
        self.journal.flush()
        log.remove()

    # Both

    def _looked_at(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples, with a check that they are plausible crystals."""
        for sample in samples:
            self._seen.add(sample.structure, sample.error)
            yield sample

    def _parts(self, samples: Iterator[Sample]) -> Iterator[list[IndexedSample]]:
        """The unfinished samples in numbered parts."""
        # So many first: what is odd about them is said before any work is done.
        first = list(self._told_of(itertools.islice(samples, EARLY)))
        self._told = [*self._notes, *self._seen.findings()]
        self._warn_of(self._told)
        numbered = enumerate(itertools.chain(first, samples))
        left = ((at, sample) for at, sample in numbered if not self._is_known(at, sample))
        while part := list(itertools.islice(left, self.part)):
            yield part

    def _is_known(self, position: int, sample: Sample) -> bool:
        """True if the journal has the row of a sample, also by its id alone."""
        if position in self.journal:
            return True
        # Rows hold ids as text that can be written, whatever bytes a file's name is made of.
        row = self.journal.take_earlier(plain_row(CrystalResult(id=sample.id)).id)
        if row is None:
            return False
        known = row.structures is not None and is_same_crystal(
            sample, row.structures.generated, self.metric.rules.max_sites
        )
        # What has no crystal is refused again in no time.
        if known:
            self._add(position, row)
        return known

    def _told_of(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        """The first samples, with progress messages on the number read."""
        stage, number = "read samples", 0
        total = None if self.total is None else min(EARLY, self.total)
        self.progress(stage, 0, total)
        for number, sample in enumerate(samples, start=1):
            yield sample
            self.progress(stage, number, total)
        self.progress(stage, number, number)

    def _groups(self) -> NDArray[np.int64]:
        """Group number of the equal crystals of each row, -1 if it is not a crystal.

        Returns
        -------
        int64, (2, n_rows)
            By the duplicate test, and by plain matching.
        """
        if self._known_groups is not None:
            return self._known_groups
        first = np.full((2, len(self.journal)), -1, dtype=np.int64)
        own = np.fromiter(self.journal.positions(), dtype=np.int64)
        first[:, own] = own
        work_limit_reached = np.zeros(2, dtype=np.int64)
        compared = 0
        pipeline, stage = self.metric.pipeline, "group equal samples"
        self.progress(stage, 0, len(own))
        for members in self.journal.comparable():
            found = pipeline.group_equal([_reduced(row) for _, row in members])
            for rule, groups in enumerate((found.duplicates, found.matching)):
                opened: dict[int, int] = {}
                work_limit_reached[rule] += groups.work_limit_reached
                for (position, _), group in zip(members, groups.number, strict=True):
                    first[rule, position] = opened.setdefault(group, position)
            compared += len(members)
            self.progress(stage, compared, len(own))
        self.progress(stage, len(own), len(own))
        self.journal.add_seconds(pipeline.clock.take_seconds())
        # Numbered from 0 by their first crystals.
        for numbers in first:
            numbers[own] = np.unique(numbers[own], return_inverse=True)[1]
        self._known_groups = first
        self._work_limit_reached = (int(work_limit_reached[0]), int(work_limit_reached[1]))
        return first

    def _tell(self) -> None:
        self.progress(WHOLE, self._done, self.total)

    def _warn_of(self, lines: list[str]) -> None:
        if lines and self.warn is not None:
            self.warn(lines)


@dataclass(frozen=True)
class _Try:
    """Samples of a part, and the number of workers that died during it."""

    samples: list[IndexedSample]
    number: int


class _Stages:
    """The stage that a pool runs for a chunk: all steps; or relaxation, search and relaxation."""

    def __init__(self, metric: SubstitutionNovelty, pool: Pool) -> None:
        self._pool = pool
        self._count = 1 if pool.relaxing is None else 3
        resources = dataclasses.replace(metric.spec, workers=1)
        store_hash, run = metric.reference.store_hash, uuid.uuid4().hex
        self._spec = RunSpec(run, metric.rules, resources, store_hash)
        self._search = dataclasses.replace(
            self._spec, run=f"{run}-search", resources=resources.search_only
        )

    def submit(self, stage: int, chunk: Chunk, cases: list[Case] | None = None) -> Future[Any]:
        """Submit a stage."""
        pool = self._pool
        if pool.relaxing is None:
            return pool.executor.submit(score_chunk, self._spec, chunk)
        if stage == 0:
            return pool.relaxing.submit(relax_samples_of, self._spec, chunk)
        assert cases is not None
        if stage == 1:
            return pool.executor.submit(search, self._search, cases)
        return pool.relaxing.submit(relax_parents_of, self._spec, chunk, cases)

    def result(self, stage: int, future: Future[Any]) -> tuple[list[Case] | None, dict[str, float]]:
        """The result: cases for the next stage (None after the last), and the time (s)."""
        if stage == self._count - 1:
            return None, future.result()
        cases, seconds = future.result()
        return cases, seconds


def _reduced(row: CrystalResult) -> Structure:
    assert row.structures is not None and row.structures.relaxed is not None
    return row.structures.relaxed.to_structure()


def _grouped(row: CrystalResult, groups: NDArray[np.int64]) -> CrystalResult:
    group, matching = (None if number < 0 else number for number in groups.tolist())
    return dataclasses.replace(row, duplicate_group=group, matching_group=matching)


def _slim(row: CrystalResult) -> CrystalResult:
    """The row without the parts that a report does not count, about half a kilobyte."""
    return dataclasses.replace(
        row,
        parents=(),
        structures=None,
        formula=None if row.formula is None else sys.intern(row.formula),
        crystal_system=None if row.crystal_system is None else sys.intern(row.crystal_system),
        parent_id=None if row.parent_id is None else sys.intern(row.parent_id),
        element_map=None,
    )
