"""Base rates: crystals of a reference, each scored against the reference without itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.reference.calibration import (
    Calibration,
    HeldOut,
    LeftOutCrystal,
    Sensitivity,
    calibration_files,
    find_calibration,
    save_calibration,
)
from novelty_metric.reference.energies import writable
from novelty_metric.report.of_cases import key_of_context
from novelty_metric.samples.base import Sample
from novelty_metric.scoring.case import Case
from novelty_metric.support.folders import writing

if TYPE_CHECKING:
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.scoring.pipeline import Pipeline

_Drawn = TypeVar("_Drawn")
_AT_ONCE = 64
"""Number of crystals scored together: enough to fill the batches of a potential."""


@dataclass(frozen=True)
class HeldOutFile:
    """Crystals drawn from a file of real ones outside the reference, such as a validation set."""

    name: str
    sha256: str
    samples: Sequence[Sample]


def calibrate(
    metric: SubstitutionNovelty,
    *,
    n: int = 300,
    seed: int = 0,
    held_out: HeldOutFile | None = None,
) -> Calibration:
    """Score crystals of the reference and store their verdicts beside the reference.

    Each crystal is relaxed, screened and searched as a generated one is. It is itself absent from
    the reference, and its composition from the hull (its element, if it has only one, stays).
    Interrupted work continues where it stopped. A larger `n` includes the crystals already scored.

    Parameters
    ----------
    metric : SubstitutionNovelty
        Its protocol, potential and hull are those of the calibration.
    n : int
        Crystals to draw, all of them if the reference holds fewer.
    seed : int
        The same seed draws the same crystals, and a larger `n` the same ones and more.
    held_out : HeldOutFile, optional
        Crystals for a second estimate, drawn with the same seed. They are scored against the whole
        reference; their compositions too are absent from the hull.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If the metric relaxes nothing or takes the samples' energies, or nothing can be written.
    """
    key = key_of_context(metric.context())
    if key is None:
        raise InputError(
            "a calibration needs the energies of a potential; remove relaxer=none and energies="
        )
    reference = metric.reference
    before = find_calibration(reference, key) or Calibration(key, seed, ())
    drawn = np.random.default_rng(seed).permutation(len(reference))[:n].tolist()

    def left_out(index: int) -> Case:
        return Case(Sample(reference.ids[index], reference.structure(index)), leave_out=index)

    path = writable(calibration_files(reference, key))
    scored = _Scored(metric, path.with_name(f"{path.name}.part"), before.crystals)
    crystals = scored.all_of("calibrate", {index: index for index in drawn}, left_out)
    # A control may have been run meanwhile, whose sensitivity is kept in the same file.
    found = replace(
        find_calibration(reference, key) or before,
        seed=seed,
        crystals=crystals,
        crystals_hash=reference.crystals_hash,
    )
    save_calibration(reference, found)
    scored.forget()
    if held_out is None:
        return found
    known = before.held_out
    same = known is not None and known.sha256 == held_out.sha256
    scored = _Scored(
        metric,
        path.with_name(f"{path.name}.{held_out.sha256[:12]}.part"),
        known.crystals if known is not None and same else (),
    )
    samples = {sample.id: sample for sample in held_out.samples}
    crystals = scored.all_of("held out", samples, Case)
    found = replace(found, held_out=HeldOut(held_out.name, held_out.sha256, seed, crystals))
    save_calibration(reference, found)
    scored.forget()
    return found


def keep_sensitivity(metric: SubstitutionNovelty, sensitivity: Sensitivity) -> bool:
    """Store the result of a control beside the base rate with the same settings.

    Returns
    -------
    bool
        False where no calibration can belong to these settings.

    Raises
    ------
    InputError
        If nothing can be written.
    """
    key = key_of_context(metric.context())
    if key is None:
        return False
    reference = metric.reference
    before = find_calibration(reference, key) or Calibration(key, 0, ())
    found = replace(before, sensitivity=sensitivity, crystals_hash=reference.crystals_hash)
    save_calibration(reference, found)
    return True


class _Scored:
    """Scored real crystals, of this run or an earlier one, stored in a file as they are finished.

    `unfinished` is the file of an interrupted run, `before` are the crystals of a finished one.
    """

    def __init__(
        self,
        metric: SubstitutionNovelty,
        unfinished: Path,
        before: Sequence[LeftOutCrystal],
    ) -> None:
        self._metric = metric
        self._file = unfinished
        self._known = {found.key: found for found in (*_read(unfinished), *before)}

    def all_of(
        self, stage: str, drawn: Mapping[Any, _Drawn], make: Callable[[_Drawn], Case]
    ) -> tuple[LeftOutCrystal, ...]:
        """The crystals drawn, by key; the missing ones are made cases and scored."""
        waiting = [one for key, one in drawn.items() if key not in self._known]
        progress = self._metric.progress
        with writing(f"{self._file}:", self._file.parent):
            opened = self._file.open("a", encoding="utf-8")
        with opened as file:
            for start in range(0, len(waiting), _AT_ONCE):
                progress(stage, len(drawn) - len(waiting) + start, len(drawn))
                cases = [make(one) for one in waiting[start : start + _AT_ONCE]]
                for found in _score(self._metric.pipeline, cases):
                    self._known[found.key] = found
                    file.write(json.dumps(asdict(found)) + "\n")
                    file.flush()
        progress(stage, len(drawn), len(drawn))
        return tuple(self._known[key] for key in drawn)

    def forget(self) -> None:
        """Delete the file of the unfinished run."""
        self._file.unlink(missing_ok=True)


def _score(pipeline: Pipeline, cases: list[Case]) -> Iterator[LeftOutCrystal]:
    for case in cases:
        case.unknown_to_hull = True
    pipeline.run(cases)
    for case in cases:
        row = pipeline.row(case)
        yield LeftOutCrystal(
            index=case.leave_out,
            crystal_system=row.crystal_system,
            eligible=row.eligible is True and row.verdict is not None,
            verdict=None if row.verdict is None else row.verdict.value,
            cost=row.cost,
            id=case.sample.id if case.leave_out is None else None,
        )


def _read(unfinished: Path) -> Iterator[LeftOutCrystal]:
    if unfinished.exists():
        for line in unfinished.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a kill cut the line off
                yield LeftOutCrystal.read(json.loads(line))
