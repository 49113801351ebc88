"""Warnings and log lines of the libraries that we call, in a process that belongs to the user."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LOGGERS = ("PIL", "ase", "chgnet", "fontTools", "matplotlib", "numba", "pymatgen", "smact")
"""Libraries with a logger; at the level DEBUG some write thousands of lines."""


@contextlib.contextmanager
def libraries_quiet() -> Iterator[None]:
    """Ignore warnings, and of the libraries' log lines all but errors, for the time of our calls.

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
