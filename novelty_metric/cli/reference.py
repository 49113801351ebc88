"""``novelty-metric reference build`` and ``reference fetch``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.cli.parsing import Parser
from novelty_metric.errors import InputError, near_or_known
from novelty_metric.settings.score_settings import user_path
from novelty_metric.support.quiet import quiet

if TYPE_CHECKING:
    from novelty_metric.reference import Reference
    from novelty_metric.reference.fetch import Fetched

HELP = """\
usage: novelty-metric reference build SOURCE... out=FILE.arrow [KEY=VALUE ...]
       novelty-metric reference fetch NAME [--from FILE] [workers=N]

build: prepare a reference, once, from the crystals of a training set. SOURCE is
a file or folder in any format that `novelty-metric score` reads; several are
taken one after the other. An interrupted build goes on when the same command is
run again.

  out=FILE.arrow   where the prepared reference is written
  name=NAME        name under which reports cite it (default: that of the file)
  column=NAME      column of a table that holds the crystals
  workers=N        processes that prepare crystals (1)

fetch: get a published training set, check it, and prepare it for reference=NAME.
NAME is {names}. It is
downloaded from where it is published unless FILE is a copy of that; either has
to have the content hash of the published file, where one is known. A broken
transfer goes on when the same command is run again. What is fetched and made is
kept in your cache folder.

examples
  novelty-metric reference fetch mp_20
  novelty-metric reference fetch mp_20 --from train.csv
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
    from novelty_metric.reference.published import PUBLISHED

    if not words or words[0] in ("-h", "--help") or {"-h", "--help"} & set(words[1:]):
        print(HELP.format(names=", ".join(PUBLISHED)), end="")
        return 0
    if words[0] == "build":
        return _run_build(words[1:])
    if words[0] == "fetch":
        return _run_fetch(words[1:])
    known = "reference build, reference fetch"
    raise InputError(f"no verb named 'reference {words[0]}'; known: {known}")


def _run_build(words: list[str]) -> int:
    sources, settings = _split(words)
    if not sources:
        raise InputError("reference build needs a SOURCE: the file or folder of the crystals")
    if "out" not in settings:
        raise InputError("reference build needs out=FILE.arrow: where the reference is written")
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder")
    workers = _workers(settings.get("workers", "1"))
    out = user_path(settings["out"])
    _print(out, _build(sources, out, settings, workers))
    return 0


def _run_fetch(words: list[str]) -> int:
    parser = Parser(prog="novelty-metric reference fetch", add_help=False, allow_abbrev=False)
    parser.add_argument("--from", dest="source", metavar="FILE")
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args(words)
    names = [word for word in given.words if "=" not in word]
    settings = dict(word.split("=", 1) for word in given.words if "=" in word)
    if unknown := sorted(settings.keys() - {"workers"}):
        raise InputError(f"no setting named {unknown[0]!r}; known: workers")
    if len(names) != 1:
        from novelty_metric.reference.published import PUBLISHED

        raise InputError(f"reference fetch needs one NAME; known: {', '.join(PUBLISHED)}")
    workers = _workers(settings.get("workers", "1"))
    source = None if given.source is None else user_path(given.source)
    if source is not None and not source.is_file():
        raise InputError(f"--from {source}: no such file")
    fetched = _fetch(names[0], source, workers)
    _print(fetched.path, fetched.reference)
    print(f"{names[0]}: {fetched.checked}")
    return 0


def _workers(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"workers is {text!r}; it must be a whole number above 0")
    return int(text)


def _print(path: Path, reference: Reference) -> None:
    skipped = reference.manifest.skipped
    left_out = f"; {len(skipped)} could not be used" if skipped else ""
    print(f"{path}: {len(reference)} crystals{left_out}, crystals_hash {reference.crystals_hash}")
    for crystal in skipped[:10]:
        print(f"  {crystal}")
    if len(skipped) > 10:
        print(f"  and {len(skipped) - 10} more")


def _fetch(name: str, source: Path | None, workers: int) -> Fetched:
    with quiet() as terminal:
        from novelty_metric.reference.fetch import fetch_reference
        from novelty_metric.terminal.console import Progress

        with Progress(terminal) as progress:
            return fetch_reference(name, source=source, workers=workers, progress=progress)


def _build(sources: list[Path], out: Path, settings: dict[str, str], workers: int) -> Reference:
    with quiet() as terminal:
        from novelty_metric.reference import build_reference
        from novelty_metric.terminal.console import Progress

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
            hint = near_or_known(match["key"], _SETTINGS)
            raise InputError(f"{word!r} is neither a file nor a setting; {hint}")
    return sources, settings
