"""The journal of a run: no lost rows, one process at a time, and clear errors."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.errors import InputError
from novelty_metric.report.rows import plain_row, row_from_json, row_to_json
from novelty_metric.runs.journal import Journal
from novelty_metric.verdict import CrystalResult, Kind, Parent, Route, TriedParent, Verdict

NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
FLAGS = st.none() | st.booleans()
WORDS = st.none() | st.text(max_size=8)
COUNTS = st.none() | st.integers(0, 10**6)
MAPS = st.dictionaries(
    st.sampled_from(["Na", "Cl"]), st.dictionaries(st.sampled_from(["K"]), st.integers(1, 4))
)
PARENTS = st.builds(
    Parent,
    route=st.sampled_from(Route),
    rank=st.integers(1, 9),
    index=st.integers(0, 10**7),
    parent_id=st.text(max_size=5),
    cost=st.floats(0, 90),
    match_rms=NUMBERS,
    supercell=st.sampled_from([None, ((1, 0, 0), (0, 2, 0), (0, 0, 1))]),
    elements=st.lists(st.sampled_from(["K", "Cl"]), max_size=3).map(tuple),
    element_map=MAPS,
    share_exchanged=st.floats(0, 1),
)
TRIED = st.builds(
    TriedParent,
    parent=PARENTS,
    relaxed=st.booleans(),
    converged=FLAGS,
    confirmed=FLAGS,
    confirm_rms=NUMBERS,
    steps=COUNTS,
    ended_early=WORDS,
    energy_per_atom=NUMBERS,
    volume_ratio=NUMBERS,
    error=WORDS,
)


def record(seed: int) -> CrystalRecord:
    rng = np.random.default_rng(seed)
    sites = seed % 5
    numbers = rng.integers(1, 100, sites).astype(np.uint8)
    return CrystalRecord(rng.random((3, 3)) * 9, numbers, rng.random((sites, 3)))


RECORDS = st.none() | st.integers(0, 99).map(record)
ROWS = st.builds(
    CrystalResult,
    id=st.text(),
    formula=WORDS,
    n_sites=COUNTS,
    smact_valid=FLAGS,
    energy_per_atom=NUMBERS,
    verdict=st.none() | st.sampled_from(Verdict),
    route=st.none() | st.sampled_from(Route),
    kind=st.none() | st.sampled_from(Kind),
    element_map=st.none() | MAPS,
    error=WORDS,
    readable=st.booleans(),
    parents=st.lists(TRIED, max_size=3).map(tuple),
    novel_by_matching=FLAGS,
    structures=st.none()
    | st.builds(
        CrystalRecords, generated=RECORDS, relaxed=RECORDS, parent=RECORDS, parent_relaxed=RECORDS
    ),
)


@given(ROWS)
def test_row_is_read_back_unchanged(row: CrystalResult) -> None:
    row = plain_row(row)
    back = row_from_json(row_to_json(row))
    assert back == row and back.structures == row.structures


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        row_to_json(CrystalResult(id="a", cost=float("nan")))


def row(number: int) -> CrystalResult:
    structures = CrystalRecords(generated=record(4), relaxed=record(9))
    return CrystalResult(id=str(number), formula="NaCl", structures=structures)


WRITER = """
import sys
import time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_journal import Journal, row
from novelty_metric.runs import journal as module
module._SECONDS = 0.2
journal = Journal(Path(sys.argv[1]), {})
print(len(journal), flush=True)
number = len(journal)
while True:
    journal.add(number, row(number))
    number += 1
    if not journal._waiting:
        print(number, flush=True)  # this many rows are on disk
    time.sleep(0.005)
"""


def test_journal_survives_a_killed_process(
    tmp_path: Path, start_python: Callable[..., Any], thorough: bool
) -> None:
    chance = random.Random(3)
    kept = 0
    for _ in range(8 if thorough else 3):
        arguments = ("-c", WRITER, tmp_path, Path(__file__).parent)
        writer = start_python(*arguments, stdout=subprocess.PIPE)
        assert int(writer.stdout.readline()) >= kept
        written = int(writer.stdout.readline())
        time.sleep(0.3 * chance.random())
        with pytest.raises(InputError, match="another process works in"):
            Journal(tmp_path, {})
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        journal = Journal(tmp_path, {})
        found = list(journal.rows())
        assert len(found) == len(journal) > kept  # rows older than a second are there
        assert len(found) >= written
        assert found == [row(number) for number in range(len(found))]
        kept = len(found)
        journal.close()


def test_other_settings_are_refused_without_overwrite(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"protocol.k": 3, "limit": None})
    journal.add(0, row(0))
    journal.close()
    with pytest.raises(InputError, match=r"unfinished run of other settings.*\(protocol.k\)"):
        Journal(tmp_path, {"protocol.k": 5, "limit": None})
    journal = Journal(tmp_path, {"protocol.k": 3, "limit": None})
    assert len(journal) == 1 and 0 in journal and 1 not in journal
    journal.close()
    journal = Journal(tmp_path, {"protocol.k": 5, "limit": None}, overwrite=True)
    assert len(journal) == 0
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_times_of_processes_are_added(tmp_path: Path) -> None:
    for _ in range(2):
        journal = Journal(tmp_path, {})
        journal.add_seconds({"search": 1.5})
        journal.close()
    journal = Journal(tmp_path, {})
    assert journal.seconds() == {"search": 3.0}
    journal.close()


def test_full_disk_is_one_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {})
    for number in range(20):
        journal.add(number, row(number))
    journal.flush()
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(InputError, match=r"disk of .* is full; finished crystals are kept"):
        for number in range(20, 2000):
            journal.add(number, row(number))
            journal.flush()
    journal.close()  # no second message
    journal = Journal(tmp_path, {})
    assert len(journal) >= 20
    journal.close()


def test_invalid_journal_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_text("no database " * 100)
    with pytest.raises(InputError, match=r"can't be used \(file is not a database\)"):
        Journal(tmp_path, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="can't be used"):
        Journal(tmp_path, {})
    tmp_path.chmod(0o700)


def test_rows_by_formula_omit_single_crystals(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {})
    for number in (0, 3):
        journal.add(number, row(number))
    journal.add(1, CrystalResult(id="1", error="broken", readable=False))
    alone = CrystalRecords(generated=record(4), relaxed=record(9))
    journal.add(2, CrystalResult(id="2", formula="KCl", structures=alone))
    assert [[at for at, _ in members] for members in journal.comparable()] == [[0, 3]]
    assert list(journal.positions()) == [0, 2, 3]
    journal.close()
    assert sqlite3.connect(journal.path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_journal_removed_by_its_process_counts_as_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(address: str, **options: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite3, "connect", gone)
    with pytest.raises(InputError, match="another process works in"):
        Journal(tmp_path, {})
    (tmp_path / "journal.sqlite").touch()
    with pytest.raises(InputError, match="can't be used"):
        Journal(tmp_path, {})
