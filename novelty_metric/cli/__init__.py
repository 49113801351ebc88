"""``novelty-metric``: the command line.

Exit status: 0 done; 1 a check found something wrong; 2 the call or its input can't be used, or the
program has a fault (one line on standard error: what, where, what to do); 3 interrupted, and the
same command continues the run. ``NOVELTY_METRIC_DEBUG=1`` shows the traceback of an error.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import FrameType

from novelty_metric.cli.options import Verb, help_text
from novelty_metric.errors import InputError, NoveltyMetricError, near_or_known
from novelty_metric.support.quiet import DEBUG_VARIABLE, debugging

VERBS = {
    "score": ("[KEY=VALUE ...]", "score generated crystals"),
    "compare": (
        "RUN_A RUN_B [RUN ...]",
        "compare two reports; of several, such as seeds, show the spread",
    ),
    "sensitivity": ("[run=DIR] [KEY=VALUE ...]", "show how the verdicts depend on the settings"),
    "explain": ("ID run=DIR | FILE", "show the evidence for one crystal, with CIFs"),
    "export": ("run=DIR out=FILE [verdict=NAME]", "write the relaxed crystals to one file"),
    "report": ("RUN [RUN ...]", "make a page with figures of one or several runs"),
    "baseline": (
        "NAME reference=REF out=FILE",
        "make crystals with a null model, for comparison",
    ),
    "controls": ("[KEY=VALUE ...]", "score crystals whose correct verdict is known"),
    "reference": (
        "build|fetch ...",
        "prepare a training set, or fetch a published one",
    ),
    "hull": ("fetch mp", "fetch the current Materials Project as a hull"),
    "cache": ("[info|prune|clear]", "show or delete finished relaxations"),
    "leaderboard": ("add|check|build", "add and check submissions, and build their tables"),
}
"""The usage and description of each verb; its module has the same name."""

_ABOUT = """\
usage: novelty-metric VERB [...]

Test whether a generative model of crystals discovers new materials: find the
generated crystals that are copies of known crystals, or known crystals with
exchanged elements.
"""
_OPTIONS = """
  --version    print the version
  --help       print this help; after a verb, that verb's
"""

SCORED, FAULT, INTERRUPTED = 0, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status; no exception is raised.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the program's name; by default those of the process.
    """
    if argv is None:
        argv = sys.argv[1:]
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A name that the terminal can't show must not end the program.
                stream.reconfigure(errors="backslashreplace")
    words = list(argv)
    try:
        with _terminated_like_interrupted():
            status = _dispatch(words)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        kept = "nothing was kept" if "cache=false" in words else "finished crystals are kept"
        hidden = ("key=KEY" if word.startswith("key=") else word for word in words)
        command = shlex.join(["novelty-metric", *hidden])
        _complain(f"interrupted; {kept}, go on with: {command}")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return SCORED
    except NoveltyMetricError as error:
        _complain(f"error: {error}")
        return FAULT
    except ImportError as error:
        from novelty_metric.support.versions import advice_on_imports

        _complain(f"error: {advice_on_imports(error)}")
        return FAULT
    except Exception as error:
        _complain(
            f"internal error: {type(error).__name__}: {error}; "
            f"{DEBUG_VARIABLE}=1 shows where, please report it"
        )
        return FAULT


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_ABOUT)
        for verb, (usage, does) in VERBS.items():
            called = f"  {verb} {usage}".ljust(45)
            print(textwrap.fill(does, 88, initial_indent=called, subsequent_indent=" " * 45))
        print(_OPTIONS, end="")
        return SCORED
    if words[0] == "--version":
        from novelty_metric import __version__

        print(f"novelty-metric {__version__}")
        return SCORED
    verb = words[0]
    if verb not in VERBS:
        hint = near_or_known(verb, VERBS)
        raise InputError(f"no verb named {verb!r}; {hint}")
    table = verb_of(verb)
    if {"-h", "--help"} & set(words[1:]) or (len(words) == 1 and table.needs_verb):
        print(help_text(table), end="")
        return SCORED
    run: Callable[[list[str]], int] = import_module(f"novelty_metric.cli.{verb}").run
    return run(words[1:])


def verb_of(name: str) -> Verb:
    """The table of options of a verb."""
    table: Verb = import_module(f"novelty_metric.cli.{name}").VERB
    return table


def _complain(message: str) -> None:
    if debugging():
        traceback.print_exc()
    print(" ".join(f"novelty-metric: {message}".split()), file=sys.stderr)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Treat SIGTERM, with which batch systems end a job, like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
