"""``novelty-metric reference build``."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from novelty_metric.cli.quiet import quiet
from novelty_metric.cli.settings import user_path
from novelty_metric.errors import InputError

HELP = """\
usage: novelty-metric reference build SOURCE... out=FILE.arrow [KEY=VALUE ...]

Prepare a reference, once, from the crystals of a training set. SOURCE is a file
or folder in any format that `novelty-metric score` reads; several are taken one
after the other. An interrupted build goes on when the same command is run again.

  out=FILE.arrow   where the prepared reference is written
  name=NAME        name under which reports cite it (default: that of the file)
  column=NAME      column of a table that holds the crystals
  workers=N        processes that prepare crystals (1)

examples
  novelty-metric reference build train.csv out=mp_20.arrow
  novelty-metric reference build train.csv val.csv out=mp_20_all.arrow workers=4
"""
_SETTINGS = ("out", "name", "column", "workers")
_WORD = re.compile(r"(?P<key>\w+)=(?P<value>.*)", re.DOTALL)


def run(words: list[str]) -> int:
    """Run the verb on the words after ``reference``.

    Raises
    ------
    InputError
        If the call or its input can't be used.
    """
    if not words or words[0] in ("-h", "--help") or {"-h", "--help"} & set(words[1:]):
        print(HELP, end="")
        return 0
    if words[0] != "build":
        raise InputError(f"no verb named 'reference {words[0]}'; known: reference build")
    sources, settings = _split(words[1:])
    if not sources:
        raise InputError("reference build needs a SOURCE: the file or folder of the crystals")
    if "out" not in settings:
        raise InputError("reference build needs out=FILE.arrow: where the reference is written")
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder")
    workers = settings.get("workers", "1")
    if not workers.isdecimal() or int(workers) < 1:
        raise InputError(f"workers is {workers!r}; it must be a whole number above 0")
    out = user_path(settings["out"])
    reference = _build(sources, out, settings, int(workers))
    skipped = len(reference.manifest.skipped)
    left_out = f"; {skipped} could not be used" if skipped else ""
    print(f"{out}: {len(reference)} crystals{left_out}, crystals_hash {reference.crystals_hash}")
    for crystal in reference.manifest.skipped[:10]:
        print(f"  {crystal}")
    return 0


def _build(sources: list[Path], out: Path, settings: dict[str, str], workers: int) -> Any:
    with quiet() as terminal:
        from novelty_metric.console import Progress
        from novelty_metric.reference import build_reference

        with Progress(terminal) as progress:
            return build_reference(
                sources if len(sources) > 1 else sources[0],
                out,
                name=settings.get("name"),
                workers=workers,
                column=settings.get("column"),
                progress=lambda done, total: progress("prepare reference", done, total),
            )


def _split(words: list[str]) -> tuple[list[Path], dict[str, str]]:
    """Sources and settings; a word is a source if it is a file, or names no setting."""
    sources: list[Path] = []
    settings: dict[str, str] = {}
    for word in words:
        match = _WORD.fullmatch(word)
        if match is None or Path(word).exists():
            if word.startswith("-") and not Path(word).exists():
                raise InputError(
                    f"no option named {word!r}; `reference --help` shows what is known"
                )
            sources.append(user_path(word))
        elif match["key"] in _SETTINGS:
            if not match["value"]:
                raise InputError(f"{word} has no value")
            settings[match["key"]] = match["value"]
        else:
            close = difflib.get_close_matches(match["key"], _SETTINGS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(_SETTINGS)}"
            raise InputError(f"{word!r} is neither a file nor a setting; {hint}")
    return sources, settings
