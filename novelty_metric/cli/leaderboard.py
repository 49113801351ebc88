"""``novelty-metric leaderboard``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.cli.options import Option, Verb, Words, flag, parse, table, whole
from novelty_metric.errors import InputError
from novelty_metric.leaderboard.add import ASKED
from novelty_metric.support.folders import user_path
from novelty_metric.support.quiet import quiet

if TYPE_CHECKING:
    from novelty_metric.leaderboard.check import Checked

DEFAULT = "leaderboards"


def _answers() -> tuple[Option, ...]:
    readers = {"generated": whole(), "seed": whole(), "demonstration": flag, "crystals": flag}
    return tuple(Option(key, " ", about, readers.get(key, str)) for key, about in ASKED.items())


VERB = Verb(
    name="leaderboard",
    needs_verb=True,
    about="DIR is the folder of the leaderboard (leaderboards).",
    verbs=(
        Verb(
            name="add",
            usage="RUN_DIR [into=DIR] [KEY=VALUE ...]",
            about="""\
write a submission from a run, the folder that `novelty-metric score ... out=DIR` wrote:
submissions/NAME.yaml, its table of verdicts, and at most six unmatched crystals for the page. You
give the information that a run does not contain:
""",
            options=(
                *_answers(),
                *table(
                    """
about=FILE: a YAML file with these settings
into=DIR: folder of the leaderboard
overwrite=true: replace a submission with this name
"""
                ),
            ),
            least=1,
            most=1,
            needs="needs one RUN_DIR",
        ),
        Verb(
            name="check",
            usage="[DIR] [NAME ...] [--samples DIR] [--recompute[=N]] [...]",
            about="""\
verify all submissions, or the named ones. The check covers keys and values, hashes, and counts,
which must follow from the verdicts. The files may contain only data of limited size; nothing in
them is executed.
""",
            options=table(
                """
--samples DIR: find the samples in DIR by their SHA-256
--recompute[=N]: also score all of them again, or N drawn at random and those that the page shows
--seed N (0): seed of this draw
--allow N (0): number of crystals per submission whose result may differ, because rounding can
  change the end of a relaxation
--reference FILE: the reference, if it is not available by its name
--workers N: processes that relax (one per core)
--device NAME: cpu, cuda or mps
""",
                {
                    "seed": whole(),
                    "allow": whole(),
                    "reference": lambda text: str(user_path(text)),
                },
            ),
            most=10**6,
        ),
        Verb(
            name="build",
            usage="[DIR] [out=DIR]",
            about="""\
make README.md, leaderboard.csv, leaderboard.json, index.html and submission.schema.json from the
submissions.
""",
            options=table("out=DIR: the output folder (default: the same folder)"),
            most=1,
            needs="takes one folder",
        ),
    ),
    closing="Exit status: 0 correct, 1 something is wrong (check), 2 the call cannot be used.",
)


def run(words: list[str]) -> int:
    """Run the verb with its arguments; `InputError` if they or their input cannot be used."""
    given = parse(VERB, words)
    return {"add": _add, "check": _check, "build": _build}[given.verb](given)


def _add(given: Words) -> int:
    from novelty_metric.leaderboard.add import add, read_about

    about = read_about(given["about"]) if "about" in given else {}
    about |= {key: value for key, value in given.given.items() if key in ASKED}
    board = given["into"] or Path(DEFAULT)
    with quiet():
        added = add(
            user_path(given.names[0]),
            board,
            about,
            overwrite=bool(given["overwrite"]),
        )
    # Whoever adds has to know now what a check will say.
    from novelty_metric.leaderboard.check import check_one

    check_one(board, added.name)
    for path in added.files:
        print(f"written: {path}")
    if added.unknown:
        print(f"Missing: {', '.join(added.unknown)}; add what you know with KEY=VALUE.")
        if "generated" in added.unknown:
            print("Without generated= a model is shown, but not ranked.")
    print(f"Next: novelty-metric leaderboard check {board} {added.name} --samples DIR --recompute")
    return 0


def _check(given: Words) -> int:
    from novelty_metric.leaderboard.check import check_folder

    folder, *names = given.names or [DEFAULT]
    found, problems = check_folder(user_path(folder), tuple(names))
    if "recompute" in given and "samples" not in given:
        others = [one.name for one in found if one.submission.null_model is None]
        if others or not found:
            raise InputError(
                "--recompute needs --samples DIR, the folder of the sample files (only the "
                "samples of null models can be made again without it)"
            )
    wrong = len(problems)
    for problem in problems:
        print(f"wrong: {_line(problem)}")
    for one in found:
        scored = one.submission.counts
        print(f"right: {one.name}: {scored.rows} verdicts, hashes and counts agree")
        if "samples" in given or "recompute" in given:
            wrong += _check_samples(one, given)
        sys.stdout.flush()
    right = "1 submission is" if len(found) == 1 else f"{len(found)} submissions are"
    print(f"{right} right, {wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    return 1 if wrong else 0


def _check_samples(one: Checked, given: Words) -> int:
    """Find the samples of a submission, score them again on request; return the fault count."""
    from novelty_metric.leaderboard.recompute import find_samples, recompute

    try:
        if "samples" in given:
            path = find_samples(given["samples"], one.submission)
            print(f"right: {one.name}: the samples are {_line(str(path))}")
        if "recompute" not in given:
            return 0
        again = recompute(
            one,
            given["samples"],
            count=None if given["recompute"] == "all" else given["recompute"],
            seed=given["seed"],
            reference=given["reference"],
            workers=given["workers"],
            device=given["device"],
        )
    except InputError as error:
        print(f"wrong: {one.name}: {_line(str(error))}")
        return 1
    excused = len(again.otherwise) <= given["allow"]
    lines = [("note", line) for line in again.notes]
    lines += [("wrong", line) for line in again.problems]
    lines += [("note" if excused else "wrong", line) for line in again.otherwise.values()]
    for judgement, line in lines:
        print(f"{judgement}: {one.name}: {_line(line)}")
    if not again.problems and excused:
        same = again.compared - len(again.otherwise)
        print(f"right: {one.name}: {again.compared} crystals scored again, {same} the same")
    return len(again.problems) + (0 if excused else len(again.otherwise))


def _line(text: str) -> str:
    """Text of a submission as one line, made safe for a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _build(given: Words) -> int:
    from novelty_metric.leaderboard.build import build

    for path in build(user_path(given.names[0] if given.names else DEFAULT), given["out"]):
        print(f"written: {path}")
    return 0
