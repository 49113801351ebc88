"""Base rates: crystals of a reference, each scored against the reference without itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.reference.calibration import (
    Calibration,
    LeftOutCrystal,
    calibration_files,
    find_calibration,
    save_calibration,
)
from novelty_metric.reference.energies import writable
from novelty_metric.report.of_cases import key_of_calibration
from novelty_metric.samples.base import Sample
from novelty_metric.scoring.case import Case

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.scoring.pipeline import Pipeline

_AT_ONCE = 64
"""Crystals that are scored together: enough to fill the batches of a potential."""


def calibrate(metric: SubstitutionNovelty, *, n: int = 300, seed: int = 0) -> Calibration:
    """Score crystals of the reference, and keep their verdicts beside the store.

    Each crystal is relaxed, screened and searched as a generated one is. It is itself absent from
    the reference, and its composition from the hull (its element, if it has only one, stays).
    Interrupted work goes on where it stopped; with a larger `n` the crystals already scored count.

    Parameters
    ----------
    metric : SubstitutionNovelty
        Its protocol, potential and hull are those of the calibration.
    n : int
        Crystals to draw, all of them if the reference holds fewer.
    seed : int
        The same seed draws the same crystals, and a larger `n` the same ones and more.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If the metric relaxes nothing or takes the samples' energies, or nothing can be written.
    """
    pipeline = metric.pipeline
    key = key_of_calibration(pipeline)
    if key is None:
        raise InputError(
            "a calibration needs a potential, and its own energies; leave out relaxer=none and "
            "energies="
        )
    order = np.random.default_rng(seed).permutation(len(metric.reference))[:n].tolist()
    unfinished = writable(calibration_files(metric.reference, key))
    unfinished = unfinished.with_name(unfinished.name + ".part")
    known = _known(pipeline, key, unfinished)
    waiting = [index for index in order if index not in known]
    with _open(unfinished) as file:
        for start in range(0, len(waiting), _AT_ONCE):
            metric.progress("calibrate", len(order) - len(waiting) + start, len(order))
            for found in _score(pipeline, waiting[start : start + _AT_ONCE]):
                known[found.index] = found
                file.write(json.dumps(list(vars(found).values())) + "\n")
                file.flush()
    metric.progress("calibrate", len(order), len(order))
    calibration = Calibration(key, seed, tuple(known[index] for index in order))
    save_calibration(metric.reference, calibration)
    unfinished.unlink(missing_ok=True)
    return calibration


def _score(pipeline: Pipeline, indices: list[int]) -> Iterator[LeftOutCrystal]:
    reference = pipeline.resources.reference
    cases = [
        Case(Sample(reference.ids[index], reference.structure(index)), leave_out=index)
        for index in indices
    ]
    pipeline.run(cases)
    for index, case in zip(indices, cases, strict=True):
        row = pipeline.row(case)
        yield LeftOutCrystal(
            index=index,
            crystal_system=row.crystal_system,
            eligible=row.eligible is True and row.verdict is not None,
            verdict=None if row.verdict is None else row.verdict.value,
            cost=row.cost,
        )


def _known(pipeline: Pipeline, key: str, unfinished: Path) -> dict[int, LeftOutCrystal]:
    """Crystals that a run before has scored, finished or not."""
    reference = pipeline.resources.reference
    known: dict[int, LeftOutCrystal] = {}
    if unfinished.exists():
        for line in unfinished.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, TypeError):  # a line that a kill cut off
                found = LeftOutCrystal(*json.loads(line))
                known[found.index] = found
    before = find_calibration(reference, key)
    if before is not None:
        known.update((found.index, found) for found in before.crystals)
    return known


def _open(path: Path) -> TextIO:
    """The file of finished crystals, at its end.

    Raises
    ------
    InputError
        If it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror or error})") from error
