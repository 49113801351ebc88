"""Calibrations of the leaderboard: results of real crystals, for each way of measuring."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.errors import InputError, StoreError
from novelty_metric.leaderboard.files import read_inside
from novelty_metric.reference.calibration import Calibration
from novelty_metric.report.context import RunContext
from novelty_metric.report.of_cases import key_of_context

FOLDER = "calibrations"
MAX_BYTES = 4 * 2**20


def file_of(context: RunContext) -> str | None:
    """The calibration's path in the folder; None if the measurement cannot have one."""
    key = key_of_context(context)
    return None if key is None else f"{FOLDER}/{key[:12]}.json"


def read_calibration(board: Path, context: RunContext) -> Calibration | None:
    """The calibration of a measurement; None if the folder has none.

    `InputError` if its file is damaged, or is that of another measurement.
    """
    name = file_of(context)
    if name is None or not (board / name).exists():
        return None
    try:
        content = json.loads(read_inside(board, name, most=MAX_BYTES))
        found = Calibration.from_dict(content)
    except (ValueError, RecursionError, AttributeError, StoreError) as error:
        raise InputError(f"{name}: not a calibration ({error})") from error
    if found.key != key_of_context(context) or found.crystals_hash not in (
        "",
        context.crystals_hash,
    ):
        raise InputError(f"{name}: the calibration of another measurement")
    odd = {one.crystal_system for one in found.crystals} - {None, *CRYSTAL_SYSTEMS}
    if odd:
        raise InputError(f"{name}: {sorted(map(str, odd))[0]!r} is not a crystal system")
    return found


def larger_calibration(board: Path, context: RunContext) -> dict[str, bytes]:
    """The calibration of a run as a file to write; empty if the folder already has its content.

    Of two, the crystals are those of the larger one; so is the sensitivity.
    """
    name, ours = file_of(context), context.calibration
    if name is None or ours is None:
        return {}
    kept = read_calibration(board, context)
    found = ours
    if kept is not None:
        found = ours if ours.n_drawn > kept.n_drawn else kept
        known = [one.sensitivity for one in (kept, ours) if one.sensitivity is not None]
        found = replace(
            found,
            held_out=found.held_out or kept.held_out or ours.held_out,
            sensitivity=max(known, key=lambda one: one.total, default=None),
        )
    if found == kept:
        return {}
    return {name: (json.dumps(found.to_dict(), ensure_ascii=False) + "\n").encode()}
