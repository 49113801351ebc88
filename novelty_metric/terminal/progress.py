"""Progress of a running metric: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import rich.progress
from rich.console import Console

from novelty_metric.support.quiet import quiet
from novelty_metric.terminal.progress_lines import ProgressLines


@contextmanager
def quiet_with_progress(*, wanted: bool = True) -> Iterator[Progress]:
    """Keep what libraries print off the screen, and show the progress there."""
    with quiet() as terminal, Progress(terminal, wanted=wanted) as progress:
        yield progress


class Progress:
    """Bars on a terminal for a running metric; occasional lines on other streams.

    An instance is a `novelty_metric.support.progress.ProgressCallback`, to be used within ``with``.
    The stream is usually standard error, so that results can be piped away.
    """

    def __init__(self, stream: TextIO, *, wanted: bool = True) -> None:
        console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._shown: rich.progress.Progress | ProgressLines | None = None
        if wanted and not console.is_terminal:
            self._shown = ProgressLines(
                lambda line: print(f"novelty-metric: {line}", file=stream, flush=True)
            )
        elif wanted:
            self._shown = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(bar_width=24),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TimeRemainingColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Progress:
        if self._shown is not None:
            self._shown.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._shown is not None:
            self._shown.__exit__(*error)

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show the progress of a stage."""
        if isinstance(self._shown, ProgressLines):
            self._shown(stage, done, total)
        elif self._shown is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._shown.add_task(stage, total=total)
            self._shown.update(self._tasks[stage], completed=done, total=total)
