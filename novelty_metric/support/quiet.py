"""Suppression of output, warnings and logs of libraries."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

DEBUG_VARIABLE = "NOVELTY_METRIC_DEBUG"
_LOGGERS = ("PIL", "ase", "chgnet", "fontTools", "matplotlib", "numba", "pymatgen", "smact")
"""Libraries with a logger; some write thousands of lines at the level DEBUG."""


def debugging() -> bool:
    """True if the user asked for all output, including tracebacks."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


@contextlib.contextmanager
def quiet() -> Iterator[TextIO]:
    """Discard standard output and standard error; gives the real stderr.

    Python's streams and warnings are silenced as well as the file descriptors 1 and 2, which C
    libraries and worker processes write to. Under ``NOVELTY_METRIC_DEBUG=1`` nothing is silenced.

    Yields
    ------
    text stream
        Standard error as it was, for progress bars.
    """
    if debugging():
        yield sys.stderr
        return
    sys.stdout.flush()
    sys.stderr.flush()
    encoding = sys.stderr.encoding or "utf-8"
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with (
            os.fdopen(os.dup(kept[1]), "w", encoding=encoding, errors="replace") as terminal,
            Path(os.devnull).open("w", encoding="utf-8") as sink,
        ):
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            with (
                contextlib.redirect_stdout(sink),
                contextlib.redirect_stderr(sink),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                yield terminal
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


@contextlib.contextmanager
def libraries_quiet() -> Iterator[None]:
    """Ignore warnings of libraries, and their log lines except for errors, during our calls.

    Standard output and standard error stay as they are: other threads may write there. So do our
    own logger and the user's.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(max(logger.level, logging.ERROR))
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
