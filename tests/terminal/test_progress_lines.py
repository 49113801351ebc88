"""Progress lines of a run whose standard error is a file: times and content."""

from __future__ import annotations

from novelty_metric.terminal.progress_lines import ProgressLines


class Log:
    """Progress lines with a manual clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.told = ProgressLines(self.lines.append, clock=lambda: self.now)

    def at(self, seconds: float, *calls: tuple[str, int, int | None]) -> list[str]:
        """The lines written at this time, after these calls."""
        self.now = seconds
        for call in calls:
            self.told(*call)
        before = len(self.lines)
        self.told.tell()
        return self.lines[before:]


def test_stage_is_named_after_five_seconds() -> None:
    log = Log()
    assert log.at(0, ("open", 0, 1)) == []
    assert log.at(4.9) == []
    assert log.at(5) == ["open"]
    assert log.at(6) == []
    assert log.at(6, ("open", 1, 1), ("check", 1, 9), ("check", 9, 9)) == []
    assert log.at(6, ("relax samples", 0, 40)) == []
    assert log.at(11) == ["relax samples, 0 of 40"]


def test_stage_without_a_count_shows_its_duration() -> None:
    log = Log()
    log.at(0, ("prepare search", 0, 1))
    assert log.at(5) == ["prepare search"]
    assert log.at(65) == ["prepare search, 60 s so far"]


def test_long_stage_has_a_line_per_minute_with_the_remaining_time() -> None:
    log = Log()
    log.at(0, ("relax samples", 0, 40))
    assert log.at(5, ("relax samples", 1, 40)) == ["relax samples, 1 of 40, about 3 min left"]
    assert log.at(64, ("relax samples", 9, 40)) == []
    assert log.at(65, ("relax samples", 10, 40)) == ["relax samples, 10 of 40, about 3 min left"]
    assert log.at(130, ("relax samples", 39, 40)) == ["relax samples, 39 of 40, about 10 s left"]
    assert log.at(200, ("relax samples", 40, 40)) == []


def test_repeated_stage_keeps_the_interval_of_a_minute() -> None:
    log = Log()
    log.at(0, ("relax samples", 0, 4))
    assert log.at(10, ("relax samples", 1, 4)) == ["relax samples, 1 of 4, about 30 s left"]
    log.at(20, ("relax samples", 4, 4))
    log.at(21, ("relax samples", 0, 4))
    assert log.at(50, ("relax samples", 2, 4)) == []
    assert log.at(70, ("relax samples", 2, 4)) == ["relax samples, 2 of 4, about 50 s left"]


def test_remaining_time_of_a_run_follows_from_finished_chunks() -> None:
    log = Log()
    log.at(0, ("score", 100, 500), ("check", 1, 100), ("check", 100, 100))
    log.at(0, ("relax samples", 0, 100))
    assert log.at(5) == ["relax samples, 0 of 100; 100 of 500 crystals done"]
    # Fast crystals of the first chunk do not predict the others.
    log.at(90, ("relax samples", 100, 100), ("score", 150, 500))
    assert log.at(100, ("relax parents", 0, 9)) == []
    assert log.at(150) == ["relax parents, 0 of 9; 150 of 500 crystals done"]
    log.at(600, ("relax parents", 9, 9), ("score", 200, 500), ("check", 1, 100))
    assert log.at(660, ("check", 100, 100), ("relax samples", 1, 100)) == [
        "relax samples, 1 of 100; 200 of 500 crystals done, about 29 min left"
    ]


def test_work_of_other_processes_shows_only_the_total() -> None:
    log = Log()
    assert log.at(0, ("score", 0, 100)) == []
    assert log.at(6) == ["0 of 100 crystals done"]
    assert log.at(66, ("score", 50, 100)) == ["50 of 100 crystals done, about 70 s left"]
    assert log.at(126, ("score", 51, None)) == ["51 crystals done"]


def test_bytes_are_shown_as_a_percentage() -> None:
    log = Log()
    log.at(0, ("download", 0, 2_000_000))
    assert log.at(10, ("download", 500_000, 2_000_000)) == ["download, 25 %, about 30 s left"]
