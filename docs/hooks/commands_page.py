"""The page of the commands, with the `--help` text of each."""

from __future__ import annotations

import contextlib
import io

from novelty_metric import cli

_ABOUT = """\
# Commands

This page shows what `--help` prints. Every verb has the same exit status: 0 done; 1 a check failed;
2 the call or its input cannot be used, and one line on standard error says what, where, and what to
do; 3 interrupted, and the same command continues where it stopped.
"""


def markdown() -> str:
    """The page."""
    parts = [_ABOUT, _shown([])]
    for verb in cli.VERBS:
        parts += [f"## {verb}\n", _shown([verb])]
    return "\n".join(parts)


def _shown(words: list[str]) -> str:
    """The help text of the command line for these arguments."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        status = cli.main([*words, "--help"])
    if status != 0:
        raise RuntimeError(f"the help on {words} ended with status {status}")
    return f"```text\n{stream.getvalue().rstrip()}\n```\n"
