"""``novelty-metric leaderboard``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from novelty_metric.cli.parsing import Parser
from novelty_metric.errors import InputError
from novelty_metric.settings.score_settings import user_path
from novelty_metric.support.quiet import quiet

HELP = """\
usage: novelty-metric leaderboard add RUN_DIR [into=DIR] [KEY=VALUE ...]
       novelty-metric leaderboard check [DIR] [NAME ...] [--samples DIR]
                                        [--recompute[=N]] [--seed N] [--allow N]
                                        [--reference FILE] [--workers N]
                                        [--device NAME]
       novelty-metric leaderboard build [DIR] [out=DIR]

DIR is the folder of the leaderboard (leaderboards).

add: write a submission from a run, the folder that `novelty-metric score ...
out=DIR` wrote: submissions/NAME.yaml, its table of verdicts, and pictures of
some unmatched crystals. What a run can't know is asked for:

{asked}
  about=FILE        these answers in a YAML, instead of one by one
  pictures=N        unmatched crystals that are drawn (6)
  overwrite=true    replace a submission of that name

check: is every submission, or each one named, what it says? Keys and values,
hashes, that the counts follow from the verdicts, and that nothing but data of
bounded size is there. Nothing of it is executed.

  --samples DIR     find the samples below DIR by their SHA-256
  --recompute[=N]   and score all of them, or N drawn at random, again
  --seed N          of that draw (0)
  --allow N         crystals per submission that may come out otherwise (0): a
                    relaxation may end elsewhere by rounding
  --reference FILE  the reference, if it is not here under its name
  --workers N       processes that relax (one per core)
  --device NAME     cpu, cuda or mps

build: make README.md, leaderboard.csv, leaderboard.json, index.html and
submission.schema.json from the submissions.

Exit status: 0 right, 1 something is wrong (check), 2 the call can't be used.
"""
DEFAULT = "leaderboards"


def help_text() -> str:
    """The help, with what a run can't know."""
    from novelty_metric.leaderboard.add import ASKED

    return HELP.format(
        asked="\n".join(f"  {key + '=':<17} {words}" for key, words in ASKED.items())
    )


def run(words: list[str]) -> int:
    """Run the verb on the words after ``leaderboard``.

    Raises
    ------
    InputError
        If the call or its input can't be used.
    """
    if not words or {"-h", "--help"} & set(words):
        print(help_text(), end="")
        return 0
    verbs = {"add": _add, "check": _check, "build": _build}
    if words[0] not in verbs:
        known = ", ".join(f"leaderboard {verb}" for verb in verbs)
        raise InputError(f"no verb named 'leaderboard {words[0]}'; known: {known}")
    return verbs[words[0]](words[1:])


def _split(words: list[str], known: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    names: list[str] = []
    settings: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            names.append(word)
            continue
        if key not in known:
            raise InputError(f"no setting named {key!r}; known: {', '.join(known)}")
        if key in settings or not value:
            raise InputError(f"{key}= {'is given twice' if key in settings else 'has no value'}")
        settings[key] = value
    return names, settings


def _add(words: list[str]) -> int:
    from novelty_metric.leaderboard.add import ASKED, add, read_about

    own = ("into", "about", "pictures", "overwrite")
    names, settings = _split(words, (*own, *ASKED))
    if len(names) != 1:
        raise InputError(f"leaderboard add needs one RUN_DIR, {len(names)} were given")
    about = read_about(user_path(settings["about"])) if "about" in settings else {}
    about |= {key: _answer(key, value) for key, value in settings.items() if key not in own}
    board = user_path(settings.get("into", DEFAULT))
    with quiet():
        added = add(
            user_path(names[0]),
            board,
            about,
            pictures=_whole("pictures", settings.get("pictures", "6")),
            overwrite=settings.get("overwrite") == "true",
        )
    # Whoever adds has to know now what a check will say.
    from novelty_metric.leaderboard.check import check_one

    check_one(board, added.name)
    for path in added.files:
        print(f"written: {path}")
    if added.unknown:
        print(f"Not known: {', '.join(added.unknown)}; say what you can with KEY=VALUE.")
        if "generated" in added.unknown:
            print("Without generated= a model is shown, but not ranked.")
    print(f"Next: novelty-metric leaderboard check {board} {added.name} --samples DIR --recompute")
    return 0


def _answer(key: str, value: str) -> Any:
    if key in ("generated", "seed"):
        return _whole(key, value)
    if key == "demonstration":
        if value not in ("true", "false"):
            raise InputError(f"demonstration={value}; it must be true or false")
        return value == "true"
    return value


def _whole(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 12:
        raise InputError(f"{key}={value}; it must be a whole number")
    return int(value)


def _check(words: list[str]) -> int:
    parser = Parser(prog="novelty-metric leaderboard", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", nargs="?", default=DEFAULT)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--samples")
    parser.add_argument("--recompute", nargs="?", const="all")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--allow", default="0")
    parser.add_argument("--reference")
    parser.add_argument("--workers")
    parser.add_argument("--device")
    # `--recompute NAME` would take the name for a number: it is written with an equals sign.
    given = parser.parse_intermixed_args(
        [f"{word}=all" if word == "--recompute" else word for word in words]
    )
    if given.recompute is not None and given.samples is None:
        raise InputError("--recompute needs --samples DIR: where the sample files are")
    count = None
    if given.recompute not in (None, "all"):
        count = _whole("--recompute", given.recompute)
        if count < 1:
            raise InputError("--recompute=0 checks nothing; name at least 1")
    seed = _whole("--seed", given.seed)
    allow = _whole("--allow", given.allow)
    workers = None if given.workers is None else _whole("--workers", given.workers)
    reference = None if given.reference is None else str(user_path(given.reference))

    from novelty_metric.leaderboard.check import check_folder

    folder = user_path(given.folder)
    found, problems = check_folder(folder, tuple(given.names))
    wrong = len(problems)
    for problem in problems:
        print(f"wrong: {_line(problem)}")
    for one in found:
        scored = one.submission.counts
        print(f"right: {one.name}: {scored.rows} verdicts, hashes and counts agree")
        if given.samples is None:
            continue
        from novelty_metric.leaderboard.recompute import find_samples, recompute

        try:
            path = find_samples(user_path(given.samples), one.submission)
            print(f"right: {one.name}: the samples are {_line(str(path))}")
            if given.recompute is None:
                continue
            again = recompute(
                one,
                user_path(given.samples),
                count=count,
                seed=seed,
                reference=reference,
                workers=workers,
                device=given.device,
            )
        except InputError as error:
            print(f"wrong: {one.name}: {_line(str(error))}")
            wrong += 1
            continue
        for line in again.notes:
            print(f"note: {one.name}: {_line(line)}")
        for line in again.problems:
            print(f"wrong: {one.name}: {_line(line)}")
        excused = len(again.otherwise) <= allow
        for line in again.otherwise.values():
            print(f"{'note' if excused else 'wrong'}: {one.name}: {_line(line)}")
        wrong += len(again.problems) + (0 if excused else len(again.otherwise))
        same = again.compared - len(again.otherwise)
        if not again.problems and excused:
            print(f"right: {one.name}: {again.compared} crystals scored again, {same} the same")
        sys.stdout.flush()
    right = "1 submission is" if len(found) == 1 else f"{len(found)} submissions are"
    print(f"{right} right, {wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    return 1 if wrong else 0


def _line(text: str) -> str:
    """Text of a submission, which may hold anything, as one line that a terminal shows."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _build(words: list[str]) -> int:
    from novelty_metric.leaderboard.build import build

    names, settings = _split(words, ("out",))
    if len(names) > 1:
        raise InputError(f"leaderboard build takes one folder, {len(names)} were given")
    folder = user_path(names[0] if names else DEFAULT)
    out: Path | None = user_path(settings["out"]) if "out" in settings else None
    for path in build(folder, out):
        print(f"written: {path}")
    return 0
