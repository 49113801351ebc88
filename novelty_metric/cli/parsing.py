"""An argument parser whose complaints are one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from novelty_metric.errors import InputError


class Parser(argparse.ArgumentParser):
    """Raises `InputError` where argparse would print the usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint, with the way to the help."""
        raise InputError(f"{message}; `{self.prog} --help` shows what is known")
